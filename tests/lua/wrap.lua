-- SPDX-License-Identifier: MIT
--
-- wrap.lua - functions whose results are cached by their arguments.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

local cache = assert(perilune.open { name = "wrap", log = false })

-- A function that counts its calls and says what it was given.
local function counter()
  local count = { n = 0 }
  return function(...)
    count.n = count.n + 1
    return table.concat({ count.n, select("#", ...) }, "/")
  end, count
end

spec.test("the second call with the same arguments comes from the cache", function()
  local f, count = counter()
  local wrapped = cache:wrap(f, { prefix = "twice" })
  spec.returns({ "1/2", null, "loaded" }, wrapped(1, "a"))
  spec.returns({ "1/2", null, "l1" }, wrapped(1, "a"))
  spec.same(count.n, 1)
  spec.returns({ "2/2", null, "loaded" }, wrapped(1, "b"))
end)

spec.test("keys are readable, so that a policy's rules find them", function()
  local wrapped = cache:wrap(counter(), { prefix = "user" })
  wrapped(7)
  wrapped("ann", true)
  spec.same(select(3, cache:peek "user:7"), "l1")
  spec.same(select(3, cache:peek "user:ann:true"), "l1")
end)

spec.test("the key of a call can be asked for", function()
  local wrapped = cache:wrap(counter(), { prefix = "user" })
  spec.returns({ "user:ann:1%3A2" }, wrapped.key("ann", "1:2"))
  local by_id = cache:wrap(counter(), { prefix = "user", key = function(user)
    return user.id
  end })
  spec.returns({ "user:5" }, by_id.key { id = 5 })
  spec.raises("a table makes no key", wrapped.key, {})
end)

