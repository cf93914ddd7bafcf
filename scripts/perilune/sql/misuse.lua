-- SPDX-License-Identifier: MIT
--
-- perilune/sql/misuse.lua - wrong use is raised where it is found, and said of the line that
-- called: what it went through in between is none of the caller's.
--
--     local function deep(n)
--         return n > 0 and n or misuse.raise("a number over 0 is wanted, got %d", n)
--     end
--     module.shallow = misuse.blame(function(n) return deep(n) end)

local misuse = {}

local class = {}

function misuse.raise(format, ...)
    error(setmetatable({ text = format:format(...) }, class), 0)
end

-- The text of what was raised, whatever that is.
function misuse.text(problem)
    return getmetatable(problem) == class and problem.text or tostring(problem)
end

-- The nearest level of a caller in Lua, from that of who calls this on.
local function calling_level()
    local level = 3
    local info = debug and debug.getinfo(level, "l")
    while info and info.currentline < 0 do
        level = level + 1
        info = debug.getinfo(level, "l")
    end
    return level - 1
end

local function answer(good, ...)
    if good then
        return ...
    elseif getmetatable((...)) == class then
        error((...).text, calling_level())
    end
    error((...), 0)
end

-- f, with wrong use said of its caller.
function misuse.blame(f)
    return function(...)
        return answer(pcall(f, ...))
    end
end

return misuse
