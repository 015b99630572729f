local node, after, limit = unpack(ARGV, 4)
local prefix = 'C' .. SEP .. node .. SEP
local from = after == '' and '[' .. prefix or '(' .. prefix .. after
local names = call('ZRANGEBYLEX', NAMES, from, '(C' .. SEP .. node .. AFTER, 'LIMIT', 0, limit + 1)
local page = {}
for _, name in ipairs(names) do
  local sid = sub(name, #prefix + 1)
  page[#page + 1] = sid
  page[#page + 1] = call('HGET', SUBSCRIPTIONS, sid)
end
return finish(page)
