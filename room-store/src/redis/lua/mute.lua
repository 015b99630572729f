-- audio, video: '0', '1', or '' for as it is.
local peer, session, edge, connection, mid, audio, video = unpack(ARGV, 4)
local member = acting(peer, session)
if not member or member.edge ~= edge or member.connection ~= connection then
  return { 'NotMember' }
end
local record, problem = own_publication(peer, mid)
if not record then
  return { problem }
elseif not record.confirmed then
  return { 'UnknownPublication' }
end
local muted = (audio ~= '' and audio or sub(record.muted, 1, 1)) .. (video ~= '' and video or sub(record.muted, 2, 2))
if muted ~= record.muted then
  record.muted = muted
  call('HSET', PUBLICATIONS, mid, publication_text(record))
  announce('U', mid, record)
end
return finish(mid, publication_text(record))
