-- SPDX-License-Identifier: MIT
--
-- perilune/sql/words.lua - cuts SQL into words as its database does, so that nobody takes for a
-- placeholder, a keyword or a blank what stands in quotes.
--
--     local kinds, texts = words.split("SELECT 'a?' -- why?", "sqlite3")
--
-- Pieces in order are the text again. Their kinds:
--
--   gap      white space, or a comment
--   word     a keyword or a name, as it is written
--   name     a name in quotes
--   string   a text in quotes, with what goes before and between them (E'a' 'b' over two lines)
--   number   digits
--   mark     ?
--   question ??, which stands for one ? that is no placeholder
--   open     from a quote or comment that does not end, to the end
--   other    one byte of what is left
--
-- PostgreSQL (15) and SQLite (3.40) differ: only the one has $tag$ quotes, backslashes in E'',
-- strings that go on in the next line, and comments in comments; only the other has [names] and
-- `names`, and ends a -- comment at no carriage return.

local words = {}

local SPACE = "^[ \t\n\r\f\v]+"
local NAME = "^[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*" -- %a would hang on the host's locale

-- The end of what is in quotes from `at` on, in which a doubled quote is one; nil: there is none.
local function end_of_quotes(text, at, quote)
    local from = at + 1
    while true do
        local stop = text:find(quote, from, true)
        if not stop or text:sub(stop + 1, stop + 1) ~= quote then
            return stop
        end
        from = stop + 2
    end
end

-- The same where a backslash takes the meaning from what follows it.
local function end_of_escaped(text, at)
    local from = at + 1
    while true do
        local stop = text:find("['\\]", from)
        if not stop or text:sub(stop, stop + 1):find "^'[^']?$" then
            return stop
        end
        from = stop + 2
    end
end

-- Where a string of PostgreSQL that ended before `at` goes on: a quote, with a line's end between,
-- and nothing else but blanks and -- comments.
local function next_part(text, at)
    local is_next_line = false
    while true do
        at = text:match("^[ \t\f\v]*()", at)
        if text:sub(at, at + 1) == "--" then
            at = text:find("[\n\r]", at)
        end
        local c = at and text:sub(at, at)
        if c == "\n" or c == "\r" then
            is_next_line = true
            at = at + 1
        else
            return c == "'" and is_next_line and at or nil
        end
    end
end

local function end_of_string(text, at, is_postgres, find)
    local stop = find(text, at, "'")
    local more = is_postgres and stop and next_part(text, stop + 1)
    if more then
        return end_of_string(text, more, is_postgres, find)
    end
    return stop
end

-- The end of a comment that may have others within.
local function end_of_nested(text, at)
    local depth, from = 1, at + 2
    while true do
        local stop = text:find("[*/][*/]", from)
        if not stop then
            return nil
        end
        local pair = text:sub(stop, stop + 1)
        depth = depth + (pair == "/*" and 1 or pair == "*/" and -1 or 0)
        if depth == 0 then
            return stop + 1
        end
        from = stop + ((pair == "/*" or pair == "*/") and 2 or 1)
    end
end

-- By the byte that a piece begins with: its kind and where it ends; a kind of "open" where it does
-- not; nothing where it is no such piece.
local readers = {}

local function as(kind, stop)
    return stop and kind or "open", stop
end

readers["-"] = function(text, at, is_postgres)
    if text:sub(at + 1, at + 1) == "-" then
        return "gap", (text:find(is_postgres and "[\n\r]" or "\n", at) or #text + 1) - 1
    end
end

readers["/"] = function(text, at, is_postgres)
    if text:sub(at + 1, at + 1) ~= "*" then
        return nil
    elseif is_postgres then
        return as("gap", end_of_nested(text, at))
    end
    return as("gap", select(2, text:find("*/", at + 2, true)))
end

readers["'"] = function(text, at, is_postgres)
    return as("string", end_of_string(text, at, is_postgres, end_of_quotes))
end

readers['"'] = function(text, at)
    return as("name", end_of_quotes(text, at, '"'))
end

readers["`"] = function(text, at, is_postgres)
    if not is_postgres then
        return as("name", end_of_quotes(text, at, "`"))
    end
end

readers["["] = function(text, at, is_postgres)
    if not is_postgres then
        return as("name", text:find("]", at, true))
    end
end

readers["$"] = function(text, at, is_postgres)
    local tag = is_postgres and (text:match("^%$[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*%$", at)
        or text:match("^%$%$", at))
    if tag then
        return as("string", select(2, text:find(tag, at + #tag, true)))
    end
end

readers["?"] = function(text, at)
    if text:sub(at + 1, at + 1) == "?" then
        return "question", at + 1
    end
    return "mark", at
end

local function read_word(text, at, is_postgres)
    local stop = select(2, text:find(NAME, at))
    if is_postgres and text:find("^[eE]'", at) then
        return as("string", end_of_string(text, at + 1, true, end_of_escaped))
    end
    return "word", stop
end

local function read_space(text, at)
    return "gap", select(2, text:find(SPACE, at))
end

local function read_digits(text, at)
    return "number", select(2, text:find("^[0-9]+", at))
end

for byte = 0, 255 do
    local c = string.char(byte)
    readers[c] = readers[c] or c:find(NAME) and read_word or c:find(SPACE) and read_space
        or c:find "^[0-9]" and read_digits or nil
end

-- split(text, dialect): kinds and texts of its pieces, each a list. The dialect is "postgres" or
-- "sqlite3".
---@param text string
---@param dialect "postgres"|"sqlite3"
---@return string[] kinds
---@return string[] texts
function words.split(text, dialect)
    local is_postgres = dialect == "postgres"
    local kinds, texts, n, at = {}, {}, 0, 1
    while at <= #text do
        local read = readers[text:sub(at, at)]
        local kind, stop
        if read then
            kind, stop = read(text, at, is_postgres)
        end
        if kind == "open" then
            stop = #text
        end
        n = n + 1
        kinds[n] = kind or "other"
        texts[n] = text:sub(at, stop or at)
        at = (stop or at) + 1
    end
    return kinds, texts
end

return words
