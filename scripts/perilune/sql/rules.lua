-- SPDX-License-Identifier: MIT
--
-- perilune/sql/rules.lua - what a policy's rules load and store by: methods of the databases of
-- perilune/sql.lua.
--
--     local users = { table = "users", key = "id", columns = { "name" }, from = "user:{id}" }
--     local load, load_many = db:loader(users)
--     cache.rule "user:{id}" {
--         load = load, load_many = load_many, write = behind(db:store(users)),
--     }

local bulk = require "perilune.sql.bulk"
local misuse = require "perilune.sql.misuse"
local statement = require "perilune.sql.statement"

local quoted, quoted_list = bulk.quoted, bulk.quoted_list
local names_of, tuple = bulk.names_of, bulk.tuple

local rules = {}

local MAPPING = { table = true, key = true, columns = true, from = true, version = true,
    bytes = true }

-- A key's form, "user:{id}", as a pattern and the names in it.
local function pattern_of(form)
    if type(form) ~= "string" or not form:find "{[%w_]+}" then
        misuse.raise("option 'from' must be a key's form such as \"user:{id}\", got '%s'",
            tostring(form))
    end
    local names, pieces, at = {}, { "^" }, 1
    for from, name, to in form:gmatch "(){([%w_]+)}()" do
        pieces[#pieces + 1] = form:sub(at, from - 1):gsub("%p", "%%%0")
        pieces[#pieces + 1] = to > #form and "(.+)" or "(.-)"
        names[#names + 1] = name
        at = to
    end
    pieces[#pieces + 1] = form:sub(at):gsub("%p", "%%%0") .. "$"
    return table.concat(pieces), names
end

-- What is the same for loading and storing; raises for what is wrong with it.
local function mapping_of(options, what)
    bulk.check_options(options, MAPPING, what)
    local map = {
        name = options.table, target = (bulk.quoted_table(options.table)),
        version = options.version,
        key = names_of(options.key, "option 'key'"),
        is_single = type(options.columns) == "string",
        columns = options.columns and names_of(options.columns, "option 'columns'"),
    }
    map.bytes = options.bytes and names_of(options.bytes, "option 'bytes'") or {}
    map.pattern, map.names = pattern_of(options.from)
    if #map.names ~= #map.key then
        misuse.raise("%s: option 'from' has %d names, option 'key' %d columns", what, #map.names,
            #map.key)
    end
    return map
end

-- The values of a key's columns, as texts: from the rule's match, else from the key itself.
local function values_of(map, key, m)
    local values = { key:match(map.pattern) }
    for i, name in ipairs(map.names) do
        values[i] = m and m[name] or values[i]
        if not values[i] then
            misuse.raise("key '%s' is not as option 'from' says", key)
        end
    end
    return values
end

-- The value that a row is in the cache.
local function value_of(map, row)
    if map.is_single then
        return row[map.columns[1]]
    elseif not map.columns then
        return row
    end
    local value = {}
    for _, name in ipairs(map.columns) do
        value[name] = row[name]
    end
    return value
end

-- The columns that are read: those of the key always.
local function read_list(map)
    if not map.columns then
        return "t.*"
    end
    local names, known = {}, {}
    for _, list in ipairs { map.key, map.columns } do
        for _, name in ipairs(list) do
            if not known[name] then
                known[name] = true
                names[#names + 1] = name
            end
        end
    end
    return quoted_list(names, "t.")
end

-- The condition that finds n rows, and its arguments.
local function finder(db, map, wanted)
    local n, args = #map.key, {}
    for i, values in ipairs(wanted) do
        for j, value in ipairs(values) do
            args[(i - 1) * n + j] = value
        end
    end
    if n == 1 then
        return ("t.%s IN (%s)"):format(quoted(map.key[1]), ("?, "):rep(#wanted - 1) .. "?"), args
    end
    local one = "(" .. ("?, "):rep(n - 1) .. "?)"
    local all = (one .. ", "):rep(#wanted - 1) .. one
    local format = db.dialect == "sqlite3" and "(%s) IN (VALUES %s)" or "(%s) IN (%s)"
    return format:format(quoted_list(map.key, "t."), all), args
end

local function find_rows(db, map, wanted)
    local test, args = finder(db, map, wanted)
    return db:query(("SELECT %s FROM %s AS t WHERE %s"):format(read_list(map), map.target, test),
        args)
end

-- loader{ table =, key =, from =, [columns =] }: load(key, m) and load_many(keys, ms). A value is a
-- table by column, of `columns` or of all; of one column that is named without a list, what is in
-- it.
function rules.loader(db, options)
    local map = mapping_of(options, "loader")
    local function load_many(keys, ms)
        local wanted, places, values = {}, {}, {}
        for i, key in ipairs(keys) do
            wanted[i] = values_of(map, key, ms and ms[i])
            places[table.concat(wanted[i], "\0")] = key
        end
        if #wanted == 0 then
            return values
        end
        local rows, message = find_rows(db, map, wanted)
        if not rows then
            return nil, message
        end
        for _, row in ipairs(rows) do
            -- what is not written as the row has it is another key, though it was found by it
            local key = places[bulk.id_of(row, map.key)]
            if key then
                values[key] = value_of(map, row)
            end
        end
        return values
    end
    local function load(key, m)
        local values, message = load_many({ key }, { m })
        if not values then
            return nil, message
        end
        return values[key]
    end
    return misuse.blame(load), misuse.blame(load_many)
end

-- A write as a row, and its text where it is set; nil, what is wrong with it.
local function row_of(db, map, item)
    local row, value = {}, item.value
    local is_set = item.op == "set" and value ~= nil
    if is_set and map.is_single then
        row[map.columns[1]] = value
    elseif is_set and type(value) ~= "table" then
        return nil, ("the value is a %s, must be a table by column"):format(type(value))
    elseif is_set then
        for _, name in ipairs(map.columns) do
            row[name] = value[name]
        end
    end
    for _, name in ipairs(map.bytes) do
        row[name] = type(row[name]) == "string" and statement.blob(row[name]) or row[name]
    end
    for i, text in ipairs(values_of(map, item.key, item.m)) do
        row[map.key[i]] = text
    end
    if map.version and (item.version or 0) ~= 0 then
        row[map.version] = item.version
    end
    if not is_set then
        return row
    end
    local good, text, why = pcall(tuple, db, row, map.columns_of(row))
    if not good or not text then
        return nil, why or misuse.text(text)
    end
    return row, text
end

-- Sorts writes into rows to be removed, and rows and their texts to be set: of each key the last
-- that can be. Returns also what is wrong with the others, by their place.
local function sorted(db, map, items)
    local last, wrong, done = {}, nil, {}
    for i, item in ipairs(items) do
        local row, text = row_of(db, map, item)
        if row then
            last[item.key] = { row = row, text = text }
        else
            wrong = wrong or {}
            wrong[i] = { text, "never" }
        end
    end
    local sets, texts, deletes = {}, {}, {}
    for _, item in ipairs(items) do
        local write = last[item.key]
        if write and not done[item.key] then
            done[item.key] = true
            local list = write.text and sets or deletes
            list[#list + 1] = write.row
            texts[#texts + 1] = write.text
        end
    end
    return sets, texts, deletes, wrong
end

local function write_sets(db, map, sets, texts)
    local columns = map.columns_of(sets[1])
    local version = sets[1][map.version] and map.version
    return bulk.upsert_rows(db, map.name, version, columns, map.key, texts)
end

local function store_items(db, map, items)
    local is_there, away = db:literal "" -- connects, lest a row be blamed where that fails
    if not is_there then
        return nil, away
    end
    local sets, texts, deletes, wrong = sorted(db, map, items)
    local done, message, code = true, nil, nil
    if #sets > 0 and #deletes > 0 then
        done, message, code = db:transaction(function()
            local written, why = write_sets(db, map, sets, texts)
            if not written then
                return nil, why
            end
            return bulk.delete_rows(db, map.name, map.key, deletes, map.version)
        end)
    elseif #sets > 0 then
        done, message, code = write_sets(db, map, sets, texts)
    elseif #deletes > 0 then
        done, message, code = bulk.delete_rows(db, map.name, map.key, deletes, map.version)
    end
    if not done then
        return nil, message, code
    end
    return wrong or true
end

-- store{ table =, key =, from =, columns =, [version =], [bytes =] }: the store of a rule, whatever
-- its strategy. What writes behind is one statement a batch (two in a transaction where some of it
-- is removed), and `version` the column that tells which of two writes is the later one. `bytes`
-- are the columns whose values are bytes. A write that no row can be made of is never tried again.
function rules.store(db, options)
    local map = mapping_of(options, "store")
    if not map.columns then
        misuse.raise "store: option 'columns' is needed"
    end
    local with, without = {}, {}
    for _, list in ipairs { map.key, map.columns, { map.version } } do
        for _, name in ipairs(list) do
            if not with[name] then
                with[name] = true
                with[#with + 1] = name
                without[#without + 1] = name ~= map.version and name or nil
            end
        end
    end
    for _, name in ipairs(map.bytes) do
        if not with[name] then
            misuse.raise("store: option 'bytes' has '%s', which is none of the columns", name)
        end
    end
    function map.columns_of(row) -- what is written through has no version
        return map.version and row[map.version] and with or without
    end
    return misuse.blame(function(first, m, value, item)
        if type(first) == "table" then
            return store_items(db, map, first)
        end
        local done, message, code = store_items(db, map, { {
            key = first, m = m, value = value, op = value == nil and "delete" or "set",
            version = item and item.version,
        } })
        if type(done) == "table" then
            return nil, done[1][1], done[1][2]
        end
        return done, message, code
    end)
end

return rules
