-- SPDX-License-Identifier: MIT
--
-- check_layers.lua - keeps the plan of the house: who may include whom, which library belongs to
-- which room, and how long a file and a function may be.
--
-- usage: lua5.4 check_layers.lua ROOT

local root = arg[1] or "."
package.path = root .. "/tests/house/?.lua;" .. package.path
local tree = require "tree"

local MAX_FILE_LINES, MAX_FUNCTION_LINES = 500, 60

-- Own headers: the first line whose pattern fits the includer holds. `may` are patterns of paths.
-- The Lua room has two halves: what programs call, which stands on the public header, and the
-- policies, which the core calls. internal.h is where they meet.
local BINDING = { "^core/perilune[_%l]*%.h$", "^lua/internal%.h$", "^lua/module%.h$",
    "^lua/op%.h$", "^lua/put_off%.h$", "^lua/program%.h$", "^lua/trace%.h$",
    "^lua/watch[_%l]*%.h$" }
local POLICY = { "^core/perilune[_%l]*%.h$", "^core/policy%.h$", "^core/base/", "^lua/internal%.h$",
    "^lua/script%.h$", "^lua/calling%.h$" }
local BINDING_FILES = { "module", "options", "reads", "writes", "wrap", "control", "keys", "memory",
    "value", "op", "main", "run", "program", "given", "locks", "limits", "sessions", "answers",
    "data", "hashes", "scans", "boards", "watch",
    "watch_given", "watch_judge", "watch_report", "watch_work", "policies", "hangup", "warming",
    "trace", "simulate", "shadow", "engine", "async", "async_calls", "decoded", "terms", "prompt",
    "editor", "swaps", "bulk", "keying", "hearing",
    "queries", "queue", "put_off" }
local rules = {
    { "^core/perilune[_%l]*%.h$", { "^core/perilune[_%l]*%.h$" } },
    { "^core/policy%.h$", { "^core/base/", "^core/perilune[_%l]*%.h$" } },
    { "^core/base/", { "^core/base/", "^core/perilune[_%l]*%.h$" } },
    { "^core/", { "^core/", "^l1/l1%.h$", "^l2/l2%.h$" } },
    { "^l1/", { "^l1/", "^core/base/", "^core/perilune[_%l]*%.h$" } },
    { "^l2/", { "^l2/", "^core/base/", "^core/perilune[_%l]*%.h$" } },
    { "^lua/internal%.h$", { "^core/perilune[_%l]*%.h$", "^core/base/", "^lua/compat%.h$" } },
    { "^lua/", POLICY },
    { "^tests/", { "" } },
}
for _, name in ipairs(BINDING_FILES) do
    table.insert(rules, 1, { "^lua/" .. name .. "%.[ch]$", BINDING })
end

-- Libraries: a header that fits may be included only from the folders named.
local libraries = {
    { "^hiredis", { "^l2/", "^tests/" } },
    { "^openssl/", { "^l2/", "^tests/" } },
    { "^jansson", { "^core/", "^lua/json%.c$" } },
    { "^lz4", { "^core/" } },
    { "^zstd", { "^core/" } },
    { "^ck_", { "^l1/", "^tests/l1/", "^tests/bench/" } },
    { "^lua", { "^lua/", "^tests/" } },
    { "^lauxlib", { "^lua/", "^tests/" } },
}

local function fits(text, patterns)
    for _, pattern in ipairs(patterns) do
        if text:find(pattern) then
            return true
        end
    end
    return false
end

