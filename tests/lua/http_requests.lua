-- SPDX-License-Identifier: MIT
--
-- http_requests.lua - perilune.http.serve: requests that are not for the cache, what is sent, and
-- what goes wrong.

local spec = require "spec"
local http = require "perilune.http"
local sites = require "http_site"
local perilune = require "perilune"

local new_site, expect, page = sites.new, sites.expect, sites.page

---------------------------------------------------------------------------------------------------
-- requests that are not for the cache

spec.test("ranges, bodies, other methods and targets are handed on as they are", function()
  local site <close> = new_site()
  site.answers["/a"] = page "one"
  site.get "/a"
  expect(site.get("/a", { range = "bytes=0-1" }), 200, "one", "pass", true)
  spec.same(site.asked[2].headers.range, "bytes=0-1")
  expect(site.get("/a", { ["if-match"] = '"x"' }), 200, "one", "pass", true) -- 9111 4.3.2
  spec.same(site.asked[3].headers["if-match"], '"x"')
  expect(site.request("GET", "/a", { ["content-length"] = "3" }), 200, "one", "pass", true)
  expect(site.request("GET", "/a", { ["transfer-encoding"] = "chunked" }), 200, "one", "pass",
    true)
  expect(site.request("GET", "/a", {}, { body = "x" }), 200, "one", "pass", true)
  expect(site.request("OPTIONS", "/a"), 200, "one", "pass", true)
  expect(site.request("HEAD", "/a", { range = "bytes=0-1" }), 200, "", "pass", true)
  site.answers["*"] = { 204 }
  spec.same(site.request("OPTIONS", "*").status, 204)
  expect(site.get "/a", 200, "one", "l1", false)
end)

