-- Candidates are three each: node, boot, region.
local peer, session, mid, muted, minfo, always, recording, op = unpack(ARGV, 4)
local CANDIDATES = 12
if not acting(peer, session) then
  return { 'NotMember' }
end
local done, made = recall(op)
if done then
  if done ~= 'P' then
    return { 'OpReused' }
  end
  local text = call('HGET', PUBLICATIONS, made)
  local earlier = read_publication(text)
  if not earlier or earlier.owner ~= peer then
    return { 'OpSpent' }
  end
  return finish(made, text)
end
local text = call('HGET', PUBLICATIONS, mid)
if text then
  if read_publication(text).owner ~= peer then
    return { 'IdTaken' }
  end
  return finish(mid, text)
elseif call('HEXISTS', SUBSCRIPTIONS, mid) == 1 then
  return { 'IdTaken' }
elseif count_named('P', peer) >= MAX_PUBLICATIONS then
  return { 'TooManyPublications' }
elseif not can_remember(op) then
  return { 'TooManyOps' }
elseif not ARGV[CANDIDATES] then
  return { 'NoNode' }
end
-- The first candidate that carries the room already, else the first.
local chosen = CANDIDATES
for i = CANDIDATES, #ARGV, 3 do
  if call('HEXISTS', CARRIERS, concat({ 'p', ARGV[i], ARGV[i + 1], ARGV[i + 2] }, SEP)) == 1 then
    chosen = i
    break
  end
end
local record = {
  confirmed = false, op = op, owner = peer, muted = muted, always = always, recording = recording, minfo = minfo,
  node = ARGV[chosen], boot = ARGV[chosen + 1], region = ARGV[chosen + 2],
}
insert_publication(mid, record)
call('ZADD', DUE, NOW + RESERVATION, 'p' .. mid)
due(NOW + RESERVATION)
remember(op, 'P', mid)
return finish(mid, publication_text(record))
