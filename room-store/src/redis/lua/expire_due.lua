-- The answer's last parts are when something is due next, '' when there is no such room any more, and whether somebody is in it.
local limit = tonumber(ARGV[4])
local function forget_room()
  call('DEL', ROOM, MEMBERS, NAMES, DUE, PUBLICATIONS, SUBSCRIPTIONS, LOG, CARRIERS, SAID, ENDED)
  if INDEXED then
    call('ZREM', BUCKET, rid())
  end
  return { 'ok', {}, {}, '0', '', '0' }
end
if not room or (room.empty and room.empty + TTL <= NOW) then
  return forget_room()
end

local ripe = { s = {}, p = {}, m = {} }
local records = { s = SUBSCRIPTIONS, p = PUBLICATIONS, m = MEMBERS }
for _, entry in ipairs(call('ZRANGEBYSCORE', DUE, '-inf', NOW, 'LIMIT', 0, limit)) do
  local kind, id = sub(entry, 1, 1), sub(entry, 2)
  if records[kind] and call('HEXISTS', records[kind], id) == 1 then
    ripe[kind][#ripe[kind] + 1] = id
  else
    -- Nobody's: it would be due for ever.
    call('ZREM', DUE, entry)
  end
end
-- Nobody was told of reservations, nobody is told now.
local released, peers = {}, {}
end_subscriptions(ripe.s, 'subscriber_gone', released)
for _, mid in ipairs(ripe.p) do
  end_publication(mid, find_publication(mid), '', 'owner_expired', released)
end
local left = limit - #ripe.s - #ripe.p
table.sort(ripe.m)
for _, peer in ipairs(ripe.m) do
  local written = count_named('P', peer) + 1
  -- A session's end is one step, however many streams it has: the first may take more than the limit.
  if written > left and left < limit then
    break
  end
  left = math.max(left - written, 0)
  end_member(peer, find_member(peer).edge, 'owner_expired', 'timeout', released)
  peers[#peers + 1] = peer
end

local next_due
if room.empty then
  next_due = room.empty + TTL
else
  next_due = tonumber(call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2] or NOW + TTL)
end
local more = not room.empty and next_due <= NOW
local answer = finish(peers, released, more and '1' or '0', integer(next_due), room.empty and '0' or '1')
if INDEXED then
  call('ZADD', BUCKET, next_due, rid())
end
return answer
