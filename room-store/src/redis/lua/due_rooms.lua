-- Rooms in which something may be due. KEYS: buckets of the index. ARGV: clock offset, most rooms, and a number from 0 to 1 that
-- decides where to begin in a bucket that holds too many.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + ARGV[1]
local left, found = tonumber(ARGV[2]), {}
for _, bucket in ipairs(KEYS) do
  if left <= 0 then
    break
  end
  local skipped = 0
  local ripe = redis.call('ZCOUNT', bucket, '-inf', now)
  if ripe > left then
    skipped = math.floor((ripe - left + 1) * ARGV[3])
  end
  if ripe > 0 then
    for _, rid in ipairs(redis.call('ZRANGEBYSCORE', bucket, '-inf', now, 'LIMIT', skipped, left)) do
      found[#found + 1] = rid
      left = left - 1
    end
  end
end
return found
