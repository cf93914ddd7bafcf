-- SPDX-License-Identifier: MIT
--
-- keying.lua - keys made of parts, the parts of keys, and caches whose keys have a form.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null
local key = perilune.key

spec.test("parts become a key that is read easily", function()
  spec.same(key("user", 7), "user:7")
  spec.same(key "user", "user")
  spec.same(key("user", "ann", true), "user:ann:true")
  spec.same(key("a:b", "50%"), "a%3Ab:50%25")
  spec.same(key("n", 1.5, -3, 2.0), "n:1.5:-3:2")
  spec.same(key("n", "7"), "n:%37")
  spec.same(key("n", ""), "n:%")
  spec.same(key("n", "line\n"), "n:line%0A")
end)

spec.test("no two lists of parts share a key, and each comes back from its own", function()
  local parts = { 1, "1", 1.5, "1.5", true, "true", false, "false", "nil", "a", "a:b", "a%3Ab", "",
    "%", "%%", "0x1", " 1", "1 ", "inf", math.huge, -math.huge, "-inf", "\0", "%00", "\127", "é",
    math.maxinteger, math.mininteger, 1e300, -0.5, "#", "%#" }
  local seen = {}
  local function check(...)
    local made = key(...)
    assert(not seen[made], made)
    seen[made] = true
    spec.same(key.parse(made), table.pack(...))
  end
  for _, a in ipairs(parts) do
    check(a)
    for _, b in ipairs(parts) do
      check(a, b)
    end
  end
end)

spec.test("a long key ends in a hash, and is another one for every other", function()
  local seen = {}
  for i = 1, 1000 do
    local made = key("page", ("x"):rep(500) .. i)
    spec.same(#made, 200)
    spec.same(made:sub(1, 10), "page:xxxxx")
    assert(made:find "%%#%x+$")
    assert(not seen[made])
    seen[made] = true
  end
  local edge = key("a", ("x"):rep(198))
  spec.same(#edge, 200)
  spec.same(key.parse(edge).n, 2)
  local none, message, code = key.parse(key("a", ("x"):rep(199)))
  spec.same({ none, code }, { nil, "invalid" })
  spec.contains(message, "ends in a hash")
  -- the same for all programs and versions
  spec.same(key(("k"):rep(300)):sub(-34), "%#eb03cba25c8178963e901c94ff54faa0")
end)

spec.test("what is no key of its own making is told", function()
  for _, text in ipairs { "", "a:", ":a", "a::b", "50%", "a%2", "a%zz", "%3a" } do
    local none, message, code = key.parse(text)
    spec.same({ none, code }, { nil, "invalid" })
    spec.contains(message, "is no key of perilune.key")
  end
end)

spec.test("wrong parts raise", function()
  spec.raises("at least one part", key)
  spec.raises("#2 ", key, "user", nil)
  spec.raises("nil is no part of a key", key, "user", nil)
  spec.raises("a table makes no key", key, "user", {})
  spec.raises("nan is no key", key, 0 / 0)
  spec.raises("string expected", key.parse, {})
end)

spec.test("caches have it, and functions that are wrapped use it", function()
  local cache <close> = assert(perilune.open { log = false })
  local wrapped = cache:wrap(function(id, lang)
    return id .. lang
  end, { prefix = "page" })
  wrapped(7, "a:b")
  spec.returns({ "7a:b", null, "l1" }, cache:get(cache.key("page", 7, "a:b")))
end)

-- ---- schemas ----

spec.test("a key that does not fit is refused, and its part named", function()
  local cache <close> = assert(perilune.open { log = false, key_schema = "env:service:id" })
  spec.returns({ true }, cache:set("prod:shop:7", "v"))
  spec.returns({ "v", null, "l1" }, cache:get "prod:shop:7")
  spec.raises("part 3, 'id', is missing", cache.get, cache, "prod:shop")
  spec.raises("part 3, 'id', is the last", cache.get, cache, "prod:shop:7:8")
  spec.raises("part 2, 'service', is empty", cache.set, cache, "prod::7", 1)
  spec.raises("as 'env:service:id' says", cache.delete, cache, "x")
  spec.raises("part 2", cache.expire, cache, "x")
  spec.raises("part 2", cache.touch, cache, "x", 1)
  spec.raises("part 2", cache.delete_many, cache, { "prod:shop:7", "x" })
  spec.raises("part 2", cache.incr, cache, "x")
  spec.raises("part 2", cache.cas, cache, "x", 1, 2)
  spec.raises("part 2", cache.get, cache, "x", print)
  local values, hows, why = cache:get_many { "prod:shop:7", "x" }
  spec.same({ values, hows }, { { "v" }, { "l1", "invalid" } })
  assert(why:find("part 2", 1, true), why)
  spec.same(cache:peek "x", nil)
end)

spec.test("what stands in every key is told apart from names", function()
  local schema = "prod:shop:{entity}:{id...}"
  local cache <close> = assert(perilune.open { log = false, key_schema = schema })
  spec.returns({ true }, cache:set("prod:shop:user:7", 1))
  spec.returns({ true }, cache:set("prod:shop:user:7:8", 1))
  spec.raises("part 1, 'prod', stands there in every key", cache.set, cache, "test:shop:user:7", 1)
  spec.raises("part 4, 'id', is missing", cache.set, cache, "prod:shop:user", 1)
  spec.raises("part 4, 'id', is empty", cache.set, cache, "prod:shop:user:", 1)
end)

spec.test("a schema that makes no sense is refused", function()
  for text, why in pairs {
    ["a::b"] = "a part is empty",
    [""] = "a part is empty",
    ["a{b}:{c}"] = "a name in braces is a part of its own",
    ["{a...}:{b}"] = "so is the last",
    ["{a}:{}"] = "a name in braces is a part of its own",
    ["{{a}}"] = "has a brace in it",
    [("a:"):rep(16) .. "a"] = "over 16 parts",
  } do
    spec.raises(why, perilune.open, { log = false, key_schema = text })
  end
end)

spec.finish()
