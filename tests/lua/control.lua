-- SPDX-License-Identifier: MIT
--
-- control.lua - a cache's policy, its events, warming, and what can be seen of it.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null
local MISS = { null, null, "miss" }

local folder, remove_folder = spec.folder()

local function policy(name, text)
  return spec.write(folder .. "/" .. name, text)
end

local users = policy("users.lua", [[
cache.rule "user:{id}" {
  ttl = "15m", tags = { "users" },
  load = function(key, m) if m.id == "0" then return nil end return "user " .. m.id end,
}
cache.rule "broken:{id}" { ttl = "1m", load = function() error "no such source" end }
cache.on "user.changed" { keys = { "user:{id}" } }
cache.on "users.imported" { tags = { "users" } }
cache.warm { keys { "user:1", "user:2", "broken:1" } }
]])

spec.test("a policy's loader answers a get, and no_load keeps it from that", function()
  local cache <close> = assert(perilune.open { policy = users, log = false })
  spec.returns(MISS, cache:get("user:7", { no_load = true }))
  spec.returns({ "user 7", null, "loaded" }, cache:get "user:7")
  spec.returns({ "user 7", null, "l1" }, cache:get "user:7")
  spec.returns({ null, null, "negative" }, cache:get "user:0")
  local value, message, code = cache:get "broken:1"
  spec.same(value, nil)
  spec.contains(message, "no such source")
  spec.contains(message, "users.lua:5:")
  spec.same(code, "loader")
end)

spec.test("the call's own loader comes before the rule's", function()
  local cache <close> = assert(perilune.open { policy = users, log = false })
  spec.returns({ "own", null, "loaded" }, cache:get("user:7", nil, function()
    return "own"
  end))
end)

spec.test("load_policy puts a file in force, or changes nothing", function()
  local cache <close> = perilune.open { log = false }
  spec.returns({ true }, cache:load_policy(users))
  local wrong = policy("wrong.lua", "cache.rule 'user:{id}' { ttl = '15 parsecs' }")
  local loaded, message, code = cache:load_policy(wrong)
  spec.same(loaded, nil)
  spec.contains(message, "wrong.lua:1:")
  spec.same(code, "policy")
  spec.same(cache:get "user:7", "user 7")
  spec.raises("boolean expected", cache.load_policy, cache, users, 1)
  spec.raises("string expected", cache.load_policy, cache)
end)

spec.test("reload_policy reads the file in force again, or changes nothing", function()
  local cache <close> = perilune.open { log = false }
  spec.returns(MISS, cache:reload_policy())
  local changing = policy("changing.lua", "cache.rule '*' { load = function() return 'one' end }")
  cache:load_policy(changing)
  policy("changing.lua", "cache.rule '*' { load = function() return 'two' end }")
  spec.returns({ true }, cache:reload_policy())
  spec.same(cache:get "a", "two")
  policy("changing.lua", "cache.rule '*' { load = 3 }")
  local loaded, message, code = cache:reload_policy()
  spec.same(loaded, nil)
  spec.contains(message, "changing.lua:1: rule '*': load: a function")
  spec.same(code, "policy")
  spec.same(cache:get "b", "two")
  spec.same(cache:stats().policy_reloads, 1)
  spec.same(cache:stats().policy_reload_errors, 1)
  spec.same(perilune.reload_policies() >= 1, true) -- those of other tests may not be collected yet
end)

spec.test("test_policy lists a file's tests, and puts nothing in force", function()
  local cache <close> = perilune.open { policy = users, log = false }
  policy("part.lua", "\ncache.test 'b' { ttl = 1 }")
  local tested = policy("tested.lua", "cache.test 'a' { ttl = '5m' }\ninclude 'part.lua'")
  spec.returns({ { { key = "a", file = "tested.lua", line = 1 },
    { key = "b", file = "part.lua", line = 2,
      failure = "part.lua:2: test 'b': ttl: expected 1s, got 5m (cache)" } } },
    cache:test_policy(tested))
  spec.returns({ {} }, cache:test_policy(users))
  local tests, message, code = cache:test_policy(policy("wrong.lua", "this is no Lua"))
  spec.same(tests, nil)
  spec.contains(message, "wrong.lua:1:")
  spec.same(code, "policy")
  spec.same(cache:get "user:7", "user 7")
  spec.raises("boolean expected", cache.test_policy, cache, users, 1)
end)

