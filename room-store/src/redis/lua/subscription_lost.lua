local sid, node, boot = unpack(ARGV, 4)
local record, released = room and find_subscription(sid), {}
if record and record.node == node and record.boot == boot then
  end_subscriptions({ sid }, released)
end
return finish(released)
