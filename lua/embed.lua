-- SPDX-License-Identifier: MIT
--
-- embed.lua - makes Lua files a part of the program: arrays in C, for main.c.
--
-- usage: lua5.4 embed.lua OUTPUT SCRIPT...

local parts = { '#include "program.h"\n\n' }
local list = {}
for i = 2, #arg do
  local input = assert(io.open(arg[i], "rb"))
  local text = input:read "a"
  input:close()
  local name = arg[i]:match "([^/]+)%.lua$"
  assert(load(text, "=" .. name, "t")) -- a slip is found at build time
  local bytes = text:gsub(".", function(c)
    return c:byte() .. (c == "\n" and ",\n" or ",")
  end)
  parts[#parts + 1] = ("static const unsigned char script_%d[] = {\n%s};\n\n"):format(i - 1, bytes)
  list[#list + 1] = ('    {"%s", script_%d, sizeof script_%d},\n'):format(name, i - 1, i - 1)
end

local file = assert(io.open(arg[1], "w"))
file:write(table.concat(parts), "const struct pln_program_script pln_program_scripts[] = {\n",
  table.concat(list), "    {0},\n};\n")
assert(file:close())
