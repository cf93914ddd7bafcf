-- SPDX-License-Identifier: MIT
--
-- program.lua - the program perilune: what it prints and how it exits. PERILUNE names it.

local spec = require "spec"

local program = assert(os.getenv "PERILUNE", "PERILUNE must name the program")
local folder, remove_folder = spec.folder()

-- Runs perilune; the specs' own LUA_PATH and LUA_CPATH are not handed on.
-- A suite that nohup runs ignores SIGHUP, which is not what is tried here.
local function perilune(arguments, input)
  local env = "env --default-signal=HUP -u LUA_PATH -u LUA_CPATH -u LUA_INIT"
  return spec.run(("%s%s '%s' %s"):format(input and ("printf '%s' | "):format(input) or "", env,
    program, arguments))
end

-- What a run prints and how it exits, and what its standard error contains.
local function expect(arguments, output, code, complaint, input)
  local got, exit, said = perilune(arguments, input)
  spec.same(got, output, arguments .. ": output")
  spec.same(exit, code, arguments .. ": exit code (" .. said .. ")")
  if complaint then
    spec.contains(said, complaint)
  else
    spec.same(said, "", arguments .. ": standard error")
  end
end

local function script(name, text)
  return spec.write(folder .. "/" .. name, text)
end

---------------------------------------------------------------------------------------------------
-- run

