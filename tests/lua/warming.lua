-- SPDX-License-Identifier: MIT
--
-- warming.lua - what a policy and a program name to be loaded ahead, and whether a cache is warm.

local spec = require "spec"
local perilune = require "perilune"

local folder, remove_folder = spec.folder()

local function open(text, options)
  options = options or {}
  options.policy = spec.write(folder .. "/policy.lua", text)
  options.log = false
  return assert(perilune.open(options))
end

local rule = 'cache.rule "k:{id}" { ttl = "1h", load = function(key, m) return m.id end }\n'

spec.test("functions name keys by a list or an iterator, when they are wanted", function()
  local cache <close> = open(rule .. [[
    cache.warm {
      keys(function() return { "k:1", "k:2" } end),
      keys(function() return string.gmatch("k:3 k:4 k:2", "%S+") end) { priority = 1 },
      keys(function()
        return function(last, n) return n < last and n + 1 or nil end, 104, 100
      end) { top = 3 },
    }
    cache.rule "*" { ttl = "1h", load = function(key) return "whole number " .. key end }]])
  local report = cache:warm()
  spec.same(report.error, nil)
  spec.same(report.loaded, 7)
  spec.same(report.sources[1], { source = "function", wanted = 3, loaded = 3, present = 0,
    failed = 0 })
  spec.same(report.sources[2].wanted, 1)
  spec.same(report.sources[3].wanted, 3)
  spec.returns({ "4", spec.null, "l1" }, cache:get "k:4")
  spec.returns({ "whole number 103", spec.null, "l1" }, cache:get "103")
  spec.same(select(3, cache:peek "104"), "miss")
end)

spec.test("a function that fails, or gives what is no key, ends it with file and line", function()
  for body, message in pairs {
    ['error "the list is away"'] = "policy.lua:2: the list is away",
    ["return 7"] = "a list or an iterator is wanted of the function, got 7",
    ["return { 'k:1', true }"] = "key 2: a text or a whole number is wanted, got true",
    ["return { 'k:1', '' }"] = "warm: function: key 2: 0 bytes, must be 1 to 4096",
  } do
    local cache <close> = open(rule .. ("cache.warm { keys(function() %s end) }"):format(body))
    local report, said, code = cache:warm()
    spec.same(report, nil)
    spec.contains(said, message)
    spec.same(code, "policy")
    spec.same(cache:stats().loads, 0)
  end
end)

spec.test("a program names keys by a list, a file or an iterator of its own", function()
  local cache <close> = open(rule .. 'cache.warm { keys { "k:policy" } }')
  spec.same(cache:warm({ keys = { "k:1", "k:2" } }).loaded, 2)
  local n = 2
  spec.same(cache:warm({ keys = function()
    n = n + 1
    return n <= 5 and "k:" .. n or nil
  end }).loaded, 3)
  local list = spec.write(folder .. "/list", "# keys\nk:1\nk:6\n")
  local report = cache:warm { file = list, keys = { "k:7" } }
  spec.same(report.present, 1)
  spec.same(report.loaded, 2)
  spec.same(report.sources[2].source, "file " .. list)
  spec.same(cache:warm({ keys = {} }).wanted, 0)
  spec.same(cache:warm({ keys = { "k:8", "k:9" }, top = 1, concurrency = 1, rate = 1000,
    deadline = "10s" }).wanted, 1)
  spec.same(select(3, cache:peek "k:policy"), "miss")
  spec.raises("key 2 must be a string or integer, got a boolean", cache.warm, cache,
    { keys = { "k:1", true } })
  spec.raises("my own fault", cache.warm, cache, { keys = function() error "my own fault" end })
  spec.raises("option 'keys' must be a list", cache.warm, cache, { keys = "k:1" })
  for _, rate in ipairs { 0, 9e-7, 2e9, "fast" } do
    spec.raises("option 'rate' must be a number of keys per second from 1e-6 to 1e9", cache.warm,
      cache, { rate = rate })
  end
  spec.raises("option 'deadline' must be at least 1 ms", cache.warm, cache, { deadline = "0.1ms" })
  spec.raises("option 'concurrency' must be 1 to 256", cache.warm, cache, { concurrency = 300 })
  spec.raises("unknown option 'key', did you mean 'keys'?", cache.warm, cache, { key = {} })
end)

