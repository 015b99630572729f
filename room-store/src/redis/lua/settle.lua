-- In a cluster, after expiry: notes when something is due next, unless somebody noted something since. KEYS: bucket, its occupied
-- rooms. ARGV: rid, the score seen before, the next or '' when the room is gone, 1 or 0 when it is occupied or not.
if (redis.call('ZSCORE', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 'ok'
end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
redis.call(ARGV[4] == '1' and 'SADD' or 'SREM', KEYS[2], ARGV[1])
return 'ok'
