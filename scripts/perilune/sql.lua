-- SPDX-License-Identifier: MIT
--
-- perilune/sql.lua - a database over LuaSQL (Debian: lua-sql-sqlite3, lua-sql-postgres), for
-- loaders and stores of trusted policies, and for programs.
--
--     local sql = require "perilune.sql"
--     local db = sql.open("postgres", "dbname=shop", { timeout = "2s" })
--     local users = db:query("SELECT id, name FROM users WHERE city = ?", { "Linz" })
--
-- Each state of Lua has one connection to a database, made when it is first wanted and made anew
-- when it was lost. Arguments are put into the text here, since LuaSQL binds none: quoted as the
-- connection says, and never where the text has a quote or a comment. What goes wrong is nil,
-- message; and "unknown" as a third result where a statement may have been carried out all the
-- same.
--
-- A connection blocks its thread. Only what is said here is safe in several coroutines: while one
-- has a transaction under way, the others are refused.

local bulk = require "perilune.sql.bulk"
local drivers = require "perilune.sql.drivers"
local misuse = require "perilune.sql.misuse"
local rules = require "perilune.sql.rules"
local statement = require "perilune.sql.statement"

local sql = { blob = statement.blob }

local Database = { __name = "perilune.sql" }
Database.__index = Database

---------------------------------------------------------------------------------------------------
-- options

local UNITS = { ms = 1, s = 1000, m = 60000, h = 3600000 }

-- Milliseconds of a number of seconds, or a text such as "250ms".
local function duration(value, name)
    local number, unit = value, "s"
    if type(value) == "string" then
        number, unit = value:match "^([%d.]+)(%a+)$"
        number = tonumber(number)
    end
    local ms = type(number) == "number" and UNITS[unit] and number * UNITS[unit]
    if not ms or not (ms > 0 and ms < 1e9) then
        misuse.raise("option '%s' must be a duration such as \"5s\", got '%s'", name,
            tostring(value))
    end
    return math.ceil(ms)
end

local OPTIONS = { timeout = duration, connect_timeout = duration, name = true, prepare = true }

-- Defaults for what is not given; raises for what is wrong.
local function read_options(given)
    if given ~= nil and type(given) ~= "table" then
        misuse.raise("options must be a table, got a %s", type(given))
    end
    -- a statement, a look at the connection, a new one and the statement again: under twice the 5 s
    -- of a rule's store, for which others wait before they store what comes after
    local options = { timeout = 2000, connect_timeout = 2000, name = "", prepare = {} }
    for name, value in pairs(given or {}) do
        local read = OPTIONS[name]
        if not read then
            misuse.raise("unknown option '%s', only timeout, connect_timeout, name, prepare",
                tostring(name))
        elseif type(read) == "function" then
            value = read(value, name)
        elseif type(value) ~= type(options[name]) then
            misuse.raise("option '%s' must be a %s, got a %s", name, type(options[name]),
                type(value))
        end
        options[name] = value
    end
    return options
end

---------------------------------------------------------------------------------------------------
-- a connection's life

local opened = {} -- databases by driver, source and options
local wrapped = setmetatable({}, { __mode = "k" }) -- databases by the connection given
-- By the database whose transaction is under way (then it has `afterwards`) the coroutine that
-- began it: weak, so that one that nobody knows any more is seen to be gone.
local owners = setmetatable({}, { __mode = "kv" })

-- Types of columns, by statement.
local function forget_types(self)
    self.types = { n = 0, since = os.time() }
end

local function drop(self)
    if self.connection and not self.is_given then
        pcall(self.connection.close, self.connection)
        self.connection = nil
    end
    forget_types(self)
end

