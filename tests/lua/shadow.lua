-- SPDX-License-Identifier: MIT
--
-- shadow.lua - a candidate policy beside the live one, in Lua.

local spec = require "spec"
local perilune = require "perilune"

local folder, remove_folder = spec.folder()

local function file(name, text)
  return spec.write(folder .. "/" .. name, text)
end

local live = file("live.lua", [[
cache.class "page" { ttl = "15m" }
cache.rule "user:{id}" { class = "page", tags = { "users" },
  load = function(_, m) return { id = m.id, text = ("x"):rep(100) } end }
]])
local longer = file("longer.lua", [[
cache.rule "user:{id}" { tags = { "users" },
  ttl = function(_, _, value) return value.id == "7" and -1 or "1h" end,
  load = function() error "a candidate loads nothing" end }
]])

-- Waits until the candidate has played so many reads.
local function report_of(cache, n)
  local report
  spec.wait_until(n .. " reads of the candidate", function()
    report = assert(cache:shadow_report())
    return report.candidate.requests >= n
  end)
  spec.same(report.candidate.requests, n)
  spec.same(report.live.requests, n)
  return report
end

spec.test("a candidate's report stands beside the live one's", function()
  local cache <close> = assert(perilune.open { policy = live, max_bytes = "8m" })
  spec.returns({ spec.null, spec.null, "miss" }, cache:shadow_report())
  spec.returns({ true }, cache:shadow(longer, { sample = "100%" }))
  for i = 1, 10 do
    for _ = 1, 3 do
      spec.same(cache:get("user:" .. i).id, tostring(i))
    end
  end
  local report = report_of(cache, 30)
  spec.same(report.live.hits, 20)
  spec.same(report.live.fetches, 10)
  spec.same(report.candidate.hits, 18)
  spec.same(report.candidate.waited, 12, "of user:7, which it does not store, each")
  spec.same(report.candidate.hit_ratio, 0.6)
  local one = report.live.fetched_bytes // 10
  spec.same(report.candidate.fetched_bytes - report.live.fetched_bytes, 2 * one)
  spec.same(report.policy_errors, 0)
  spec.same(report.sample, 1.0)
  spec.same(report.max_bytes, 8 << 20)
  spec.same(report.differing, 30)
  spec.contains(report.terms, "30 requests: user:1 and others: rule 'user:{id}' (live.lua:2), "
    .. "candidate rule 'user:{id}' (longer.lua:1)\n  ttl 15m, candidate 5m\n"
    .. "  ttl by no function, candidate by a function\n")
  cache:invalidate_tag "users"
  cache:get "user:1"
  spec.same(report_of(cache, 31).candidate.waited, 13)
  spec.same(cache:shadow_end(), true)
  spec.returns({ spec.null, spec.null, "miss" }, cache:shadow_report())
end)

spec.test("terms are compared field by field", function()
  local other = file("other.lua", 'cache.rule "user:*" { ttl = "1h", refresh = 0.5 }\n')
  local cache <close> = assert(perilune.open { policy = live })
  assert(cache:shadow(other, { sample = 1 }))
  cache:get "user:1"
  local terms = report_of(cache, 1).terms
  spec.contains(terms, "\n  ttl 15m, candidate 1h\n")
  spec.contains(terms, "\n  refresh 0, candidate 0.5\n")
  spec.contains(terms, "\n  tags users, candidate none\n")
  spec.contains(terms, "\n  load by a function, candidate by no function\n")
  spec.same(select(2, terms:gsub("\n", "")), 5)
end)

spec.test("a candidate with a fault is refused, and the one before it stays", function()
  local cache <close> = assert(perilune.open { policy = live })
  assert(cache:shadow(longer))
  spec.same(cache:shadow_report().sample, 0.05)
  local wrong = file("wrong.lua", 'cache.rule "a" { tll = 1 }\n')
  local good, message, code = cache:shadow(wrong)
  spec.same(good, nil)
  spec.contains(message, "wrong.lua:1")
  spec.same(code, "policy")
  spec.same(cache:shadow_report().sample, 0.05)
  spec.raises("option 'sample' must be a share", cache.shadow, cache, longer, { sample = "200%" })
  spec.raises("option 'sample' must be a share", cache.shadow, cache, longer, { sample = 0 })
  spec.raises("sampel", cache.shadow, cache, longer, { sampel = 1 })
end)

spec.test("a closed cache has no shadow", function()
  local cache = assert(perilune.open { policy = live })
  assert(cache:shadow(longer, { sample = 1 }))
  cache:get "user:1"
  cache:close()
  for _, method in ipairs { "shadow", "shadow_report", "shadow_end" } do
    spec.raises("attempt to use a closed cache", cache[method], cache, longer)
  end
end)

remove_folder()
spec.finish()
