-- Members: MEMBERS holds peer -> session, where it began (epoch, seq), edge of its last socket, connection ('' without a socket),
-- the socket last seen to close as edge/connection; NAMES holds m\1peer\1edge in the peers' order; DUE holds m<peer> at its deadline.

local function read_member(peer, text)
  if not text then
    return nil
  end
  local member = { peer = peer }
  member.session, member.epoch, member.seq, member.edge, member.connection, member.closed =
    match(text, '^([^\1]*)\1([^\1]*)\1([^\1]*)\1([^\1]*)\1([^\1]*)\1(.*)$')
  return member
end

local function find_member(peer)
  return room and read_member(peer, call('HGET', MEMBERS, peer))
end

local function write_member(member)
  local fields = { member.session, member.epoch, member.seq, member.edge, member.connection, member.closed }
  call('HSET', MEMBERS, member.peer, concat(fields, SEP))
end

local function lease(peer, duration)
  call('ZADD', DUE, NOW + duration, 'm' .. peer)
end

-- The member a call names, if its session is the current one. Counts as a frame while a socket is attached.
local function acting(peer, session)
  local member = find_member(peer)
  if not member or member.session ~= session then
    return nil
  end
  if member.connection ~= '' then
    lease(peer, TTL)
  end
  return member
end

local function rename(peer, old, new)
  if old then
    call('ZREM', NAMES, 'm' .. SEP .. peer .. SEP .. old)
  end
  if new then
    call('ZADD', NAMES, 0, 'm' .. SEP .. peer .. SEP .. new)
  end
end

-- The session goes on, on this socket. The socket it was on until now, if another.
local function attach(member, edge, connection)
  lease(member.peer, TTL)
  due(NOW + TTL)
  local old_edge, old_connection = member.edge, member.connection
  if old_edge == edge and old_connection == connection then
    return nil
  end
  if old_edge ~= edge then
    rename(member.peer, old_edge, edge)
  end
  member.edge, member.connection = edge, connection
  write_member(member)
  if old_connection ~= '' then
    return { old_edge, old_connection }
  end
end

local function occupy()
  if room.empty then
    room.empty = nil
    call('HDEL', ROOM, 'empty')
    call('PERSIST', ROOM)
    call('PERSIST', LOG)
    note_occupied(1)
  end
end

-- A new member, with its entry.
local function admit_member(peer, session, edge, connection)
  local opens = room.empty
  occupy()
  local member = { peer = peer, session = session, edge = edge, connection = connection, closed = '' }
  member.epoch, member.seq = room.epoch, integer(room.seq + 1)
  write_member(member)
  rename(peer, nil, edge)
  lease(peer, TTL)
  due(NOW + TTL)
  append(peer, 'J', 0, peer .. SEP .. edge)
  if opens then
    did('O')
  end
  did('J', peer)
  return member
end

local function other_members()
  return call('ZRANGEBYLEX', NAMES, '[m' .. SEP, '(m' .. AFTER)
end

local function superseded(peer, session, old, resumed)
  publish('S', peer, session, old[1], old[2], resumed)
end
