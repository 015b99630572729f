-- In a cluster, where the index is elsewhere: notes that something of a room may be due. KEYS: bucket, its occupied rooms.
-- ARGV: clock offset, rid, after how long, and 1 or 0 when the room is known to be occupied or empty, else ''.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + ARGV[1]
redis.call('ZADD', KEYS[1], 'LT', now + ARGV[3], ARGV[2])
if ARGV[4] == '1' then
  redis.call('SADD', KEYS[2], ARGV[2])
elseif ARGV[4] == '0' then
  redis.call('SREM', KEYS[2], ARGV[2])
end
return 'ok'
