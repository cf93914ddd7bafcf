-- SPDX-License-Identifier: MIT
--
-- server.lua - an HTTP server on cqueues that keeps what a slow one answers.
--
--     lua5.4 server.lua [PORT [SOURCE [REDIS]]]      8080 127.0.0.1:8000 redis://localhost
--
-- GET /PATH answers what the source has there, and says in X-Cache where it came from; DELETE /PATH
-- forgets it, in every process. Who asks for what has to be loaded waits, and nobody else.

local cqueues = require "cqueues"
local socket = require "cqueues.socket"
local perilune = require "perilune"
local adapter = require "perilune.cqueues"

local port = tonumber(arg[1] or 8080)
local source_host, source_port = (arg[2] or "127.0.0.1:8000"):match "^(.*):(%d+)$"

local cache = adapter.wrap(assert(perilune.open {
    redis = arg[3] or "redis://localhost", ns = "pages", ttl = "1m", load_timeout = "5s",
}))

-- The loader: it stops the coroutine of the request that it loads for, as reading a socket does.
local function fetch(path)
    local source = assert(socket.connect(source_host, tonumber(source_port)))
    source:settimeout(5)
    source:setmode("b", "bf")
    assert(source:write("GET ", path, " HTTP/1.0\r\n\r\n"))
    assert(source:flush())
    local status = tonumber(assert(source:read "*l"):match "^HTTP/%S+ (%d+)")
    repeat
        local line = source:read "*l"
    until not line or line == "\r"
    local body = source:read "*a"
    source:close()
    if status == 200 then
        return body
    elseif status == 404 then
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
    connection:setmode("b", "bf")
    connection:settimeout(10)
    local method, path = (connection:read "*l" or ""):match "^(%u+) (%S+)"
    repeat
        local line = connection:read "*l"
    until not line or line == "\r"
    if path then
        local status, body, how = answer(method, path)
        connection:write(("HTTP/1.1 %s\r\nX-Cache: %s\r\nContent-Length: %d\r\n"
            .. "Connection: close\r\n\r\n%s"):format(status, how, #body, body))
        connection:flush()
    end
    connection:close()
end

local loop = cqueues.new()
local server = assert(socket.listen { host = "127.0.0.1", port = port, reuseaddr = true })

loop:wrap(function()
    for connection in server:clients() do
        loop:wrap(function()
            local good, message = pcall(serve, connection)
            if not good then
                io.stderr:write(tostring(message), "\n")
                connection:close()
            end
        end)
    end
end)
assert(loop:loop())
