-- Sessions are: peer, session, connection, number of publications, number of subscriptions; then all publications, in the
-- sessions' order: mid, node, boot, region, muted, always, recording, minfo; then all subscriptions: sid, mid, node, boot, region.
-- Members first, all of them, then streams, then subscriptions: nobody hears of a stream before its owner.
-- Named one by one: there are more of them than the stack can hold.
local edge, epoch, count = ARGV[4], ARGV[5], tonumber(ARGV[6])
if not room then
  create(epoch)
end
local lost, at = {}, 7
local sessions = {}
for i = 1, count do
  local peer, session, connection, publications, subscriptions = unpack(ARGV, at, at + 4)
  at = at + 5
  local member = find_member(peer) or admit_member(peer, session, edge, connection)
  local reason = refresh_one(member, edge, session, connection)
  if reason then
    lost[#lost + 1] = integer(i - 1)
    lost[#lost + 1] = reason
  end
  sessions[i] = {
    peer = peer, alive = not reason, publications = tonumber(publications), subscriptions = tonumber(subscriptions),
  }
end
for _, session in ipairs(sessions) do
  for _ = 1, session.publications do
    local mid, node, boot, region, muted, always, recording, minfo = unpack(ARGV, at, at + 7)
    at = at + 8
    if session.alive and call('HEXISTS', PUBLICATIONS, mid) == 0 and not is_retired('M', session.peer, mid) then
      local record = {
        confirmed = true, op = '', owner = session.peer, node = node, boot = boot, region = region,
        muted = muted, always = always, recording = recording, minfo = minfo,
      }
      insert_publication(mid, record)
      announce('A', mid, record)
    end
  end
end
for _, session in ipairs(sessions) do
  for _ = 1, session.subscriptions do
    local sid, mid, node, boot, region = unpack(ARGV, at, at + 4)
    at = at + 5
    if session.alive and call('HEXISTS', SUBSCRIPTIONS, sid) == 0 and not is_retired('S', session.peer, sid) then
      local record = {
        confirmed = true, op = '', subscriber = session.peer, mid = mid, node = node, boot = boot, region = region,
      }
      insert_subscription(sid, record)
      note_confirmed_subscription(sid, record)
    end
  end
end
local position, seq, id = head()
return finish(position, seq, id, lost)
