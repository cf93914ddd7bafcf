-- SPDX-License-Identifier: MIT
--
-- apache.lua - the example for Apache's mod_lua, in Apache: with each scope of its Lua states, with
-- processes (prefork) and with threads (event), through a graceful restart and a stop.
--
-- What the reports are made of stands in pipes, so a report is under way for as long as the test
-- likes: a loader waits at its pipe until the test writes to it.
--
-- usage: lua5.4 apache.lua ROOT FOLDER     FOLDER: of the module for Lua 5.3

local spec = require "spec"
local perilune = require "perilune"

local root, module = arg[1], arg[2]

local function skip(why)
  print("1..0 # SKIP " .. why)
  os.exit(77)
end

local modules = "/usr/lib/apache2/modules"
local program = spec.run "command -v apache2 || ls /usr/sbin/apache2":match "%S+"
if not program then
  skip "apache2 is not installed"
elseif not io.open(modules .. "/mod_lua.so") then
  skip "apache2 has no mod_lua"
end
local is_root = spec.run "id -u" == "0\n"

local CONFIG = [[
ServerRoot "%s"
ServerName cache
Listen 127.0.0.1:%d
PidFile "%s/pid"
ErrorLog "%s/error.log"
LogLevel notice
LoadModule mpm_%s_module %s/mod_mpm_%s.so
LoadModule authz_core_module %s/mod_authz_core.so
LoadModule lua_module %s/mod_lua.so
%s
%s
LuaPackageCPath "%s/?.so"
LuaPackagePath "%s/scripts/?.lua"
Include "%s/reports.conf"
]]

-- Few processes, so that what one of them has in its L1 is soon asked for again.
local MPM = {
  prefork = "StartServers 6\nMinSpareServers 1\nMaxSpareServers 6\nMaxRequestWorkers 6",
  event = "StartServers 1\nServerLimit 1\nThreadsPerChild 8\nMaxRequestWorkers 8\n" ..
    "MinSpareThreads 1\nMaxSpareThreads 8",
}

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

-- Asks for a path; returns body, x-cache and the whole answer, which is "" where none came.
local function get(port, path)
  local answer = spec.run(("curl -s -i --max-time 60 http://127.0.0.1:%d%s"):format(port,
    path)):gsub("\r", "")
  local head, body = answer:match "^(.-)\n\n(.*)$"
  return body, head and head:match "X%-Cache: (%S+)", answer
end

-- A server with a root and a port of its own. stop(signal) returns its exit code.
local function start(folder, mpm, scope, redis)
  local port = math.random(20000, 32000)
  local reports = read(root .. "/scripts/hosts/apache/apache.conf"):gsub("LuaScope once",
    "LuaScope " .. scope)
  spec.write(folder .. "/reports.conf", reports)
  spec.write(folder .. "/apache.conf", CONFIG:format(folder, port, folder, folder, mpm, modules,
    mpm, modules, modules, is_root and "User nobody\nGroup nogroup" or "", MPM[mpm], module, root,
    folder))
  local keeper = assert(io.popen(([[
    REDIS=%s REPORTS=%s/scripts/hosts/apache SOURCE=%s/source %s -d %s -f %s/apache.conf \
      -D FOREGROUND >%s/out.log 2>&1 &
    while read -r signal; do
      kill -"$signal" $!
      last=$signal
    done
    [ "$last" = TERM ] || kill -TERM $!
    wait $!
    echo $? >%s/code]]):format(redis.url, root, folder, program, folder, folder, folder, folder),
    "w"))
  local server = { port = port }
  function server.signal(name)
    keeper:write(name, "\n")
    keeper:flush()
  end
  function server.stop()
    if keeper then
      server.signal "TERM"
      keeper:close()
      keeper = nil
    end
    return tonumber((spec.run(("cat %s/code"):format(folder))))
  end
  function server.get(path)
    return get(port, path)
  end
  return setmetatable(server, { __close = server.stop })
end

-- Asked again and again, a report comes out of the memory of the process: its cache has outlived
-- the states that asked for it before.
local function check_named(server)
  local body, source = server.get "/reports/sales"
  spec.same({ body, source }, { "TEN", "loaded" })
  spec.wait_until("a report comes from l1", function()
    local again, how = server.get "/reports/sales"
    spec.same(again, "TEN")
    return how == "l1"
  end)
  spec.contains(server.get "/cache", "mode threads")
  spec.contains(select(3, server.get "/reports/none"), "404 Not Found")
end

local function check_invalidation(server, folder, there)
  spec.write(folder .. "/source/sales", "eleven")
  assert(there:delete "report:sales")
  spec.wait_until("the report is made anew", function()
    return server.get "/reports/sales" == "ELEVEN"
  end)
end

-- Four reports are under way together, a fifth request to the process waits for one of them, and a
-- hit does not.
local function check_together(server, folder, is_one_process)
  local names, pipes = { "a", "b", "c", "d", is_one_process and "a" or nil }, {}
  for _, name in ipairs { "a", "b", "c", "d" } do
    assert(select(2, spec.run(("mkfifo -m 666 %s/source/%s"):format(folder, name))) == 0)
  end
  for i, name in ipairs(names) do
    pipes[i] = assert(io.popen(("curl -s --max-time 60 http://127.0.0.1:%d/reports/%s"):format(
      server.port, name)))
  end
  local gates = {}
  for i = 1, 4 do -- to open one waits for its reader: that all four open shows all are under way
    gates[i] = assert(io.open(folder .. "/source/" .. names[i], "w"))
  end
  local body, source = server.get "/reports/sales"
  spec.same(body, "ELEVEN")
  assert(source == "l1" or source == "l2", source)
  for i = 1, 4 do
    gates[i]:write("made ", names[i])
    gates[i]:close()
  end
  for i, pipe in ipairs(pipes) do
    spec.same(pipe:read "a", "MADE " .. names[i]:upper(), "answer " .. i)
    pipe:close()
  end
end

local function check_restart(server, folder)
  local function n_starts()
    return select(2, read(folder .. "/error.log"):gsub("resuming normal operations", ""))
  end
  server.signal "USR1"
  spec.wait_until("the server has started again", function()
    return n_starts() == 2
  end)
  spec.same((server.get "/reports/sales"), "ELEVEN")
  spec.wait_until("a report comes from l1", function()
    return select(2, server.get "/reports/sales") == "l1"
  end)
end

local function run(mpm, scope)
  local redis <close> = spec.redis()
  local folder, remove = spec.folder()
  local _ <close> = setmetatable({}, { __close = remove })
  spec.run(("mkdir %s/source; chmod -R a+rwX %s %s"):format(folder, folder,
    redis.socket:match "^(.*)/"))
  spec.write(folder .. "/source/sales", "ten")
  local there <close> = assert(perilune.open { redis = redis.url, log = false })
  local server <close> = start(folder, mpm, scope, redis)
  spec.wait_until("apache serves", function()
    return select(3, server.get "/cache") ~= ""
  end)
  check_named(server)
  check_invalidation(server, folder, there)
  check_together(server, folder, mpm == "event")
  check_restart(server, folder)
  spec.same(server.stop(), 0, "exit code")
  for line in read(folder .. "/error.log"):gmatch "[^\n]+" do
    spec.contains(line, ":notice]")
  end
  spec.same(read(folder .. "/out.log"), "")
end

math.randomseed(os.time())
for _, mpm in ipairs { "prefork", "event" } do
  for _, scope in ipairs { "once", "request", "conn", "thread", "server 1 8" } do
    spec.test(("%s, LuaScope %s"):format(mpm, scope), function()
      run(mpm, scope)
    end)
  end
end
spec.finish()
