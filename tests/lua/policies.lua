-- SPDX-License-Identifier: MIT
--
-- policies.lua - what scripts/policies ships is right, holds its own tests, and does what its head
-- says. POLICIES names that folder.

local spec = require "spec"
local perilune = require "perilune"

local policies = assert(os.getenv "POLICIES", "POLICIES must name scripts/policies")

local function names()
  local list = {}
  for name in io.popen(("ls '%s'"):format(policies)):read "a":gmatch "(%S+)%.lua" do
    list[#list + 1] = name
  end
  return list
end

local function open(name)
  return assert(perilune.open { redis = "memory:" .. name, ns = name, log = false,
    policy = policies .. "/" .. name .. ".lua" })
end

-- Counts the calls of a loader that answers with this.
local function loader(value)
  local calls = { n = 0 }
  return function()
    calls.n = calls.n + 1
    return value
  end, calls
end

spec.test("each holds its own tests, and has a rule for every key", function()
  local list = names()
  assert(#list >= 7, "there are fewer than seven")
  for _, name in ipairs(list) do
    local cache <close> = open(name)
    local results = assert(cache:test_policy(policies .. "/" .. name .. ".lua"))
    for _, result in ipairs(results) do
      spec.same(result.failure, nil, name)
    end
    assert(name == "default" or #results >= 2, name .. " has no tests of its own")
    assert(cache:set("anything", 1), name)
    spec.same(cache:get "anything", 1, name)
  end
end)

spec.test("a shop's product changes, and its page, price and category with it", function()
  local here <close> = open "shop_catalog"
  local there <close> = open "shop_catalog"
  local keys = { "product:7", "price:7", "stock:7", "category:books:1", "category:toys:1" }
  for _, key in ipairs(keys) do
    assert(here:set(key, key))
    spec.same(there:get(key), key)
  end
  assert(here:raise("product.changed", { id = 7, category = "books" }))
  for _, key in ipairs(table.move(keys, 1, 4, 1, {})) do
    spec.wait_until(key .. " is gone", function() return there:get(key) == nil end)
  end
  spec.same(there:get "category:toys:1", "category:toys:1")
end)

spec.test("a search is kept from the second time on", function()
  local cache <close> = open "shop_catalog"
  local load, calls = loader "found"
  for _, how in ipairs { "loaded", "loaded", "l1" } do
    spec.same(select(3, cache:get("search:tea", load)), how)
  end
  spec.same(calls.n, 2)
end)

spec.test("no password or token is cached, whoever tries", function()
  local cache <close> = open "profiles_sessions"
  local load, calls = loader "secret"
  spec.same(select(3, cache:set("user:7:password", "secret")), "denied")
  spec.same(select(3, cache:get("user:7:token:x", load)), "denied")
  spec.same(calls.n, 0)
  assert(cache:set("user:7", { name = "Ada" }))
  assert(cache:raise("user.deleted", { id = 7 }))
  spec.wait_until("the profile is gone", function() return cache:get "user:7" == nil end)
end)

spec.test("a service that is down is served from what it said, and asked once", function()
  local cache <close> = open "api_responses"
  local calls = 0
  local function fail()
    calls = calls + 1
    return nil, "503"
  end
  assert(cache:set("api:rates:eur-usd", 1.1))
  assert(cache:expire "api:rates:eur-usd")
  for _ = 1, 5 do
    local value, _, how = cache:get("api:rates:eur-usd", fail)
    spec.same(value, 1.1)
    spec.same(how, "stale")
  end
  spec.same(calls, 1)
  assert(cache:raise("service.changed", { service = "maps" }))
end)

spec.test("a switch is short in memory, and a country is not", function()
  local cache <close> = open "reference_data"
  assert(cache:explain "flag:dark-mode":find "l1_ttl%s+5s")
  assert(cache:explain "ref:countries:all":find "l1_ttl%s+1h")
  assert(cache:set("i18n:de:core", {}))
  assert(cache:raise("translations.published", { language = "de" }))
  spec.wait_until("the texts are gone", function() return cache:get "i18n:de:core" == nil end)
end)

spec.test("a board that was edited is loaded anew, others are not", function()
  local cache <close> = open "dashboards"
  assert(cache:set("panel:ops:queue", 1))
  assert(cache:set("panel:sales:today", 2))
  assert(cache:raise("board.edited", { board = "ops" }))
  spec.wait_until("the panel is gone", function() return cache:get "panel:ops:queue" == nil end)
  spec.same(cache:get "panel:sales:today", 2)
end)

spec.test("an edge forgets the site that the origin has published", function()
  local cache <close> = open "edge"
  assert(cache:set("page:news:/moon", "old"))
  assert(cache:set("page:shop:/", "shop"))
  assert(cache:raise("page.published", { site = "news" }))
  spec.wait_until("the page is gone", function() return cache:get "page:news:/moon" == nil end)
  spec.same(cache:get "page:shop:/", "shop")
end)

spec.finish()
