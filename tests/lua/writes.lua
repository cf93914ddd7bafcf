-- SPDX-License-Identifier: MIT
--
-- writes.lua - set and its options, delete, expire, touch, tags, clear, events; without a Redis.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

local cache = assert(perilune.open { name = "writes", log = false })
local MISS = { null, null, "miss" }

spec.test("set answers true, and the value is there", function()
  spec.returns({ true }, cache:set("a", "1"))
  spec.same(cache:get "a", "1")
end)

spec.test("set without a value raises, set of nil stores nil", function()
  spec.raises("value expected", cache.set, cache, "k")
  spec.same(cache:set("k", nil), true)
  spec.returns({ null, null, "negative" }, cache:get "k")
end)

spec.test("what cannot be stored raises, and names the place", function()
  spec.raises("a function cannot be cached", cache.set, cache, "k", print)
  spec.raises("value.a.b", cache.set, cache, "k", { a = { b = print } })
  local loop = {}
  loop.loop = loop
  spec.raises("contains itself", cache.set, cache, "k", loop)
end)

spec.test("ttl is seconds or a text", function()
  for _, ttl in ipairs { 120, "2m", "120s" } do
    cache:set("k", "v", { ttl = ttl })
    local left = select(5, cache:peek "k")
    assert(left > 110 and left <= 120, left)
  end
end)

spec.test("a ttl below a millisecond is short, not the default", function()
  cache:set("k", "v", { ttl = 0.0001 })
  spec.wait_until("the value is gone", function()
    return select(3, cache:get "k") == "miss"
  end)
end)

spec.test("options are checked", function()
  spec.raises("unknown option 'tag', did you mean 'tags'?", cache.set, cache, "k", "v",
    { tag = "x" })
  spec.raises("option 'ttl' must be a positive duration", cache.set, cache, "k", "v",
    { ttl = "15 parsecs" })
  spec.raises("option 'weight' must be an integer from 0 to 255", cache.set, cache, "k", "v",
    { weight = 256 })
  spec.raises("option 'nx' must be true or false", cache.set, cache, "k", "v", { nx = 1 })
  spec.raises("table expected", cache.set, cache, "k", "v", 60)
  spec.same(cache:set("k", "v", { weight = 9, priority = -3, stale = 5, timeout = "1s" }), true)
end)

spec.test("nx and xx keep a value out: nil, nil, not_stored", function()
  cache:delete "cond"
  spec.returns({ null, null, "not_stored" }, cache:set("cond", "1", { xx = true }))
  spec.returns({ true }, cache:set("cond", "2", { nx = true }))
  spec.returns({ null, null, "not_stored" }, cache:set("cond", "3", { nx = true }))
  spec.same(cache:get "cond", "2")
  spec.returns({ true }, cache:set("cond", "4", { xx = true, nx = false }))
  spec.same(cache:get "cond", "4")
end)

spec.test("delete removes, whether or not it was there", function()
  cache:set("d", "1")
  spec.returns({ true }, cache:delete "d")
  spec.returns(MISS, cache:get "d")
  spec.returns({ true }, cache:delete "d")
end)

spec.test("expire makes stale what may be served stale", function()
  local stale <close> = perilune.open { stale_if_error = "1h", log = false }
  stale:set("e", "1")
  spec.same(stale:expire "e", true)
  local value, _, how, _, left = stale:peek "e"
  spec.same(value, "1")
  spec.same(how, "stale")
  assert(left <= 0, left)
end)

spec.test("touch gives a new ttl, or says that there is nothing", function()
  cache:set("t", "1", { ttl = 10 })
  spec.returns({ true }, cache:touch("t", "10m"))
  local left = select(5, cache:peek "t")
  assert(left > 500 and left <= 600, left)
  spec.returns(MISS, cache:touch("nothing", 10))
  spec.raises("ttl must be a positive duration", cache.touch, cache, "t", "soon")
  spec.raises("ttl must be a positive duration", cache.touch, cache, "t")
end)

