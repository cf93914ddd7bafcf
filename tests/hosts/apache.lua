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
local function start(mpm, scope, source)
  local folder, remove = spec.folder()
  local port = host.port()
  spec.run(("chmod -R a+rwX %s %s"):format(folder, redis.socket:match "^(.*)/")) -- for nobody
  local program = host.start { "/usr/sbin/apache2", "-f", example .. "/server.conf",
    "-D", "FOREGROUND", port = port, env = {
      LUA_CPATH_5_3 = module .. "/?.so;;", LUA_PATH_5_3 = root .. "/scripts/?.lua;;",
      PORT = port, DIR = folder, MPM = mpm, REPORTS = example, SCOPE = scope,
      SOURCE = source.url .. "/", REDIS = redis.url,
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
local function wait_for_l1(server, body)
  spec.wait_until("a report comes from l1", function()
    local status, got, how = server.get "reports/sales"
    spec.same({ status, got }, { 200, body })
    return how == "l1"
  end)
end

local function check_named(server)
  spec.returns({ 200, "/sales, load 1\n", "loaded" }, server.get "reports/sales")
  wait_for_l1(server, "/sales, load 1\n")
  spec.contains(select(2, server.get "cache"), "mode threads\n")
  spec.same((server.get "reports/nobody"), 404)
end

-- Another process, here this one, makes a report void. Returns the new one.
local function check_invalidation(server)
  local there <close> = assert(perilune.open { redis = redis.url, ns = "reports", log = false })
  assert(there:delete "report:sales")
  local body
  spec.wait_until("the report is made anew", function()
    body = select(2, server.get "reports/sales")
    return body ~= "/sales, load 1\n"
  end)
  return body
end

-- Four reports are made at the same time, a fifth request waits for one of them, in whatever
-- process; and a hit waits for nobody.
local function check_together(server, source, sales)
  local names, urls = { "a", "b", "c", "d", "a" }, {}
  for i, name in ipairs(names) do
    urls[i] = server.url .. "reports/held/" .. name
  end
  local _, _, before = source.seen()
  local answers = host.begin(urls)
  source.wait_for(4)
  local status, body, how = server.get "reports/sales"
  spec.same({ status, body }, { 200, sales })
  assert(how == "l1" or how == "l2", how)
  spec.same((source.seen()), 4)
  source.release()
  local got = answers()
  for i, answer in ipairs(got) do
    spec.same(answer.status, 200)
    spec.contains(answer.body, "/held/" .. names[i] .. ", load ")
  end
  spec.same(got[1].body, got[5].body)
  spec.same(select(3, source.seen()), before + 4)
end

local function check_restart(server, sales)
  server.program:signal "USR1"
  spec.wait_until("the server has started again", function()
    return select(2, server.log():gsub("resuming normal operations", "")) == 2
  end)
  wait_for_l1(server, sales)
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
      local source <close> = host.slow()
      local server <close> = start(mpm, scope, source)
      check_named(server)
      local sales = check_invalidation(server)
      check_together(server, source, sales)
      check_restart(server, sales)
      check_stop(server)
    end)
  end
end

spec.test("what the page shows goes as shown", function()
  redis.command "flushall"
  local source <close> = host.slow()
  local folder, remove = spec.folder()
  local _ <close> = setmetatable({}, { __close = remove })
  spec.run("chmod 755 " .. folder)
  local port = host.port()
  local program <close> = page.play("apache", {
    LUA_CPATH_5_3 = module .. "/?.so;;", LUA_PATH_5_3 = root .. "/scripts/?.lua;;",
    PORT = port, DIR = folder, MPM = "event", SCOPE = "once", REPORTS = example,
    SOURCE = source.url .. "/", REDIS = redis.url,
  }, { port = port })
  spec.same(program:is_running(), true)
end)

redis.stop()
spec.finish()
