-- node '': the publication's place.
local peer, session, sid, mid, node, boot, region, op = unpack(ARGV, 4)
if not acting(peer, session) then
  return { 'NotMember' }
end

-- A subscription of this peer, and its stream.
local function reserved(id)
  local text = call('HGET', SUBSCRIPTIONS, id)
  local record = read_subscription(text)
  local publication = record and record.subscriber == peer and call('HGET', PUBLICATIONS, record.mid)
  if publication then
    return { id, text, record.mid, publication }
  end
end

local done, made = recall(op)
if done then
  if done ~= 'S' then
    return { 'OpReused' }
  end
  local earlier = reserved(made)
  if not earlier then
    return { 'OpSpent' }
  end
  return finish(unpack(earlier))
end
if call('HEXISTS', SUBSCRIPTIONS, sid) == 1 then
  local repeated = reserved(sid)
  if not repeated or repeated[3] ~= mid then
    return { 'IdTaken' }
  end
  return finish(unpack(repeated))
end
local text = call('HGET', PUBLICATIONS, mid)
local publication = read_publication(text)
if not publication or not publication.confirmed then
  return { 'UnknownPublication' }
elseif call('HEXISTS', PUBLICATIONS, sid) == 1 then
  return { 'IdTaken' }
elseif count_named('S', peer) >= MAX_SUBSCRIPTIONS then
  return { 'TooManySubscriptions' }
elseif not can_remember(op) then
  return { 'TooManyOps' }
end
if node == '' then
  node, boot, region = publication.node, publication.boot, publication.region
end
local record = { confirmed = false, op = op, subscriber = peer, mid = mid, node = node, boot = boot, region = region }
insert_subscription(sid, record)
call('ZADD', DUE, NOW + RESERVATION, 's' .. sid)
due(NOW + RESERVATION)
remember(op, 'S', sid)
return finish(sid, subscription_text(record), mid, text)
