local peer, session, sid = unpack(ARGV, 4)
if not acting(peer, session) then
  return { 'NotMember' }
end
local text = call('HGET', SUBSCRIPTIONS, sid)
local record = read_subscription(text)
if not record or record.subscriber ~= peer then
  return { 'UnknownSubscription' }
end
return finish(sid, text)
