local peer, session, data, entry, op = unpack(ARGV, 4)
-- Broadcasts of a session that are known again when their call is repeated.
local KNOWN = 8
if not acting(peer, session) then
  return { 'NotMember' }
end
local said = call('HGET', SAID, peer) or ''
if string.find(said, entry, 1, true) then
  return finish()
end
local done = recall(op)
if done then
  return done == 'B' and finish() or { 'OpReused' }
end
remember(op, 'B', '')
call('HSET', SAID, peer, sub(said .. entry .. ' ', -17 * KNOWN))
append_as(entry, peer, 'B', #data, peer .. SEP .. data)
return finish()
