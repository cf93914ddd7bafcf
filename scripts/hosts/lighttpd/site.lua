-- SPDX-License-Identifier: MIT
--
-- site.lua - GET /articles/NAME, for lighttpd's mod_magnet.
--
-- While this runs the server's process does nothing else, so nothing here waits for long: a value
-- in L1 takes a microsecond, one in Redis a round trip, and for a load there are 50 ms. The loader
-- is the policy's, runs in a thread of the cache's own, and goes on when this has answered. Who
-- comes too early is asked to come again, but an article that is merely old is served as it is.
local perilune = require "perilune"
local http = require "perilune.http"

-- Run once in each worker, at the first request, that is after the fork. Globals of a script are
-- dropped after each request, fields of _G are not.
if not _G.articles then
    _G.articles = assert(perilune.open("articles", { -- any other script here finds it by its name
        redis = os.getenv "REDIS",
        policy = os.getenv "SITE" .. "/site_policy.lua",
        trusted = true, -- its loader reads files
        timeout = "50ms",
    }))
end

local request, answer = lighty.r.req_attr, lighty.r.resp_header
local name = request["uri.path"]:match "^/articles/([%w-]+)$"
if not name then
    return 404
end

local key = "article:" .. name
local body, _, how = _G.articles:get(key, { timeout = "50ms" })
answer["X-Cache"] = how
if body then
    -- what clients may keep, and for how long, is what the rule says of the key
    local tag, asked = http.etag(body), lighty.r.req_header
    answer["ETag"] = tag
    answer["Cache-Control"] = http.cache_control(http.of_terms(_G.articles:terms(key)))
    local conditions = { ["if-none-match"] = asked["If-None-Match"] }
    if http.evaluate(request["request.method"], conditions, { etag = tag }) == 304 then
        return 304 -- the client has it
    end
    answer["Content-Type"] = "text/html; charset=utf-8"
    lighty.r.resp_body.set(body)
    return 200
elseif how == "negative" then
    return 404
end
answer["Retry-After"] = "1" -- how: "timeout", or what the loader met
lighty.r.resp_body.set "Come again in a second.\n" -- without a body lighttpd drops the headers
return 503
