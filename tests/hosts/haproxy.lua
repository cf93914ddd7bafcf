-- SPDX-License-Identifier: MIT
--
-- haproxy.lua - the example for HAProxy, in HAProxy: with one Lua state and with one for each
-- thread, in the foreground and as master and worker, as root and as nobody, who gets no threads.

local host = require "host"
local page = require "page"
local perilune = require "perilune"
local spec = require "spec"

host.need_program("haproxy", "haproxy")
host.need_program("curl", "curl")
host.need_program("setpriv", "util-linux")
local module = os.getenv "PERILUNE_LUA53" or host.skip "the module for Lua 5.3 is not built"
if not spec.run "haproxy -vv":find("Built with Lua version : Lua 5.3", 1, true) then
  host.skip "this haproxy has no Lua 5.3"
end

local example = host.root .. "scripts/hosts/haproxy/"
local is_root = spec.run "id -u" == "0\n"
local redis = spec.redis()
local folder, remove = spec.folder()
spec.run(("chmod -R a+rwX %s %s"):format(folder, redis.socket:match "^(.*)/")) -- for nobody

-- The example's configuration, with the Lua file loaded by this word, and this line more.
local function config_with(load, line)
  local file <close> = assert(io.open(example .. "haproxy.cfg"))
  local text = file:read "a":gsub("lua%-load ", load .. " ")
  text = text:gsub("\nglobal\n", "%0" .. (line or ""))
  return spec.write(folder .. "/" .. load .. ".cfg", text)
end

local function start(how, origin)
  local port = host.port()
  local command = { "haproxy", "-f", config_with(how.load, how.line), "-db", port = port, env = {
    LUA_CPATH_5_3 = module .. "/?.so;;", LUA_PATH_5_3 = host.root .. "scripts/?.lua;;",
    LISTEN = "127.0.0.1:" .. port, PAGES = example, ORIGIN = "127.0.0.1:" .. origin.port,
    REDIS = redis.url,
  } }
  if how.is_master then
    table.insert(command, "-W")
  end
  if is_root and how.user == "nobody" then
    table.move({ "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups" }, 1, 4, 1,
      table.move(command, 1, #command, 5))
  end
  return host.start(command), "http://127.0.0.1:" .. port
end

-- Pages of one server: get(path) -> status, body, where it is from, what L1 had before.
local function pages_of(url)
  return function(path)
    local answer = host.get(url .. path)
    return answer.status, answer.body, host.source(answer), answer.headers["x-held"]
  end
end

-- Without threads there is no link over which others could say what has changed, and then L1 serves
-- nothing that is older than `max_staleness`.
local function check_hit(get, path, body)
  local status, got, how = get(path)
  spec.same({ status, got }, { 200, body })
  assert(how == "l1" or how == "l2", how)
end

-- Four loads at once, and two more who want one of the four. The origin holds them all, so they
-- are seen to be under way together; and whoever asks for what is there has it meanwhile.
local function check_together(url, get, origin)
  local paths, urls, loads = { "a", "b", "c", "d", "a", "a" }, {}, {}
  for i, path in ipairs(paths) do
    urls[i] = url .. "/held/" .. path
  end
  local _, _, before = origin.seen()
  local answers = host.begin(urls)
  origin.wait_for(4)
  check_hit(get, "/hit", "/hit, load 1\n")
  local under_way, _, total = origin.seen()
  spec.same({ under_way, total }, { 4, before + 4 })
  origin.release()
  for i, answer in ipairs(answers()) do
    local load = loads[paths[i]] or answer.body
    loads[paths[i]] = load
    spec.same({ answer.status, answer.body }, { 200, load })
    spec.contains(answer.body, "/held/" .. paths[i] .. ", load ")
  end
  _, _, total = origin.seen()
  spec.same(total, before + 4)
end

-- Another process, here this one, makes a page void.
local function check_invalidation(get)
  local there <close> = assert(perilune.open { redis = redis.url, ns = "pages", log = false })
  assert(there:delete "/hit")
  spec.wait_until("the page is loaded anew", function()
    return select(2, get "/hit") ~= "/hit, load 1\n"
  end)
  check_hit(get, "/other", "/other, load 2\n")
end

-- As the kernel tells it of a process that nobody has waited for yet.
local function exit_status(program)
  local file <close> = assert(io.open(("/proc/%d/stat"):format(program.pid)))
  return tonumber(file:read "a":match "(%d+)%s*$")
end

local function check_stop(program)
  program:signal "USR1" -- TERM has it killed by that signal
  spec.wait_until("haproxy has ended", function()
    return not program:is_running()
  end)
  local said = program:said()
  spec.same(exit_status(program), 0, "exit status")
  spec.same(said:find "rror" or said:find "ALERT" or said:find "code [^0]", nil, said)
end

local function run(how)
  redis.command "flushall"
  local origin <close> = host.slow()
  local program <close>, url = start(how, origin)
  local get = pages_of(url)
  spec.returns({ 200, "/hit, load 1\n", "loaded", "miss" }, get "/hit")
  check_hit(get, "/hit", "/hit, load 1\n")
  spec.returns({ 200, "/other, load 2\n", "loaded", "miss" }, get "/other")
  for _ = 1, 2 do
    local status, body = get "/nobody"
    spec.same({ status, body }, { 404, "nobody\n" })
  end
  spec.same(select(3, origin.seen()), 3)
  host.check_conditional(url .. "/hit", "max-age=300, stale-if-error=3600")
  check_together(url, get, origin)
  check_invalidation(get)
  spec.contains(select(2, get "/.cache"), "mode " .. how.mode .. "\n")
  if how.mode == "threads" then
    spec.wait_until("L1 has a page", function()
      return select(4, get "/other") == "l1"
    end)
  end
  check_stop(program)
end

for _, load in ipairs { "lua-load", "lua-load-per-thread" } do
  for _, user in ipairs(is_root and { "root", "nobody" } or { "nobody" }) do
    for _, is_master in ipairs { false, true } do
      local title = ("%s, as %s, %s"):format(load, user, is_master and "a worker" or "alone")
      spec.test(title, function()
        run { load = load, user = user, is_master = is_master,
          mode = user == "root" and "threads" or "caller" }
      end)
    end
  end
end

spec.test("nobody has threads where forking is wanted", function()
  run { load = "lua-load", user = "nobody", is_master = true, mode = "threads",
    line = "insecure-fork-wanted\n" }
end)

spec.test("what the page shows goes as shown", function()
  redis.command "flushall"
  local origin <close> = host.slow()
  local port = host.port()
  local program <close> = page.play("haproxy", {
    LUA_CPATH_5_3 = module .. "/?.so;;", LUA_PATH_5_3 = "scripts/?.lua;;", REDIS = redis.url,
    LISTEN = "127.0.0.1:" .. port, PAGES = "scripts/hosts/haproxy",
    ORIGIN = "127.0.0.1:" .. origin.port,
  }, { port = port })
  spec.same(program:is_running(), true)
end)

redis.stop()
remove()
spec.finish()
