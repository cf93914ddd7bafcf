-- SPDX-License-Identifier: MIT
--
-- open.lua - the module itself, options of open, and a cache's life.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

spec.test("the module tells its name and version, and sets no global", function()
  spec.same(perilune._NAME, "perilune")
  spec.contains(perilune._VERSION, ".")
  spec.same(rawget(_G, "perilune"), nil)
end)

spec.test("clock is monotonic, in seconds", function()
  local first = perilune.clock()
  spec.same(math.type(first), "float")
  assert(perilune.clock() >= first)
end)

spec.test("a cache shows its name and whether it is open", function()
  local cache = perilune.open { name = "users" }
  spec.same(tostring(cache), "perilune.cache: users (open)")
  spec.same(cache:close(), true)
  spec.same(tostring(cache), "perilune.cache: users (closed)")
end)

spec.test("open without a table takes the defaults", function()
  local cache <close> = perilune.open()
  spec.same(tostring(cache), "perilune.cache: perilune (open)")
end)

spec.test("the metatable is out of reach", function()
  local cache <close> = perilune.open {}
  spec.same(getmetatable(cache), false)
end)

spec.test("closing twice is fine, using a closed cache raises", function()
  local cache = perilune.open {}
  cache:close()
  spec.same(cache:close(), true)
  for _, method in ipairs { "get", "peek", "set", "delete", "expire", "touch", "get_many",
    "invalidate_tag", "invalidate_prefix", "invalidate_pattern", "delete_many", "clear",
    "raise", "wrap", "load_policy", "warm", "explain", "stats", "prometheus", "nodes", "keys",
    "hottest", "resize", "reload_policy", "test_policy", "ready", "incr", "cas", "each",
    "events", "poll_event" } do
    spec.raises("attempt to use a closed cache", cache[method], cache, "a", "b")
  end
end)

spec.test("a cache is closed at the end of its block", function()
  local kept
  do
    local cache <close> = perilune.open {}
    kept = cache
  end
  spec.contains(tostring(kept), "(closed)")
end)

spec.test("a cache that is forgotten is collected", function()
  local weak = setmetatable({}, { __mode = "k" })
  weak[perilune.open {}] = true
  collectgarbage()
  collectgarbage()
  spec.same(next(weak), nil)
end)

spec.test("a method called on something else raises", function()
  local cache <close> = perilune.open {}
  spec.raises("perilune.cache expected", cache.get, {}, "key")
  spec.raises("perilune.cache expected", cache.get, io.stdout, "key")
  spec.raises("perilune.cache expected", cache.close, "no")
end)

spec.test("a misspelt option is named, with the nearest that exists", function()
  spec.raises("unknown option 'tll', did you mean 'ttl'?", perilune.open, { tll = 1 })
  spec.raises("unknown option 'polcy', did you mean 'policy'?", perilune.open, { polcy = "x" })
  spec.raises("unknown option 'something'", perilune.open, { something = 1 })
  spec.raises("option names are strings", perilune.open, { "ttl" })
end)

spec.test("a wrong value is refused with the option's name and the value", function()
  for option, value in pairs { ttl = "15 parsecs", max_bytes = "64 parsecs", jitter = 3,
    eviction = "mru", workers = 0, tracking = "perhaps", negative = -1 } do
    spec.raises(option, perilune.open, { [option] = value })
    spec.raises(tostring(value), perilune.open, { [option] = value })
  end
  spec.raises("redis url", perilune.open, { redis = "gopher:x" }) -- not shown: it has a password
  spec.raises("option 'redis' must be", perilune.open, { redis = {} })
  spec.raises("option 'trusted' must be", perilune.open, { trusted = 1 })
  spec.raises("option 'policy' must be", perilune.open, { policy = 1 })
end)

spec.test("options of TLS are refused by name where nothing would come of them", function()
  for _, option in ipairs { "tls_ca", "tls_cert", "tls_key", "tls_name" } do
    spec.raises(option .. ": given, but the redis url says no TLS", perilune.open,
      { redis = "redis://localhost", [option] = "x" })
  end
  spec.raises("tls_verify: must be \"true\" or \"false\"", perilune.open, { tls_verify = "no" })
end)

spec.test("every eviction can be chosen", function()
  for _, eviction in ipairs { "lru", "adaptive", "fifo", "random", "none" } do
    local cache <close> = perilune.open { eviction = eviction, weigh = "bytes",
      max_entries = 1000 }
    cache:set("k", "value")
    spec.same(cache:get "k", "value")
  end
  spec.raises("must be one of entries, bytes, got 'gold'", perilune.open, { weigh = "gold" })
end)

spec.test("numbers are seconds and bytes", function()
  local cache <close> = perilune.open { ttl = 90, max_bytes = 1 << 20, negative = 0.5 }
  spec.contains(cache:explain "k", "90s")
  spec.contains(cache:explain "k", "500ms")
  spec.same(cache:stats().l1_max_bytes, 1 << 20)
end)

spec.test("an endless ttl is math.huge or forever", function()
  for _, ttl in ipairs { math.huge, "forever" } do
    local cache <close> = perilune.open { ttl = ttl }
    spec.contains(cache:explain "k", "forever")
  end
end)

spec.test("a policy that cannot be read is no misuse: nil, message, code", function()
  local cache, message, code = perilune.open { policy = "/nowhere/policy.lua", log = false }
  spec.same(cache, nil)
  spec.contains(message, "/nowhere/policy.lua")
  spec.same(code, "policy")
end)

spec.test("a Redis that is away is no error", function()
  local cache <close> = perilune.open { redis = "unix:/nowhere/redis.sock", log = false }
  spec.contains(tostring(cache), "open")
end)

spec.test("many caches can be open in one state", function()
  local a <close> = perilune.open { name = "a" }
  local b <close> = perilune.open { name = "b" }
  a:set("k", "of a")
  spec.returns({ null, null, "miss" }, b:get "k")
  spec.same(a:get "k", "of a")
end)

spec.finish()
