-- SPDX-License-Identifier: MIT
--
-- parts.lua - what a host with a Lua 5.3 gets beside the module: its parts that are written in Lua
-- are read by 5.3 as well, and the module for 5.4, found by mistake, is refused and does no harm.
--
-- usage: lua5.3 parts.lua ROOT MODULE     MODULE: for 5.4

local spec = require "spec"

local folder = arg[1] .. "/scripts/perilune"
for name in (spec.run("ls '" .. folder .. "'")):gmatch "([%w_]+%.lua)\n" do
  spec.test(name .. " is read", function()
    assert(loadfile(folder .. "/" .. name))
  end)
end

spec.test("the module for 5.4 is refused", function()
  local open, message = package.loadlib(arg[2], "luaopen_perilune")
  if open then
    spec.raises("version mismatch", open)
  else
    spec.contains(message, "undefined symbol")
  end
end)

spec.finish()
