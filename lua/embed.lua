-- SPDX-License-Identifier: MIT
--
-- embed.lua - makes a Lua file a part of the program: an array in C, for main.c.
--
-- usage: lua5.4 embed.lua SCRIPT OUTPUT

local script, output = arg[1], arg[2]

local input = assert(io.open(script, "rb"))
local text = input:read "a"
input:close()
assert(load(text, "@" .. script, "t")) -- a slip is found at build time

local bytes = text:gsub(".", function(c)
  return c:byte() .. (c == "\n" and ",\n" or ",")
end)

local file = assert(io.open(output, "w"))
file:write('#include "program.h"\n\nconst unsigned char pln_program_script[] = {\n', bytes,
  "};\nconst unsigned pln_program_script_len = sizeof pln_program_script;\n")
assert(file:close())
