if not room then
  return { 'none' }
end
local epoch, seq, id = head()
return finish(epoch, seq, id, other_members(), call('HGETALL', PUBLICATIONS))
