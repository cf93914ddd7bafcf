-- SPDX-License-Identifier: MIT
--
-- apache.lua - the example for Apache's mod_lua, in Apache: with each scope of its Lua states, with
-- processes (prefork) and with threads (event), through a graceful restart and a stop.

local host = require "host"
local page = require "page"
local perilune = require "perilune"
local spec = require "spec"

host.need_file("/usr/sbin/apache2", "apache2-bin")
host.need_file("/usr/lib/apache2/modules/mod_lua.so", "apache2-bin")
host.need_program("curl", "curl")
local module = os.getenv "PERILUNE_LUA53" or host.skip "the module for Lua 5.3 is not built"

local root = spec.run(("realpath '%s'"):format(host.root)):match "[^\n]+"
local example = root .. "/scripts/hosts/apache"
local redis = spec.redis()

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

-- A server of its own: with a root, a port, and get(path).
local function start(mpm, scope, upstream)
  local folder, remove = spec.folder()
  local port = host.port()
  spec.run(("chmod -R a+rwX %s %s"):format(folder, redis.socket:match "^(.*)/")) -- for nobody
  local program = host.start { "/usr/sbin/apache2", "-f", example .. "/server.conf",
    "-D", "FOREGROUND", port = port, env = {
      LUA_CPATH_5_3 = module .. "/?.so;;", LUA_PATH_5_3 = root .. "/scripts/?.lua;;",
      PORT = port, DIR = folder, MPM = mpm, REPORTS = example, SCOPE = scope,
      SOURCE = upstream.url .. "/", REDIS = redis.url,
    } }
  local server = { program = program, url = ("http://127.0.0.1:%d/"):format(port) }
  function server.get(path)
    local answer = host.get(server.url .. path)
    return answer.status, answer.body, answer.headers["x-cache"]
  end
  function server.log()
    return read(folder .. "/error.log")
  end
  return setmetatable(server, { __close = function()
    program:stop()
    remove()
  end })
end

-- Asked again and again, a report comes out of the memory of the process: its cache has outlived
-- the states that asked for it before.
local function check_named(server)
  spec.returns({ 200, "sales 1", "loaded" }, server.get "reports/sales")
  spec.wait_until("a report comes from l1", function()
    local status, body, how = server.get "reports/sales"
    spec.same({ status, body }, { 200, "sales 1" })
    return how == "l1"
  end)
  spec.contains(select(2, server.get "cache"), "mode threads\n")
  spec.same((server.get "reports/nobody"), 404)
end

-- Another process, here this one, makes a report void.
local function check_invalidation(server, upstream)
  local there <close> = assert(perilune.open { redis = redis.url, log = false })
  upstream.set_version(2)
  assert(there:delete "report:sales")
  spec.wait_until("the report is made anew", function()
    return select(2, server.get "reports/sales") == "sales 2"
  end)
end

-- Four reports are made at the same time, a fifth request waits for one of them, in whatever
-- process; and a hit waits for nobody.
local function check_together(server, upstream)
  local names, urls = { "a", "b", "c", "d", "a" }, {}
  for i, name in ipairs(names) do
    urls[i] = server.url .. "reports/held/" .. name
  end
  local answers = host.begin(urls)
  upstream.wait_for(4)
  local status, body, how = server.get "reports/sales"
  spec.same({ status, body }, { 200, "sales 2" })
  assert(how == "l1" or how == "l2", how)
  spec.same(upstream.waiting(), 4)
  upstream.release()
  for i, answer in ipairs(answers()) do
    spec.same({ answer.status, answer.body }, { 200, names[i] .. " 2" })
  end
  spec.same(upstream.asked "/held/a", 1)
end

local function check_restart(server)
  server.program:signal "USR1"
  spec.wait_until("the server has started again", function()
    return select(2, server.log():gsub("resuming normal operations", "")) == 2
  end)
  spec.wait_until("a report comes from l1", function()
    local status, body, how = server.get "reports/sales"
    spec.same({ status, body }, { 200, "sales 2" })
    return how == "l1"
  end)
end

local function check_stop(server)
  server.program:signal "TERM"
  spec.wait_until("apache has ended", function()
    return not server.program:is_running()
  end)
  spec.contains(server.log(), "caught SIGTERM, shutting down")
  for line in server.log():gmatch "[^\n]+" do
    spec.contains(line, ":notice]")
    spec.same(line:find "exit signal", nil, line)
  end
  spec.same(server.program:said(), "")
end

for _, mpm in ipairs { "prefork", "event" } do
  for _, scope in ipairs { "once", "request", "conn", "thread", "server 1 8" } do
    spec.test(("%s, LuaScope %s"):format(mpm, scope), function()
      redis.command "flushall"
      local upstream <close> = host.upstream()
      local server <close> = start(mpm, scope, upstream)
      check_named(server)
      check_invalidation(server, upstream)
      check_together(server, upstream)
      check_restart(server)
      check_stop(server)
    end)
  end
end

spec.test("what the page shows goes as shown", function()
  redis.command "flushall"
  local upstream <close> = host.upstream()
  local folder, remove = spec.folder()
  local _ <close> = setmetatable({}, { __close = remove })
  spec.run("chmod 755 " .. folder)
  local port = host.port()
  local program <close> = page.play("apache", {
    LUA_CPATH_5_3 = module .. "/?.so;;", LUA_PATH_5_3 = root .. "/scripts/?.lua;;",
    PORT = port, DIR = folder, MPM = "event", SCOPE = "once", REPORTS = example,
    SOURCE = upstream.url .. "/", REDIS = redis.url,
  }, { port = port })
  spec.same(program:is_running(), true)
end)

redis.stop()
spec.finish()
