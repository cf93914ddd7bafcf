-- SPDX-License-Identifier: MIT
--
-- haproxy.lua - the example for HAProxy, in HAProxy: with one Lua state and with one for each
-- thread, in the foreground and as master and worker, as root and as nobody, who gets no threads.
--
-- The origin is a second HAProxy whose gate the test opens and closes, and which counts how many
-- wait at it. So what happens at the same time is seen without a clock.
--
-- usage: lua5.4 haproxy.lua ROOT FOLDER     FOLDER: of the module for Lua 5.3

local spec = require "spec"
local perilune = require "perilune"

local root, module = arg[1], arg[2]

local function skip(why)
  print("1..0 # SKIP " .. why)
  os.exit(77)
end

local program = spec.run "command -v haproxy":match "%S+"
if not program then
  skip "haproxy is not installed"
elseif not spec.run(program .. " -vv"):find "Built with Lua version : Lua 5.3" then
  skip "haproxy has no Lua 5.3"
end
local is_root = spec.run "id -u" == "0\n"

local ORIGIN_CONFIG = [[
global
    lua-load %s/origin.lua
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend origin
    bind unix@%s/origin.sock mode 777
    http-request use-service lua.origin
]]

local ORIGIN = [[
local n_waiting, n_asked, is_open = 0, {}, true
core.register_service("origin", "http", function(applet)
    local path, body = applet.path, ""
    if path == "/.open" or path == "/.close" then
        is_open = path == "/.open"
    elseif path == "/.waiting" then
        body = tostring(n_waiting)
    else
        n_asked[path] = (n_asked[path] or 0) + 1
        n_waiting = n_waiting + 1
        while not is_open do
            core.msleep(5)
        end
        n_waiting = n_waiting - 1
        body = path .. " " .. n_asked[path]
    end
    applet:set_status(path == "/none" and 404 or 200)
    applet:add_header("content-length", tostring(#body))
    applet:start_response()
    applet:send(body)
end)
]]

-- Runs a program until stop(signal), which returns its exit code; it is killed with the test.
local function start(folder, name, command)
  local keeper = assert(io.popen(([[
    cd %s
    %s >%s.log 2>&1 &
    read -r signal
    kill -"${signal:-KILL}" $!
    wait $!
    echo $? >%s.code]]):format(folder, command, name, name), "w"))
  return function(signal)
    if keeper then
      keeper:write(signal, "\n")
      keeper:close()
      keeper = nil
      return tonumber((spec.run(("cat %s/%s.code"):format(folder, name))))
    end
  end
end

local function curl(socket, path)
  return ("curl -s -i --max-time 60 --unix-socket %s http://cache%s"):format(socket, path)
end

-- Asks for a path; returns body, x-cache and the whole answer.
local function get(socket, path)
  local answer = spec.run(curl(socket, path)):gsub("\r", "")
  local head, body = answer:match "^(.-)\n\n(.*)$"
  return body, head and head:match "x%-cache: (%S+)", answer
end

local function run(how)
  local folder, remove = spec.folder()
  local redis <close> = spec.redis()
  spec.run(("chmod -R a+rwX %s %s"):format(folder, redis.socket:match "^(.*)/"))
  local front, origin = folder .. "/front.sock", folder .. "/origin.sock"

  spec.write(folder .. "/origin.cfg", ORIGIN_CONFIG:format(folder, folder))
  spec.write(folder .. "/origin.lua", ORIGIN)
  local stop_origin = start(folder, "origin", program .. " -f origin.cfg -db")
  local function ask_origin(path)
    return (get(origin, path))
  end
  spec.wait_until("the origin answers", function()
    return ask_origin "/.waiting" == "0"
  end)

  local file = assert(io.open(root .. "/scripts/hosts/haproxy/haproxy.cfg"))
  spec.write(folder .. "/pages.cfg", (file:read "a":gsub("lua%-load ", how.load .. " ")))
  file:close()
  local environment = ("LUA_CPATH_5_3=%s/?.so LUA_PATH_5_3=%s/scripts/?.lua LISTEN=unix@%s " ..
    "PAGES=%s/scripts/hosts/haproxy ORIGIN=%s REDIS=%s"):format(module, root, front, root, origin,
    redis.url)
  local as_user = how.user == "nobody" and is_root and
    "setpriv --reuid=65534 --regid=65534 --clear-groups " or ""
  local stop = start(folder, "pages", ("env %s %s%s -f pages.cfg %s"):format(environment, as_user,
    program, how.flags))
  local function finish()
    stop "KILL"
    stop_origin "KILL"
    remove()
  end
  local _ <close> = setmetatable({}, { __close = finish })

  local function ask(path)
    return get(front, path)
  end
  local function log()
    return (spec.run("cat " .. folder .. "/pages.log"))
  end
  spec.wait_until("haproxy serves:\n" .. log(), function()
    return ask "/.cache" ~= nil
  end)

  local body, source = ask "/hit"
  spec.same({ body, source }, { "/hit 1", "loaded" })
  body, source = ask "/hit"
  spec.same({ body, source }, { "/hit 1", "l1" })
  spec.contains(ask "/.cache", "mode " .. how.mode)
  spec.same(select(2, ask "/none"), "negative")
  spec.contains(select(3, ask "/none"), "HTTP/1.1 404")

  -- four loads at once, and more who want one of the four
  ask_origin "/.close"
  local pipes = {}
  for i, path in ipairs { "/a", "/b", "/c", "/d", "/a", "/a" } do
    pipes[i] = assert(io.popen(curl(front, path)))
  end
  spec.wait_until("four loads are under way together", function()
    return ask_origin "/.waiting" == "4"
  end)
  body, source = ask "/hit"
  spec.same({ body, source }, { "/hit 1", "l1" }, "meanwhile")
  spec.contains(select(3, ask "/hit"), "x-held: l1")
  spec.contains(select(3, ask "/.cache"), "x-held: miss")
  ask_origin "/.open"
  for i, wanted in ipairs { "/a 1", "/b 1", "/c 1", "/d 1", "/a 1", "/a 1" } do
    local answer = pipes[i]:read "a"
    pipes[i]:close()
    spec.contains(answer, "\r\n\r\n" .. wanted)
  end

  -- another process, here this one, makes a page void
  local there <close> = assert(perilune.open { redis = redis.url, log = false })
  assert(there:delete "/a")
  spec.wait_until("the page is loaded anew", function()
    return ask "/a" == "/a 2"
  end)
  spec.same({ ask "/b" }, { "/b 1", "l1", select(3, ask "/b") })

  spec.same(stop "TERM", how.code, "exit code")
  spec.same(log():find "[Ee]rror" or log():find "[Aa]lert" or log():find "panic", nil,
    "in the log:\n" .. log())
end

for _, load in ipairs { "lua-load", "lua-load-per-thread" } do
  for _, user in ipairs(is_root and { "root", "nobody" } or { "nobody" }) do
    for _, flags in ipairs { "-db", "-W -db" } do
      spec.test(("%s, %s, as %s"):format(load, flags, user), function()
        run { load = load, flags = flags, user = user,
          mode = user == "nobody" and "caller" or "threads", code = 0 }
      end)
    end
  end
end
spec.finish()