spec.test("a finalizer cannot close the cache while test_policy lists its tests", function()
  local cache <close> = assert(perilune.open { log = false })
  local tested = policy("many.lua",
    "for i = 1, 4000 do cache.test('key' .. i) { ttl = '5m' } end")
  collectgarbage("incremental", 150, 1000) -- the next time when half as much has come: rows
  collectgarbage()
  local closed
  for _ = 1, 2 do -- the last may be kept by what is left in a register
    setmetatable({}, { __gc = function() closed = pcall(cache.close, cache) end })
  end
  cache:test_policy(tested)
  collectgarbage("incremental", 200, 100)
  spec.same(closed, false)
end)

spec.test("a watched policy is read again when its file changes", function()
  local changing = policy("watched.lua", "cache.rule '*' { ttl = '1m' }")
  local cache <close> = perilune.open { policy = changing, policy_watch = "10ms", log = false }
  policy("watched.lua", "cache.rule '*' { ttl = '2m' }")
  local deadline = os.time() + 20
  repeat
    local reloads = cache:stats().policy_reloads
  until reloads > 0 or os.time() > deadline
  spec.contains(cache:explain "x", "ttl             2m           watched.lua:1")
end)

spec.test("a file that a watched policy includes is watched with it", function()
  policy("part.lua", "cache.rule '*' { ttl = '1m' }")
  local whole = policy("whole.lua", "include 'part.lua'")
  local cache <close> = perilune.open { policy = whole, policy_watch = "10ms", log = false }
  spec.contains(cache:explain "x", "ttl             1m           part.lua:1")
  policy("part.lua", "cache.rule '*' { ttl = '2m' }")
  spec.wait_until("the policy is read again", function()
    return cache:stats().policy_reloads > 0
  end)
  spec.contains(cache:explain "x", "ttl             2m           part.lua:1")
end)

spec.test("a policy is told when what it watches is beyond its bound", function()
  local cache <close> = perilune.open { log = false, policy = policy("alert.lua", [[
    cache.alert "hit-ratio" { below = "80%", over = "1s", min_requests = 1,
      call = function(a) error(a.value) end }]]) } -- so that it is seen in policy_errors
  local deadline = os.time() + 20
  repeat
    cache:get "miss"
  until cache:stats().policy_errors > 0 or os.time() > deadline
  spec.same(cache:stats().policy_alerts > 0, true)
  spec.same(cache:stats().policy_errors > 0, true)
end)

spec.test("a wrong policy at open is nil, message, policy", function()
  local wrong = policy("wrong.lua", "this is no Lua")
  local cache, message, code = perilune.open { policy = wrong, log = false }
  spec.same(cache, nil)
  spec.contains(message, "wrong.lua:1:")
  spec.same(code, "policy")
end)

spec.test("only a trusted policy has all of Lua", function()
  local trusting = policy("trusting.lua", [[
    local path = package.path
    cache.rule "k:{id}" { ttl = "1m", load = function() return type(path) end }]])
  local cache = perilune.open { policy = trusting, log = false }
  spec.same(cache, nil)
  local trusted <close> = assert(perilune.open { policy = trusting, trusted = true, log = false })
  spec.same(trusted:get "k:1", "string")
  local later <close> = perilune.open { log = false }
  spec.same(later:load_policy(trusting), nil)
  spec.same(later:load_policy(trusting, true), true)
end)

spec.test("an event makes void what the policy says", function()
  local cache <close> = assert(perilune.open { policy = users, log = false })
  cache:get "user:7"
  cache:get "user:8"
  spec.returns({ true }, cache:raise("user.changed", { id = 7 }))
  spec.same(select(3, cache:peek "user:7"), "miss")
  spec.same(select(3, cache:peek "user:8"), "l1")
  spec.returns({ true }, cache:raise "users.imported")
  spec.returns(MISS, cache:peek "user:8")
  spec.returns(MISS, cache:raise("unheard", { id = 7 }))
end)

spec.test("warm loads the lists, and tells how far it is", function()
  local cache <close> = assert(perilune.open { policy = users, log = false })
  local last
  local report = cache:warm { progress = function(so_far)
    last = so_far
  end }
  spec.same(report.took >= 0, true)
  report.took = nil
  spec.contains(report.error, "broken:1: users.lua:5:")
  report.error = nil
  spec.same(report, { wanted = 3, loaded = 2, present = 0, failed = 1, deadline_passed = false,
    ready = false, following = false,
    sources = { { source = "keys", wanted = 3, loaded = 2, present = 0, failed = 1 } } })
  spec.same(last.wanted, 3)
  spec.same(select(3, cache:peek "user:2"), "l1")
  spec.same(cache:warm().present, 2)
end)

