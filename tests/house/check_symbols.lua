-- SPDX-License-Identifier: MIT
--
-- check_symbols.lua - keeps what the built files show to the world: the library exports what
-- perilune.h and its parts declare, all of it and nothing else; the Lua module exports its opener
-- alone, and is not linked with a Lua of its own (in a host with another Lua that would crash).
--
-- usage: lua5.4 check_symbols.lua ROOT LIBRARY MODULE...     MODULE: one for each Lua

local root, library = arg[1], arg[2]
package.path = root .. "/tests/house/?.lua;" .. package.path
local tree = require "tree"

local function output_of(command)
    local pipe = assert(io.popen(command))
    local text = pipe:read "a"
    assert(pipe:close(), command .. " failed")
    return text
end

-- The names that `nm -D --defined-only` lists, as a set.
local function exports(listing)
    local names = {}
    for name in listing:gmatch "%x+ %a ([^\n@ ]+)" do
        names[name] = true
    end
    return names
end

local function declared(header)
    local names = {}
    for name in ("\n" .. header):gmatch "\nPLN_API [^;(]-([%w_]+)%(" do
        names[name] = true
    end
    return names
end

local function check_library(header, listing, found)
    local wanted, shown = declared(header), exports(listing)
    for name in pairs(shown) do
        if not wanted[name] then
            found[#found + 1] = "the library shows " .. name .. ", unknown to perilune.h"
        end
    end
    for name in pairs(wanted) do
        if not shown[name] then
            found[#found + 1] = "the library lacks " .. name .. " of perilune.h"
        end
    end
end

local function check_module(listing, needed, found)
    local shown = exports(listing)
    if not shown.luaopen_perilune then
        found[#found + 1] = "the module lacks luaopen_perilune"
    end
    for name in pairs(shown) do
        if name ~= "luaopen_perilune" then
            found[#found + 1] = "the module shows " .. name
        end
    end
    local liblua = needed:match "NEEDED[^\n]*%[(liblua[^%]]*)%]"
    if liblua then
        found[#found + 1] = "the module is linked with " .. liblua
    end
end

-- Files are named by what they hold: header, library (nm), module (nm), needed (readelf); the
-- latter two end in the same number where there are more of them.
local function check(files)
    local texts, found = {}, {}
    for _, file in ipairs(files) do
        texts[file.path] = file.text
    end
    check_library(texts.header, texts.library, found)
    for path, text in pairs(texts) do
        local number = path:match "^module(%d*)$"
        if number then
            check_module(text, texts["needed" .. number], found)
        end
    end
    table.sort(found)
    return found
end

local function sample(changed)
    local texts = {
        header = "PLN_API int pln_open(int a);\nPLN_API const char *pln_name(size_t i);\n",
        library = "0000000000001129 T pln_open\n0000000000001130 T pln_name\n",
        module = "0000000000001129 T luaopen_perilune\n",
        needed = " 0x1 (NEEDED)  Shared library: [libc.so.6]\n",
    }
    for name, text in pairs(changed) do
        texts[name] = text
    end
    return texts
end

local samples = {
    { "a tidy library and module are fine", sample {} },
    { "a symbol too many is found",
        sample { library = "01 T pln_open\n02 T pln_name\n03 D table\n" }, "shows table" },
    { "a symbol too few is found", sample { library = "01 T pln_open\n" }, "lacks pln_name" },
    { "a module without its opener is found", sample { module = "" }, "lacks luaopen_perilune" },
    { "a module that shows more is found",
        sample { module = "01 T luaopen_perilune\n02 T pln_open\n" }, "the module shows pln_open" },
    { "a module linked with Lua is found",
        sample { needed = " 0x1 (NEEDED)  Shared library: [liblua5.4.so.0]\n" }, "liblua5.4.so.0" },
}

local header = ""
for _, name in ipairs { "perilune", "perilune_async", "perilune_bulk", "perilune_engine",
    "perilune_heard", "perilune_memory", "perilune_redis", "perilune_policy", "perilune_reload",
    "perilune_shadow", "perilune_simulate", "perilune_store", "perilune_swap", "perilune_values",
    "perilune_warm" } do
    header = header .. assert(io.open(root .. "/core/" .. name .. ".h")):read "a"
end
local real = {
    { path = "header", text = header },
    { path = "library", text = output_of("nm -D --defined-only '" .. library .. "'") },
}
for i = 3, #arg do
    local function add(name, command)
        real[#real + 1] = { path = name .. i, text = output_of(command .. " '" .. arg[i] .. "'") }
    end
    add("module", "nm -D --defined-only")
    add("needed", "readelf -d")
end
tree.run(check, samples, "library and module show what they should, and nothing else", real)
