-- SPDX-License-Identifier: MIT
--
-- perilune/sql/statement.lua - what there is to know of a statement in SQL: what it is but for the
-- way it is written, which tables it names, whether it only reads, and where its arguments go.
--
--     local s = statement.learn("SELECT  name FROM Users WHERE id = ?", "postgres")
--     s.text                    select name from Users where id = ?
--     s.tables                  { "users" }
--     s.n_marks, s.is_read      1, true
--     statement.fill(s, { 7 }, "postgres", escape)
--
-- What was learnt is remembered by the text: programs have few statements, and many arguments.

local misuse = require "perilune.sql.misuse"
local words = require "perilune.sql.words"

local statement = {}

local MOST_KNOWN = 500 -- of a dialect; as many again that have not been asked for lately
local MOST_BYTES = 8192 -- of a text that is remembered

local function set_of(text)
    local set = {}
    for word in text:gmatch "%S+" do
        set[word] = true
    end
    return set
end

-- Those that no name can be without quotes. A name's case may matter: it is the row's key.
local KEYWORDS = set_of [[
    all and any array as asc both case cast check collate column constraint create cross default
    delete desc distinct do else end except exists false for foreign from full group having in
    inner insert intersect into is join leading left like limit natural not null offset on only or
    order outer primary references returning right select set some table then to trailing true
    union unique update using values when where window with]]
local BEFORE_BY = set_of "group order partition"

-- A statement that begins with a reader, and has no writer in it, only reads. (FOR UPDATE is none.)
local WRITERS = set_of "alter create delete drop insert into merge truncate update"
local COUNTED = set_of "insert update delete replace with"
local READERS = set_of "select table values with show explain"
-- What begins or ends a transaction, and what may be within one.
local CONTROLS = set_of "begin start commit end abort rollback"
local WITHIN = set_of "savepoint release"

---------------------------------------------------------------------------------------------------
-- what it is but for the way it is written

-- Gaps as one blank, keywords in small letters, nothing around it. What is in quotes stays.
local function normalized(kinds, texts)
    local pieces, n, is_gap, last = {}, 0, false, nil
    local stop = #kinds
    while kinds[stop] == "gap" or texts[stop] == ";" do
        stop = stop - 1
    end
    for i = 1, stop do
        local text = texts[i]
        if kinds[i] == "gap" then
            is_gap = n > 0
        else
            if is_gap then
                n = n + 1
                pieces[n] = " "
                is_gap = false
            end
            if kinds[i] == "word" then
                local small = text:lower()
                -- behind AS it may be a column's name after all, and BY elsewhere
                local is_key = KEYWORDS[small] and last ~= "as"
                    or small == "by" and BEFORE_BY[last]
                text = is_key and small or text
                last = small
            else
                last = nil
            end
            n = n + 1
            pieces[n] = text
        end
    end
    return table.concat(pieces)
end

---------------------------------------------------------------------------------------------------
-- which tables it names

local OPENERS = set_of "from join into update table truncate using view"
-- What may stand between those and a name; behind OR comes one more word, as in UPDATE OR IGNORE.
local PASSED = set_of "only lateral or table if not exists of concurrently materialized"
-- Behind these a name is none of a table's, nor is what follows a comma.
local ENDERS = set_of [[
    where group order having limit offset fetch window union intersect except set values returning
    select for with]]