spec.test("a tag takes its values with it, and no others", function()
  cache:set("tag:1", "1", { tags = { "red", "round" } })
  cache:set("tag:2", "2", { tags = "red" })
  cache:set("tag:3", "3", { tags = { "blue" } })
  spec.returns({ true }, cache:invalidate_tag "red")
  spec.returns(MISS, cache:get "tag:1")
  spec.returns(MISS, cache:get "tag:2")
  spec.same(cache:get "tag:3", "3")
end)

spec.test("a prefix and a pattern take what fits them, and no more", function()
  for _, key in ipairs { "pre:1", "pre:2", "pre", "x:pre:1" } do
    cache:set(key, key)
  end
  spec.returns({ true }, cache:invalidate_prefix "pre:")
  spec.returns(MISS, cache:get "pre:1")
  spec.returns(MISS, cache:get "pre:2")
  spec.same(cache:get "pre", "pre")
  spec.returns({ true }, cache:invalidate_pattern "*:pre:*")
  spec.returns(MISS, cache:get "x:pre:1")
  spec.same(cache:get "pre", "pre")
  spec.raises("bad argument", cache.invalidate_prefix, cache, {})
end)

spec.test("many keys are deleted at once", function()
  cache:set("many:1", "1")
  cache:set("many:2", "2")
  cache:set("many:3", "3")
  spec.returns({ true }, cache:delete_many { "many:1", "many:3", "many:4" })
  spec.returns(MISS, cache:get "many:1")
  spec.same(cache:get "many:2", "2")
  spec.returns({ true }, cache:delete_many {})
  spec.raises("key 2 is a boolean, must be a string or an integer", cache.delete_many, cache,
    { "many:2", true })
  assert(cache:set(2, "two"))
  spec.returns({ true }, cache:delete_many { 2 })
  spec.returns({ null, null, "miss" }, cache:get(2))
  spec.raises("table expected", cache.delete_many, cache, "many:2")
  spec.same(cache:get "many:2", "2")
end)

spec.test("a tag that is too long raises", function()
  spec.raises("tag", cache.set, cache, "k", "v", { tags = { ("t"):rep(251) } })
end)

spec.test("clear removes all", function()
  cache:set("c", "1")
  spec.returns({ true }, cache:clear())
  spec.returns(MISS, cache:get "c")
end)

spec.test("a value over the limit is refused: nil, message, too_big", function()
  local small <close> = perilune.open { max_bytes = "1m", max_item_bytes = "1k", log = false }
  local stored, message, code = small:set("big", ("x"):rep(4096))
  spec.same(stored, nil)
  spec.contains(message, "4096")
  spec.same(code, "too_big")
end)

spec.test("an event that no policy names is a miss", function()
  spec.returns(MISS, cache:raise("something", { id = 1, full = true }))
  spec.returns(MISS, cache:raise "something")
end)

spec.test("an event's fields are checked", function()
  spec.raises("field 'id' is a table", cache.raise, cache, "e", { id = {} })
  spec.raises("fields have names", cache.raise, cache, "e", { "x" })
end)

cache:close()
spec.test("a list that came from the cache is a list like any other", function()
  local other <close> = assert(perilune.open { redis = "memory:lists" })
  assert(other:set("list", { "one", "two" }))
  local list = other:get "list"
  assert(other:set("one", 1, { tags = list }))
  assert(other:set("two", 2))
  spec.same((other:get_many(list)), { 1, 2 })
  local op = assert(other:get_many_async(list))
  spec.wait_until("it is there", function()
    return op:ready()
  end)
  spec.same((op:result()), { 1, 2 })
  spec.same(other:warm { keys = list }.wanted, 2)
  assert(other:invalidate_tag "two")
  spec.returns({ null, null, "miss" }, other:get "one")
  spec.returns({ true }, other:delete_many(list))
  spec.returns({ null, null, "miss" }, other:get "two")
end)

spec.finish()
