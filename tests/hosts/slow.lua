-- SPDX-License-Identifier: MIT
--
-- slow.lua - a source over HTTP that takes its time, and counts how many requests it works on at
-- once. Each answer says which one it is, so that one that was loaded anew is known by its text:
-- "PATH, load NUMBER".
--
--     lua5.4 slow.lua PORT
--
--   /seen         under way, most under way at once, total; itself not counted
--   /release      all that is held is answered now
--   /held...      is held until then
--   /broken...    500, at once
--   /nobody...    404, at once
--   /...?with=N   after 300 ms, but not before N requests have been under way at once (10 s at
--                 most): on a busy machine they may not all have come in 300 ms
--   /...          after 300 ms

local socket = require "socket"

local TAKES, AT_MOST = 0.3, 10

local server = assert(socket.bind("127.0.0.1", tonumber(arg[1]), 64))
server:settimeout(0)

local clients = {} -- by socket: { text =, path =, since =, number = }
local reading = { server }
local under_way, most, total, released = 0, 0, 0, 0

local function drop(connection)
  for i, each in ipairs(reading) do
    if each == connection then
      table.remove(reading, i)
      break
    end
  end
  if clients[connection].number then
    under_way = under_way - 1
  end
  clients[connection] = nil
  connection:close()
end

local function answer(connection, status, body)
  connection:settimeout(1)
  connection:send(("HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
    .. "Connection: close\r\n\r\n%s"):format(status, #body, body))
  drop(connection)
end

-- A request has come whole.
local function take(connection, client)
  client.path = client.text:match "^%u+ (%S+)" or "/"
  client.since = socket.gettime()
  if client.path == "/seen" then
    return answer(connection, "200 OK", ("%d %d %d\n"):format(under_way, most, total))
  elseif client.path == "/release" then
    released = total
    return answer(connection, "200 OK", "")
  end
  under_way, total = under_way + 1, total + 1
  most = math.max(most, under_way)
  client.number = total
end

local function hear(connection)
  local client = clients[connection]
  local text, err, part = connection:receive(4096)
  client.text = client.text .. (text or part or "")
  if not client.path and client.text:find "\r?\n\r?\n" then
    take(connection, client)
  elseif err == "closed" then
    drop(connection)
  end
end

local function accept()
  local client = server:accept()
  if client then
    client:settimeout(0)
    clients[client] = { text = "" }
    reading[#reading + 1] = client
  end
end

local function is_due(client, now)
  if client.path:find "^/held" then
    return client.number <= released
  elseif client.path:find "^/broken" or client.path:find "^/nobody" then
    return true
  end
  local with = tonumber(client.path:match "[?&]with=(%d+)") or 0
  local age = now - client.since
  return age >= TAKES and (most >= with or age >= AT_MOST)
end

local function answer_due()
  local now, due = socket.gettime(), {}
  for connection, client in pairs(clients) do
    if client.number and is_due(client, now) then
      due[#due + 1] = connection
    end
  end
  for _, connection in ipairs(due) do
    local client = clients[connection]
    if client.path:find "^/broken" then
      answer(connection, "500 Internal Server Error", "broken\n")
    elseif client.path:find "^/nobody" then
      answer(connection, "404 Not Found", "nobody\n")
    else
      answer(connection, "200 OK", ("%s, load %d\n"):format(client.path, client.number))
    end
  end
end

while true do
  local readable = socket.select(reading, nil, under_way > 0 and 0.005 or 1)
  for _, connection in ipairs(readable) do
    if connection == server then
      accept()
    elseif clients[connection] then
      hear(connection)
    end
  end
  answer_due()
end
