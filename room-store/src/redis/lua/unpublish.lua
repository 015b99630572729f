local peer, session, mid = unpack(ARGV, 4)
if not acting(peer, session) then
  return { 'NotMember' }
end
local record, problem = own_publication(peer, mid)
if not record then
  if problem == 'UnknownPublication' and is_retired('M', peer, mid) then
    return finish({})
  end
  return { problem }
end
if not record.confirmed then
  forget(record.op, 'P', mid)
end
local released = {}
end_publication(mid, record, peer, 'unpublished', released)
return finish(released)