spec.test("what changes a resource makes its answers void (9111 4.4)", function()
  local site <close> = new_site()
  local function fill()
    for _, path in ipairs { "/a", "/b", "/c" } do
      site.answers[path] = page(path)
      site.get(path)
      spec.same(site.get(path).how, "l1")
    end
  end
  local function who_is_asked()
    local asked = {}
    for _, path in ipairs { "/a", "/b", "/c" } do
      asked[#asked + 1] = site.get(path).was_asked and path or nil
    end
    return table.concat(asked)
  end
  fill()
  site.answers["/a"] = { 201, "", location = "http://H/b", ["content-location"] = "/c" }
  site.request("POST", "/a", {}, { body = "x" })
  site.answers["/a"] = page "/a"
  spec.same(who_is_asked(), "/a/b/c")
  fill()
  site.answers["/a"] = { 200, "", location = "http://other/b", ["content-location"] = "//h/c" }
  site.request("DELETE", "/a")
  site.answers["/a"] = page "/a"
  spec.same(who_is_asked(), "/a")
  site.answers["/a"] = { 500, "" }
  site.request("PUT", "/a")
  spec.same(who_is_asked(), "")
end)

spec.test("as the origin it judges If-Match itself (9110 13.1.1)", function()
  local site <close> = new_site { origin = true }
  site.answers["/a"] = page("one", nil, { etag = '"1"' })
  expect(site.get("/a", { ["if-match"] = '"1"' }), 200, "one", "loaded", true)
  local got = expect(site.get("/a", { ["if-match"] = '"2"' }), 412, "", "l1", false)
  spec.same(got.headers, { date = http.date(sites.now), ["content-length"] = "0" })
end)

spec.test("a client is obeyed where the options say so (9111 5.2.1)", function()
  local site <close> = new_site { obey_client = true }
  site.answers["/a"] = page("one", nil, { etag = '"1"' })
  site.get "/a"
  site.pass(30)
  expect(site.get "/a", 200, "one", "l1", false)
  expect(site.get("/a", { ["cache-control"] = "max-age=60" }), 200, "one", "l1", false)
  expect(site.get("/a", { ["cache-control"] = "max-age=10" }), 200, "one", "pass", true)
  expect(site.get("/a", { ["cache-control"] = "min-fresh=40" }), 200, "one", "pass", true)
  expect(site.get("/a", { ["cache-control"] = "no-cache" }), 200, "one", "pass", true)
  expect(site.get("/a", { pragma = "no-cache" }), 200, "one", "pass", true)
  spec.same(site.asked[#site.asked].headers["if-none-match"], '"1"')
  expect(site.get("/a", { ["cache-control"] = "no-store" }), 200, "one", "pass", true)
  local other <close> = new_site()
  other.answers["/a"] = page "one"
  other.get "/a"
  expect(other.get("/a", { ["cache-control"] = "no-cache" }), 200, "one", "l1", false)
end)

---------------------------------------------------------------------------------------------------
-- terms, tags, and what is sent

spec.test("what says nothing of itself has the terms of its rule, and says them (5861)", function()
  local site <close> = new_site({ default = "rule" },
    { ttl = "15m", stale = "30s", stale_if_error = "1h", negative = "7s" })
  site.answers["/a"] = { 200, "one" }
  spec.same(expect(site.get "/a", 200, "one", "loaded", true).headers["cache-control"],
    "max-age=900, stale-while-revalidate=30, stale-if-error=3600")
  expect(site.get "/a", 200, "one", "l1", false)
  site.answers["/b"] = { 404, "none" }
  spec.contains(site.get "/b".headers["cache-control"], "max-age=7")
  site.answers["/c"] = { 200, "one", ["cache-control"] = "public" }
  spec.same(site.get "/c".headers["cache-control"], "public, max-age=900")
  local left = select(5, site.cache:peek "http:h/a")
  assert(left > 890 and left <= 900, left)
end)

spec.test("and when a 304 renews it, those that its rule has by then", function()
  for _, said in ipairs { "public", false } do
    local site <close> = new_site { default = { ttl = "1h", stale = 7 } }
    site.answers["/a"] = { 200, "one", etag = '"1"', ["cache-control"] = said or nil }
    spec.contains(site.get "/a".headers["cache-control"], "max-age=3600")
    site.options = { default = { ttl = "1m", stale = 0 }, now = site.options.now }
    site.pass(3601, "http:h/a")
    site.answers["/a"] = { 304 }
    for _ = 1, 2 do
      local got = expect(site.get("/a", { cookie = "a=1" }), 200, "one", "loaded", true)
      spec.same(got.headers["cache-control"], said and "public, max-age=60" or "max-age=60")
      site.pass(61, "http:h/a")
    end
    site.answers["/a"] = { 304, ["cache-control"] = "max-age=5" }
    spec.same(site.get "/a".headers["cache-control"], "max-age=5")
  end
end)

spec.test("an answer's ttl and windows are the value's in the cache", function()
  local site <close> = new_site()
  site.answers["/a"] = page("one", "max-age=100, stale-if-error=50", { age = "40" })
  site.get "/a"
  local left = select(5, site.cache:peek "http:h/a")
  assert(left > 55 and left <= 60, left)
end)

spec.test("tags of the options and of the upstream's fields make values void", function()
  local site <close> = new_site { tag_fields = { "Surrogate-Key" }, tags = function(request)
    return { "all", "path:" .. request.path }
  end, surrogate = "Cache-Tag" }
  site.answers["/a"] = page("one", nil, { ["surrogate-key"] = "user:7 b%20c" })
  spec.same(site.get "/a".headers["cache-tag"], "all,path:/a,user:7,b%20c")
  for _, tag in ipairs { "all", "path:/a", "user:7", "b c" } do
    expect(site.get "/a", 200, "one", "l1", false)
    site.cache:invalidate_tag(tag)
    expect(site.get "/a", 200, "one", "loaded", true)
  end
end)

spec.test("tags live on when a 304 or a failing upstream prolongs an answer", function()
  local site <close> = new_site { tags = { "t" } }
  site.answers["/a"] = page("one", "max-age=60, stale-if-error=600", { etag = '"1"' })
  site.get "/a"
  site.pass(61, "http:h/a")
  site.answers["/a"] = { 304, ["cache-control"] = "max-age=60, stale-if-error=600" }
  expect(site.get "/a", 200, "one", "loaded", true)
  site.cache:invalidate_tag "t"
  spec.same(site.cache:peek "http:h/a", nil)
  site.answers["/a"] = page("two", "max-age=60, stale-if-error=600", { etag = '"2"' })
  site.options.retry = nil
  site.get "/a"
  site.pass(61, "http:h/a")
  site.answers["/a"] = nil
  expect(site.get "/a", 200, "two", "stale", true)
  site.cache:invalidate_tag "t"
  spec.same(site.cache:peek "http:h/a", nil)
  expect(site.get "/a", 502, "Bad Gateway\n", "error", true)
end)

spec.test("more tags than a value may have: it is not stored", function()
  local many = {}
  for i = 1, 65 do
    many[i] = "t" .. i
  end
  for _, tags in ipairs { many, { ("x"):rep(251) } } do
    local site <close> = new_site { tags = tags, pass = 0 }
    site.answers["/a"] = page "one"
    expect(site.get "/a", 200, "one", "pass", true)
    expect(site.get "/a", 200, "one", "pass", true)
  end
  local long = {}
  for i = 1, 64 do
    long[i] = ("\xff"):rep(200) .. i -- three times as long as a surrogate key
  end
  local site <close> = new_site { tags = long, surrogate = "surrogate-key" }
  site.answers["/a"] = page "one"
  local got = expect(site.get "/a", 200, "one", "loaded", true)
  spec.same({ got.headers["surrogate-key"], got.headers["surrogate-control"] }, { nil, "no-store" })
end)

spec.test("clients can be told something else than the upstream said", function()
  local site <close> = new_site { cache_control = { max_age = 0, must_revalidate = true } }
  site.answers["/a"] = page("one", "s-maxage=600", { expires = http.date(sites.now + 600) })
  site.get "/a"
  site.pass(10)
  local got = expect(site.get "/a", 200, "one", "l1", false)
  spec.same({ got.headers["cache-control"], got.headers.expires, got.headers.age },
    { "max-age=0, must-revalidate" })
end)

spec.test("Cache-Status says where an answer came from (9211)", function()
  local site <close> = new_site { cache_status = "here" }
  site.answers["/a"] = page("one", nil, { ["cache-status"] = "there; hit" })
  spec.same(site.get "/a".headers["cache-status"], "there; hit, here; fwd=miss; stored")
  site.pass(20)
  spec.same(site.get "/a".headers["cache-status"], "there; hit, here; hit; ttl=40; detail=l1")
  site.answers["/b"] = page("one", "private")
  spec.same(site.get "/b".headers["cache-status"], "here; fwd=miss")
  spec.same(site.request("POST", "/b").headers["cache-status"], "here; fwd=bypass")
end)

---------------------------------------------------------------------------------------------------
-- what goes wrong

spec.test("an upstream may answer anything", function()
  local site <close> = new_site { pass = 0 }
  local cases = { { "200", "x" }, { 99, "x" }, { 600, "x" }, { 200.5, "x" }, { 200, {} },
    { 200, 7 }, { {}, "x" }, { 100 }, { 304 }, { 0 / 0 } }
  for i, case in ipairs(cases) do
    site.answers["/" .. i] = case
    spec.same(site.get("/" .. i).status, 502, "case " .. i)
    spec.same(site.request("POST", "/" .. i).status, case[1] == 304 and 304 or 502, "post " .. i)
  end
  local other <close> = new_site()
  other.answers["/a"] = page("one", "private")
  other.get "/a"
  other.answers["/a"] = { 304 } -- to who does not wait for others
  spec.contains(expect(other.get "/a", 502, "Bad Gateway\n", "error").message, "answered 304")
  site.answers["/raises"] = function()
    error "broken"
  end
  spec.contains(expect(site.get "/raises", 502, "Bad Gateway\n", "error").message, "broken")
  spec.contains(site.request("POST", "/raises").message, "broken")
  for _, headers in ipairs { 7, "x", false } do
    local status = http.serve(site.cache, { method = "GET", path = "/x", headers = {} }, function()
      return 200, headers, "body"
    end)
    spec.same(status, 200)
  end
end)

spec.test("hostile fields of an upstream end in what is not stored, or is stale", function()
  local site <close> = new_site { pass = 0, heuristic = true }
  local huge = ("x"):rep(100000)
  local cases = { { ["cache-control"] = huge }, { ["cache-control"] = "max-age=" .. huge },
    { ["cache-control"] = "max-age=\1" }, { expires = huge }, { vary = huge }, { vary = ", ,*" },
    { ["cache-control"] = ("a,"):rep(100) .. "max-age=9" },
    { ["cache-control"] = "max-age=60", age = "99999999999999999999" },
    { ["cache-control"] = "max-age=60", date = "Thu, 01 Jan 1970 00:00:00 GMT" },
    { ["last-modified"] = "Fri, 31 Dec 9999 23:59:59 GMT" },
    { ["cache-control"] = { "max-age=60", "no-store" } }, { ["cache-control"] = "max-age=-1" } }
  for i, case in ipairs(cases) do
    local path = "/" .. i
    site.answers[path] = { 200, "one" }
    for name, value in pairs(case) do
      site.answers[path][name] = value
    end
    spec.same(site.get(path).status, 200, "case " .. i)
    spec.same(site.get(path).was_asked, true, "case " .. i)
  end
  site.answers["/split"] = page("one", nil, { ["x-a"] = "1\r\nset-cookie: a=1", etag = '"a\n"' })
  local got = site.get "/split"
  spec.same({ got.headers["x-a"], got.headers.etag }, { "1  set-cookie: a=1", '"a "' })
end)

spec.test("hostile fields of a client change nothing", function()
  local site <close> = new_site()
  site.answers["/a"] = page "one"
  site.get "/a"
  local huge = ("x"):rep(100000)
  for _, headers in ipairs { { ["if-none-match"] = huge }, { ["if-none-match"] = '"' .. huge },
    { ["if-modified-since"] = huge }, { ["if-none-match"] = { "*", "*" } },
    { ["cache-control"] = huge }, { ["if-none-match"] = "\r\n" }, { [""] = "x" }, { ["a b"] = 1 },
    { connection = huge }, { connection = "host, cookie" }, { ["if-none-match"] = {} } } do
    expect(site.get("/a", headers), 200, "one", "l1", false)
  end
end)

spec.test("a path may be as long as a client likes, also in a key of the program's", function()
  local site <close> = new_site { key = function(request)
    return "page:" .. request.path
  end }
  for _, n in ipairs { 4000, 4090, 5000, 100000 } do
    local path = "/" .. ("x"):rep(n)
    site.answers[path] = page("one", nil, { vary = "x-a" })
    expect(site.get(path, { ["x-a"] = "1" }), 200, "one", "pass", true)
    expect(site.get(path, { ["x-a"] = "1" }), 200, "one", "loaded", true)
    expect(site.get(path, { ["x-a"] = "1" }), 200, "one", "l1", false)
    http.invalidate(site.cache, { path = path, host = "h" }, site.options)
    expect(site.get(path, { ["x-a"] = "1" }), 200, "one", "pass", true)
  end
end)

spec.test("a value that is not of this module is no answer", function()
  local site <close> = new_site()
  for _, value in ipairs { "text", 7, {}, { http = 2, kind = "answer" },
    { http = 1, kind = "answer", status = "200" }, { http = 1, kind = "varies" } } do
    site.answers["/a"] = page "one"
    site.cache:set("http:h/a", value)
    expect(site.get "/a", 200, "one", "pass", true)
  end
end)

spec.test("a policy that denies a key has its answers fetched for each", function()
  local folder, remove = spec.folder()
  local site <close> = new_site(nil, { policy = spec.write(folder .. "/p.lua",
    'cache.rule "http:h/secret*" { deny = true }\n') })
  remove()
  site.answers["/secret"] = page "one"
  expect(site.get "/secret", 200, "one", "pass", true)
  expect(site.get "/secret", 200, "one", "pass", true)
  spec.same(select(3, site.cache:terms "http:h/secret"), "denied")
end)

spec.test("misuse raises", function()
  local site <close> = new_site()
  local request = { method = "GET", path = "/", headers = {} }
  local function serve(options)
    return http.serve(site.cache, request, site.fetch, options)
  end
  spec.raises("a request is a table with method, path and headers", http.serve, site.cache, {},
    site.fetch)
  spec.raises("a function was expected to fetch with", http.serve, site.cache, request, nil)
  spec.raises("unknown option 'ttls'", serve, { ttls = 1 })
  spec.raises("did you mean 'normalize'?", serve, { normalise = {} })
  spec.raises("option 'etag' must be 'false' or 'strong' or 'weak', got 'soft'", serve,
    { etag = "soft" })
  spec.raises("option 'default' must be 'rule', got 'rules'", serve, { default = "rules" })
  spec.raises("option 'default' wants a ttl", serve, { default = {} })
  spec.raises("option 'ttl' must be a duration", serve, { default = { ttl = "soon" } })
  spec.raises("option 'pass' must be a duration", serve, { pass = "soon" })
  spec.raises("option 'tags' must be a function or a table, got a number", serve, { tags = 7 })
  spec.raises("option 'cache_status' must be a name", serve, { cache_status = "a b" })
  spec.raises("unknown option 'maxage'", serve, { cache_control = { maxage = 1 } })
  spec.raises("a table of options was expected", serve, 7)
end)

---------------------------------------------------------------------------------------------------
-- what a loader may say, of which serve makes use

spec.test("a loader says ttl, stale and tags in one table", function()
  local cache <close> = assert(perilune.open { log = false, stale = "1h" })
  local function load(terms)
    return cache:get("k", nil, function()
      return "v", nil, terms
    end)
  end
  spec.same(load { ttl = "90s", stale = "10s", tags = { "a", 7 } }, "v")
  local left = select(5, cache:peek "k")
  assert(left > 85 and left <= 90, left)
  cache:invalidate_tag "7"
  spec.same(cache:peek "k", nil)
  load { stale = 0 }
  cache:expire "k"
  cache:delete "k"
  for _, wrong in ipairs { { { tll = 1 }, "unknown option 'tll', did you mean 'ttl'?" },
    { { ttl = "soon" }, "the ttl that a loader returns must be" },
    { { stale = "soon" }, "the stale that a loader returns must be" },
    { { tags = "t" }, "the tags that a loader returns are a string, must be a list" },
    { { tags = { {} } }, "a tag that a loader returns is a table, must be a string" },
    { { tags = { "" } }, "tag: 0 bytes, must be 1 to 250" } } do
    local value, message, how = load(wrong[1])
    spec.same({ value, how }, { nil, "loader" })
    spec.contains(message, wrong[2])
  end
end)

spec.finish()
