-- SPDX-License-Identifier: MIT
--
-- perilune/query.lua - results of SQL in a cache: cache:query, cache:execute and cache:changed,
-- which load this file when the first of them is called (lua/queries.c; perilune/waiting.lua for
-- hosts that wait in their own way).
--
-- The key of a result is "sql:" and a hash of the statement, but for the way it is written, its
-- arguments with their types, and the database's name. The hash is none of those that nobody can
-- find two texts for, and arguments may come from anybody: so the entry says whose result it is.
-- Each table that is read is a tag, "table:NAME"; who writes to the table makes it void.

local misuse = require "perilune.sql.misuse"
local perilune = require "perilune"
local sql = require "perilune.sql"
local statement = require "perilune.sql.statement"

local query = {}

local MOST_TAGS = 64

-- A table's tag, however its name is written: without its schema, in small letters.
local function tag_of(name)
    if type(name) ~= "string" or name == "" then
        misuse.raise("a table must be a name, got '%s'", tostring(name))
    end
    return "table:" .. name:match("[^.]*$"):gsub('^"(.*)"$', "%1"):lower()
end

local function tags_of(tables)
    local tags = {}
    if type(tables) ~= "table" then
        misuse.raise("option 'tags' must be a list of tables, got a %s", type(tables))
    end
    for i, name in ipairs(tables) do
        tags[i] = tag_of(name)
    end
    return tags
end

-- The options of a get: those given, with tables as tags.
local function options_of_get(known, given)
    if given == nil and known.get_options then
        return known.get_options
    elseif given ~= nil and type(given) ~= "table" then
        misuse.raise("options must be a table, got a %s", type(given))
    end
    local options = {}
    for name, value in pairs(given or {}) do
        options[name] = value
    end
    options.tags = tags_of(options.tags or known.tables)
    if #options.tags > MOST_TAGS then
        misuse.raise("%d tables, more than %d: name some by the option 'tags'", #options.tags,
            MOST_TAGS)
    end
    if given == nil then
        known.get_options = options
    end
    return options
end

-- query(cache, connection, text, [args, [options]]): rows, nil, how; nil, message, code.
local function cached(cache, connection, text, args, options)
    local db = sql.of(connection)
    local known = statement.learn(text, db.dialect)
    local of = db.name .. "\0" .. known.text .. "\0" .. statement.encode(known, args)
    if not known.is_read then
        misuse.raise("only what reads can be cached (a name such as \"update\" wants quotes): %s",
            known.text)
    end
    local get_options = options_of_get(known, options)
    local function load()
        local rows, message = db:query(text, args)
        if not rows then
            return nil, message
        end
        return { of = of, rows = rows }
    end
    if db:in_transaction() then -- others must not see what it sees, nor it what was before
        local found, message = load()
        if not found then
            return nil, message, "loader"
        end
        return found.rows, nil, "loaded"
    end
    local found, message, how = cache:get("sql:" .. perilune.hash(of), get_options, load)
    if not found then
        return nil, message, how
    elseif found.of ~= of then
        found, message = load()
        return found and found.rows, message, found and "loaded" or "loader"
    end
    return found.rows, nil, how
end

-- changed(cache, name, ...): what was read from these tables is void, everywhere. All are tried.
local function changed(cache, ...)
    local done, message, code = true, nil, nil
    for _, tag in ipairs(tags_of { ... }) do
        local good, why, kind = cache:invalidate_tag(tag)
        if not good then
            done, message, code = nil, why, kind
        end
    end
    return done, message, code
end

-- execute(cache, connection, text, [args, [options]]): how many rows were written, and then what
-- makes it void; also where it failed, since it may have been carried out all the same. In a
-- transaction that is done when it has ended.
local function executed(cache, connection, text, args, options)
    local db = sql.of(connection)
    local known = statement.learn(text, db.dialect)
    if options ~= nil and type(options) ~= "table" then
        misuse.raise("options must be a table, got a %s", type(options))
    end
    for name in pairs(options or {}) do
        if name ~= "tags" then
            misuse.raise("unknown option '%s', only tags", tostring(name))
        end
    end
    local tables = options and options.tags or known.tables
    if #tables == 0 then
        misuse.raise("no table is named in: %s (the option 'tags' names them)", known.text)
    end
    tags_of(tables) -- which raises, before anything is written
    local results = table.pack(pcall(db.exec, db, text, args))
    local done, message, code
    db:after(function()
        done, message, code = changed(cache, table.unpack(tables))
    end)
    if not results[1] then
        error(results[2], 0)
    elseif results[2] and not done and message then
        return results[2], message, code
    end
    return table.unpack(results, 2, 4)
end

query.query, query.changed = misuse.blame(cached), misuse.blame(changed)
query.execute = misuse.blame(executed)

return query
