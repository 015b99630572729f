-- Refreshing one member from a socket.

-- Why it can't be refreshed from there, if so.
local function refresh_one(member, edge, session, connection)
  if not member then
    return 'gone'
  end
  local elsewhere = member.connection ~= '' and (member.edge ~= edge or member.connection ~= connection)
  if member.session ~= session or elsewhere then
    return 'superseded'
  end
  -- A refresh that was overtaken by the close of its socket comes too late.
  if member.closed ~= edge .. '/' .. connection then
    attach(member, edge, connection)
  end
end
