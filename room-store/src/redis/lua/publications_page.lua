-- One more than asked for tells whether there are more.
local peer, session, after, limit = unpack(ARGV, 4)
if not acting(peer, session) then
  return { 'NotMember' }
end
local page, wanted = {}, 2 * (tonumber(limit) + 1)
local from = after == '' and '[p' .. SEP or '(p' .. SEP .. after
repeat
  local names = call('ZRANGEBYLEX', NAMES, from, '(p' .. AFTER, 'LIMIT', 0, BATCH)
  local mids = {}
  for i, name in ipairs(names) do
    mids[i] = sub(name, 3)
  end
  local values = #mids > 0 and call('HMGET', PUBLICATIONS, unpack(mids)) or {}
  for i, mid in ipairs(mids) do
    local record = read_publication(values[i])
    if #page < wanted and record and record.confirmed and record.owner ~= peer then
      page[#page + 1] = mid
      page[#page + 1] = values[i]
    end
  end
  from = #names > 0 and '(' .. names[#names]
until #names < BATCH or #page >= wanted
return finish(page)
