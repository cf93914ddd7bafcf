-- SPDX-License-Identifier: MIT
--
-- server.lua - an HTTP server on lua-http that keeps what a slow one answers.
--
--     lua5.4 server.lua [PORT [SOURCE [REDIS]]]      8080 127.0.0.1:8000 redis://localhost
--
-- GET /PATH answers what the source has there, and says in Cache-Status where it came from; a
-- client that has it already is told so. DELETE /PATH forgets it, in every process. Who asks for
-- what has to be loaded waits, and nobody else.

local request = require "http.request"
local http_server = require "http.server"
local perilune = require "perilune"
local adapter = require "perilune.cqueues" -- lua-http runs on cqueues
local serve = require "perilune.http.hosts.lua_http"

local source = "http://" .. (arg[2] or "127.0.0.1:8000")

local cache = adapter.wrap(assert(perilune.open {
    redis = arg[3] or "redis://localhost", ns = "pages", ttl = "1m", load_timeout = "5s",
}))

local options = {
    default = "rule", -- what does not say how long it is fresh is so for the cache's ttl
    key = function(asked) -- else it has the host in it, too
        return asked.path
    end,
    cache_status = "pages",
}

local function failed(why)
    io.stderr:write(why, "\n")
    return nil, why -- 502, and it is not kept
end

-- It stops the coroutine of the request that it loads for, as lua-http itself does.
local function fetch(asked)
    if asked.method == "DELETE" then
        return 204 -- what is kept of the path goes with that
    end
    local question = request.new_from_uri(source .. asked.path)
    for _, name in ipairs { "if-none-match", "if-modified-since" } do -- of what is kept of it
        if asked.headers[name] then
            question.headers:append(name, asked.headers[name])
        end
    end
    local answer, stream = question:go(5)
    if not answer then
        return failed(tostring(stream))
    end
    local body, err = stream:get_body_as_string(5)
    stream:shutdown()
    local status = tonumber(answer:get ":status")
    if not body then
        return failed(tostring(err))
    elseif status >= 500 then
        return failed("the source answered with " .. status)
    end
    local headers = {}
    for name, value in answer:each() do
        if name:sub(1, 1) ~= ":" and name ~= "connection" then
            headers[name] = value
        end
    end
    return status, headers, body
end

local server = assert(http_server.listen {
    host = "127.0.0.1",
    port = tonumber(arg[1] or 8080),
    tls = false,
    onstream = function(_, stream)
        serve(cache, stream, fetch, options)
    end,
    onerror = function(_, _, _, err)
        io.stderr:write(tostring(err), "\n")
    end,
})
assert(server:listen())
assert(server:loop())
