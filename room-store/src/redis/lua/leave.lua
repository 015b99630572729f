local peer, session, op = unpack(ARGV, 4)
if not room then
  return { 'NotMember' }
end
local done = recall(op)
if done == 'L' then
  local member = find_member(peer)
  return { 'ok', (not member or member.session ~= session) and '1' or '0', {} }
elseif done then
  return { 'OpReused' }
end
local member = acting(peer, session)
if not member then
  return { 'NotMember' }
end
-- Nobody is kept from leaving: asked again where this cannot be remembered, it says that there is no such member.
local remembers = can_remember(op)
local released = {}
end_member(peer, member.edge, 'owner_left', 'left', released)
if remembers then
  remember(op, 'L', '')
end
return finish('1', released)
