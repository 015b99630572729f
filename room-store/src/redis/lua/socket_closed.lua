local peer, session, edge, connection, for_good = unpack(ARGV, 4)
local member = find_member(peer)
local released = {}
local held = member and member.session == session and member.edge == edge and member.connection == connection
if not held then
  return { 'ok', released }
elseif for_good == '1' then
  end_member(peer, edge, 'owner_left', 'closed', released)
else
  member.closed, member.connection = edge .. '/' .. connection, ''
  write_member(member)
  call('ZADD', DUE, 'LT', NOW + GRACE, 'm' .. peer)
  due(NOW + GRACE)
end
return finish(released)
