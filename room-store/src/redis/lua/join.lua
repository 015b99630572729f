local peer, edge, connection, resume, since_epoch, since_seq, fresh, op, epoch, full = unpack(ARGV, 4)
if not was_occupied then
  local rooms = INDEXED and tonumber(call('HGET', TOTALS, 'occupied') or 0) or 0
  if full == '1' or (INDEXED and rooms >= MAX_ROOMS) then
    return { 'TooManyRooms' }
  end
end
local done, made = recall(op)
if done and done ~= 'J' then
  return { 'OpReused' }
elseif not can_remember(op) then
  return { 'TooManyOps' }
end

local member = find_member(peer)
local how = 'new'
if member then
  local proven = (done and made == member.session) or member.session == fresh or member.session == resume
  local same = member.connection == '' or (member.edge == edge and member.connection == connection)
  how = (proven or same) and 'resumed' or 'took over'
elseif call('HLEN', MEMBERS) >= MAX_MEMBERS then
  return { 'RoomFull' }
end

-- Looked up before the join's own entries are appended. What was before the session began was not for it.
local missed, missed_from = 'none', {}
if since_epoch ~= '' then
  missed = 'resync'
  local since = tonumber(since_seq)
  local begun_after = member and member.epoch == since_epoch and tonumber(member.seq) > since
  if how == 'resumed' and not begun_after then
    local entries_since = read_log(since_epoch, since, '', math.huge)
    if entries_since then
      missed, missed_from = 'entries', entries_since
    end
  end
end

local released, old = {}, nil
if how == 'resumed' then
  old = attach(member, edge, connection)
  if old then
    superseded(peer, member.session, old, '1')
  end
elseif how == 'took over' then
  end_streams(peer, 'owner_left', released)
  forget_session(peer)
  local session = member.session
  old = { member.edge, member.connection }
  member.session, member.epoch, member.seq, member.closed = fresh, room.epoch, integer(room.seq), ''
  attach(member, edge, connection)
  superseded(peer, session, old, '0')
  did('L', peer, 'superseded')
  did('J', peer)
else
  if not room then
    create(epoch)
  end
  member = admit_member(peer, fresh, edge, connection)
end
remember(op, 'J', member.session)

local own_subscriptions = {}
local sids = named('S', peer)
for from = 1, #sids, BATCH do
  local to = math.min(from + BATCH - 1, #sids)
  local values = call('HMGET', SUBSCRIPTIONS, unpack(sids, from, to))
  for i = from, to do
    own_subscriptions[#own_subscriptions + 1] = sids[i]
    own_subscriptions[#own_subscriptions + 1] = values[i - from + 1]
  end
end
local position, seq, id = head()
return finish(how, member.session, position, seq, id, missed, missed_from, old or {}, released,
  other_members(), call('HGETALL', PUBLICATIONS), own_subscriptions)