spec.test("ready says when it is, also of what is warmed in the background", function()
  local idle <close> = open(rule)
  spec.same((idle:ready()), true)
  local cache <close> = open(rule .. [[
    local many = {}
    for i = 1, 100 do many[i] = "k:" .. i end
    cache.warm { keys(many), rate = 400, ready_at = "10%" }]])
  spec.same((cache:ready()), false)
  spec.same(cache:warm { background = true }, true)
  spec.wait_until("it is ready", function() return (cache:ready()) end)
  local _, report = cache:ready()
  spec.same(report.wanted, 100)
  spec.same(report.loaded >= 10, true)
  spec.raises("in the background has no 'progress'", cache.warm, cache,
    { background = true, progress = print })
  local _, message, code = cache:warm()
  if code then -- it still runs
    spec.same(code, "busy")
    spec.contains(message, "this cache is being warmed already")
  end
end)

spec.test("a file that is none is told as the other options are", function()
  local cache <close> = open(rule)
  spec.raises("(option 'file' must be a path)", cache.warm, cache,
    { file = {} })
end)

spec.test("one memory's L2 alone is warmed", function()
  local cache <close> = open(rule .. 'cache.rule "here:*" { l2 = false, ttl = "1h" }\n' ..
    'cache.warm { keys { "k:1", "here:1" } }', { redis = "memory:warming" })
  local report = cache:warm { l2_only = true }
  spec.same(report.wanted, 1)
  spec.same(report.loaded, 1)
  local alone <close> = open(rule)
  spec.raises("L2 alone is to be warmed", alone.warm, alone, { l2_only = true })
end)

spec.test("what is wrong with cache.warm is told, with its line", function()
  local any = [[table such as { top = 5000, priority = 1 } is wanted]]
  for statement, message in pairs {
    ["cache.warm {}\ncache.warm {}"] = "wrong.lua:2: warm: there is one already, at line 1",
    ["cache.warm 'x'"] =
      [[wrong.lua:1: warm: a table is wanted, as in cache.warm { keys { "a" } }, got 'x']],
    ["cache.warm { 'x' }"] =
      [=[warm: [1]: keys { ... }, file "...", zset "..." or previous { ... }, got 'x']=],
    ["cache.warm { rat = 3 }"] = "wrong.lua:1: warm: unknown field 'rat', did you mean 'rate'?",
    ["cache.warm { rate = 'fast' }"] =
      [[wrong.lua:1: warm: rate: keys per second from 1e-6 to 1e9, such as "2000/s", got 'fast']],
    ["cache.warm { rate = '20/m' }"] = [[such as "2000/s", got '20/m']],
    ["cache.warm { rate = '9e-7/s' }"] = [[such as "2000/s", got '9e-7/s']],
    ["cache.warm { rate = 9e-7 }"] = [[such as "2000/s", got 9e-07]],
    ["cache.warm { concurrency = 0 }"] = "warm: concurrency: a whole number from 1 to 256, got 0",
    ["cache.warm { deadline = '2d' }"] =
      [[warm: deadline: a duration of at most 1 day, such as "20s", got '2d']],
    ["cache.warm { ready_at = 2 }"] =
      [[warm: ready_at: a share between 0 and 1, such as "90%", got 2]],
    ["cache.warm {\n  keys 'x' }"] =
      [[wrong.lua:2: keys: a list such as keys { "product:1", "product:2" } is wanted, got 'x']],
    ["cache.warm { keys { 'a', 3 } }"] = "warm: keys[2]: a key of 1 to 4096 bytes, got 3",
    ["cache.warm { file {} }"] =
      [[wrong.lua:1: file: a path such as file "hot-keys.txt" is wanted, got a table]],
    ["cache.warm { zset 'x' { tpo = 3 } }"] = "zset: unknown field 'tpo', did you mean 'top'?",
    ["cache.warm { previous 'x' }"] = "a table such as previous { top = 10000 } is wanted, got 'x'",
    ["cache.warm { keys { 'a' } 'x' }"] = any,
    ["cache.warm { file 'f' { prio = 1 } }"] = "unknown field 'prio'",
    ["cache.warm { file 'f' { priority = 200 } }"] =
      "file: priority: a whole number from -128 to 127 is wanted, got 200",
    ["cache.warm { zset 'x' { top = 0 } }"] =
      "zset: top: a whole number from 1 to 1000000 is wanted, got 0",
    ["local l = {} for i = 1, 65 do l[i] = keys {} end cache.warm(l)"] = "at most 64 sources",
  } do
    local cache, said = perilune.open { log = false,
      policy = spec.write(folder .. "/wrong.lua", statement) }
    spec.same(cache, nil)
    spec.contains(said, message)
  end
end)

spec.test("notify tells nobody where there is no service manager", function()
  spec.same((perilune.notify "READY=1") == nil, os.getenv "NOTIFY_SOCKET" == nil)
  spec.raises("string expected", perilune.notify)
end)

remove_folder()
spec.finish()
