local mid, node, boot, reason = unpack(ARGV, 4)
local record, released = room and find_publication(mid), {}
if record and record.node == node and record.boot == boot then
  end_publication(mid, record, '', reason, released)
end
return finish(released)
