-- Streams: PUBLICATIONS holds mid -> confirmed (0 or 1), op of its reservation, owner, node, boot, region, muted (two of 0 and 1:
-- audio, video), whether it is by order (0 or
-- 1) and recording or '', minfo as it was published. SUBSCRIPTIONS holds sid -> confirmed, op, subscriber, mid, node, boot, region.
-- NAMES holds, each in order: p\1mid; P\1owner\1mid; S\1subscriber\1sid; W\1mid\1sid; C\1node\1sid for confirmed subscriptions.
-- DUE holds p<mid> and s<sid> of reservations. CARRIERS counts p\1node\1boot\1region and s\1... ENDED holds what a session's
-- streams were, oldest first: M\1peer\1when\1mid, S\1peer\1when\1sid.

local PUBLICATION =
  '^(.)\1([^\1]*)\1([^\1]*)\1([^\1]*)\1([^\1]*)\1([^\1]*)\1([^\1]*)\1(.)([^\1]*)\1(.*)$'
local SUBSCRIPTION = '^(.)\1([^\1]*)\1([^\1]*)\1([^\1]*)\1([^\1]*)\1([^\1]*)\1(.*)$'

local function read_publication(text)
  if not text then
    return nil
  end
  local record = {}
  record.confirmed, record.op, record.owner, record.node, record.boot, record.region, record.muted,
    record.always, record.recording, record.minfo = match(text, PUBLICATION)
  record.confirmed = record.confirmed == '1'
  return record
end

local function find_publication(mid)
  return read_publication(call('HGET', PUBLICATIONS, mid))
end

local function publication_text(record)
  return concat({
    record.confirmed and '1' or '0', record.op, record.owner, record.node, record.boot, record.region,
    record.muted, record.always .. record.recording, record.minfo,
  }, SEP)
end

local function read_subscription(text)
  if not text then
    return nil
  end
  local record = {}
  record.confirmed, record.op, record.subscriber, record.mid, record.node, record.boot, record.region =
    match(text, SUBSCRIPTION)
  record.confirmed = record.confirmed == '1'
  return record
end

local function find_subscription(sid)
  return read_subscription(call('HGET', SUBSCRIPTIONS, sid))
end

local function subscription_text(record)
  return concat({
    record.confirmed and '1' or '0', record.op, record.subscriber, record.mid, record.node, record.boot, record.region,
  }, SEP)
end