-- "l1/table.c" and "../core/base/base.h" give "core/base/base.h".
local function resolve(includer, name)
    local parts = {}
    for part in (includer:match "^(.*/)" .. name):gmatch "[^/]+" do
        if part == ".." then
            table.remove(parts)
        elseif part ~= "." then
            parts[#parts + 1] = part
        end
    end
    return table.concat(parts, "/")
end

-- A private header opens only to its own room, and to that room's tests.
local function is_private_to_another(path, target)
    local room = target:match "^(.*)/internal%.h$" or target:match "^(core)/engine%.h$"
    if not room then
        return false
    end
    local own = path:match "^(.*)/[^/]*$"
    return own ~= room and not path:find("^tests/" .. room .. "/") and
        not path:find "^tests/bench/" and not path:find "^tests/fuzz/" and
        not path:find "^tests/sim/"
end

local function check_own(path, target, where, found)
    for _, rule in ipairs(rules) do
        if path:find(rule[1]) then
            if not fits(target, rule[2]) then
                found[#found + 1] = where .. ": may not include " .. target
            elseif is_private_to_another(path, target) then
                found[#found + 1] = where .. ": " .. target .. " is private to its folder"
            end
            return
        end
    end
    found[#found + 1] = where .. ": no rule says what this folder may include"
end

local function check_library(path, header, where, found)
    for _, library in ipairs(libraries) do
        if header:find(library[1]) and not fits(path, library[2]) then
            found[#found + 1] = where .. ": <" .. header .. "> belongs to another room"
        end
    end
end

local function check_includes(file, lines, found)
    for number, line in ipairs(lines) do
        local where = file.path .. ":" .. number
        local own = line:match '^%s*#%s*include%s+"([^"]+)"'
        local library = line:match '^%s*#%s*include%s+<([^>]+)>'
        if own then
            check_own(file.path, resolve(file.path, own), where, found)
        elseif library then
            check_library(file.path, library, where, found)
        end
    end
end

-- A function begins with a line at the margin and ends with "}" at the margin. .clang-format sees
-- to both. A header over several lines counts from its first.
local function check_functions(file, lines, found)
    local header, start = "", nil
    for number, line in ipairs(lines) do
        if line:find "^}" then
            if start and number - start + 1 > MAX_FUNCTION_LINES then
                found[#found + 1] = ("%s:%d: function of %d lines, at most %d"):format(file.path,
                    start, number - start + 1, MAX_FUNCTION_LINES)
            end
            header, start = "", nil
        elseif not start and line:find "^[%a_]" then
            header = line
            start = line:find "%)%s*{$" and number
        elseif not start and line:find "^%s+.*%)%s*{$" and header:find "^[^;={]+$" then
            start = number
        end
    end
end

local function check(files)
    local found = {}
    for _, file in ipairs(files) do
        local lines = tree.lines(file.text)
        if #lines > MAX_FILE_LINES then
            found[#found + 1] = ("%s: %d lines, at most %d"):format(file.path, #lines,
                MAX_FILE_LINES)
        end
        if file.path:find "%.[ch]$" then
            check_includes(file, lines, found)
            check_functions(file, lines, found)
        end
    end
    return found
end

local long_function = "int f(int a,\n      int b) {\n" .. ("    a++;\n"):rep(60) .. "}\n"
local samples = {
    { "l1 may not know l2", { ["l1/x.c"] = '#include "../l2/l2.h"\n' }, "may not include l2/l2.h" },
    { "the ground may not look up", { ["core/base/x.c"] = '#include "../policy.h"\n' },
        "core/policy.h" },
    { "the core keeps out of private headers", { ["core/x.c"] = '#include "../l1/internal.h"\n' },
        "may not include l1/internal.h" },
    { "a test keeps out of another room's private header",
        { ["tests/l2/x.c"] = '#include "../../l1/internal.h"\n' }, "is private" },
    { "a test may open its own room's", { ["tests/l1/x.c"] = '#include "../../l1/internal.h"\n' } },
    { "the binding sees the public header alone",
        { ["lua/module.c"] = '#include "../core/policy.h"\n' },
        "may not include core/policy.h" },
    { "the binding does not see the policies",
        { ["lua/reads.c"] = '#include "script.h"\n' }, "may not include lua/script.h" },
    { "the policy machine sees the seam", { ["lua/vm.c"] = '#include "../core/policy.h"\n' } },
    { "the core stays without Lua", { ["core/x.c"] = "#include <lua.h>\n" }, "another room" },
    { "l1 stays without hiredis", { ["l1/x.c"] = "#include <hiredis/hiredis.h>\n" },
        "another room" },
    { "a long file is found", { ["l2/x.c"] = ("int a;\n"):rep(501) }, "501 lines" },
    { "a long function is found", { ["l2/x.c"] = long_function }, "function of 62 lines" },
    { "a long table is no function", { ["l2/x.c"] = "static const int t[] = {\n" ..
        ("    1,\n"):rep(80) .. "};\nstruct s {\n" .. ("    int a;\n"):rep(80) .. "};\n" } },
}

tree.run(check, samples, "the tree keeps its layers and sizes",
    tree.read(root, "core l1 l2 lua scripts tests", { c = true, h = true, lua = true }))
