-- One step of one room: what it is told, what it reads, what it leaves behind. Every script begins with this.
--
-- Constants (TTL, MAX_MEMBERS, ...) are put before it; times are microseconds of the server's clock.
-- KEYS: the room's, in this order, then with INDEXED the due index' bucket and the totals, then what a script says itself.
-- ARGV: clock offset (tests only, else 0), 16 hex digits nobody else has, most bytes for this room's log or ''; then the call's own.
-- Ids hold no control characters, so \1 separates fields; what clients wrote comes last in its value.

local call, match, format, sub, concat = redis.call, string.match, string.format, string.sub, table.concat
local ROOM, MEMBERS, NAMES, DUE, PUBLICATIONS, SUBSCRIPTIONS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local LOG, CARRIERS, SAID, ENDED, CHANNEL = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local BUCKET, TOTALS = KEYS[12], KEYS[13]
local SEP, AFTER = '\1', '\2'
local BATCH = 256

local time = call('TIME')
local NOW = time[1] * 1000000 + time[2] + ARGV[1]

local function integer(number)
  return format('%.0f', number)
end

-- What was there when the step began; nil: no such room.
local room
do
  local fields = call('HMGET', ROOM, 'epoch', 'seq', 'id', 'bytes', 'said', 'empty')
  if fields[1] then
    room = {
      epoch = fields[1], seq = tonumber(fields[2]), id = fields[3],
      bytes = tonumber(fields[4]), said = tonumber(fields[5]), empty = fields[6],
    }
  end
end
local was_occupied = room and not room.empty or false
local bytes_before = was_occupied and room.bytes or 0
local entries, changed, step_due = nil, false, nil

local function rid()
  return match(ROOM, '{(.*)}')
end

local function create(epoch)
  room = { epoch = epoch, seq = 0, id = '', bytes = 0, said = 0, empty = NOW }
end

-- Something may be due then.
local function due(at)
  if not step_due or at < step_due then
    step_due = at
  end
end

local ids = 0
local function entry_id()
  ids = ids + 1
  return sub(ARGV[2], 1, 8) .. format('%08x', (tonumber(sub(ARGV[2], 9), 16) + ids) % 4294967296)
end

-- What the step did to the room, for whoever made it: status, epoch, then each deed as seq, kind, ids. Kinds: O opened, C closed,
-- J joined, L left, A published, R unpublished, S subscribed, U unsubscribed.
local deeds
local function did(...)
  deeds = deeds or { '', room.epoch }
  deeds[#deeds + 1] = concat({ integer(room.seq), ... }, SEP)
end

local function publish(...)
  call('SPUBLISH', CHANNEL, concat({ ... }, SEP))
end

-- An entry is: weight, id, cause or '', kind, payload. The weight is the bytes of what a client wrote in it.
local function append_as(id, cause, kind, weight, payload)
  room.seq, room.id, changed = room.seq + 1, id, true
  local entry = concat({ weight, id, cause, kind, payload }, SEP)
  entries = call('RPUSH', LOG, entry)
  room.bytes = room.bytes + weight
  if kind == 'B' then
    room.said = room.seq
  end
  publish('E', room.epoch, integer(room.seq), entry)
end

local function append(cause, kind, weight, payload)
  append_as(entry_id(), cause, kind, weight, payload)
end

local function forget_oldest(count)
  for _, entry in ipairs(call('LPOP', LOG, count) or {}) do
    room.bytes = room.bytes - match(entry, '^%d+')
  end
  entries = entries - count
end

local function trim(most)
  while room.bytes > most and entries > 0 do
    forget_oldest(1)
  end
end

-- What was said, and what was before it.
local function forget_what_was_said()
  local length = call('LLEN', LOG)
  local forgotten = length - (room.seq - room.said)
  if room.said > 0 and forgotten > 0 then
    call('LTRIM', LOG, forgotten, -1)
    room.bytes = 0
    for _, entry in ipairs(call('LRANGE', LOG, 0, -1)) do
      room.bytes = room.bytes + match(entry, '^%d+')
    end
    entries = length - forgotten
  end
end

-- All occupied rooms' logs together: beyond half of what they may hold a room that grows is cut to its share of the other half.
local function note_total()
  local bytes = room.empty and 0 or room.bytes
  if bytes == bytes_before then
    return
  end
  local total = call('HINCRBY', TOTALS, 'bytes', bytes - bytes_before)
  if bytes > bytes_before and total > TOTAL_LOG_BYTES / 2 and entries then
    local rooms = tonumber(call('HGET', TOTALS, 'occupied') or 1)
    trim(math.floor(TOTAL_LOG_BYTES / 2 / math.max(rooms, 1)))
    call('HINCRBY', TOTALS, 'bytes', room.bytes - bytes)
  end
end

local function note_occupied(by)
  if INDEXED then
    call('HINCRBY', TOTALS, 'occupied', by)
  end
end

-- Writes what the step changed. 'ok+' and 'ok-': the room has become occupied, or empty. With deeds the status is the first of their
-- list.
local function finish(...)
  local occupied = room and not room.empty or false
  if changed then
    if entries and entries > LOG_ENTRIES then
      forget_oldest(entries - LOG_ENTRIES)
    end
    if entries then
      trim(ARGV[3] ~= '' and math.min(LOG_BYTES, tonumber(ARGV[3])) or LOG_BYTES)
    end
    if INDEXED then
      note_total()
    end
    call('HSET', ROOM, 'epoch', room.epoch, 'seq', room.seq, 'id', room.id, 'bytes', room.bytes, 'said', room.said)
  end
  if INDEXED and step_due then
    call('ZADD', BUCKET, 'LT', step_due, rid())
  end
  local status = 'ok'
  if occupied ~= was_occupied then
    status = occupied and 'ok+' or 'ok-'
  end
  if deeds then
    deeds[1] = status
    return { deeds, ... }
  end
  return { status, ... }
end

local function head()
  return room.epoch, integer(room.seq), room.id
end

-- Entries after a position; or nil, and whether the log must have lost writes.
local function read_log(epoch, seq, id, limit)
  local behind = room.seq - seq
  if epoch ~= room.epoch then
    return nil, false
  elseif behind < 0 then
    return nil, true
  end
  local length = call('LLEN', LOG)
  if id ~= '' then
    local here = room.id
    if behind > 0 then
      here = behind < length and match(call('LINDEX', LOG, length - behind - 1), '^%d+\1([^\1]*)') or ''
    end
    if here ~= '' and here ~= id then
      return nil, true
    end
  end
  if behind > length then
    return nil, false
  elseif behind == 0 or limit <= 0 then
    return {}
  end
  local first = length - behind
  return call('LRANGE', LOG, first, first + math.min(behind, limit) - 1)
end