-- Ids under a name, without it, in order.
local function named(kind, name)
  local prefix = kind .. SEP .. name .. SEP
  local found = call('ZRANGEBYLEX', NAMES, '[' .. prefix, '(' .. kind .. SEP .. name .. AFTER)
  for i, entry in ipairs(found) do
    found[i] = sub(entry, #prefix + 1)
  end
  return found
end

local function count_named(kind, name)
  return call('ZLEXCOUNT', NAMES, '[' .. kind .. SEP .. name .. SEP, '(' .. kind .. SEP .. name .. AFTER)
end

-- Calls a command with a key and many arguments, in parts the stack can hold.
local function in_parts(command, key, values)
  for from = 1, #values, BATCH do
    call(command, key, unpack(values, from, math.min(from + BATCH - 1, #values)))
  end
end

local function carry(kind, record, by)
  local field = concat({ kind, record.node, record.boot, record.region }, SEP)
  if call('HINCRBY', CARRIERS, field, by) <= 0 then
    call('HDEL', CARRIERS, field)
  end
end

local function release(released, kind, id, record)
  local at = #released
  released[at + 1], released[at + 2], released[at + 3], released[at + 4], released[at + 5] =
    kind, id, record.node, record.boot, record.region
end

-- Those of one session are counted now and then: a few more than there may be do no harm.
local retired = 0
local WHEN, COUNTED = 22, 8
local function retire(entries, kind, peer, id)
  retired = retired + 1
  local name = kind .. SEP .. peer
  entries[#entries + 1] = 0
  entries[#entries + 1] = name .. SEP .. format('%016.0f%06d', NOW, retired) .. SEP .. id
  if (NOW + retired) % COUNTED == 0 then
    local from, to = '[' .. name .. SEP, '(' .. name .. AFTER
    local over = call('ZLEXCOUNT', ENDED, from, to) - MAX_RETIRED
    if over > 0 then
      in_parts('ZREM', ENDED, call('ZRANGEBYLEX', ENDED, from, to, 'LIMIT', 0, over))
    end
  end
end

local function is_retired(kind, peer, id)
  local name = kind .. SEP .. peer
  local from = #name + WHEN + 3
  for _, entry in ipairs(call('ZRANGEBYLEX', ENDED, '[' .. name .. SEP, '(' .. name .. AFTER)) do
    if sub(entry, from) == id then
      return true
    end
  end
  return false
end

-- What is known of a session beyond its membership.
local function forget_session(peer)
  for _, kind in ipairs({ 'M', 'S' }) do
    call('ZREMRANGEBYLEX', ENDED, '[' .. kind .. SEP .. peer .. SEP, '(' .. kind .. SEP .. peer .. AFTER)
  end
  call('HDEL', SAID, peer)
end

local function insert_publication(mid, record)
  call('HSET', PUBLICATIONS, mid, publication_text(record))
  call('ZADD', NAMES, 0, 'p' .. SEP .. mid, 0, 'P' .. SEP .. record.owner .. SEP .. mid)
  carry('p', record, 1)
end

local function insert_subscription(sid, record)
  call('HSET', SUBSCRIPTIONS, sid, subscription_text(record))
  call('ZADD', NAMES, 0, 'S' .. SEP .. record.subscriber .. SEP .. sid, 0, 'W' .. SEP .. record.mid .. SEP .. sid)
  carry('s', record, 1)
end

local function note_confirmed_subscription(sid, record)
  call('ZADD', NAMES, 0, 'C' .. SEP .. record.node .. SEP .. sid)
  did('S', record.subscriber, sid, record.mid, record.node)
end

-- `why`: for the deeds. `leaving`: whose session ends with it, so that nothing need be remembered.
local function end_subscriptions(sids, why, released, leaving)
  local gone, names, deadlines, ended, carried = {}, {}, {}, {}, {}
  for from = 1, #sids, BATCH do
    local to = math.min(from + BATCH - 1, #sids)
    local values = call('HMGET', SUBSCRIPTIONS, unpack(sids, from, to))
    for i = from, to do
      local sid, record = sids[i], read_subscription(values[i - from + 1])
      if record then
        gone[#gone + 1] = sid
        names[#names + 1] = 'S' .. SEP .. record.subscriber .. SEP .. sid
        names[#names + 1] = 'W' .. SEP .. record.mid .. SEP .. sid
        if record.confirmed then
          names[#names + 1] = 'C' .. SEP .. record.node .. SEP .. sid
          did('U', record.subscriber, sid, record.mid, why)
        else
          deadlines[#deadlines + 1] = 's' .. sid
        end
        local place = record.node .. SEP .. record.boot
        carried[place] = carried[place] or { record = record, by = 0 }
        carried[place].by = carried[place].by - 1
        release(released, 's', sid, record)
        if record.subscriber ~= leaving then
          retire(ended, 'S', record.subscriber, sid)
        end
      end
    end
  end
  for _, place in pairs(carried) do
    carry('s', place.record, place.by)
  end
  in_parts('ZADD', ENDED, ended)
  in_parts('HDEL', SUBSCRIPTIONS, gone)
  in_parts('ZREM', NAMES, names)
  in_parts('ZREM', DUE, deadlines)
end

-- Removes a stream and the subscriptions to it.
local function end_publication(mid, record, cause, reason, released, leaving)
  call('HDEL', PUBLICATIONS, mid)
  call('ZREM', NAMES, 'p' .. SEP .. mid, 'P' .. SEP .. record.owner .. SEP .. mid)
  carry('p', record, -1)
  release(released, 'p', mid, record)
  end_subscriptions(named('W', mid), 'stream_ended', released, leaving)
  if record.owner ~= leaving then
    local ended = {}
    retire(ended, 'M', record.owner, mid)
    in_parts('ZADD', ENDED, ended)
  end
  if record.confirmed then
    append(cause, 'R', 0, concat({ record.owner, mid, reason }, SEP))
    did('R', record.owner, mid, reason)
  else
    call('ZREM', DUE, 'p' .. mid)
  end
end

-- All streams and subscriptions of a session that ends.
local function end_streams(peer, reason, released)
  end_subscriptions(named('S', peer), 'subscriber_gone', released, peer)
  for _, mid in ipairs(named('P', peer)) do
    end_publication(mid, find_publication(mid), peer, reason, released, peer)
  end
end

-- Ends a membership: streams first, then the member. `reason`: the streams'. `why`: the member's.
local function end_member(peer, edge, reason, why, released)
  end_streams(peer, reason, released)
  call('HDEL', MEMBERS, peer)
  rename(peer, edge, nil)
  call('ZREM', DUE, 'm' .. peer)
  forget_session(peer)
  append(peer, 'L', 0, peer)
  did('L', peer, why)
  if call('HLEN', MEMBERS) == 0 then
    room.empty = NOW
    did('C')
    call('HSET', ROOM, 'empty', NOW)
    -- Nobody may read it any more: who comes next is told only what is said from then on.
    forget_what_was_said()
    due(NOW + TTL)
    -- Should no edge be left to forget the room.
    local keep = math.ceil(TTL / 1000) * 2 + 60000
    call('PEXPIRE', ROOM, keep)
    call('PEXPIRE', LOG, keep)
    note_occupied(-1)
  end
end

-- A stream of the member that acts, or why not. Reservations of others are nobody's business.
local function own_publication(peer, mid)
  local record = find_publication(mid)
  if not record or (record.owner ~= peer and not record.confirmed) then
    return nil, 'UnknownPublication'
  elseif record.owner ~= peer then
    return nil, 'NotOwner'
  end
  return record
end

-- What others are told of a stream.
local function announce(kind, mid, record)
  append(record.owner, kind, #record.minfo, mid .. SEP .. publication_text(record))
  if kind == 'A' then
    did('A', record.owner, mid, record.node)
  end
end