local function connected(self)
    if self.connection then
        return self.connection
    elseif self.is_closed then
        misuse.raise "attempt to use a closed database"
    end
    local connection, message = self.driver.connect(drivers.environment(self.driver), self.source,
        self.options)
    if not connection then
        return nil, drivers.clean(message)
    end
    for _, text in ipairs(self.options.prepare) do
        local result, why = connection:execute(text)
        if not result then
            connection:close()
            return nil, drivers.clean(why)
        elseif type(result) ~= "number" then
            result:close()
        end
    end
    self.connection = connection
    return connection
end

-- A connection that was idle for a while, before a statement that must not be sent twice.
local function look_after(self)
    local now = os.time()
    if self.connection and self.driver.is_remote and not self.afterwards and not self.is_given
        and now ~= self.used_at and not self.driver.is_alive(self.connection) then
        drop(self)
    end
    self.used_at = now
end

---------------------------------------------------------------------------------------------------
-- statements

local BUSY = "another coroutine has a transaction under way"
local finish -- below

-- Whether another coroutine has one. Who was closed amid its own, or is known to nobody any more,
-- will never end it: it is undone.
local function is_busy(self)
    local owner = owners[self]
    if not self.afterwards or owner == coroutine.running() then
        return false
    elseif owner and coroutine.status(owner) ~= "dead" then
        return true
    end
    owners[self] = coroutine.running()
    finish(self, "ROLLBACK")
    return false
end

-- Sends a statement. Returns a cursor or a number; nil, message; nil, message, "unknown". It is
-- sent again after a loss only where that does no harm.
local function send(self, known, args, is_repeatable)
    if is_busy(self) then
        return nil, BUSY
    end
    if not is_repeatable then
        look_after(self)
    end
    local code -- once it may have been carried out
    local began = os.time()
    for try = 1, 2 do
        local connection, why = connected(self)
        if not connection then
            return nil, why, code
        end
        local text
        if known.has_backslash and self.driver.is_escaping(connection) then
            return nil, "the connection has standard_conforming_strings off, so nobody can tell "
                .. "where a text with a backslash ends", code
        end
        text, why = statement.fill(known, args, self.dialect, drivers.escape_of(connection))
        if not text then
            return nil, why, code
        end
        local result, message = connection:execute(text)
        if result then
            return result
        end
        message = drivers.clean(message)
        if self.afterwards then
            local is_undone = self.driver.fails_whole(connection) -- asked each time
            self.failed = self.failed or is_undone and message
            return nil, message
        elseif self.driver.is_alive(connection) then
            return nil, message, code
        end
        drop(self)
        code = not (known.is_read and is_repeatable) and "unknown" or nil
        if try == 2 or not is_repeatable or self.is_given
            or os.time() - began > self.options.timeout / 1000 then
            return nil, message, code
        end
    end
end

local TYPES_S = 60 -- a column may be altered meanwhile, by others

-- Of each column of text that means something else: what makes that of it. To ask for the types
-- takes a round trip a column, so they are remembered by the statement, its columns' names and its
-- arguments' types.
local function converters_of(self, known, args, cursor)
    if not self.driver.converter then
        return nil
    end
    local names, now = cursor:getcolnames(), os.time()
    local sort = { known.text, table.concat(names, "\0") } -- of *, too
    for i = 1, known.n_marks do
        sort[i + 2] = math.type(args[i]) or type(args[i])
    end
    sort = table.concat(sort, "\0")
    if self.types.n == 500 or now - self.types.since >= TYPES_S then
        forget_types(self)
    end
    local found = self.types[sort]
    if not found then
        found = {}
        local types = cursor:getcoltypes()
        for i, name in ipairs(names) do
            found[name] = self.driver.converter(types[i])
        end
        self.types.n = self.types.n + 1
        self.types[sort] = found
    end
    return found
end

