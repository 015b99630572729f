local peer, session, mid = unpack(ARGV, 4)
if not acting(peer, session) then
  return { 'NotMember' }
end
local text = call('HGET', PUBLICATIONS, mid)
local record = read_publication(text)
if not record or not (record.confirmed or record.owner == peer) then
  return { 'UnknownPublication' }
end
return finish(mid, text)
