-- Holds are three each: peer, session, connection. The answer names those that are lost by their place, from 0.
local edge = ARGV[4]
if not room then
  return { 'none' }
end
local lost = {}
for from = 5, #ARGV, 3 * BATCH do
  local to = math.min(from + 3 * BATCH - 1, #ARGV)
  local peers = {}
  for i = from, to, 3 do
    peers[#peers + 1] = ARGV[i]
  end
  local values = call('HMGET', MEMBERS, unpack(peers))
  for i = from, to, 3 do
    local member = read_member(ARGV[i], values[(i - from) / 3 + 1])
    local reason = refresh_one(member, edge, ARGV[i + 1], ARGV[i + 2])
    if reason then
      lost[#lost + 1] = integer((i - 5) / 3)
      lost[#lost + 1] = reason
    end
  end
end
local epoch, seq, id = head()
return finish(epoch, seq, id, lost)