local function fetch_all(self, known, args, cursor)
    local rows, converters = {}, converters_of(self, known, args, cursor)
    while true do
        local row, message = cursor:fetch({}, "a")
        if not row then
            cursor:close()
            if message then
                return nil, drivers.clean(message)
            end
            return rows
        end
        for name, convert in pairs(converters or {}) do
            if row[name] ~= nil then
                row[name] = convert(row[name])
            end
        end
        rows[#rows + 1] = row
    end
end

-- Learns a statement, and raises where it begins or ends a transaction: others would see what is in
-- it, and a connection that was lost and made anew would go on without it.
local function learn(self, text, args)
    local known = statement.learn(text, self.dialect)
    statement.check(known, args)
    local is_own = self:in_transaction()
    if known.control and not (is_own and known.control == "within")
        and (is_own or not self.is_given) then
        misuse.raise("db:transaction(f) begins and ends transactions, not: %s", known.text)
    end
    return known
end

-- query(text, [args]): a list of rows, each a table by column. nil, message, ["unknown"].
function Database:query(text, args)
    local known = learn(self, text, args)
    local cursor, message, code = send(self, known, args, known.is_read)
    if not cursor then
        return nil, message, code
    elseif type(cursor) == "number" then
        return {}
    end
    return fetch_all(self, known, args, cursor)
end

-- The number of rows that a statement wrote, or brought.
local function written(self, known, args, is_repeatable)
    local result, message, code = send(self, known, args, is_repeatable)
    if not result then
        return nil, message, code
    elseif type(result) == "number" then
        return known.is_counted and math.tointeger(result) or 0
    end
    local rows
    rows, message = fetch_all(self, known, args, result)
    return rows and #rows, message
end

-- exec(text, [args]): how many rows it wrote. nil, message, ["unknown"].
function Database:exec(text, args)
    local known = learn(self, text, args)
    return written(self, known, args, false) -- what it selects may write
end

-- run(known, is_repeatable): what exec does, of a statement that was learnt or made; one that may
-- be carried out twice is sent again when the connection was lost.
function Database:run(known, is_repeatable)
    return written(self, known, nil, is_repeatable)
end

-- quote(value): the value as this database has it in a statement; or nil, message.
function Database:literal(value)
    local connection, message = connected(self)
    if not connection then
        return nil, message
    end
    local text, why = statement.literal(value, self.dialect, drivers.escape_of(connection))
    return text, why and "the value " .. why
end

---------------------------------------------------------------------------------------------------
-- transactions

-- after(f): calls f when the transaction that is under way has ended, however; now if there is
-- none.
function Database:after(f)
    if self:in_transaction() then
        self.afterwards[#self.afterwards + 1] = f
    else
        f()
    end
end

-- Whether this coroutine has one under way.
function Database:in_transaction()
    return self.afterwards ~= nil and owners[self] == coroutine.running()
end

local function run_plain(self, text, is_repeatable)
    return written(self, statement.learn(text, self.dialect), nil, is_repeatable)
end

-- Ends it; what waits for that is done, all of it. A connection on which even ROLLBACK fails is no
-- more. Returns whether it was done; else why, and whether the connection was lost.
function finish(self, text)
    local done, message = run_plain(self, text)
    local afterwards, is_lost, problem = self.afterwards, nil, nil
    owners[self], self.afterwards = nil, nil
    if not done then
        is_lost = not self.driver.is_alive(self.connection)
        if is_lost then
            drop(self)
        elseif text ~= "ROLLBACK" then
            run_plain(self, "ROLLBACK")
        end
    end
    for _, f in ipairs(afterwards) do
        local good, why = pcall(f)
        problem = problem or not good and { why }
    end
    if problem then
        error(problem[1], 0)
    end
    return done, message, is_lost
end

local function add_traceback(problem)
    return type(problem) == "string" and debug.traceback(problem, 2) or problem
end

-- transaction(f): calls f(db), and commits what it did: its results, or true. What f returns as
-- nil, message or raises undoes all: nil, message. "unknown" as the third: the connection was lost
-- at the end.
function Database:transaction(f)
    if type(f) ~= "function" then
        misuse.raise("transaction wants a function, got a %s", type(f))
    elseif self:in_transaction() then
        misuse.raise "a transaction is under way already"
    end
    local begun, message = run_plain(self, self.driver.begin, true)
    if not begun then
        return nil, message
    end
    owners[self], self.afterwards, self.failed = coroutine.running(), {}, nil
    local results = table.pack(xpcall(f, add_traceback, self))
    if not results[1] then
        finish(self, "ROLLBACK")
        return nil, tostring(results[2])
    elseif results[2] == nil and results[3] ~= nil then
        finish(self, "ROLLBACK")
        return table.unpack(results, 2, results.n)
    elseif self.failed then -- COMMIT would say "done", and do nothing
        message = self.failed
        finish(self, "ROLLBACK")
        return nil, message
    end
    local done, why, is_lost = finish(self, "COMMIT")
    if not done then
        return nil, why, is_lost and "unknown" or nil
    end
    if results[2] == nil then
        return true
    end
    return table.unpack(results, 2, results.n)
end

---------------------------------------------------------------------------------------------------
-- tables

Database.upsert, Database.delete = bulk.upsert, bulk.delete
Database.loader, Database.store = rules.loader, rules.store

---------------------------------------------------------------------------------------------------
-- opening

function Database:close()
    if self:in_transaction() or is_busy(self) then
        misuse.raise "cannot close a database while a transaction is under way"
    end
    drop(self)
    self.is_closed = not self.is_given
    if self.place then
        opened[self.place] = nil
    end
    return true
end

function Database:__tostring()
    return ("perilune.sql: %s (%s)"):format(self.dialect,
        self.is_closed and "closed" or self.connection and "connected" or "open")
end

local function new(fields)
    forget_types(fields)
    fields.driver = drivers[fields.dialect]
    return setmetatable(fields, Database)
end

-- Where in `opened` a database is: what was asked for, as text.
local function place_of(kind, source, options)
    local pieces = { kind, source, options.name, options.timeout, options.connect_timeout }
    for _, text in ipairs(options.prepare) do
        pieces[#pieces + 1] = text
    end
    return table.concat(pieces, "\0")
end

-- open(driver, source, [options]): "sqlite3" and a path, or "postgres" and what libpq connects to.
-- The same in a state gives the same. Raises where something is wrong with these; nothing is
-- connected yet.
---@param kind "sqlite3"|"postgres"
---@param source string
---@param options? table
function sql.open(kind, source, options)
    if kind ~= "sqlite3" and kind ~= "postgres" then
        misuse.raise("no driver '%s', only sqlite3 and postgres", tostring(kind))
    elseif type(source) ~= "string" or source:find("\0", 1, true) then
        misuse.raise "a database's source must be a string without bytes of zero"
    end
    local read = read_options(options)
    local place = place_of(kind, source, read)
    if not opened[place] then
        opened[place] = new { dialect = kind, source = source, options = read, place = place,
            name = read.name }
    end
    return opened[place]
end

-- of(connection): the database that stands on a connection of LuaSQL's that others look after: it
-- is not closed here, nor made anew. A database is itself.
function sql.of(connection)
    if getmetatable(connection) == Database then
        return connection
    end
    local db = wrapped[connection]
    if not db then
        local dialect = drivers.dialect_of(connection)
        if not dialect then
            misuse.raise("a database of perilune.sql is wanted, or a connection of LuaSQL's to "
                .. "SQLite or PostgreSQL, got %s", tostring(connection))
        end
        db = new { dialect = dialect, name = "", is_given = true }
        db.connection = connection
        wrapped[connection] = db
    end
    return db
end

Database.quote = misuse.blame(Database.literal)
for _, name in ipairs { "query", "exec", "transaction", "upsert", "delete", "loader",
    "store", "close" } do
    Database[name] = misuse.blame(Database[name])
end
Database.__close = Database.close
sql.open, sql.of = misuse.blame(sql.open), misuse.blame(sql.of)

return sql
