-- SPDX-License-Identifier: MIT
--
-- reports.lua - GET /reports/NAME, for Apache's mod_lua. See apache.conf.
--
-- A Lua state lives for a request by default, so all that lasts is in the cache: opened by its name
-- it is the process's, and already running but for the first request. While a handler waits, its
-- thread (or process, with prefork) does nothing else; the others go on.
local perilune = require "perilune"

-- luacheck: globals report status, read_globals apache2

local function open()
    return assert(perilune.open("reports", {
        redis = os.getenv "REDIS",
        ttl = "5m",
        negative = "10s",
        stale_if_error = "1h", -- while the source is away
    }))
end

-- Has a report made, which may take its time: of all who ask one does this. Returns nil where there
-- is no such report; nil and what went wrong.
local function make(_, name)
    local body, status = require "socket.http".request(os.getenv "SOURCE" .. name)
    if status == 200 then
        return body
    elseif status == 404 then
        return nil
    end
    return nil, "the source: " .. status
end

function report(r)
    local name = r.uri:match "^/reports/(.*)$"
    local body, problem, how = open():get("report:" .. name, make, name)
    r.headers_out["X-Cache"] = how
    if body then
        r.content_type = "text/plain; charset=utf-8"
        r:write(body)
        return apache2.OK
    elseif how == "negative" then
        return 404
    end
    r:err("reports: " .. problem)
    return 503
end

-- For those who look after it.
function status(r)
    r.content_type = "text/plain; charset=utf-8"
    r:write(("mode %s\n%s"):format(open():stats().mode, open():prometheus()))
    return apache2.OK
end
