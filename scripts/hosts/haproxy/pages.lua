-- SPDX-License-Identifier: MIT
--
-- pages.lua - the pages of a slow origin out of a cache, for HAProxy's Lua. See haproxy.cfg.
--
-- A page that the cache has is answered at once, and to a client that has it already in a word. For
-- one that it has not, the request waits without holding the others up: the loader speaks to the
-- origin through HAProxy's own sockets. However many ask for a page at once, the origin is asked
-- once.
local perilune = require "perilune"
local serve = require "perilune.http.hosts.haproxy"

-- luacheck: read_globals core

-- By name: the states of all threads find the same cache.
local open = assert(perilune.open("pages", {
    redis = os.getenv "REDIS",
    ttl = "5m",
    negative = "10s",
    stale_if_error = "1h", -- while the origin is away
}))
local cache = require "perilune.haproxy".wrap(open)

local options = {
    default = "rule", -- pages whose origin does not say how long they are fresh are so for `ttl`
    key = function(request) -- else it has the host in it, too
        return request.path
    end,
    cache_status = "pages", -- tells clients where a page came from
}

-- Asks the origin; returns status, headers and body, or nil and what went wrong.
local function fetch(request)
    local socket = core.tcp()
    socket:settimeout(10)
    local good, problem = socket:connect(os.getenv "ORIGIN")
    if good then
        local lines = { request.method .. " " .. request.path .. " HTTP/1.0", "host: origin" }
        for _, name in ipairs { "if-none-match", "if-modified-since" } do -- of the page that it has
            local value = request.headers[name]
            lines[#lines + 1] = value and name .. ": " .. value
        end
        good, problem = socket:send(table.concat(lines, "\r\n") .. "\r\n\r\n")
    end
    local answer = good and socket:receive "*a" or ""
    socket:close()
    local status, head, body = answer:match "^HTTP/1%.%d (%d+)[^\r\n]*(.-)\r\n\r\n(.*)$"
    if not status then
        core.Warning("pages: the origin: " .. (problem or "no answer"))
        return nil, "the origin: " .. (problem or "no answer")
    end
    local headers = {}
    for name, value in head:gmatch "\r\n([%w-]+):[ \t]*([^\r\n]*)" do
        headers[name:lower()] = value
    end
    headers.connection = nil -- which is between HAProxy and the origin
    return tonumber(status), headers, body
end

core.register_service("pages", "http", function(applet)
    serve(cache, applet, fetch, options)
end)

-- What the cache does and how, for those who look after it.
core.register_service("cache", "http", function(applet)
    local body = ("mode %s\n%s"):format(cache:stats().mode, cache:prometheus())
    applet:set_status(200)
    applet:add_header("content-length", tostring(#body))
    applet:start_response()
    applet:send(body)
end)

-- Whether a page is at hand: "l1", "stale" or "miss".
core.register_converters("held", function(path)
    return (select(3, open:peek(path)))
end)