spec.test("no two lists of arguments share a key", function()
  local f, count = counter()
  local wrapped = cache:wrap(f, { prefix = "apart" })
  local lists = { {}, { 1 }, { "1" }, { 1.5 }, { "1.5" }, { true }, { "true" }, { false },
    { "false" }, { "nil" }, { "a", "b" }, { "a:b" }, { "a%3Ab" }, { "" }, { "", "" }, { "%" },
    { "0x1" }, { " 1" }, { "1 " }, { "inf" }, { math.huge }, { -math.huge }, { "-inf" },
    { "\0" }, { "%00" } }
  for _, list in ipairs(lists) do
    wrapped(table.unpack(list))
  end
  wrapped(nil)
  wrapped(nil, nil)
  spec.same(count.n, #lists + 2)
  wrapped(1.0)
  spec.same(count.n, #lists + 2, "1 and 1.0 are equal")
end)

spec.test("what makes no key raises, and a key function helps", function()
  local wrapped = cache:wrap(counter(), { prefix = "p" })
  spec.raises("a table makes no key", wrapped, {})
  spec.raises("nan is no key", wrapped, 0 / 0)
  local by_id = cache:wrap(counter(), { prefix = "p", key = function(user)
    return user.id
  end })
  by_id { id = 5 }
  spec.same(select(3, cache:peek "p:5"), "l1")
  local whole = cache:wrap(counter(), { key = function(user)
    return "whole/" .. user.id
  end })
  whole { id = 5 }
  spec.same(select(3, cache:peek "whole/5"), "l1")
  local wrong = cache:wrap(counter(), { key = function() end })
  spec.raises("must return a string or an integer, got a nil", wrong)
end)

spec.test("invalidate removes one result", function()
  local f, count = counter()
  local wrapped = cache:wrap(f, { prefix = "inv" })
  wrapped(1)
  wrapped(2)
  spec.returns({ true }, wrapped.invalidate(1))
  wrapped(1)
  wrapped(2)
  spec.same(count.n, 3)
end)

spec.test("key, peek and refresh take the arguments of the call", function()
  local f, count = counter()
  local wrapped = cache:wrap(f, { prefix = "more" })
  spec.same(wrapped.key(7, "a:b"), "more:7:a%3Ab")
  spec.returns({ null, null, "miss" }, wrapped.peek(7))
  spec.same(count.n, 0)
  wrapped(7)
  local value, err, how, age, left = wrapped.peek(7)
  spec.same({ value, err, how }, { "1/1", nil, "l1" })
  assert(age < 10 and left > 100)
  spec.returns({ "2/1", null, "loaded" }, wrapped.refresh(7))
  spec.returns({ "2/1", null, "l1" }, wrapped(7))
  spec.same(count.n, 2)
end)

spec.test("a refresh that fails leaves what was there for failures", function()
  local own <close> = assert(perilune.open { log = false, stale_if_error = "1h", retry = "1ms" })
  local broken = false
  local wrapped = own:wrap(function(n)
    if broken then
      error "out of order"
    end
    return n
  end, { prefix = "p" })
  wrapped(1)
  broken = true
  local value, message, code = wrapped.refresh(1)
  spec.same(value, nil)
  spec.contains(message, "out of order")
  spec.same(code, "loader")
  spec.returns({ 1, null, "stale" }, wrapped(1))
end)

spec.test("arguments of any length make a key", function()
  local f, count = counter()
  local wrapped = cache:wrap(f, { prefix = "long" })
  local long = ("x"):rep(10000)
  wrapped(long .. "1")
  wrapped(long .. "2")
  wrapped(long .. "1")
  spec.same(count.n, 2)
  spec.same(#wrapped.key(long), 200)
end)

spec.test("ttl and tags hold for the results", function()
  local wrapped = cache:wrap(counter(), { prefix = "opts", ttl = "100s", tags = { "wrapped" } })
  wrapped(1)
  local left = select(5, cache:peek "opts:1")
  assert(left > 90 and left <= 100, left)
  cache:invalidate_tag "wrapped"
  spec.returns({ null, null, "miss" }, cache:get "opts:1")
end)

spec.test("nil is cached, errors are not, and only the first result counts", function()
  local n = 0
  local wrapped = cache:wrap(function(what)
    n = n + 1
    if what == "raise" then
      error "broken"
    elseif what == "err" then
      return nil, "soft"
    elseif what == "more" then
      return "value", "second", -1
    end
  end, { prefix = "kinds" })
  spec.returns({ null, null, "negative" }, wrapped "nil")
  spec.returns({ null, null, "negative" }, wrapped "nil")
  spec.same(n, 1)
  spec.returns({ null, "soft", "loader" }, wrapped "err")
  spec.contains(select(2, wrapped "raise"), "broken")
  spec.returns({ "value", null, "loaded" }, wrapped "more")
  spec.returns({ "value", null, "l1" }, wrapped "more")
end)

spec.test("wrong options raise when it is wrapped", function()
  spec.raises("unknown option 'tll', did you mean 'ttl'?", cache.wrap, cache, print,
    { prefix = "p", tll = 1 })
  spec.raises("option 'ttl' must be", cache.wrap, cache, print, { prefix = "p", ttl = "x" })
  spec.raises("an option 'prefix' is needed", cache.wrap, cache, print, {})
  spec.raises("option 'prefix' must be a string", cache.wrap, cache, print, { prefix = {} })
  spec.raises("option 'key' must be a function", cache.wrap, cache, print, { key = "k" })
  spec.raises("function expected", cache.wrap, cache, "no", { prefix = "p" })
end)

spec.test("a coroutine wraps with as many tags as there may be", function()
  local tags = {}
  for i = 1, 64 do
    tags[i] = "tag " .. i
  end
  for i = 1, 20 do -- each with a small stack of its own
    local wrap = coroutine.wrap(function()
      return cache:wrap(counter(), { prefix = "tags" .. i, tags = tags })(1)
    end)
    spec.returns({ "1/1", null, "loaded" }, wrap())
    local refused = coroutine.wrap(function()
      return pcall(cache.get, cache, "k", { tags = { "one more", table.unpack(tags) } })
    end)
    spec.contains(select(2, refused()), "a list of at most 64 strings")
  end
end)

spec.test("changing the options table afterwards changes nothing", function()
  local options = { prefix = "frozen" }
  local wrapped = cache:wrap(counter(), options)
  spec.same(options, { prefix = "frozen" })
  options.prefix = "other"
  wrapped(1)
  spec.same(select(3, cache:peek "frozen:1"), "l1")
end)

spec.test("a wrapped function keeps its cache alive, and knows when it is closed", function()
  local own = perilune.open {}
  local wrapped = own:wrap(counter(), { prefix = "p" })
  wrapped(1)
  own:close()
  spec.raises("attempt to use a closed cache", wrapped, 1)
  spec.raises("attempt to use a closed cache", wrapped.invalidate, 1)
end)

cache:close()
spec.finish()
