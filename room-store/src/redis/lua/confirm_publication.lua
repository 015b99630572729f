local peer, session, mid = unpack(ARGV, 4)
if not acting(peer, session) then
  return { 'NotMember' }
end
local record, problem = own_publication(peer, mid)
if not record then
  return { problem }
end
if not record.confirmed then
  record.confirmed, record.op = true, ''
  call('HSET', PUBLICATIONS, mid, publication_text(record))
  call('ZREM', DUE, 'p' .. mid)
  announce('A', mid, record)
end
return finish(mid, publication_text(record))