-- Only what counts: words, names and single bytes, in small letters. SQLite takes a text for a name
-- where one is wanted.
local function significant(kinds, texts, dialect)
    local list = {}
    for i, kind in ipairs(kinds) do
        local text = texts[i]
        if kind == "string" and dialect == "sqlite3" and #text <= 64 then
            kind = "name"
        end
        if kind == "name" then
            local quote = text:sub(-1)
            text = text:sub(2, -2):gsub(quote .. quote, quote)
        end
        if kind ~= "gap" then
            list[#list + 1] = { kind = kind, text = text:lower() }
        end
    end
    return list
end

local function is_byte(piece, text)
    return piece ~= nil and piece.kind == "other" and piece.text == text
end

local function is_name(piece)
    return piece ~= nil and (piece.kind == "word" or piece.kind == "name")
end

-- The place of the last part of a name such as schema.table.
local function last_part(list, i)
    while is_byte(list[i + 1], ".") and is_name(list[i + 2]) do
        i = i + 2
    end
    return i
end

-- Names behind FROM, JOIN, INTO, UPDATE, TABLE and USING, and behind the commas of such a list. One
-- too many (a subquery's, a function's) does no harm: its tag is never made void.
local function tables_of(kinds, texts, dialect)
    local list, found, known = significant(kinds, texts, dialect), {}, {}
    local wants, in_list = { false }, { false } -- by the depth of parentheses
    local depth, i = 1, 1
    while list[i] do
        local piece = list[i]
        local word = piece.kind == "word" and piece.text
        if is_byte(piece, "(") then -- of FROM (a JOIN b); not of JOIN a USING (b)
            local goes_on = wants[depth] and list[i - 1].text ~= "using"
            wants[depth] = false
            depth = depth + 1
            wants[depth], in_list[depth] = goes_on, goes_on
        elseif is_byte(piece, ")") then
            depth = math.max(depth - 1, 1)
        elseif is_byte(piece, ",") then
            wants[depth] = in_list[depth]
        elseif word and OPENERS[word] then
            wants[depth], in_list[depth] = true, true
        elseif word and ENDERS[word] then
            wants[depth], in_list[depth] = false, false
        elseif wants[depth] and word and PASSED[word] then
            i = word == "or" and i + 1 or i
        elseif wants[depth] and is_name(piece) then
            i = last_part(list, i)
            wants[depth] = false
            if not known[list[i].text] then
                known[list[i].text] = true
                found[#found + 1] = list[i].text
            end
        end
        i = i + 1
    end
    return found
end

---------------------------------------------------------------------------------------------------
-- all of it

-- The first word; whether there is a second statement, whether this one only reads, and whether it
-- brings rows of what it wrote.
local function sort_of(kinds, texts)
    local first, writes, returns, is_over, has_more
    for i, kind in ipairs(kinds) do
        local word = kind == "word" and texts[i]:lower()
        has_more = has_more or is_over and kind ~= "gap" and texts[i] ~= ";"
        is_over = is_over or kind == "other" and texts[i] == ";"
        first = first or word
        writes = writes or word and WRITERS[word]
        returns = returns or word == "returning"
    end
    return first, has_more or false, READERS[first] and not writes or false,
        writes and returns or false
end

local function read(text, dialect)
    local kinds, texts = words.split(text, dialect)
    local parts, part = {}, {}
    local problem
    for i, kind in ipairs(kinds) do
        if kind == "mark" then
            parts[#parts + 1] = table.concat(part)
            part = {}
            if kinds[i + 1] == "number" then
                problem = "placeholders have no numbers: ?" .. texts[i + 1]
            end
        elseif kind == "open" then
            problem = "what begins with " .. texts[i]:sub(1, 20) .. " does not end"
        else
            part[#part + 1] = kind == "question" and "?" or texts[i]
        end
    end
    parts[#parts + 1] = table.concat(part)
    local verb, has_more, is_read, returns = sort_of(kinds, texts)
    local plain = normalized(kinds, texts)
    if returns and dialect == "sqlite3" then -- LuaSQL 2.6 looks at the first row, and begins anew
        problem = "RETURNING is not for SQLite, whose driver would carry out the statement twice"
    elseif has_more then
        problem = "more than one statement"
    elseif text:find("\0", 1, true) then
        problem = "a byte of zero"
    elseif plain == "" then
        problem = "no statement"
    end
    return {
        text = plain, tables = tables_of(kinds, texts, dialect), parts = parts,
        n_marks = #parts - 1, is_read = is_read, problem = problem,
        control = WITHIN[verb] and "within" or verb == "rollback" and plain:find(" to ", 1, true)
            and "within" or CONTROLS[verb] and "never" or nil,
        is_counted = dialect == "postgres" or COUNTED[verb], -- SQLite tells of the one before again
        has_backslash = dialect == "postgres" and text:find("\\", 1, true) ~= nil,
    }
end

-- By the dialect: what was asked for lately, and what was before.
local young = { postgres = {}, sqlite3 = {} }
local old = { postgres = {}, sqlite3 = {} }
local n_young = 0

-- learn(text, dialect): what there is to know; not to be changed. `problem` says why it cannot be
-- run, if it cannot.
function statement.learn(text, dialect)
    if type(text) ~= "string" then
        misuse.raise("a statement must be a string, got a %s", type(text))
    end
    local known = young[dialect][text]
    if known then
        return known
    end
    known = old[dialect][text] or read(text, dialect)
    if #text <= MOST_BYTES then
        if n_young >= MOST_KNOWN then
            old, young, n_young = young, { postgres = {}, sqlite3 = {} }, 0
        end
        n_young = n_young + 1
        young[dialect][text] = known
    end
    return known
end

---------------------------------------------------------------------------------------------------
-- arguments

local blob_class = { __name = "perilune.sql.blob" }

-- blob(bytes): an argument of any bytes, also of zeros.
statement.blob = misuse.blame(function(bytes)
    if type(bytes) ~= "string" then
        misuse.raise("blob wants a string, got a %s", type(bytes))
    end
    return setmetatable({ bytes = bytes }, blob_class)
end)

function statement.is_blob(value)
    return getmetatable(value) == blob_class
end

local function literal_number(number)
    if math.type(number) == "integer" then
        return ("%d"):format(number)
    elseif number ~= number or number == math.huge or number == -math.huge then
        return nil, "is not finite, and SQL has no such number"
    end
    local text = ("%.17g"):format(number):gsub("[^0-9e+-]+", ".") -- the locale may have a comma
    return text:find "[.e]" and text or text .. ".0"
end

-- literal(value, dialect, escape): the value as SQL has it; or nil, message where what it is has no
-- place there. `escape` doubles what ends a string. Raises where no value of that type has one.
function statement.literal(value, dialect, escape)
    local kind = type(value)
    if value == nil then
        return "NULL"
    elseif kind == "boolean" then
        return value and "TRUE" or "FALSE"
    elseif kind == "number" then
        local text, why = literal_number(value)
        -- two signs in a row would begin a comment
        return text and text:find "^-" and "(" .. text .. ")" or text, why
    elseif kind == "string" then
        if value:find("\0", 1, true) then
            return nil, "has a byte of zero: sql.blob(bytes) is for those"
        end
        local text, why = escape(value)
        return text and "'" .. text .. "'", why
    elseif statement.is_blob(value) then
        local digits = value.bytes:gsub(".", function(c)
            return ("%02x"):format(c:byte())
        end)
        return dialect == "postgres" and "E'\\\\x" .. digits .. "'::bytea" or "x'" .. digits .. "'"
    end
    misuse.raise("a %s is no value of SQL", kind)
end

-- How many arguments a list has. Those at its end may be nil, and are none then.
local function count(args)
    local n = args.n or 0
    if math.type(n) ~= "integer" then
        misuse.raise("the arguments' n must be their number, got '%s'", tostring(n))
    end
    for i in pairs(args) do
        if math.type(i) ~= "integer" and i ~= "n" then
            misuse.raise("the arguments must be a list, got a table with the field '%s'",
                tostring(i))
        end
        n = i ~= "n" and i > n and i or n
    end
    return n
end

-- check(known, args): raises where these are not arguments for it.
function statement.check(known, args)
    if known.problem then
        misuse.raise("SQL: %s", known.problem)
    elseif args ~= nil and type(args) ~= "table" then
        misuse.raise("the arguments must be a list, got a %s", type(args))
    end
    local n = args and count(args) or 0
    if n > known.n_marks or n < known.n_marks and (not args or args.n) then
        misuse.raise("%d argument%s for %d placeholder%s in: %s", n, n == 1 and "" or "s",
            known.n_marks, known.n_marks == 1 and "" or "s", known.text)
    end
end

-- fill(known, args, dialect, escape): the text with the arguments in their places; or nil, message.
function statement.fill(known, args, dialect, escape)
    statement.check(known, args)
    if known.n_marks == 0 then
        return known.parts[1]
    end
    local pieces = { known.parts[1] }
    for i = 1, known.n_marks do
        local good, text, why = pcall(statement.literal, args[i], dialect, escape)
        if not good then
            misuse.raise("argument %d: %s", i, misuse.text(text))
        elseif not text then
            return nil, ("argument %d %s"):format(i, why)
        end
        pieces[#pieces + 1] = text
        pieces[#pieces + 1] = known.parts[i + 1]
    end
    return table.concat(pieces)
end

-- encode(known, args): text that is the same for the same arguments of the same types, and no
-- other.
function statement.encode(known, args)
    statement.check(known, args)
    local pieces = {}
    for i = 1, known.n_marks do
        local value = args[i]
        local kind = type(value)
        if kind == "number" then
            pieces[i] = (math.type(value) == "integer" and "i%d;" or "f%.17g;"):format(value)
        elseif kind == "string" or statement.is_blob(value) then
            local bytes = value.bytes or value
            pieces[i] = (kind == "string" and "s%d:" or "x%d:"):format(#bytes) .. bytes
        elseif kind == "boolean" or value == nil then
            pieces[i] = tostring(value) .. ";"
        else
            misuse.raise("argument %d: a %s is no value of SQL", i, kind)
        end
    end
    return table.concat(pieces)
end

return statement
