local epoch, seq, id, limit = unpack(ARGV, 4)
if not room then
  return { 'none' }
end
local found, diverged = read_log(epoch, tonumber(seq), id, tonumber(limit))
if found then
  return finish('entries', found)
end
return finish('lost', diverged and '1' or '0', head())
