-- SPDX-License-Identifier: MIT
--
-- http_serve.lua - answers through perilune.http.serve: what comes from the cache, what is asked of
-- the upstream, what is not for others, and what answers vary by.

local spec = require "spec"
local http = require "perilune.http"
local sites = require "http_site"
local waiting = require "perilune.waiting"

local new_site, expect, page = sites.new, sites.expect, sites.page

---------------------------------------------------------------------------------------------------
-- hits

spec.test("the second request is answered from the cache, with its Age (9111 4, 5.1)", function()
  local site <close> = new_site()
  site.answers["/a"] = page("one", "max-age=60", { ["content-type"] = "text/plain" })
  local first = expect(site.get "/a", 200, "one", "loaded", true)
  spec.same(first.headers.age, nil)
  site.answers["/a"] = page "two"
  site.pass(25)
  local second = expect(site.get "/a", 200, "one", "l1", false)
  spec.same(second.headers, { age = "25", ["cache-control"] = "max-age=60", etag = http.etag "one",
    date = http.date(sites.now - 25), ["content-type"] = "text/plain", ["content-length"] = "3" })
  spec.same(site.asked[1].headers, {})
  expect(site.get "/a?x", 200, "two", "loaded", true)
end)

spec.test("a client that has it gets a 304 with the fields it needs (9110 15.4.5)", function()
  local site <close> = new_site()
  site.answers["/a"] = page("one", "max-age=60", { ["content-type"] = "text/plain",
    ["last-modified"] = http.date(sites.now - 9999), vary = "x-none", ["content-location"] = "/b" })
  local tag = site.get "/a".headers.etag
  site.get "/a"
  local got = expect(site.get("/a", { ["if-none-match"] = 'W/"x", ' .. tag }), 304, "", "l1", false)
  spec.same(got.headers, { age = "0", ["cache-control"] = "max-age=60", etag = tag,
    date = http.date(sites.now), vary = "x-none", ["content-location"] = "/b" })
  expect(site.get("/a", { ["if-modified-since"] = http.date(sites.now - 9999) }), 304, "", "l1")
  expect(site.get("/a", { ["if-modified-since"] = http.date(sites.now - 10000) }), 200, "one", "l1")
  local now = http.date(sites.now)
  expect(site.get("/a", { ["if-none-match"] = '"x"', ["if-modified-since"] = now }), 200, "one",
    "l1")
  expect(site.get("/a", { ["if-none-match"] = tag:sub(2) }), 200, "one", "l1")
  expect(site.request("HEAD", "/a", { ["if-none-match"] = "*" }), 304, "", "l1")
end)

spec.test("a 304 of an answer for one client brings its cookies (9110 15.4.5)", function()
  local site <close> = new_site()
  site.answers["/a"] = page("one", "private", { etag = '"1"', ["set-cookie"] = { "a=1", "b=2" } })
  local got = expect(site.get("/a", { ["if-none-match"] = '"1"' }), 304, "", "pass", true)
  spec.same(got.headers["set-cookie"], { "a=1", "b=2" })
end)

spec.test("without Last-Modified the date stands in for it (9111 4.3.2)", function()
  local site <close> = new_site { etag = false }
  site.answers["/a"] = page "one"
  local since = http.date(sites.now)
  expect(site.get("/a", { ["if-modified-since"] = since }), 304, "", "loaded", true)
  expect(site.get("/a", { ["if-modified-since"] = since }), 304, "", "l1", false)
  expect(site.get("/a", { ["if-modified-since"] = http.date(sites.now - 1) }), 200, "one", "l1")
  spec.same(site.get "/a".headers.etag, nil)
end)

spec.test("a client's conditions do not go to the upstream in a fetch for all", function()
  local site <close> = new_site()
  site.answers["/a"] = page "one"
  expect(site.get("/a", { ["if-none-match"] = '"x"', accept = "text/html", te = "trailers",
    ["if-modified-since"] = http.date(sites.now - 9) }), 200, "one", "loaded", true)
  spec.same(site.asked[1].headers, { accept = "text/html" })
end)

spec.test("HEAD is answered from what GET left, and leaves it too (9110 9.3.2)", function()
  local site <close> = new_site()
  site.answers["/a"] = page "one"
  local head = expect(site.request("HEAD", "/a"), 200, "", "loaded", true)
  spec.same(head.headers["content-length"], "3")
  spec.same(site.asked[1].method, "GET")
  expect(site.get "/a", 200, "one", "l1", false)
  expect(site.request("HEAD", "/a"), 200, "", "l1", false)
end)