spec.test("what progress raises is raised by warm, and the cache lives on", function()
  local cache <close> = assert(perilune.open { policy = users, log = false })
  spec.raises("enough", cache.warm, cache, { progress = function()
    error "enough"
  end })
  spec.raises("cannot close a cache", cache.warm, cache, { progress = function()
    cache:close()
  end })
  spec.same(cache:get "user:7", "user 7")
  spec.raises("unknown option 'progres', did you mean 'progress'?", cache.warm, cache,
    { progres = print })
  spec.raises("option 'progress' must be a function", cache.warm, cache, { progress = 1 })
end)

spec.test("progress that returns false stops the warming", function()
  local slow = policy("slow.lua", [[
    cache.rule "k:{id}" { ttl = "1m", load = function(key) return key end }
    local many = {}
    for i = 1, 1000 do many[i] = "k:" .. i end
    cache.warm { keys(many), rate = "50/s", concurrency = 2 }]])
  local cache <close> = assert(perilune.open { policy = slow, log = false })
  local report = cache:warm { progress = function()
    return false
  end }
  assert(report.loaded < 1000, report.loaded)
end)

spec.test("explain says which rule holds, and where it stands", function()
  local cache <close> = assert(perilune.open { policy = users, log = false })
  local text = cache:explain "user:7"
  spec.contains(text, "rule 'user:{id}'")
  spec.contains(text, "users.lua:1")
  spec.contains(text, "{id} = 7")
  spec.contains(cache:explain "other", "no rule matches")
end)

spec.test("explain tells every value with the place where it was said", function()
  local shop = policy("shop.lua", [[
cache.class "page" { ttl = "15m", stale = "2m" }
cache.rule "user:{id}" {
  class = "page",
  max_bytes = "64k", tags = { "users", "user:{id}" },
  load = function() return "" end,
}
cache.rule "item:*" { class = "page", ttl = function() end, tags = function() return {} end }]])
  local cache <close> = assert(perilune.open { policy = shop, l1_ttl = "1h", log = false })
  local function contains(key, lines)
    local text = cache:explain(key)
    for _, line in ipairs(lines) do
      spec.contains(text, "\n" .. line .. "\n")
    end
    return text
  end
  local user = contains("user:7", {
    "  ttl             15m          class page, shop.lua:1",
    "  stale_if_error  2m           as stale",
    "  l1_ttl          1h           cache",
    "  max_bytes       64k          shop.lua:2",
    "  l1              true         cache",
    "  tags            users, user:7  shop.lua:2",
    "  load            function     shop.lua:2",
  })
  spec.same(user:match "^[^\n]*", "rule 'user:{id}' at shop.lua:2, class page")
  contains("item:1", {
    "  ttl             function (shop.lua:7), else 15m  class page, shop.lua:1",
    "  tags            function     shop.lua:7",
  })
  local other = contains("other", { "  ttl             5m           cache",
    "  l1_ttl          1h           cache", "  read            primary      cache" })
  local n = select(2, user:gsub("\n", ""))
  spec.same(select(2, other:gsub("\n", "")), n - 3, "fields but for {id}, tags and load")
end)

