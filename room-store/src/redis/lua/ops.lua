-- What a peer's requests with an `op` have done. OPS holds op -> kind (J joined, L left, P published, S subscribed, B broadcast) and
-- what it made; REQUESTS and BROADCASTS hold the ops until when they are known. These keys are the last three.

local OPS, REQUESTS, BROADCASTS = KEYS[#KEYS - 2], KEYS[#KEYS - 1], KEYS[#KEYS]

-- Kind, and what it made.
local function recall(op)
  local done = op ~= '' and call('HGET', OPS, op)
  if not done then
    return nil
  end
  local kind = sub(done, 1, 1)
  local known_until = call('ZSCORE', kind == 'B' and BROADCASTS or REQUESTS, op)
  if known_until and tonumber(known_until) > NOW then
    return kind, sub(done, 2)
  end
end

-- Whether the op could be remembered: to be asked before anything is done with it. A broadcast's always can.
local function can_remember(op)
  if op == '' then
    return true
  end
  local old = call('ZRANGEBYSCORE', REQUESTS, '-inf', NOW)
  if #old > 0 then
    for from = 1, #old, BATCH do
      local to = math.min(from + BATCH - 1, #old)
      call('ZREM', REQUESTS, unpack(old, from, to))
      call('HDEL', OPS, unpack(old, from, to))
    end
  end
  return call('ZCARD', REQUESTS) < MAX_OPS or call('ZSCORE', REQUESTS, op)
end

local function remember(op, kind, made)
  if op == '' then
    return
  end
  local set, other = REQUESTS, BROADCASTS
  if kind == 'B' then
    set, other = BROADCASTS, REQUESTS
  end
  call('ZREM', other, op)
  call('HSET', OPS, op, kind .. made)
  call('ZADD', set, NOW + TTL, op)
  if kind == 'B' then
    local over = call('ZCARD', BROADCASTS) - MAX_BROADCAST_OPS
    if over > 0 then
      for _, oldest in ipairs(call('ZRANGE', BROADCASTS, 0, over - 1)) do
        call('ZREM', BROADCASTS, oldest)
        call('HDEL', OPS, oldest)
      end
    end
  end
  -- They end by themselves: a peer that never comes back leaves nothing.
  local keep = math.ceil(TTL / 1000) + 60000
  call('PEXPIRE', OPS, keep)
  call('PEXPIRE', set, keep)
end

-- What it did was given back before anybody saw it: the same op may do it anew.
local function forget(op, kind, made)
  if op ~= '' and call('HGET', OPS, op) == kind .. made then
    call('HDEL', OPS, op)
    call('ZREM', REQUESTS, op)
  end
end
