-- SPDX-License-Identifier: MIT
--
-- http.lua - the rules of HTTP's caching, a case each, with the section of RFC 9110 or 9111 that it
-- is from. http_serve.lua has whole requests.

local spec = require "spec"
local http = require "perilune.http"
local etags = require "perilune.http.etags"
local fields = require "perilune.http.fields"
local storing = require "perilune.http.storing"
local variants = require "perilune.http.variants"
local control = require "perilune.http.cache_control"
local options_of = require("perilune.http.options").of
local perilune = require "perilune"

local NOW = 1700000000 -- Tue, 14 Nov 2023 22:13:20 GMT

local function shown(value)
  return type(value) == "table" and "a list" or tostring(value)
end

---------------------------------------------------------------------------------------------------
-- dates (9110, 5.6.7)

spec.test("9110 5.6.7: the three forms of a date are read, and nothing else", function()
  local cases = {
    { "Sun, 06 Nov 1994 08:49:37 GMT", 784111777 },
    { "Sunday, 06-Nov-94 08:49:37 GMT", 784111777 },
    { "Sun Nov  6 08:49:37 1994", 784111777 },
    { "Sun Nov 16 08:49:37 1994", 784975777 },
    { "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
    { "Tue, 29 Feb 2000 23:59:59 GMT", 951868799 },
    { "Sat, 31 Dec 2016 23:59:60 GMT", 1483228800 },
    { "Fri, 31 Dec 9999 23:59:59 GMT", 253402300799 },
    { "Saturday, 01-Jan-73 00:00:00 GMT", 3250454400 }, -- 50 years ahead of 2023
    { "Saturday, 01-Jan-74 00:00:00 GMT", 126230400 }, -- more
    { "Mon, 29 Feb 2100 00:00:00 GMT" }, { "Sun, 31 Apr 2023 00:00:00 GMT" },
    { "Sun, 00 Nov 1994 08:49:37 GMT" }, { "Sun, 06 Nov 1994 24:00:00 GMT" },
    { "Sun, 06 Nov 1994 08:60:37 GMT" }, { "Sun, 06 Nov 1994 08:49:61 GMT" },
    { "Sun, 6 Nov 1994 08:49:37 GMT" }, { "Sun, 06 Nov 1994 08:49:37 UTC" },
    { "Sun, 06 Nov 1994 08:49:37 +0000" }, { "sun, 06 nov 1994 08:49:37 gmt" },
    { "Xyz, 06 Nov 1994 08:49:37 GMT" }, { "Sun, 06 Foo 1994 08:49:37 GMT" },
    { "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:38 GMT" },
    { " Sun, 06 Nov 1994 08:49:37 GMT" }, { "" }, { "0" }, { "-1" }, { "784111777" },
    { ("9"):rep(100000) }, { "Sun, 06 Nov 1994 08:49:37 GMT\0" }, { false }, { {} }, { 7 },
  }
  for i, case in ipairs(cases) do
    spec.same(http.parse_date(case[1], NOW), case[2], "date " .. i .. ", " .. shown(case[1]))
  end
end)

spec.test("9110 5.6.7: dates are written in the one form, whatever the locale", function()
  spec.same(http.date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT")
  spec.same(http.date(784111777.9), "Sun, 06 Nov 1994 08:49:37 GMT")
  spec.same(http.date(-1), "Wed, 31 Dec 1969 23:59:59 GMT")
  local seconds = -4000000000
  while seconds < 20000000000 do -- over four centuries and their leap years
    spec.same(http.parse_date(http.date(seconds)), seconds)
    seconds = seconds + 86399 * 97 + 13
  end
  for _, wrong in ipairs { 0 / 0, math.huge, -math.huge, 1e15, "now", {} } do
    spec.raises("a time in seconds since 1970 was expected", http.date, wrong)
  end
end)

---------------------------------------------------------------------------------------------------
-- Cache-Control (9111, 5.2)

spec.test("9111 5.2: directives are read, quoted or not, in any case", function()
  local cases = {
    { "max-age=60", { ["max-age"] = "60" } },
    { "Max-Age=60, PUBLIC", { ["max-age"] = "60", public = true } },
    { 'max-age="60"', { ["max-age"] = "60" } },
    { 'private="set-cookie, x", no-cache', { private = "set-cookie, x", ["no-cache"] = true } },
    { 'a="\\"\\\\", b', { a = '"\\', b = true } },
    { ",, , max-age=1 ,\t,", { ["max-age"] = "1" } },
    { { "max-age=1", "public" }, { ["max-age"] = "1", public = true } },
    { "max-age=1, max-age=1", { ["max-age"] = "1" } },
    { "max-age=1, max-age=2", { ["max-age"] = false } }, -- 4.2.1: stale rather than a guess
    { "max-age=1, max-age=2, max-age=2", { ["max-age"] = false } },
    { "no-store;x, public", { ["no-store"] = false, public = true } },
    { 'private="x', { ["no-store"] = true } }, -- what follows may be anything
    { { 'max-age=60, x="a', "no-store" }, { ["no-store"] = true } },
    { 'max-age=60, x=a"b, no-store', { ["no-store"] = true } },
    { 'no-store "x, y", public', { ["no-store"] = false, public = true } },
    { "=, ;, \"no-store\", public", { public = true } },
    { "", {} }, { ("x"):rep(10000), { ["no-store"] = true } },
    { ("a1,b2,"):rep(100), { ["no-store"] = true } },
  }
  for i, case in ipairs(cases) do
    spec.same(http.parse_cache_control(case[1]), case[2], "header " .. i)
  end
  spec.same(http.parse_cache_control(nil), {})
end)

spec.test("9111 1.2.2, 4.2.1: what is no number of seconds is 0, and too large is 2^31", function()
  local cases = { ["60"] = 60, ["0"] = 0, ["007"] = 7, ["2147483648"] = 2147483648,
    ["99999999999999999999999"] = 2147483648, ["-1"] = 0, ["+1"] = 0, ["1.5"] = 0, ["1e3"] = 0,
    ["0x10"] = 0, [""] = 0, ["1 2"] = 0, ["soon"] = 0 }
  for text, wanted in pairs(cases) do
    spec.same(control.seconds(control.parse('max-age="' .. text .. '"'), "max-age"), wanted, text)
  end
  spec.same(control.seconds(control.parse "max-age", "max-age"), 0)
  spec.same(control.seconds({}, "max-age"), nil)
end)

spec.test("9111 5.2.2, 5861: Cache-Control is built, and mistakes raise", function()
  spec.same(http.cache_control { max_age = "15m", public = true }, "public, max-age=900")
  spec.same(http.cache_control { s_maxage = 1.9, max_age = 0, must_revalidate = true,
    no_transform = false }, "max-age=0, s-maxage=1, must-revalidate")
  spec.same(http.cache_control { max_age = "forever", immutable = true },
    "max-age=31536000, immutable")
  spec.same(http.cache_control { no_store = true }, "no-store")
  spec.raises("unknown option 'maxage', did you mean 'max_age'?", http.cache_control,
    { maxage = 1 })
  spec.raises("option 'max_age' must be a duration", http.cache_control, { max_age = "soon" })
  spec.raises("option 'max_age' must be a duration", http.cache_control, { max_age = -1 })
  spec.raises("option 'public' must be a boolean", http.cache_control, { public = 1 })
  spec.raises("a table of directives was expected", http.cache_control, "public")
end)

spec.test("5861: a rule's terms become max-age and the two windows after it", function()
  local cache = assert(perilune.open { ttl = "15m", stale = "1m", stale_if_error = "1d",
    log = false })
  local terms = cache:terms "page"
  spec.same(terms, { ttl = 900.0, stale = 60.0, stale_if_error = 86400.0, negative = 10.0 })
  spec.same(http.cache_control(http.of_terms(terms)),
    "max-age=900, stale-while-revalidate=60, stale-if-error=86400")
  spec.raises("string or integer expected", cache.terms, cache, {})
  cache:close()
end)

---------------------------------------------------------------------------------------------------
-- entity tags and conditions (9110, 8.8.3 and 13)

spec.test("9110 8.8.3: tags are made of bytes: strong, or weak", function()
  local tag = http.etag "body"
  spec.same(tag:match '^"%x+"$', tag)
  spec.same(#tag, 34)
  spec.same(http.etag "body", tag)
  spec.same(http.etag("body", true), "W/" .. tag)
  assert(http.etag "Body" ~= tag)
  spec.raises("a string was expected", http.etag, nil)
  spec.same(perilune.hash "", "99aa06d3014798d86001c324468d497f") -- XXH3's own, in every process
  spec.raises("string expected", perilune.hash, 7)
end)

spec.test("9110 8.8.3.2: how tags compare", function()
  local cases = { -- strong, weak
    { 'W/"1"', 'W/"1"', false, true }, { 'W/"1"', 'W/"2"', false, false },
    { 'W/"1"', '"1"', false, true }, { '"1"', '"1"', true, true }, { "1", "1", false, false },
    { '"1', '"1', false, false }, { 'w/"1"', '"1"', false, false }, { '""', '""', true, true },
    { nil, nil, false, false },
  }
  for i = 1, 9 do
    local a, b, strong, weak = cases[i][1], cases[i][2], cases[i][3], cases[i][4]
    spec.same(etags.same_strong(a, b), strong, "strong " .. i)
    spec.same(etags.same_weak(a, b), weak, "weak " .. i)
  end
end)

local A, LATER, EARLIER = '"a"', http.date(NOW + 60), http.date(NOW - 60)

spec.test("9110 13.2.2: conditions are judged in their order, by method", function()
  local none_match, match = "if-none-match", "if-match"
  local modified, unmodified = "if-modified-since", "if-unmodified-since"
  local cases = {
    -- section, method, fields, wanted, current tag (default "a")
    { "13.1.2", "GET", { [none_match] = A }, 304 },
    { "13.1.2", "HEAD", { [none_match] = A }, 304 },
    { "13.1.2", "PUT", { [none_match] = A }, 412 },
    { "13.1.2", "GET", { [none_match] = '"b"' } },
    { "13.1.2", "GET", { [none_match] = '"b", W/"a" ,"c"' }, 304 },
    { "13.1.2", "GET", { [none_match] = { '"b"', A } }, 304 },
    { "13.1.2", "GET", { [none_match] = "*" }, 304 },
    { "13.1.2", "PUT", { [none_match] = "*" }, 412 },
    { "13.1.2", "GET", { [none_match] = A }, 304, 'W/"a"' },
    { "13.1.2", "GET", { [none_match] = 'W/"a"' }, 304 },
    { "13.1.2 unquoted", "GET", { [none_match] = "a" } },
    { "13.1.2 broken list", "GET", { [none_match] = '"a" "b"' } },
    { "13.1.2 broken list", "GET", { [none_match] = '"a", b' } },
    { "13.1.2 star in a list", "GET", { [none_match] = '*, "a"' } },
    { "13.1.2 a comma in a tag", "GET", { [none_match] = '"a,b"' }, 304, '"a,b"' },
    { "13.1.2 too long", "GET", { [none_match] = ('"x",'):rep(10000) .. A } },
    { "13.1.1", "GET", { [match] = A } },
    { "13.1.1", "PUT", { [match] = '"b", "a"' } },
    { "13.1.1", "PUT", { [match] = '"b"' }, 412 },
    { "13.1.1", "PUT", { [match] = "*" } },
    { "13.1.1 weak never fits", "PUT", { [match] = 'W/"a"' }, 412 },
    { "13.1.1 weak never fits", "PUT", { [match] = 'W/"a"' }, 412, 'W/"a"' },
    { "13.1.1 broken", "PUT", { [match] = "a" }, 412 },
    { "13.1.3", "GET", { [modified] = http.date(NOW) }, 304 },
    { "13.1.3", "GET", { [modified] = LATER }, 304 },
    { "13.1.3", "GET", { [modified] = EARLIER } },
    { "13.1.3", "POST", { [modified] = LATER } },
    { "13.1.3 no date", "GET", { [modified] = "yesterday" } },
    { "13.1.3 two dates", "GET", { [modified] = { LATER, LATER } } },
    { "13.1.4", "PUT", { [unmodified] = EARLIER }, 412 },
    { "13.1.4", "PUT", { [unmodified] = LATER } },
    { "13.1.4 no date", "PUT", { [unmodified] = "never" } },
    { "13.2.2 step 1 before 2", "PUT", { [match] = A, [unmodified] = EARLIER } },
    { "13.2.2 step 1 before 3", "PUT", { [match] = '"b"', [none_match] = '"b"' }, 412 },
    { "13.2.2 step 2 before 3", "GET", { [unmodified] = EARLIER, [none_match] = A }, 412 },
    { "13.2.2 step 1, then 3", "GET", { [match] = A, [none_match] = A }, 304 },
    { "13.2.2 step 3 before 4", "GET", { [none_match] = '"b"', [modified] = LATER } },
    { "13.2.2 step 3 before 4", "GET", { [none_match] = A, [modified] = EARLIER }, 304 },
    { "13.2.2 none", "GET", {} },
  }
  for i, case in ipairs(cases) do
    local current = { etag = case[5] or A, last_modified = NOW }
    spec.same(http.evaluate(case[2], case[3], current, NOW), case[4],
      ("case %d, section %s"):format(i, case[1]))
  end
  local nothing = { exists = false }
  spec.same(http.evaluate("PUT", { [match] = "*" }, nothing), 412, "13.1.1 nothing there")
  spec.same(http.evaluate("PUT", { [none_match] = "*" }, nothing), nil, "13.1.2 nothing there")
  spec.same(http.evaluate("PUT", { [match] = "*" }, {}), nil, "13.1.1 something without a tag")
end)

---------------------------------------------------------------------------------------------------
-- storing (9111, 3 and 4.2)

local function judge(case)
  local request = { method = "GET", path = "/", headers = case.request or {} }
  return storing.judge(request, case.status or 200, fields.copy(case[2]), options_of(case.options),
    case.terms, NOW, case.delay or 0)
end

local TERMS = { ttl = 100, stale = 10, stale_if_error = 20, negative = 5 }
local DATE = http.date(NOW)
local AUTHORIZED = { authorization = "Basic eDp5" }

spec.test("9111 3: what may be stored, and for how long it is fresh", function()
  local cases = {
    -- section, fields, wanted: ttl, or why it must not be stored
    { "4.2.1", { ["cache-control"] = "max-age=60" }, 60 },
    { "4.2.1", { ["cache-control"] = "max-age=60, s-maxage=10" }, 10 },
    { "4.2.1 of a private cache", { ["cache-control"] = "max-age=60, s-maxage=10" }, 60,
      options = { shared = false } },
    { "5.3", { expires = LATER, date = DATE }, 60 },
    { "5.3", { expires = LATER, date = DATE, ["cache-control"] = "max-age=5" }, 5 },
    { "5.3 in the past", { expires = EARLIER, date = DATE }, 0 },
    { "5.3 as 0", { expires = "0", date = DATE }, 0 },
    { "5.3 no date", { expires = "soon" }, 0 },
    { "5.3 twice", { expires = { LATER, LATER } }, 0 },
    { "5.3 without Date", { expires = LATER }, 60 },
    { "4.2.1 invalid", { ["cache-control"] = "max-age=many" }, 0 },
    { "4.2.1 invalid, terms at hand", { ["cache-control"] = "max-age=many" }, 0, terms = TERMS },
    { "4.2.1 said twice", { ["cache-control"] = "max-age=60, max-age=61" }, 0 },
    { "4.2.1 said twice", { ["Cache-Control"] = { "max-age=60", "max-age=0" } }, 0 },
    { "4.2.3 Age", { ["cache-control"] = "max-age=60", age = "20" }, 40 },
    { "4.2.3 Age past all", { ["cache-control"] = "max-age=60", age = "100" }, 0 },
    { "4.2.3 Age not a number", { ["cache-control"] = "max-age=60", age = "old" }, 60 },
    { "4.2.3 several Ages", { ["cache-control"] = "max-age=60", age = { "10", "20" } }, 40 },
    { "4.2.3 by Date", { ["cache-control"] = "max-age=100", date = EARLIER }, 40 },
    { "4.2.3 Date ahead", { ["cache-control"] = "max-age=100", date = LATER }, 100 },
    { "4.2.3 delay", { ["cache-control"] = "max-age=60", age = "5", date = DATE }, 52,
      delay = 3 },
    { "4.2.2 unasked", { ["last-modified"] = EARLIER }, "no-terms" },
    { "4.2.2 asked", { ["last-modified"] = http.date(NOW - 1000), date = DATE }, 100,
      options = { heuristic = true } },
    { "4.2.2 a day at most", { ["last-modified"] = "Sun, 06 Nov 1994 08:49:37 GMT" }, 86400,
      options = { heuristic = 0.5 } },
    { "4.2.2 without a date", {}, "no-terms", options = { heuristic = true } },
    { "3 says nothing", {}, "no-terms" },
    { "3 the program says", {}, 100, terms = TERMS },
    { "3 the program says, 404", {}, 5, terms = TERMS, status = 404 },
    { "3 500 by default", {}, "status", terms = TERMS, status = 500 },
    { "3 302 by default", {}, "status", terms = TERMS, status = 302 },
    { "3 302 explicitly", { ["cache-control"] = "max-age=60" }, 60, status = 302 },
    { "3 500 explicitly", { ["cache-control"] = "max-age=60" }, "status", status = 500 },
    { "3 only those of the options", { ["cache-control"] = "max-age=60" }, "status",
      status = 404, options = { statuses = { 200 } } },
    { "3.3 206", { ["cache-control"] = "max-age=60" }, "status", status = 206 },
    { "5.2.2.5", { ["cache-control"] = "no-store, max-age=60" }, "no-store" },
    { "5.2.2.5 damaged", { ["cache-control"] = "no-store=x;y, max-age=60" }, "no-store" },
    { "5.2.2.5 far off", { ["cache-control"] = ("x,"):rep(5000) .. "max-age=60" }, "no-store" },
    { "5.2.2.7", { ["cache-control"] = "private, max-age=60" }, "private" },
    { "5.2.2.7 with its line's end", { ["cache-control"] = "private\r" }, "private",
      terms = TERMS },
    { "5.2.2.7 with names", { ["cache-control"] = 'private="a", max-age=60' }, "private" },
    { "5.2.2.7 in a private cache", { ["cache-control"] = "private, max-age=60" }, 60,
      options = { shared = false } },
    { "5.2.2.4", { ["cache-control"] = "no-cache, max-age=60", etag = A }, 0 },
    { "4.1", { ["cache-control"] = "max-age=60", vary = "*" }, "vary" },
    { "4.1 among others", { ["cache-control"] = "max-age=60", vary = { "a", "b, *" } }, "vary" },
    { "7.3 Set-Cookie", { ["cache-control"] = "max-age=60", ["Set-Cookie"] = "id=1" },
      "set-cookie" },
    { "7.3 Set-Cookie, public", { ["cache-control"] = "public, max-age=60",
      ["set-cookie"] = { "a=1", "b=2" } }, "set-cookie" },
    { "7.3 stripped", { ["cache-control"] = "max-age=60", ["set-cookie"] = "id=1" }, 60,
      options = { cookies = "strip" } },
    { "3.5", { ["cache-control"] = "max-age=60" }, "authorization", request = AUTHORIZED },
    { "3.5 public", { ["cache-control"] = "public, max-age=60" }, 60, request = AUTHORIZED },
    { "3.5 s-maxage", { ["cache-control"] = "s-maxage=60" }, 60, request = AUTHORIZED },
    { "3.5 s-maxage that is none", { ["cache-control"] = "s-maxage=x, stale-while-revalidate=9" },
      "authorization", request = AUTHORIZED },
    { "3.5 must-revalidate", { ["cache-control"] = "must-revalidate, max-age=60" }, 60,
      request = AUTHORIZED },
    { "3.5 in a private cache", { ["cache-control"] = "max-age=60" }, 60, request = AUTHORIZED,
      options = { shared = false } },
    { "9213", { ["cache-control"] = "no-store", ["cdn-cache-control"] = "max-age=60" }, 60,
      options = { targeted = { "CDN-Cache-Control" } } },
    { "9213 empty", { ["cache-control"] = "private", ["cdn-cache-control"] = "" }, "private",
      options = { targeted = { "CDN-Cache-Control" } }, terms = TERMS },
    { "9213 beside Expires", { expires = LATER, ["cdn-cache-control"] = "must-revalidate" },
      "no-terms", options = { targeted = { "CDN-Cache-Control" } } },
    { "9213 not asked for", { ["cache-control"] = "no-store",
      ["cdn-cache-control"] = "max-age=60" }, "no-store" },
  }
  for i, case in ipairs(cases) do
    local judged, why = judge(case)
    spec.same(judged and judged.ttl or why, case[3], ("case %d, section %s"):format(i, case[1]))
  end
end)

spec.test("5861 3 and 4, 9111 4.2.4: how long it may be served after that", function()
  local cases = { -- section, Cache-Control, while it is revalidated, on errors
    { "5861", "max-age=1", 0, 0 },
    { "5861", "max-age=1, stale-while-revalidate=30, stale-if-error=60", 30, 60 },
    { "4.2.4 as the program says", "max-age=1", 10, 20, terms = TERMS },
    { "5861 over the program", "max-age=1, stale-if-error=0", 10, 0, terms = TERMS },
    { "5861 no number", "max-age=1, stale-while-revalidate=-1", 0, 20, terms = TERMS },
    { "5.2.2.2", "max-age=1, must-revalidate, stale-if-error=60", 0, 0, terms = TERMS },
    { "5.2.2.8", "max-age=1, proxy-revalidate", 0, 0, terms = TERMS },
    { "5.2.2.8 in a private cache", "max-age=1, proxy-revalidate", 10, 20, terms = TERMS,
      options = { shared = false } },
    { "5.2.2.10", "s-maxage=1", 0, 0, terms = TERMS },
    { "5.2.2.10 with windows", "s-maxage=1, stale-while-revalidate=30", 30, 0, terms = TERMS },
    { "5.2.2.4", "no-cache, stale-if-error=60", 0, 0, terms = TERMS },
  }
  for i, case in ipairs(cases) do
    local judged = judge { "", { ["cache-control"] = case[2] }, terms = case.terms,
      options = case.options }
    spec.same({ judged.swr, judged.sie }, { case[3], case[4] },
      ("case %d, section %s"):format(i, case[1]))
  end
end)

---------------------------------------------------------------------------------------------------
-- fields, keys, surrogate keys

spec.test("fields lose what cannot stand in a message, and what is the connection's", function()
  spec.same(fields.copy { ["X-A"] = " 1\t", ["bad name"] = "1", ["x-b"] = "a\r\nx: y",
    ["x-c"] = "a\0", [7] = "x", ["x-d"] = { "1", "2\n", "3" }, ["x-e"] = { "one" }, ["x-f"] = {},
    connection = "close, X-G", ["x-g"] = "gone", te = "x", ["transfer-encoding"] = "chunked",
    ["keep-alive"] = "5", ["content-length"] = 12, ["x-h"] = print },
    { ["x-a"] = "1", ["x-b"] = "a  x: y", ["x-c"] = "a", ["x-d"] = { "1", "2", "3" },
      ["x-e"] = "one", ["content-length"] = "12" })
  spec.same(#fields.copy { ["Cache-Control"] = "max-age=1", ["cache-control"] = "no-store" }
    ["cache-control"], 2)
  spec.same(fields.copy { connection = "cache-control", ["cache-control"] = "no-store" },
    { ["cache-control"] = "no-store" })
  spec.same(fields.copy(nil), {})
  local many = {}
  for i = 1, 1000 do
    many["x-" .. i] = "1"
  end
  spec.same(fields.copy(many), many) -- one that is left out might be what forbids to share it
  local list = {}
  for i = 1, 1000 do
    list[i] = "accept"
  end
  list[1001] = "cookie"
  spec.same(fields.copy { vary = list }, { vary = list })
  local blanks = (" "):rep(1000000) -- in time
  spec.same(fields.copy { a = blanks .. "x" .. blanks .. "y" .. blanks, b = blanks },
    { a = "x" .. blanks .. "y", b = "" })
  spec.same(fields.copy "x", {})
end)

spec.test("9111 2: a key is of scheme, host and target, and of nothing else", function()
  local function key(path, host, scheme)
    return variants.first({ path = path, host = host, scheme = scheme, headers = {} }, "http:")
  end
  spec.same(key("/a?b=1", "Example.org:80"), "http:example.org:80/a?b=1")
  spec.same(key("/a", "example.org", "HTTPS"), "http:https://example.org/a")
  spec.same(key("/b/c", "a"), "http:a/b/c")
  spec.same(key("/c", "a/b"), "http:a%2Fb/c")
  spec.same(key("/c", "a%2Fb"), "http:a%252fb/c")
  local long = key("/" .. ("x"):rep(5000), "h")
  spec.same(long:match "^http:#%x+$", long)
  spec.same(variants.first({ path = "/", headers = { host = "h" } }, "p:"), "p:h/")
  for _, path in ipairs { "*", "", "a", "/a#b", "/a b", "/\0", "/\xff", "http://x/" } do
    spec.same(variants.has_key { path = path }, false, path)
  end
end)

spec.test("9111 4.1: values that differ make keys that differ", function()
  local function values(headers, normalize)
    return variants.values({ headers = headers }, { "a", "b" }, normalize)
  end
  local seen = {}
  for _, headers in ipairs { {}, { a = "" }, { b = "" }, { a = "1" }, { b = "1" },
    { a = "1", b = "" }, { a = "", b = "1" }, { a = "-" }, { a = "1:x" }, { a = "A" } } do
    local text = values(headers)
    spec.same(seen[text], nil, text)
    seen[text] = true
  end
  spec.same(values { a = { "x", "y" } }, values { a = "x, y" })
  spec.same(values { a = "x , y" } ~= values { a = "x,y" }, true) -- two names, to who knows
  local function accepted(value)
    return variants.values({ headers = { ["accept-encoding"] = value } }, { "accept-encoding" })
  end
  spec.same(accepted "x ,  y", accepted { "x", "y" })
  local blanks = (" "):rep(1000000)
  spec.same(#accepted("x" .. blanks .. "y"), #blanks + 2 + #"1000002:") -- in time
  spec.same(accepted '"x ,y"' ~= accepted '"x,y"', true)
  spec.same(values({ a = "X" }, { a = string.lower }), values { a = "x" })
  spec.same(variants.names "Accept-Encoding, ORIGIN,origin ,", { "accept-encoding", "origin" })
  spec.same(variants.names(nil), {})
  local many = {}
  for i = 1, 17 do
    many[i] = "x" .. i
  end
  spec.same(variants.names(many), nil)
end)

spec.test("tags become surrogate keys and back, within bounds", function()
  spec.same(http.surrogate_keys("surrogate-key", { "a", "user:7", "b c" }), "a user:7 b%20c")
  spec.same(http.surrogate_keys("Cache-Tag", { "a", "b,c", 'd"\\%\r\n' }),
    "a,b%2Cc,d%22%5C%25%0D%0A")
  for _, name in ipairs { "surrogate-key", "cache-tag", "xkey" } do
    local tags = { "plain", "with blank", "a,b", "100%", "%2C", "\xc3\xa4\0\x7f", "[x]" }
    spec.same(http.read_surrogate_keys(name, http.surrogate_keys(name, tags)), tags, name)
  end
  spec.same(http.read_surrogate_keys("surrogate-key", { " a b", "b a  c " }), { "a", "b", "c" })
  spec.same(http.read_surrogate_keys("surrogate-key", nil), {})
  local blanks = (" "):rep(1000000)
  spec.same(http.read_surrogate_keys("cache-tag", "a" .. blanks .. "b ,c"), -- in time
    { "a" .. blanks .. "b", "c" })
  spec.returns({ spec.null, "tag 1 is over 1024 bytes as a surrogate key", "too_big" },
    http.surrogate_keys("xkey", { ("x"):rep(1025) }))
  local many = {}
  for i = 1, 64 do
    many[i] = ("x"):rep(300)
  end
  spec.same(select(3, http.surrogate_keys("xkey", many)), "too_big")
  spec.raises("a tag is a string", http.surrogate_keys, "xkey", { 7 })
end)

spec.test("what is made void is told in as many requests as the bounds ask for", function()
  local requests = http.purges({ "a", "b", "c d", "e" }, { field = "cache-tag", most_keys = 3 })
  spec.same(requests, {
    { tags = { "a", "b", "c d" }, keys = { "a", "b", "c%20d" },
      headers = { ["cache-tag"] = "a,b,c%20d" } },
    { tags = { "e" }, keys = { "e" }, headers = { ["cache-tag"] = "e" } },
  })
  requests = http.purges({ "aaa", "bbb", "ccc" }, { most_bytes = 7 })
  spec.same({ requests[1].headers["surrogate-key"], requests[2].headers["surrogate-key"] },
    { "aaa bbb", "ccc" })
  spec.same(http.purges {}, {})
  spec.raises("did you mean 'field'?", http.purges, {}, { feild = "x" })
end)

spec.test("a hook is called when something was made void, with what it was", function()
  local cache = assert(perilune.open { log = false })
  local heard = {}
  local purging = http.with_purge(cache, function(void)
    heard[#heard + 1] = void
  end)
  purging:set("k", "v", { tags = { "t" } })
  spec.same(purging:get "k", "v")
  spec.same(heard, {})
  spec.returns({ true }, purging:invalidate_tag "t")
  spec.same(cache:get "k", nil)
  purging:delete "k"
  purging:delete_many { "a", "b" }
  purging:expire "k"
  purging:invalidate_prefix "p"
  purging:invalidate_pattern "p*"
  purging:clear()
  spec.same(heard, { { tags = { "t" } }, { keys = { "k" } }, { keys = { "a", "b" } },
    { keys = { "k" } }, { prefix = "p" }, { pattern = "p*" }, { all = true } })
  spec.raises("a function was expected", http.with_purge, cache)
  cache:close()
end)

spec.finish()
