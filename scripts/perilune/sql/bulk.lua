-- SPDX-License-Identifier: MIT
--
-- perilune/sql/bulk.lua - many rows by one statement: upsert and delete, methods of the databases
-- of perilune/sql.lua; and what they share with perilune/sql/rules.lua.
--
-- Names of tables and columns are quoted, so they are as the database has them: what PostgreSQL was
-- told without quotes is in small letters there. Columns are named with their table, for SQLite
-- takes a quoted name that it does not know for a text.

local misuse = require "perilune.sql.misuse"
local statement = require "perilune.sql.statement"

local bulk = {}

---------------------------------------------------------------------------------------------------
-- names

local function check_name(name, what)
    if type(name) ~= "string" or name == "" or name:find("\0", 1, true) then
        misuse.raise("%s must be a name, got '%s'", what, tostring(name))
    end
    return name
end

local function quoted(name)
    return '"' .. name:gsub('"', '""') .. '"'
end

-- "shop.users" as "shop"."users", and the last of it, by which its columns are named.
local function quoted_table(name)
    local parts = {}
    for part in (check_name(name, "a table") .. "."):gmatch "([^.]*)%." do
        parts[#parts + 1] = quoted(check_name(part, "a table"))
    end
    return table.concat(parts, "."), parts[#parts]
end

-- One name, or a list of them, as a list.
local function names_of(value, what)
    local list = type(value) == "table" and value or { value }
    if #list == 0 then
        misuse.raise("%s must be a name, or a list of names", what)
    end
    for _, name in ipairs(list) do
        check_name(name, what)
    end
    return list
end

local function quoted_list(names, before)
    local list = {}
    for i, name in ipairs(names) do
        list[i] = (before or "") .. quoted(name)
    end
    return table.concat(list, ", ")
end

-- Raises for names that are not known, and a version's column that is none.
local function check_options(options, known, what)
    if type(options) ~= "table" then
        misuse.raise("%s wants a table of options, got a %s", what, type(options))
    elseif options.version ~= nil then
        check_name(options.version, "option 'version'")
    end
    for name in pairs(options) do
        if not known[name] then
            misuse.raise("%s: unknown option '%s'", what, tostring(name))
        end
    end
end

local function check_list(list, what)
    if type(list) ~= "table" then
        misuse.raise("%s must be a list, got a %s", what, type(list))
    elseif #list == 0 and next(list) ~= nil then -- one row, say, is none
        misuse.raise("%s must be a list, got a table with the field '%s'", what,
            tostring((next(list))))
    end
    return list
end

local function check_rows(rows)
    for i, row in ipairs(check_list(rows, "the rows")) do
        if type(row) ~= "table" or statement.is_blob(row) then
            misuse.raise("row %d is a %s, must be a table by column", i, type(row))
        end
    end
    return rows
end

---------------------------------------------------------------------------------------------------
-- rows as text

-- The values of a row in parentheses. nil, message: one of them has no place in SQL.
local function tuple(db, row, columns)
    local values = {}
    for i, column in ipairs(columns) do
        local good, text, why = pcall(db.literal, db, row[column])
        if not good then
            misuse.raise("column '%s': %s", column, misuse.text(text))
        elseif not text then
            return nil, ("column '%s': %s"):format(column, why)
        end
        values[i] = text
    end
    return "(" .. table.concat(values, ", ") .. ")"
end

-- All names that rows have, in order.
local function columns_of(rows)
    local names, known = {}, {}
    for _, row in ipairs(rows) do
        for name in pairs(row) do
            if not known[check_name(name, "a column")] then
                known[name] = true
                names[#names + 1] = name
            end
        end
    end
    table.sort(names)
    return names
end

-- A row's key as text, by which the same one is known; nil: it has none.
local function id_of(row, key)
    local parts = {}
    for i, name in ipairs(key) do
        local value = row[name]
        if value == nil then
            return nil
        end
        parts[i] = tostring(statement.is_blob(value) and value.bytes or value)
    end
    return table.concat(parts, "\0")
end

-- One of each key, the last: a statement may not write a row twice.
local function last_of_each(rows, key)
    local places, list = {}, {}
    for _, row in ipairs(rows) do
        local id = id_of(row, key) or row -- whose key the database makes
        places[id] = places[id] or #list + 1
        list[places[id]] = row
    end
    return list
end

---------------------------------------------------------------------------------------------------
-- writing

local UPSERT = { key = true, columns = true, version = true }

local function upsert_text(name, version, columns, key, tuples)
    local target, last = quoted_table(name)
    local is_key, sets = {}, {}
    for _, column in ipairs(key) do
        is_key[column] = true
    end
    for _, column in ipairs(columns) do
        if not is_key[column] then
            sets[#sets + 1] = quoted(column) .. " = excluded." .. quoted(column)
        end
    end
    local text = ("INSERT INTO %s (%s) VALUES %s ON CONFLICT (%s) DO "):format(target,
        quoted_list(columns), table.concat(tuples, ", "), quoted_list(key))
    if #sets == 0 then
        return text .. "NOTHING"
    end
    text = text .. "UPDATE SET " .. table.concat(sets, ", ")
    if version then
        local old = last .. "." .. quoted(version)
        text = text .. (" WHERE %s IS NULL OR %s < excluded.%s"):format(old, old, quoted(version))
    end
    return text
end

local function runnable(text)
    return { text = text, parts = { text }, tables = {}, n_marks = 0, is_read = false,
        is_counted = true }
end

local function upsert_rows(db, name, version, columns, key, tuples)
    return db:run(runnable(upsert_text(name, version, columns, key, tuples)), true)
end

-- upsert(table, rows, { key =, [columns =], [version =] }): inserts rows, or updates those whose
-- key is there, by one statement; of two with one key the last. With the name of a version's column
-- a row that is there with a larger or the same one stays. Returns how many rows were written; nil,
-- message, ["unknown"].
function bulk.upsert(db, name, rows, options)
    check_options(options, UPSERT, "upsert")
    check_rows(rows)
    local key = names_of(options.key, "option 'key'")
    local columns = options.columns and names_of(options.columns, "option 'columns'")
        or columns_of(rows)
    local tuples = {}
    for i, row in ipairs(last_of_each(rows, key)) do
        local text, message = tuple(db, row, columns)
        if not text then
            return nil, message
        end
        tuples[i] = text
    end
    if #tuples == 0 then
        return 0
    end
    return upsert_rows(db, name, options.version, columns, key, tuples)
end

local MOST_TESTS = 500 -- joined by OR: SQLite takes 1000
local DELETE = { version = true }

-- What finds one row: its key's values, and, where it has one, a version that is smaller.
local function condition(db, row, last, key, version)
    local tests = {}
    for i, column in ipairs(key) do
        local text, message = db:literal(row[column])
        if not text then
            return nil, ("column '%s': %s"):format(column, message)
        end
        tests[i] = ("%s.%s = %s"):format(last, quoted(column), text)
    end
    if version and row[version] then
        local column = last .. "." .. quoted(version)
        tests[#tests + 1] = ("(%s IS NULL OR %s < %d)"):format(column, column, row[version])
    end
    return "(" .. table.concat(tests, " AND ") .. ")"
end

-- The statement that removes rows, from the one at `from` on; and how many it takes.
local function delete_text(db, name, key, rows, version, from)
    local target, last = quoted_table(name)
    local is_plain = #key == 1 and not version
    local tests = {}
    for i = from, is_plain and #rows or math.min(#rows, from + MOST_TESTS - 1) do
        local text, message
        if is_plain then
            text, message = db:literal(rows[i][key[1]])
        else
            text, message = condition(db, rows[i], last, key, version)
        end
        if not text then
            return nil, message
        end
        tests[#tests + 1] = text
    end
    local test = is_plain and ("%s.%s IN (%s)"):format(last, quoted(key[1]),
        table.concat(tests, ", ")) or table.concat(tests, " OR ")
    return ("DELETE FROM %s WHERE %s"):format(target, test), #tests
end

local function delete_rows(db, name, key, rows, version)
    local total, from = 0, 1
    while from <= #rows do
        local text, n = delete_text(db, name, key, rows, version, from)
        if not text then
            return nil, n
        end
        local removed, message, code = db:run(runnable(text), true)
        if not removed then
            return nil, message, code
        end
        total, from = total + removed, from + n
    end
    return total
end

-- delete(table, key, keys, [{ version = }]): removes the rows with these keys, by one statement.
-- Each is a value, or a table by column: for a key of several columns, or to give the version that
-- the row must be older than; then 500 are one statement. Returns how many were removed; nil,
-- message, ["unknown"].
function bulk.delete(db, name, key, keys, options)
    check_options(options or {}, DELETE, "delete")
    key = names_of(key, "a key")
    local rows = {}
    for i, value in ipairs(check_list(keys, "the keys")) do
        local is_row = type(value) == "table" and not statement.is_blob(value)
        if not is_row and #key > 1 then
            misuse.raise("key %d is a %s, must be a table by column", i, type(value))
        end
        rows[i] = is_row and value or { [key[1]] = value }
        local version = options and rows[i][options.version]
        if version ~= nil and math.type(version) ~= "integer" then
            misuse.raise("key %d: the version must be an integer, got '%s'", i, tostring(version))
        end
    end
    return delete_rows(db, name, key, rows, options and options.version)
end

bulk.quoted, bulk.quoted_list, bulk.quoted_table = quoted, quoted_list, quoted_table
bulk.names_of, bulk.check_options = names_of, check_options
bulk.tuple, bulk.id_of = tuple, id_of
bulk.upsert_rows, bulk.delete_rows = upsert_rows, delete_rows

return bulk