spec.test("a policy with much to say of a key is explained whole", function()
  local tags = {}
  for i = 1, 60 do
    tags[i] = ("%q"):format(("t"):rep(200) .. i)
  end
  local wordy = policy("wordy.lua", ("cache.rule 'k:{id}' { ttl = '1m', tags = { %s } }"):format(
    table.concat(tags, ", ")))
  local cache <close> = assert(perilune.open { policy = wordy, log = false })
  local text = cache:explain "k:1"
  assert(#text > 12000, #text)
  spec.contains(text, ("t"):rep(200) .. "60")
end)

spec.test("the counts add up: gets are hits, loads, stale, misses and failures", function()
  local cache <close> = assert(perilune.open { policy = users, log = false })
  cache:get "user:1"
  cache:get "user:1"
  cache:get "nothing"
  cache:get "broken:1"
  cache:get_many { "user:1", "nothing" }
  local stats = cache:stats()
  spec.same(stats.gets, 6)
  spec.same(stats.l1_hits, 2)
  spec.same(stats.misses, 2)
  spec.same(stats.gets, stats.l1_hits + stats.l2_hits + stats.loads_served + stats.stale_served +
    stats.misses + stats.failures)
  spec.same(math.type(stats.l1_bytes), "integer")
end)

spec.test("a long value counts as one get", function()
  local cache <close> = perilune.open { log = false }
  cache:set("long", ("x"):rep(10000))
  cache:get "long"
  spec.same(cache:stats().gets, 1)
  spec.same(cache:stats().l1_hits, 1)
end)

spec.test("prometheus is the same in text, with the cache's name escaped", function()
  local cache <close> = perilune.open { name = 'a"b' }
  cache:get "k"
  local text = cache:prometheus()
  spec.contains(text, "# HELP perilune_gets_total ")
  spec.contains(text, "# TYPE perilune_l1_bytes gauge\n")
  spec.contains(text, 'perilune_gets_total{cache="a\\"b"} 1\n')
  spec.same(text:sub(-1), "\n")
end)

spec.test("without Redis there are no nodes", function()
  local cache <close> = perilune.open { log = false }
  spec.same(cache:nodes(), {})
  spec.same(cache:prometheus():find("perilune_node", 1, true), nil)
end)

spec.test("keys lists what L1 holds, by prefix and up to a limit", function()
  local cache <close> = perilune.open { log = false }
  for i = 1, 2000 do
    cache:set("user:" .. i, "value")
  end
  cache:set("page\0:1", "value")
  spec.same(#cache:keys "user:", 2000)
  spec.same(#cache:keys "user:199", 11)
  spec.same(#cache:keys(nil, 7), 7)
  spec.same(cache:keys("page")[1], "page\0:1")
  spec.same(#cache:keys "nothing", 0)
  spec.raises("limit must be positive", cache.keys, cache, "", 0)
end)

spec.test("hottest names the keys that are asked for most", function()
  local cache <close> = perilune.open { log = false }
  for i = 1, 20 do
    cache:set("k" .. i, "value")
  end
  for i = 1, 20000 do
    cache:get(i % 2 == 0 and "k7" or "k" .. i % 20 + 1)
  end
  local list = cache:hottest(3)
  spec.same(#list, 3)
  spec.same(list[1].key, "k7")
  assert(list[1].share > 0.35 and list[1].share < 0.65, list[1].share)
  assert(list[1].requests > 5000, list[1].requests)
  spec.same(math.type(list[1].requests), "integer")
  spec.raises("n must be positive", cache.hottest, cache, 0)
end)

spec.test("resize takes sizes, and says what cannot be", function()
  local cache <close> = perilune.open { max_bytes = "4m", log = false }
  spec.same(cache:resize "8m", true)
  spec.same(cache:stats().l1_max_bytes, 8 << 20)
  spec.raises("resize: 1000 bytes are less than one value may have", cache.resize, cache, 1000)
  spec.raises('expected a size such as "64m"', cache.resize, cache, "64 parsecs")
end)

spec.test("a rule's weight and priority are numbers in range", function()
  for field, value in pairs { weight = 256, priority = -129 } do
    local wrong = policy("wrong.lua", ("cache.rule 'k' { %s = %d }"):format(field, value))
    local cache, message = perilune.open { policy = wrong, log = false }
    spec.same(cache, nil)
    spec.contains(message, field)
    spec.contains(message, tostring(value))
  end
  local good = policy("good.lua", "cache.rule 'k' { weight = 3, priority = -2 }")
  local cache <close> = assert(perilune.open { policy = good, log = false })
  spec.contains(cache:explain "k", "\n  weight          3            good.lua:1\n")
  spec.contains(cache:explain "k", "\n  priority        -2           good.lua:1\n")
end)

local named = policy("named.lua", [[
cache.rule "n:{id}" { load = loader "db", ttl = function(key, m, value) return #value end }
cache.rule "f:{id}" { load = function(key, m) return "of the rule" end }
]])

spec.test("a rule calls for a loader by name, which runs in the program's state", function()
  local cache <close> = assert(perilune.open { policy = named, log = false })
  local value, message, code = cache:get "n:1"
  spec.same(value, nil)
  spec.same(message, "named.lua:1: rule 'n:{id}': no loader 'db' is registered")
  spec.same(code, "loader")
  local seen = {}
  spec.same(cache:register_loader("db", function(key)
    seen[#seen + 1] = key
    return "value of " .. key
  end), true)
  spec.returns({ "value of n:1", null, "loaded" }, cache:get "n:1")
  spec.returns({ "value of n:1", null, "l1" }, cache:get "n:1")
  spec.same(select(5, cache:peek "n:1") <= 12, true) -- by the rule's ttl function
  spec.returns(MISS, cache:get("n:2", { no_load = true }))
  spec.returns({ "value of n:2", null, "loaded" }, cache:get("n:2", { timeout = 5 }))
  spec.returns({ "of the rule", null, "loaded" }, cache:get "f:1")
  spec.returns(MISS, cache:get "other")
  spec.same(seen, { "n:1", "n:2" })
  spec.returns({ "mine", null, "loaded" }, cache:get("n:3", function()
    return "mine"
  end))
  assert(cache:load_policy(named))
  spec.same(cache:get "n:4", "value of n:4")
end)

spec.test("a loader by name sees the old value behind the key", function()
  local options = { policy = named, stale_if_error = "1h", log = false }
  local cache <close> = assert(perilune.open(options))
  cache:register_loader("db", function(_, old)
    return old and perilune.not_modified or "value"
  end)
  spec.returns({ "value", null, "loaded" }, cache:get "n:1")
  cache:expire "n:1"
  spec.returns({ "value", null, "loaded" }, cache:get "n:1")
  spec.same(cache:stats().loads_same, 1)
end)

spec.test("a rule may deny its keys, and keep what is missed twice", function()
  local denied = policy("denied.lua", [[
cache.rule "secret:*" { deny = true }
cache.rule "k:*" { admit = { min_uses = 2 }, load = function() return "v" end }]])
  local cache <close> = assert(perilune.open { policy = denied, log = false })
  while cache:stats().policies_retiring > 0 do -- a worker looks for what is denied from now on
    os.execute "sleep 0.01"
  end
  local message = "rule 'secret:*' (denied.lua:1) denies the key: it must never be cached"
  spec.returns({ null, "get: " .. message, "denied" }, cache:get "secret:1")
  spec.returns({ null, "set: " .. message, "denied" }, cache:set("secret:1", "x"))
  spec.same(cache:stats().denied, 2)
  spec.returns({ "v", null, "loaded" }, cache:get "k:1")
  spec.returns({ "v", null, "loaded" }, cache:get "k:1")
  spec.returns({ "v", null, "l1" }, cache:get "k:1")
  spec.returns({ "v", null, "loaded" }, cache:get("k:2", { keep = true }))
  spec.returns({ "v", null, "l1" }, cache:get "k:2")
end)

spec.test("what a loader by name gets wrong is the get's failure", function()
  local cache <close> = assert(perilune.open { policy = named, log = false })
  cache:register_loader("db", function()
    return nil, "the database is away"
  end)
  spec.returns({ null, "the database is away", "loader" }, cache:get "n:1")
  cache:register_loader("db", function(key)
    return cache:get(key)
  end)
  spec.contains(select(2, cache:get "n:1"), "the loader of 'n:1' asks for 'n:1' itself")
  cache:register_loader("db", function()
    cache:close()
  end)
  spec.contains(select(2, cache:get "n:1"), "cannot close a cache")
  cache:register_loader("db", nil)
  spec.returns({ null, "no loader 'db' is registered", "loader" }, cache:get "n:1")
  spec.raises("a name of 1 to 512 bytes", cache.register_loader, cache, "", print)
  spec.raises("function expected, got string", cache.register_loader, cache, "db", "x")
end)

spec.test("an event may have a function that says what is void", function()
  local asked = policy("asked.lua", [[
cache.on "import.done" (function(e)
  return { match = e.full == "true" and "product:*" or "product:" .. e.id }
end)]])
  local cache <close> = assert(perilune.open { policy = asked, log = false })
  cache:set("product:1", "one")
  cache:set("product:2", "two")
  spec.returns({ true }, cache:raise("import.done", { id = 2 }))
  spec.same(select(3, cache:peek "product:1"), "l1")
  spec.same(select(3, cache:peek "product:2"), "miss")
  spec.returns({ true }, cache:raise("import.done", { full = true }))
  spec.same(select(3, cache:peek "product:1"), "miss")
  spec.returns({ null, "asked.lua:1: on 'import.done': asked.lua:2: attempt to concatenate a " ..
    "nil value (field 'id')", "policy" }, cache:raise("import.done", {}))
  spec.same(cache:explain_events(),
    "event import.done (asked.lua:1)\n  a function says what it makes void\n")
  spec.contains(cache:explain_events(true), '"function":true')
end)

remove_folder()
spec.finish()