spec.test("weak tags, no tags, and an upstream's own", function()
  local site <close> = new_site { etag = "weak" }
  site.answers["/a"] = page "one"
  spec.same(site.get "/a".headers.etag, http.etag("one", true))
  site.answers["/b"] = page("one", nil, { etag = '"own"' })
  spec.same(site.get "/b".headers.etag, '"own"')
  site.answers["/c"] = { 404, "none", ["cache-control"] = "max-age=9" }
  spec.same(site.get "/c".headers.etag, nil)
end)

---------------------------------------------------------------------------------------------------
-- stale answers

spec.test("a stale answer is asked about, and a 304 renews it (9111 4.3.3, 4.3.4)", function()
  local site <close> = new_site()
  local since = http.date(sites.now - 100)
  site.answers["/a"] = page("one", "max-age=60", { etag = '"1"', ["last-modified"] = since,
    ["content-type"] = "text/plain", ["x-version"] = "1" })
  site.get "/a"
  site.pass(61, "http:h/a")
  site.answers["/a"] = function(request)
    spec.same(request.headers, { ["if-none-match"] = '"1"', ["if-modified-since"] = since })
    return { 304, nil, etag = '"1"', ["cache-control"] = "max-age=90", ["x-version"] = "2",
      ["content-type"] = "wrong/type", ["content-length"] = "0" }
  end
  local renewed = expect(site.get "/a", 200, "one", "loaded", true)
  spec.same(renewed.headers, { etag = '"1"', ["last-modified"] = since, ["x-version"] = "2",
    ["content-type"] = "text/plain", ["cache-control"] = "max-age=90", date = http.date(sites.now),
    ["content-length"] = "3" })
  site.pass(80)
  spec.same(expect(site.get "/a", 200, "one", "l1", false).headers.age, "80")
end)

