local sid, node, boot, why = unpack(ARGV, 4)
local record, released = room and find_subscription(sid), {}
if record and record.node == node and record.boot == boot then
  end_subscriptions({ sid }, why, released)
end
return finish(released)