spec.test("run gives a script its arguments, also those before it", function()
  local path = script("args.lua", [[
    print(select("#", ...), ...)
    print(#arg, arg[1], arg[0]:match "[^/]*$", arg[-1], arg[-2]:match "[^/]*$")]])
  expect("run " .. path .. " a 'b c'", "2\ta\tb c\n2\ta\targs.lua\trun\tperilune\n", 0)
  expect("run -- " .. path .. " -x", "1\t-x\n1\t-x\targs.lua\t--\trun\n", 0)
end)

spec.test("run has perilune at hand, from the build folder too", function()
  local path = script("require.lua", [[
    local cache <close> = require("perilune").open { name = "p" }
    cache:set("k", "v")
    print(cache:get "k")]])
  expect("run " .. path, "v\tnil\tl1\n", 0)
  expect("run -l perilune -e 'print(perilune._NAME)'", "perilune\n", 0)
end)

spec.test("run takes -e, -l name=module, -W, -E, -v and - in lua's order", function()
  expect("run -e 'x = 1' -e 'print(x)'", "1\n", 0)
  expect("run -e'print(2)'", "2\n", 0)
  expect("run -l s=string -e 'print(s.rep(\"x\", 3))'", "xxx\n", 0)
  expect("run -W -e 'warn \"careful\"'", "", 0, "careful")
  expect("run -e 'warn \"careful\"'", "", 0)
  expect("run - a b", "2\ta\tb\n", 0, nil, 'print(select("#", ...), ...)')
  expect("run", "from standard input\n", 0, nil, 'print "from standard input"')
  local output, code = perilune "run -v"
  spec.contains(output, "perilune ")
  spec.contains(output, "Lua 5.4")
  spec.same(code, 0)
end)

spec.test("run -i reads lines, prints what they yield, and goes on after an error", function()
  local output, code, said = perilune("run -i",
    '1 + 1\\n= 7\\nfor i = 1, 2 do\\nprint(i)\\nend\\nerror "oh"\\n"last"\\n')
  spec.contains(output, "> 2\n")
  spec.contains(output, "> 7\n")
  spec.contains(output, ">> >> 1\n2\n")
  spec.contains(output, "last\n")
  spec.contains(said, "oh")
  spec.same(code, 0)
end)

spec.test("LUA_INIT is obeyed, but not with -E", function()
  local command = "LUA_INIT='print \"init\"' '" .. program .. "' run "
  spec.same(spec.run(command .. "-e 'print \"chunk\"'"), "init\nchunk\n")
  spec.same(spec.run(command .. "-E -e 'print \"chunk\"'"), "chunk\n")
  local path = script("init.lua", "print 'from a file'")
  spec.same(spec.run("LUA_INIT=@" .. path .. " '" .. program .. "' run -e ''"), "from a file\n")
  local _, code = spec.run("LUA_INIT='error \"x\"' '" .. program .. "' run -e ''")
  spec.same(code, 1)
end)

spec.test("an error is a traceback after 'perilune:', and exit code 1", function()
  local path = script("error.lua", "local function f() error 'broken' end\nf()")
  local output, code, said = perilune("run " .. path)
  spec.same(output, "")
  spec.same(code, 1)
  spec.same(said:sub(1, 10), "perilune: ")
  spec.contains(said, "error.lua:1: broken")
  spec.contains(said, "stack traceback:")
  expect("run -e 'error {}'", "", 1, "(error object is a table value)")
  expect("run -e '='", "", 1, "(command line):1:")
  expect("run /nowhere.lua", "", 1, "cannot open /nowhere.lua")
end)

spec.test("os.exit gives its code, and closes what is open", function()
  expect("run -e 'os.exit(7)'", "", 7)
  expect("run -e 'os.exit(false)'", "", 1)
  expect("run -e 'os.exit()'", "", 0)
  expect([[run -e 'local x <close> = setmetatable({}, {__close = function() print "closed" end})
    os.exit(3)']], "closed\n", 3)
  expect([[run -e 'local c = require("perilune").open {}
    c:get("k", nil, function() os.exit(4) end)']], "", 4)
end)

spec.test("a wrong option of run is wrong usage", function()
  expect("run -x", "", 2, "unknown option '-x'")
  expect("run -e", "", 2, "unknown option '-e'")
end)

spec.test("a script loads C modules that want Lua's symbols", function()
  expect("run -e 'print(type(require(\"luasql.sqlite3\").sqlite3))'", "function\n", 0)
end)

---------------------------------------------------------------------------------------------------
-- the command line itself

spec.test("help and --version", function()
  for _, words in ipairs { "--help", "help", "get --help" } do
    local output, code = perilune(words)
    spec.contains(output, "usage: perilune COMMAND")
    spec.same(code, 0)
  end
  local output, code = perilune "--version"
  spec.contains(output, "perilune ")
  spec.contains(output, "Lua 5.4")
  spec.same(code, 0)
end)

spec.test("what is misspelt is wrong usage, with the nearest name", function()
  expect("gte k", "", 2, "unknown command 'gte', did you mean 'get'?")
  expect("--versoin", "", 2, "unknown option '--versoin'")
  expect("get --reddis x k", "", 2, "unknown option '--reddis', did you mean '--redis'?")
  expect("get --max-byte 1m k", "", 2, "did you mean '--max-bytes'?")
  expect("policy chekc x", "", 2, "unknown command 'policy chekc', did you mean 'policy check'?")
  expect("deadletter list", "", 2, "unknown command 'deadletter', did you mean 'deadletters'?")
end)

spec.test("missing and wrong arguments are wrong usage", function()
  expect("get k", "", 2, "--redis")
  expect("get --redis unix:/x", "", 2, "get wants one key")
  expect("get --redis", "", 2, "option '--redis' wants a value")
  expect("set --redis unix:/x k", "", 2, "set wants a key and a value")
  expect("set --redis unix:/x --nx=1 k v", "", 2, "option '--nx' takes no value")
  expect("set --redis unix:/x --ttl soon k v", "", 2, "perilune: option 'ttl' must be a positive")
  for _, command in ipairs { "get", "del", "invalidate" } do
    expect(command .. " --redis unix:/x ''", "", 2, ": 0 bytes, must be 1 to")
  end
  expect("get --redis unix:/nowhere --ns shop k", "", 3, "warning: perilune shop: l2: redis at")
  expect("invalidate --redis unix:/x --prefix ''", "", 2, "an empty prefix is that of all keys")
  expect("get --redis unix:/x --pool many k", "", 2, "pool: must be a whole number")
  expect("del --redis unix:/x", "", 2, "at least one key")
  expect("stats --redis unix:/x y", "", 2, "no arguments")
  expect("warm", "", 2, "warm wants -p POLICY")
  expect("warm -p x", "", 2, "warm wants --redis URL")
  expect("warm -p x --redis unix:/x --deadline soon", "", 2, "'--deadline' must be a duration")
  for _, arguments in ipairs { "", " -p x", " --json" } do
    expect("policy" .. arguments, "", 2, "policy wants check, test, explain or events")
  end
  expect("policy explain k", "", 2, "-p FILE")
  expect("watch", "", 2, "watch wants --redis URL")
  expect("watch --redis unix:/x --keys none", "", 2, "'--keys' must be a whole number, got 'none'")
  expect("watch --redis unix:/x --processes 65", "", 2, "'--processes' must be a whole number")
  expect("watch --redis unix:/x --for soon", "", 2, "'--for' must be a duration")
  expect("watch --redis unix:/x --writes 200%", "", 2, "'--writes' must be a share")
  expect("watch --redis unix:/x --pool many", "", 2, "pool: must be a whole number")
end)

---------------------------------------------------------------------------------------------------
-- commands

local redis = spec.redis()
local at = "--redis " .. redis.url .. " "

spec.test("set, get and del", function()
  expect("get " .. at .. "greeting", "", 1)
  expect("set " .. at .. "greeting hello", "", 0)
  expect("get " .. at .. "greeting", "hello\n", 0)
  expect("get " .. at .. "--json greeting",
    '{"how":"l2","key":"greeting","value":"hello"}\n', 0)
  local numbers = "1 -7 0.5 0.231 0.1 0.3333333333333333 0.30000000000000004 1e+300 3 null"
  local list = {}
  for number in numbers:gmatch "%S+" do
    list[#list + 1] = tonumber(number) or 1 / 0
  end
  list[9] = 3.0
  local cache <close> = assert(require("perilune").open { redis = redis.url, log = false })
  assert(cache:set("numbers", list))
  expect("get " .. at .. "numbers", "[" .. numbers:gsub(" ", ",") .. "]\n", 0)
  expect("get " .. at .. "--ns other greeting", "", 1)
  expect("set " .. at .. "--nx greeting again", "", 1, "not stored: the key is there")
  expect("set " .. at .. "--xx nothing again", "", 1, "not stored: the key is not there")
  expect("set " .. at .. "--ttl 1h --tag a --tag b -- -odd- value", "", 0)
  expect("get " .. at .. "-- -odd-", "value\n", 0)
  expect("set " .. at .. "piped -", "", 0, nil, "two\\nlines")
  expect("get " .. at .. "piped", "two\nlines\n", 0)
  expect("del " .. at .. "greeting piped", "", 0)
  expect("get " .. at .. "greeting", "", 1)
end)

spec.test("invalidate removes what carries a tag", function()
  expect("set " .. at .. "--tag red apple 1", "", 0)
  expect("invalidate " .. at .. "red", "", 0)
  expect("get " .. at .. "apple", "", 1)
end)

spec.test("invalidate removes what begins with a prefix or fits a pattern", function()
  expect("set " .. at .. "fruit:apple 1", "", 0)
  expect("set " .. at .. "fruit:pear 2", "", 0)
  expect("invalidate " .. at .. "--pattern fruit:*ple", "", 0)
  expect("get " .. at .. "fruit:apple", "", 1)
  expect("get " .. at .. "fruit:pear", "2\n", 0)
  expect("invalidate " .. at .. "--prefix fruit:", "", 0)
  expect("get " .. at .. "fruit:pear", "", 1)
  local _, code = perilune("invalidate --prefix --pattern x")
  spec.same(code, 2)
end)

spec.test("a table is printed as JSON", function()
  local cache <close> = require("perilune").open { redis = redis.url, log = false }
  cache:set("table", { a = { 1, 2.5, "x\n\"" }, b = true })
  expect("get " .. at .. "table", '{"a":[1,2.5,"x\\n\\""],"b":true}\n', 0)
end)

-- tests/watch/ has the watcher among faults
spec.test("watch finds nothing where all is well, and hears of what is not", function()
  local watch = "watch --processes 2 --threads 2 --keys 16 --ping 100ms --timeout 200ms "
  local output, code, said = perilune(watch .. at .. "--for 4s --delivery 2s --json",
    "fault rain 1\nend rain\nfault hail 7\nend snow\nkill 0\n")
  spec.contains(output, '"stale":0,"wrong":0,"crashes":0,"hung":0')
  spec.contains(output, '"good":true')
  spec.contains(output, '"rain":{"times":1,')
  spec.contains(output, '"kill":{"times":1,')
  spec.contains(said, "not understood: 'fault hail 7'")
  spec.contains(said, "not understood: 'end snow'")
  spec.same(code, 0, said)
end)

spec.test("watch finds what processes read that do not hear of each other", function()
  -- each has a memory of its own
  local output, code, said = perilune("watch --redis memory:watch --processes 2 --threads 2 " ..
    "--keys 16 --ping 100ms --timeout 50ms --delivery 20ms --for 3s")
  spec.same(code, 1)
  spec.contains(said, "STALE   key ")
  spec.contains(output, "0 wrong values, 0 crashes, 0 hung")
end)

spec.test("stats speaks three ways", function()
  local output, code = perilune("stats " .. at)
  spec.contains(output, "l2_connections")
  spec.same(code, 0)
  spec.contains(perilune("stats --json " .. at), '"gets":1')
  spec.contains(perilune("stats --prometheus " .. at), "# TYPE perilune_gets_total counter")
end)

spec.test("no Redis is a failure that says so", function()
  expect("get --redis unix:/nowhere.sock k", "", 3, "l2_down")
  expect("set --redis unix:/nowhere.sock k v", "", 1, "l2_down")
  local _, code, said = perilune "stats --redis unix:/nowhere.sock"
  spec.same(code, 1)
  spec.contains(said, "l2_down")
end)

---------------------------------------------------------------------------------------------------
-- policies and warming

local good = script("good.lua", [[
cache.class "page" { ttl = "15m", stale = "1m" }
cache.rule "user:{id}" { class = "page", load = function(key, m) return "user " .. m.id end }
cache.rule "bad:{id}" { class = "page", load = function() error "no such source" end }
cache.warm { keys { "user:1", "user:2", "user:3" } }
]])
local bad = script("bad.lua", "cache.rule 'user:{id' { ttl = '15m' }\n")

spec.test("policy check says where a file is wrong", function()
  expect("policy check " .. good, good .. ": ok\n", 0)
  expect("policy check " .. bad, "", 1, "bad.lua:1:")
  expect("policy check /nowhere.lua", "", 1, "/nowhere.lua")
end)

spec.test("policy test tells of each test, and fails where one does", function()
  local tested = script("tested.lua", [[
cache.rule "user:{id}" { ttl = "15m" }
cache.test "user:1" { ttl = "15m" }
cache.test "other" { rule = false }
]])
  expect("policy test " .. tested, "ok      user:1\nok      other\n" .. tested ..
    ": 2 tests, 0 failed\n", 0)
  expect("policy test --json " .. tested,
    '{"failed":0,"tests":[{"file":"tested.lua","key":"user:1","line":2},' ..
    '{"file":"tested.lua","key":"other","line":3}]}\n', 0)
  local failure = "failing.lua:2: test 'user:2': ttl: expected 15m, got 5m (cache)"
  local failing = script("failing.lua", [[
cache.test "user:1" { ttl = "5m" }
cache.test "user:2" { ttl = "15m" }
]])
  expect("policy test " .. failing, "ok      user:1\nFAILED  " .. failure .. "\n" .. failing ..
    ": 2 tests, 1 failed\n", 1)
  expect("policy test --ttl 15m " .. failing, "FAILED  failing.lua:1: test 'user:1': ttl: " ..
    "expected 5m, got 15m (cache)\nok      user:2\n" .. failing .. ": 2 tests, 1 failed\n", 1)
  expect("policy check " .. failing, "", 1, failure)
  expect("policy test " .. bad, "", 1, "bad.lua:1:")
  expect("policy test --json " .. good, '{"failed":0,"tests":[]}\n', 0)
  expect("policy test", "", 2, "one file")
end)

spec.test("SIGHUP has the policies of a running script read again", function()
  local changing = script("changing.lua", "cache.rule '*' { load = function() return 'one' end }")
  expect("run " .. script("serve.lua", ([[
local cache <close> = require("perilune").open { policy = "%s" }
print((cache:get "a"))
local file <close> = io.open("%s", "w")
file:write "cache.rule '*' { load = function() return 'two' end }"
file:close()
os.execute "kill -HUP $PPID" -- this process: the shell's parent
local deadline = os.time() + 20
while cache:stats().policy_reloads == 0 and os.time() < deadline do
  os.execute "sleep 0.01"
end
print((cache:get "a"), (cache:get "b"))]]):format(changing, changing)), "one\none\ttwo\n", 0)
end)

spec.test("SIGHUP ends a script that has no policy", function()
  local path = script("idle.lua", [[
os.execute "kill -HUP $PPID"
local deadline = os.time() + 20
while os.time() < deadline do
  os.execute "sleep 0.01"
end]])
  spec.same(perilune("run " .. path .. " & { wait $!; } 2>/dev/null; echo $?"), "129\n")
end)

spec.test("policy explain says what holds for a key", function()
  local output, code = perilune("policy explain -p " .. good .. " user:7")
  spec.contains(output, "rule 'user:{id}'")
  spec.contains(output, "15m ")
  spec.same(code, 0)
  output = perilune("policy explain --json --l1-ttl 1h -p " .. good .. " user:7")
  spec.contains(output, '"rule":"user:{id}"')
  spec.contains(output, '"ttl":{"from":"class page, good.lua:1","value":"15m"}')
  spec.contains(output, '"l1_ttl":{"from":"cache","value":"1h"}')
  local apart = script("apart.lua", 'cache.rule "*" { ttl = "1h", tags = { "a  b", "c" } }\n')
  output = perilune("policy explain --json -p " .. apart .. " k")
  spec.contains(output, '"tags":{"from":"apart.lua:1","value":"a  b, c"}')
  spec.contains(output, '"ttl":{"from":"apart.lua:1","value":"1h"}')
  output = perilune("policy explain --json -p " .. good .. " 'no rule  x'")
  spec.contains(output, '{"fields":{')
  spec.contains(output, '"read":{"from":"cache","value":"primary"}')
end)

spec.test("policy events says what each event needs and makes void, and where from", function()
  local shop = script("shop.lua", [[
cache.on "price.changed" { keys = { "product:{id}" }, tags = { "shop:{shop}:{id}" } }
cache.events { channel = "prices", stream = "shop:events" }
]])
  expect("policy events " .. shop, [[
event price.changed (shop.lua:1)
  needs  id, shop
  keys   product:{id}
  tags   shop:{shop}:{id}
channel prices (shop.lua:2)
stream shop:events, group of the namespace, dead ones to shop:events:dead (shop.lua:2)
]], 0)
  expect("policy events --json " .. shop, '{"events":[{"event":"price.changed","file":"shop.lua",'
    .. '"keys":["product:{id}"],"line":1,"needs":["id","shop"],"tags":["shop:{shop}:{id}"]}],'
    .. '"sources":[{"channel":"prices","file":"shop.lua","line":2},{"dead":"shop:events:dead",'
    .. '"file":"shop.lua","group":null,"idle_ms":30000,"line":2,"stream":"shop:events"}]}\n', 0)
  expect("policy events", "", 2, "one file")
end)

spec.test("warm loads the list, and what it loaded is in Redis", function()
  local output, code, said = perilune("warm " .. at .. "--ns warm -p " .. good)
  spec.contains(output, "3 keys: 3 loaded, 0 were there, 0 failed")
  spec.same(code, 0)
  spec.same(said, "", "no progress line where standard error is no terminal")
  expect("get " .. at .. "--ns warm user:2", "user 2\n", 0)
  output, code = perilune("warm --json " .. at .. "--ns warm --policy=" .. good)
  spec.contains(output, '"present":3')
  spec.same(code, 0)
end)

spec.test("warm exits with 3 where keys failed but enough are there, and else with 1", function()
  local some = io.open(good):read "a":gsub('"user:3"', '"bad:1"')
  local output, code = perilune("warm " .. at .. "--ns some -p " .. script("some.lua", some))
  spec.contains(output, "1 failed")
  spec.same(code, 1)
  local enough = some:gsub('"bad:1" }', '"bad:1" }, ready_at = 0.6')
  output, code = perilune("warm " .. at .. "--ns some -p " .. script("enough.lua", enough))
  spec.contains(output, "1 failed")
  spec.same(code, 3)
  local all = script("all.lua", [[
    cache.rule "bad:{id}" { ttl = "1m", load = function() error "no" end }
    cache.warm { keys { "bad:1" } }]])
  output, code = perilune("warm " .. at .. "--ns some -p " .. all)
  spec.contains(output, "1 keys: 0 loaded, 0 were there, 1 failed")
  spec.same(code, 1)
  expect("warm " .. at .. "-p " .. bad, "", 1, "bad.lua:1:")
end)

spec.test("warm exits with 4 where the deadline comes first, its own or the policy's", function()
  local slow = script("slow.lua", [[
    cache.rule "k:{id}" { ttl = "1m", load = function(key) return key end }
    local many = {}
    for i = 1, 1000 do many[i] = "k:" .. i end
    cache.warm { keys(many), rate = "50/s", concurrency = 2 }]])
  local output, code = perilune("warm " .. at .. "--ns slow --deadline 200ms -p " .. slow)
  spec.contains(output, "stopped by the deadline")
  spec.same(code, 4)
  local own = script("own.lua", (io.open(slow):read "a":gsub("rate", 'deadline = "200ms", rate')))
  output, code = perilune("warm " .. at .. "--ns slow -p " .. own)
  spec.contains(output, "stopped by the deadline")
  spec.same(code, 4)
end)

redis.stop()
remove_folder()
spec.finish()
