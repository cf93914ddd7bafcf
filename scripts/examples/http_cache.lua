-- SPDX-License-Identifier: MIT
--
-- http_cache.lua - a site behind perilune.http: pages that are loaded once, a client that has them
-- already, an upstream that goes away, and pages made void by their tags, here and in a CDN.
--
-- usage: perilune run http_cache.lua [REDIS_URL]       without one the cache is this process's own

local perilune = require "perilune"
local http = require "perilune.http"

local cache = assert(perilune.open { redis = arg[1], ns = "examples", stale = "1h", log = false })

-- The upstream: in a gateway a request to another server, here a function.
local is_away, n_fetched = false, 0
local function fetch(request)
    n_fetched = n_fetched + 1
    if is_away then
        return nil, "connection refused"
    end
    local headers = {
        ["content-type"] = "text/plain",
        ["cache-control"] = "max-age=60, stale-while-revalidate=30, stale-if-error=3600",
        ["surrogate-key"] = "pages page:" .. request.path:sub(2),
    }
    return 200, headers, "this is " .. request.path .. "\n"
end

-- One table of options for all requests; it is checked once.
local options = { tag_fields = { "surrogate-key" }, surrogate = "surrogate-key" }

local function get(path, headers)
    local status, fields, body, how = http.serve(cache,
        { method = "GET", path = path, host = "example.org", headers = headers or {} }, fetch,
        options)
    print(("GET %s -> %d, %d bytes, %s"):format(path, status, #body, how))
    return fields
end

cache:invalidate_tag "pages" -- of an earlier run
local fields = get "/tea"
get "/tea"
get("/tea", { ["if-none-match"] = fields.etag }) -- a browser that has it
print("told to the CDN: " .. fields["surrogate-key"])

-- Past its time, with the upstream away: the page is served for an hour, as it said itself.
is_away = true
assert(cache:expire "http:example.org/tea")
get "/tea"
is_away = false

-- A change: the pages' tag goes, here and, by a hook, in whatever is in front.
local purging = http.with_purge(cache, function(void)
    for _, purge in ipairs(http.purges(void.tags or {})) do
        print("the CDN is sent a purge of: " .. purge.headers["surrogate-key"])
    end
end)
purging:invalidate_tag "page:tea"
get "/tea"
print(("%d requests reached the upstream"):format(n_fetched))
cache:close()
