-- SPDX-License-Identifier: MIT
--
-- server.lua - an HTTP server on lua-http that keeps what a slow one answers.
--
--     lua5.4 server.lua [PORT [SOURCE [REDIS]]]      8080 127.0.0.1:8000 redis://localhost
--
-- GET /PATH answers what the source has there, and says in X-Cache where it came from; DELETE /PATH
-- forgets it, in every process. Who asks for what has to be loaded waits, and nobody else.

local headers = require "http.headers"
local request = require "http.request"
local http_server = require "http.server"
local perilune = require "perilune"
local adapter = require "perilune.cqueues" -- lua-http runs on cqueues

local source = "http://" .. (arg[2] or "127.0.0.1:8000")

local cache = adapter.wrap(assert(perilune.open {
    redis = arg[3] or "redis://localhost", ns = "pages", ttl = "1m", load_timeout = "5s",
}))

-- The loader: it stops the coroutine of the request that it loads for, as lua-http itself does.
local function fetch(path)
    local answer, stream = request.new_from_uri(source .. path):go(5)
    if not answer then
        return nil, tostring(stream)
    end
    local body, err = stream:get_body_as_string(5)
    stream:shutdown()
    local status = answer:get ":status"
    if status == "200" then
        return body, err
    elseif status == "404" then
        return nil -- which is kept as well
    end
    return nil, "the source answered with " .. status
end

local function answer(method, path)
    if method == "DELETE" then
        local done, err, code = cache:delete(path)
        return done and "204" or "503", err or "", code or "deleted"
    end
    local body, err, how = cache:get(path, fetch)
    if body then
        return "200", body, how
    elseif how == "negative" then
        return "404", "nothing is there\n", how
    end
    io.stderr:write(err, "\n")
    return how == "timeout" and "504" or "502", "no answer\n", how
end

local server = assert(http_server.listen {
    host = "127.0.0.1",
    port = tonumber(arg[1] or 8080),
    tls = false,
    onstream = function(_, stream)
        local asked = assert(stream:get_headers())
        local status, body, how = answer(asked:get ":method", asked:get ":path")
        local given = headers.new()
        given:append(":status", status)
        given:append("x-cache", how)
        if status ~= "204" then
            given:append("content-length", tostring(#body))
        end
        local has_body = #body > 0
        assert(stream:write_headers(given, not has_body))
        if has_body then
            assert(stream:write_chunk(body, true))
        end
    end,
    onerror = function(_, _, _, err)
        io.stderr:write(tostring(err), "\n")
    end,
})
assert(server:listen())
assert(server:loop())
