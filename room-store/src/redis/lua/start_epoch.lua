local seen, fresh = unpack(ARGV, 4)
if not room then
  return { 'none' }
end
if room.epoch == seen then
  room.epoch, room.seq, room.id, room.bytes, room.said, changed = fresh, 0, '', 0, 0, true
  call('DEL', LOG)
  publish('N', fresh)
end
return finish(head())