spec.test("a 304 about another tag is asked again without conditions (9111 4.3.4)", function()
  local site <close> = new_site()
  site.answers["/a"] = page("one", "max-age=60", { etag = '"1"' })
  site.get "/a"
  site.pass(61, "http:h/a")
  site.answers["/a"] = function(request)
    return request.headers["if-none-match"] and { 304, nil, etag = '"2"' } or
      page("two", "max-age=60", { etag = '"2"' })
  end
  expect(site.get "/a", 200, "two", "loaded", true)
  spec.same(#site.asked, 3)
end)

spec.test("a tag of our own making is not shown to an upstream", function()
  local site <close> = new_site()
  site.answers["/a"] = page("one", "max-age=60, stale-if-error=100")
  site.get "/a"
  site.pass(61, "http:h/a")
  site.answers["/a"] = page "two"
  expect(site.get "/a", 200, "two", "loaded", true)
  spec.same(site.asked[2].headers, {})
  site.answers["/a"] = { 304 }
  site.pass(61, "http:h/a")
  local got = expect(site.get "/a", 502, "Bad Gateway\n", "error", true)
  spec.contains(got.message, "304 to a request without conditions")
end)

spec.test("stale-if-error serves what is old while the upstream fails (5861 4)", function()
  local site <close> = new_site()
  site.answers["/a"] = page("one", "max-age=60, stale-if-error=100")
  site.get "/a"
  for _, failure in ipairs { 500, 502, 503, 504, "away" } do
    site.answers["/a"] = failure ~= "away" and { failure, "broken" } or nil
    site.pass(20, "http:h/a")
    local got = site.get "/a"
    spec.same({ got.status, got.body, got.how }, { 200, "one", "stale" }, tostring(failure))
  end
  site.answers["/a"] = { 503, "broken", ["retry-after"] = "5" }
  site.pass(60, "http:h/a")
  local got = expect(site.get "/a", 503, "broken", "pass", true)
  spec.same(got.headers["retry-after"], "5")
  site.answers["/a"] = page "two"
  expect(site.get "/a", 200, "two", "loaded", true)
end)

spec.test("and no longer than it says, however seldom the upstream is asked", function()
  local site <close> = new_site { retry = "1h" }
  site.answers["/a"] = page("one", "max-age=60, stale-if-error=100")
  site.get "/a"
  site.answers["/a"] = nil
  site.pass(150, "http:h/a")
  expect(site.get "/a", 200, "one", "stale", true)
  local left = select(5, site.cache:peek "http:h/a")
  assert(left > 5 and left <= 10, left)
end)

-- A site whose answer is past its time, and being fetched anew by a coroutine: resumed, it goes on.
local function refetched(open_options, cache_control)
  local site = new_site(nil, open_options)
  site.answers["/a"] = page("one", cache_control)
  site.get "/a"
  site.pass(61, "http:h/a")
  site.answers["/a"] = function()
    coroutine.yield()
    return page "two"
  end
  local own, wrapped = site.cache, waiting.wrap(site.cache, coroutine.yield)
  local thread = coroutine.create(function()
    site.cache = wrapped
    expect(site.get "/a", 200, "two", "loaded", true)
  end)
  while #site.asked < 2 do
    assert(coroutine.resume(thread))
  end
  site.cache = own
  return site, function()
    while coroutine.status(thread) ~= "dead" do
      assert(coroutine.resume(thread))
    end
  end
end

spec.test("stale-while-revalidate is a window of the answer's own (5861 3)", function()
  local site, go_on = refetched({ stale = false },
    "max-age=60, stale-while-revalidate=30")
  expect(site.get "/a", 200, "one", "stale", false)
  site.pass(28)
  expect(site.get "/a", 200, "one", "stale", false)
  go_on()
  expect(site.get "/a", 200, "two", "l1", false)
  site.cache:close()
end)

spec.test("a rule's stale bounds it", function()
  local site, go_on = refetched({ stale = "1ms", stale_if_error = false },
    "max-age=60, stale-while-revalidate=30")
  os.execute "sleep 0.01" -- until the window is over for sure
  site.answers["/a"] = page "alone"
  expect(site.get "/a", 200, "alone", "pass", true)
  go_on()
  site.cache:close()
end)

spec.test("must-revalidate serves nothing old, whatever the rule has (9111 5.2.2.2)", function()
  local site <close> = new_site()
  site.answers["/a"] = page("one", "max-age=60, must-revalidate", { etag = '"1"' })
  site.get "/a"
  site.pass(61, "http:h/a")
  site.answers["/a"] = nil
  local got = expect(site.get "/a", 502, "Bad Gateway\n", "error")
  spec.same(got.headers["cache-control"], "no-store")
  spec.contains(got.message, "the upstream is away")
end)

spec.test("no-cache is stored, and asked about each time (9111 5.2.2.4)", function()
  local site <close> = new_site()
  site.answers["/a"] = function(request)
    return request.headers["if-none-match"] == '"1"' and { 304, ["cache-control"] = "no-cache" } or
      page("one", "no-cache", { etag = '"1"' })
  end
  expect(site.get "/a", 200, "one", "loaded", true)
  local got = site.get "/a"
  spec.same({ got.status, got.body, got.was_asked }, { 200, "one", true })
  spec.same(site.asked[2].headers["if-none-match"], '"1"')
  site.answers["/b"] = page("two", "no-cache")
  expect(site.get "/b", 200, "two", "pass", true)
end)

---------------------------------------------------------------------------------------------------
-- what is not for others

spec.test("an answer that is not for others is given to nobody else (9111 3)", function()
  local site <close> = new_site { pass = 0 }
  for i, kind in ipairs { "private, max-age=60", "no-store", "" } do
    local path = "/" .. i
    site.answers[path] = page("own", kind)
    expect(site.get(path), 200, "own", "pass", true)
    expect(site.get(path), 200, "own", "pass", true)
  end
  site.answers["/cookie"] = page("own", nil, { ["set-cookie"] = { "a=1", "b=2" } })
  expect(site.get "/cookie", 200, "own", "pass", true)
  spec.same(expect(site.get "/cookie", 200, "own", "pass", true).headers["set-cookie"],
    { "a=1", "b=2" })
  spec.same(#site.cache:keys(), 0)
end)

spec.test("who waits for a fetch is not given what it brought for another alone", function()
  local site <close> = new_site { pass = 0 }
  site.answers["/a"] = page("own", "private")
  local inner
  site.cache:get("http:h/a", nil, function()
    return { http = 1, kind = "pass" }, nil, -1 -- as he finds it who has waited
  end)
  site.cache:set("http:h/a", { http = 1, kind = "pass" })
  inner = expect(site.get "/a", 200, "own", "pass", true)
  spec.same(inner.headers["cache-control"], "private")
end)

spec.test("for a moment nobody waits for what is not for others", function()
  local site <close> = new_site { pass = "1h" }
  site.answers["/a"] = page("own", "private")
  expect(site.get "/a", 200, "own", "pass", true)
  spec.same(select(3, site.cache:peek "http:h/a"), "l1")
  site.answers["/a"] = page "for all"
  expect(site.get "/a", 200, "for all", "pass", true)
  expect(site.get "/a", 200, "for all", "pass", true)
  site.cache:delete "http:h/a"
  expect(site.get "/a", 200, "for all", "loaded", true)
end)

spec.test("a request with Authorization shares only what is public (9111 3.5)", function()
  local site <close> = new_site()
  local who = { authorization = "Basic eDp5" }
  site.answers["/a"] = page "for one"
  expect(site.get("/a", who), 200, "for one", "pass", true)
  spec.same(site.asked[1].headers.authorization, "Basic eDp5")
  site.answers["/a"] = page "for all"
  expect(site.get "/a", 200, "for all", "loaded", true) -- no mark was left
  expect(site.get("/a", who), 200, "for all", "pass", true) -- not said to be for him
  site.answers["/b"] = page("public", "public, max-age=60")
  expect(site.get("/b", who), 200, "public", "loaded", true)
  expect(site.get("/b", { authorization = "Basic other" }), 200, "public", "l1", false)
  expect(site.get "/b", 200, "public", "l1", false)
end)

spec.test("with a cookie only what says that it may be stored is", function()
  local site <close> = new_site { default = { ttl = "1m" } }
  site.answers["/a"] = { 200, "whose?" }
  expect(site.get("/a", { cookie = "id=1" }), 200, "whose?", "pass", true)
  expect(site.get "/a", 200, "whose?", "loaded", true)
  site.answers["/b"] = page "everybody's"
  expect(site.get("/b", { cookie = "id=1" }), 200, "everybody's", "loaded", true)
end)

spec.test("cookies can be taken off on both sides", function()
  local site <close> = new_site { cookies = "strip" }
  site.answers["/a"] = page("one", nil, { ["set-cookie"] = "a=1" })
  local got = expect(site.get("/a", { cookie = "id=1" }), 200, "one", "loaded", true)
  spec.same(got.headers["set-cookie"], nil)
  spec.same(site.asked[1].headers, {})
end)

---------------------------------------------------------------------------------------------------
-- Vary

spec.test("answers that vary are kept apart by what they vary by (9111 4.1)", function()
  local site <close> = new_site()
  site.answers["/a"] = function(request)
    return page("in " .. tostring(request.headers["accept-language"]), nil,
      { vary = "Accept-Language" })
  end
  local en, de = { ["accept-language"] = "en" }, { ["accept-language"] = "de" }
  expect(site.get("/a", en), 200, "in en", "pass", true) -- leaves the marker
  expect(site.get("/a", en), 200, "in en", "loaded", true)
  expect(site.get("/a", de), 200, "in de", "loaded", true)
  expect(site.get("/a", en), 200, "in en", "l1", false)
  expect(site.get("/a", de), 200, "in de", "l1", false)
  expect(site.get "/a", 200, "in nil", "loaded", true)
  spec.same(site.get("/a", de).headers.vary, "Accept-Language")
end)

spec.test("deleting the path's key reaches all that it varies by", function()
  local site <close> = new_site()
  local version = 1
  site.answers["/a"] = function()
    return page("v" .. version, nil, { vary = "accept" })
  end
  site.get "/a"
  expect(site.get "/a", 200, "v1", "loaded", true)
  version = 2
  expect(site.get "/a", 200, "v1", "l1", false)
  assert(http.invalidate(site.cache, { path = "/a", host = "h", headers = {} }, site.options))
  expect(site.get "/a", 200, "v2", "pass", true)
  expect(site.get "/a", 200, "v2", "loaded", true)
end)

spec.test("an answer that varies by something else than before is learnt anew", function()
  local site <close> = new_site()
  site.answers["/a"] = page("one", nil, { vary = "accept" })
  site.get "/a"
  site.get "/a"
  site.answers["/a"] = function(request)
    return page(request.headers.dnt or "none", nil, { vary = "dnt" })
  end
  expect(site.get("/a", { accept = "text/css" }), 200, "none", "pass", true)
  expect(site.get("/a", { dnt = "1" }), 200, "1", "pass", true) -- leaves the new marker
  expect(site.get("/a", { dnt = "1" }), 200, "1", "loaded", true)
  expect(site.get("/a", { dnt = "0" }), 200, "0", "loaded", true)
end)

spec.test("values can be made alike", function()
  local site <close> = new_site { normalize = { ["accept-encoding"] = function(value)
    return value:find "gzip" and "gzip" or ""
  end } }
  site.answers["/a"] = page("one", nil, { vary = "accept-encoding" })
  site.get "/a"
  expect(site.get("/a", { ["accept-encoding"] = "gzip, br" }), 200, "one", "loaded", true)
  expect(site.get("/a", { ["accept-encoding"] = "br;q=1, gzip" }), 200, "one", "l1", false)
end)

spec.finish()
