-- One more than asked for tells whether there are more; the asking member may be among them.
local peer, session, after, limit = unpack(ARGV, 4)
if not acting(peer, session) then
  return { 'NotMember' }
end
local from = after == '' and '[m' .. SEP or '(m' .. SEP .. after .. AFTER
return finish(call('ZRANGEBYLEX', NAMES, from, '(m' .. AFTER, 'LIMIT', 0, limit + 2))
