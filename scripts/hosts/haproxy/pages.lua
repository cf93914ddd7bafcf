-- SPDX-License-Identifier: MIT
--
-- pages.lua - the pages of a slow origin out of a cache, for HAProxy's Lua. See haproxy.cfg.
--
-- A page that the cache has is answered at once. For one that it has not, the request waits without
-- holding the others up: the loader speaks to the origin through HAProxy's own sockets. However
-- many ask for a page at once, the origin is asked for it once.
local perilune = require "perilune"

-- luacheck: read_globals core

-- By name: the states of all threads find the same cache.
local open = assert(perilune.open("pages", {
    redis = os.getenv "REDIS",
    ttl = "5m",
    negative = "10s",
    stale_if_error = "1h", -- while the origin is away
}))
local cache = require "perilune.haproxy".wrap(open)

-- Asks the origin; returns the page, nil where there is none, or nil and what went wrong.
local function load(path)
    local socket = core.tcp()
    socket:settimeout(10)
    local good, problem = socket:connect(os.getenv "ORIGIN")
    if good then
        good, problem = socket:send("GET " .. path .. " HTTP/1.0\r\nhost: origin\r\n\r\n")
    end
    local answer = good and socket:receive "*a" or ""
    socket:close()
    local status, body = answer:match "^HTTP/1%.%d (%d+).-\r\n\r\n(.*)$"
    if status == "200" then
        return body
    elseif status == "404" then
        return nil
    end
    return nil, "the origin: " .. (status or problem or "no answer")
end

local function send(applet, status, how, body)
    applet:set_status(status)
    applet:add_header("content-length", tostring(#body))
    applet:add_header("x-cache", how)
    applet:start_response()
    applet:send(body)
end

core.register_service("pages", "http", function(applet)
    local body, problem, how = cache:get(applet.path, load)
    if body then
        send(applet, 200, how, body)
    elseif how == "negative" then
        send(applet, 404, how, "no such page\n")
    else
        core.Warning("pages: " .. problem)
        send(applet, 503, how, "come again later\n")
    end
end)

-- What the cache does and how, for those who look after it.
core.register_service("cache", "http", function(applet)
    local stats = cache:stats()
    send(applet, 200, "status", ("mode %s\n%s"):format(stats.mode, cache:prometheus()))
end)

-- Whether a page is at hand: "l1", "stale", "negative" or "miss".
core.register_converters("held", function(path)
    return (select(3, open:peek(path)))
end)
