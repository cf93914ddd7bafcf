-- SPDX-License-Identifier: MIT
--
-- perilune/sql/drivers.lua - what LuaSQL (2.6) leaves to its users, for each database: connecting
-- with bounds of time, telling a lost connection from a refused statement, and types.
--
-- A driver has
--
--   module, make           LuaSQL's, and its function that makes an environment
--   connect(env, source, limits)   a connection, or nil, message; limits in milliseconds
--   is_alive(connection)   false: it is lost, whatever it was asked to do
--   is_escaping(connection)   a backslash in plain quotes is none: words.lua cuts in other places
--   begin                  the statement that begins a transaction that will write
--   is_remote              an idle connection may have been lost unnoticed
--   fails_whole(connection)   whether the statement that failed has undone its transaction, and
--                          with it what is still to come
--   converter(type)        what makes a value of the text that the driver gives; nil: it stays

local misuse = require "perilune.sql.misuse"

local drivers = {}

-- LuaSQL's message as one line, without what all of them begin with.
function drivers.clean(message)
    message = tostring(message):gsub("^LuaSQL: ", ""):gsub("\n%s*%^%s*$", ""):gsub("%s+$", "")
    return (message:gsub("%s*\n%s*", "; "))
end

-- What doubles, in a text, what would end it.
function drivers.escape_of(connection)
    return function(text)
        local escaped, message = connection:escape(text)
        return escaped, message and drivers.clean(message)
    end
end

-- Runs a statement that brings nothing. nil, message: it was refused.
local function run(connection, text)
    local result, message = connection:execute(text)
    if not result then
        return nil, message
    elseif type(result) ~= "number" then
        result:close()
    end
    return true
end

local function run_all(connection, texts)
    for _, text in ipairs(texts) do
        local done, message = run(connection, text)
        if not done then
            connection:close()
            return nil, message
        end
    end
    return connection
end

local function seconds(ms)
    return ("%d"):format(math.max(1, math.ceil(ms / 1000)))
end

---------------------------------------------------------------------------------------------------
-- SQLite

-- Its statements end by themselves; what they may wait for is another's lock. Types come right.
drivers.sqlite3 = {
    module = "luasql.sqlite3", make = "sqlite3",
    begin = "BEGIN IMMEDIATE", -- else two that read first and then write would refuse each other
    connect = function(environment, source, limits)
        local connection, message = environment:connect(source)
        return connection and run_all(connection, {
            ("PRAGMA busy_timeout = %d"):format(limits.timeout),
        }), message
    end,
    is_alive = function()
        return true
    end,
    is_escaping = function()
        return false
    end,
    -- A full disk undoes it, or a trigger. What comes next is then put into another, to be undone.
    fails_whole = function(connection)
        return run(connection, "BEGIN") == true
    end,
}

---------------------------------------------------------------------------------------------------
-- PostgreSQL

-- Bounds for a host that is gone without a word: libpq's own words for them.
local function bounds_of(limits)
    return {
        { "connect_timeout", seconds(limits.connect_timeout) },
        { "keepalives_idle", "10" },
        { "keepalives_interval", "5" },
        { "keepalives_count", "3" },
        { "tcp_user_timeout", ("%d"):format(limits.timeout + 1000) },
    }
end

-- The source with these bounds where it names none: a URI, words such as "host=/run dbname=shop",
-- or the name of a database.
local function with_bounds(source, limits)
    local bounds, pieces = bounds_of(limits), {}
    if source:find "^postgres%a*://" then
        local sign = source:find("?", 1, true) and "&" or "?"
        for _, bound in ipairs(bounds) do
            if not source:find("[?&]" .. bound[1] .. "=") then
                source = source .. sign .. bound[1] .. "=" .. bound[2]
                sign = "&"
            end
        end
        return source
    end
    for i, bound in ipairs(bounds) do
        pieces[i] = bound[1] .. "=" .. bound[2] -- of two with one name libpq takes the last
    end
    if source ~= "" and not source:find("=", 1, true) then
        source = "dbname='" .. source:gsub("['\\]", "\\%0") .. "'"
    end
    return table.concat(pieces, " ") .. " " .. source
end

local function to_integer(text)
    return math.tointeger(tonumber(text)) or text
end

local special = { NaN = 0 / 0, Infinity = math.huge, ["-Infinity"] = -math.huge }

local function to_float(text)
    local number = special[text] or tonumber(text)
    return number and number + 0.0 or text
end

local function to_boolean(text)
    if text == "t" or text == "f" then
        return text == "t"
    end
    return text
end

local function to_bytes(text)
    local digits = text:match "^\\x(%x*)$"
    return digits and digits:gsub("%x%x", function(byte)
        return string.char(tonumber(byte, 16))
    end) or text
end

-- numeric stays a text, which loses nothing
local converters = {
    int2 = to_integer, int4 = to_integer, int8 = to_integer, oid = to_integer,
    float4 = to_float, float8 = to_float, bool = to_boolean, bytea = to_bytes,
}

drivers.postgres = {
    module = "luasql.postgres", make = "postgres",
    begin = "BEGIN",
    is_remote = true,
    fails_whole = function()
        return true
    end,
    is_escaping = function(connection) -- libpq knows it, and asks nobody
        return connection:escape "\\" ~= "\\"
    end,
    connect = function(environment, source, limits)
        local connection, message = environment:connect(with_bounds(source, limits))
        return connection and run_all(connection, {
            ("SET statement_timeout = %d"):format(limits.timeout),
            "SET standard_conforming_strings = on",
            "SET bytea_output = hex",
        }), message
    end,
    is_alive = function(connection)
        return run(connection, "SELECT 1") == true
    end,
    converter = function(kind)
        return converters[kind]
    end,
}

-- The dialect of a connection of LuaSQL's: "postgres", "sqlite3", or nil for another driver's.
function drivers.dialect_of(connection)
    local name = tostring(connection)
    return name:find "^PostgreSQL connection" and "postgres"
        or name:find "^SQLite3 connection" and "sqlite3" or nil
end

local environments = {} -- by driver: they have to outlive what they made

-- LuaSQL's environment of a driver. Raises where that is not installed.
function drivers.environment(driver)
    if not environments[driver] then
        local is_there, library = pcall(require, driver.module)
        if not is_there then
            misuse.raise("LuaSQL is not there for this database (Debian: lua-sql-%s): %s",
                driver.make, library)
        end
        environments[driver] = library[driver.make]()
    end
    return environments[driver]
end

return drivers
