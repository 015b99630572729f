local peer, session, sid = unpack(ARGV, 4)
if not acting(peer, session) then
  return { 'NotMember' }
end
local record, released = find_subscription(sid), {}
if not record or record.subscriber ~= peer then
  if is_retired('S', peer, sid) then
    return finish(released)
  end
  return { 'UnknownSubscription' }
end
if not record.confirmed then
  forget(record.op, 'S', sid)
end
end_subscriptions({ sid }, 'unsubscribed', released)
return finish(released)
