local peer, session, sid = unpack(ARGV, 4)
if not acting(peer, session) then
  return { 'NotMember' }
end
local record = find_subscription(sid)
if not record or record.subscriber ~= peer then
  return { 'UnknownSubscription' }
end
if not record.confirmed then
  record.confirmed, record.op = true, ''
  call('HSET', SUBSCRIPTIONS, sid, subscription_text(record))
  call('ZREM', DUE, 's' .. sid)
  note_confirmed_subscription(sid, record)
end
return finish(sid, subscription_text(record))
