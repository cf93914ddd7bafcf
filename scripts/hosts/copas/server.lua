-- SPDX-License-Identifier: MIT
--
-- server.lua - an HTTP server on copas that keeps what a slow one answers.
--
--     lua5.4 server.lua [PORT [SOURCE [REDIS]]]      8080 127.0.0.1:8000 redis://localhost
--
-- GET /PATH answers what the source has there, and says in X-Cache where it came from; DELETE /PATH
-- forgets it, in every process. Who asks for what has to be loaded waits, and nobody else.

local copas = require "copas"
local socket = require "socket"
local perilune = require "perilune"
local adapter = require "perilune.copas"

local port = tonumber(arg[1] or 8080)
local source_host, source_port = (arg[2] or "127.0.0.1:8000"):match "^(.*):(%d+)$"

local cache = adapter.wrap(assert(perilune.open {
    redis = arg[3] or "redis://localhost", ns = "pages", ttl = "1m", load_timeout = "5s",
}))

-- The loader: it stops the thread of the request that it loads for, by copas's own functions.
local function fetch(path)
    local source = socket.tcp()
    source:settimeout(0)
    local connected, err = copas.connect(source, source_host, tonumber(source_port))
    if not connected and err ~= "already connected" then -- copas 1 takes it for an error
        source:close()
        return nil, err
    end
    copas.send(source, ("GET %s HTTP/1.0\r\n\r\n"):format(path))
    local whole, _, part = copas.receive(source, "*a")
    local text = whole or part -- if the end comes by itself, what came before is the part
    source:close()
    local status = text:match "^HTTP/%S+ (%d+)"
    if status == "200" then
        return text:match "\r\n\r\n(.*)$"
    elseif status == "404" then
        return nil -- which is kept as well
    end
    return nil, ("the source answered with %s"):format(status)
end

local function answer(method, path)
    if method == "DELETE" then
        local done, err, code = cache:delete(path)
        return done and "204 No Content" or "503 Service Unavailable", err or "", code or "deleted"
    end
    local body, err, how = cache:get(path, fetch)
    if body then
        return "200 OK", body, how
    elseif how == "negative" then
        return "404 Not Found", "nothing is there\n", how
    end
    io.stderr:write(err, "\n")
    return how == "timeout" and "504 Gateway Timeout" or "502 Bad Gateway", "no answer\n", how
end

local function serve(connection)
    local method, path = (copas.receive(connection, "*l") or ""):match "^(%u+) (%S+)"
    repeat
        local line = copas.receive(connection, "*l")
    until not line or line == ""
    if path then
        local status, body, how = answer(method, path)
        copas.send(connection, ("HTTP/1.1 %s\r\nX-Cache: %s\r\nContent-Length: %d\r\n"
            .. "Connection: close\r\n\r\n%s"):format(status, how, #body, body))
    end
    connection:close() -- copas 1 by itself closes only what the thread waited for last
end

copas.addserver(assert(socket.bind("127.0.0.1", port)), serve)
copas.loop(0.1) -- so that the end of a timeout is noticed: copas 1 has no clock of its own
