-- SPDX-License-Identifier: MIT
--
-- upstream.lua - the slow server behind a host's loader. It keeps those who ask for /held/... until
-- it is told to let them go: so a test sees how many wait at once, and needs no clock.
--
--     /held/NAME     "NAME VERSION", once /release was asked for
--     /slow/NAME     the same, 300 ms later
--     /NAME          the same at once; 404 for names that begin with "nobody"
--     /version/N     from now on the version is N
--     /release       lets go all that are held
--     /waiting       how many are held
--     /asked/PATH    how often PATH was asked for
--
-- usage: lua5.4 upstream.lua PORT; needs LuaSocket.
local socket = require "socket"

local listener = assert(socket.bind("127.0.0.1", assert(tonumber(arg[1]))))
local held, slow, asked = {}, {}, {} -- held: clients and paths; slow: likewise, with a time
local version = "1"

local function answer(client, status, body)
  client:send(("HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"):format(status,
    #body, body))
  client:close()
end

local function answer_name(client, path)
  local name = path:match "[^/]*$"
  if name:find "^nobody" then
    answer(client, "404 Not Found", "")
  else
    answer(client, "200 OK", name .. " " .. version)
  end
end

local function release()
  local released = held
  held = {}
  for _, each in ipairs(released) do
    answer_name(each.client, each.path)
  end
end

local function serve(client, path)
  local verb, rest = path:match "^/(%l+)/?(.*)$"
  if verb == "waiting" then
    answer(client, "200 OK", tostring(#held))
  elseif verb == "asked" then
    answer(client, "200 OK", tostring(asked["/" .. rest] or 0))
  elseif verb == "version" then
    version = rest
    answer(client, "200 OK", "")
  elseif verb == "release" then
    release()
    answer(client, "200 OK", "")
  else
    asked[path] = (asked[path] or 0) + 1
    local entry = { client = client, path = path, time = socket.gettime() + 0.3 }
    if verb == "held" then
      held[#held + 1] = entry
    elseif verb == "slow" then
      slow[#slow + 1] = entry
    else
      answer_name(client, path)
    end
  end
end

local function accept()
  local client = listener:accept()
  client:settimeout(5)
  local path = (client:receive "*l" or ""):match "^GET (%S+)"
  repeat
    local line = client:receive "*l"
  until not line or line == ""
  if path then
    serve(client, path)
  else
    client:close()
  end
end

while true do
  local left = slow[1] and math.max(slow[1].time - socket.gettime(), 0)
  if #socket.select({ listener }, nil, left) > 0 then
    accept()
  end
  while slow[1] and slow[1].time <= socket.gettime() do
    local entry = table.remove(slow, 1)
    answer_name(entry.client, entry.path)
  end
end
