-- peer '': no member asks, and everyone is told. expected, recording: '' for none.
local peer, session, mid, expected, recording = unpack(ARGV, 4)
if peer ~= '' and not acting(peer, session) then
  return { 'NotMember' }
end
local record = room and find_publication(mid)
if not record or not (record.confirmed or peer == '' or record.owner == peer) then
  return { 'UnknownPublication' }
end
if record.recording == expected and recording ~= expected then
  record.recording = recording
  call('HSET', PUBLICATIONS, mid, publication_text(record))
  if record.confirmed then
    local told = recording ~= '' and recording or expected
    append(peer, 'O', #record.minfo, concat({ told, mid, publication_text(record) }, SEP))
  end
end
return finish(mid, publication_text(record))
