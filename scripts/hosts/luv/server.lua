-- SPDX-License-Identifier: MIT
--
-- server.lua - an HTTP server on luv that keeps what a slow one answers.
--
--     lua5.4 server.lua [PORT [SOURCE [REDIS]]]      8080 127.0.0.1:8000 redis://localhost
--
-- GET /PATH answers what the source has there, and says in X-Cache where it came from; DELETE /PATH
-- forgets it, in every process. Who asks for what has to be loaded waits, and nobody else.

local uv = require "luv"
local perilune = require "perilune"
local adapter = require "perilune.luv"

local port = tonumber(arg[1] or 8080)
local source_host, source_port = (arg[2] or "127.0.0.1:8000"):match "^(.*):(%d+)$"

local cache = adapter.wrap(assert(perilune.open {
    redis = arg[3] or "redis://localhost", ns = "pages", ttl = "1m", load_timeout = "5s",
}))

-- Goes on with a coroutine; where it raises, the loop is told.
local function go_on(thread, ...)
    local good, message = coroutine.resume(thread, ...)
    if not good then
        error(debug.traceback(thread, tostring(message)), 0)
    end
end

-- Stops the coroutine until the stream has sent what is_whole() wants, or its end.
local function read(stream, is_whole)
    local thread, text = coroutine.running(), ""
    stream:read_start(function(_, chunk)
        text = text .. (chunk or "")
        if not chunk or is_whole(text) then
            stream:read_stop()
            go_on(thread)
        end
    end)
    coroutine.yield()
    return text
end

local function connect(host, at_port)
    local thread, stream = coroutine.running(), uv.new_tcp()
    stream:connect(host, at_port, function(err)
        go_on(thread, err)
    end)
    local err = coroutine.yield()
    if err then
        stream:close()
        return nil, err
    end
    return stream
end

-- The loader: it stops the coroutine of the request that it loads for, by functions as above.
local function fetch(path)
    local source, err = connect(source_host, tonumber(source_port))
    if not source then
        return nil, err
    end
    source:write(("GET %s HTTP/1.0\r\n\r\n"):format(path))
    local text = read(source, function() -- to its end
        return false
    end)
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
    local method, path = read(connection, function(text)
        return text:find("\r\n\r\n", 1, true)
    end):match "^(%u+) (%S+)"
    if not path then
        return connection:close()
    end
    local status, body, how = answer(method, path)
    connection:write(("HTTP/1.1 %s\r\nX-Cache: %s\r\nContent-Length: %d\r\n"
        .. "Connection: close\r\n\r\n%s"):format(status, how, #body, body), function()
        connection:close()
    end)
end

local server = uv.new_tcp()
assert(server:bind("127.0.0.1", port))
assert(server:listen(128, function(err)
    assert(not err, err)
    local connection = uv.new_tcp()
    server:accept(connection)
    coroutine.wrap(serve)(connection)
end))
uv.run()
