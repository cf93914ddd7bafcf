-- SPDX-License-Identifier: MIT
--
-- run.lua - runs a spec under Lua 5.3. The specs are written for 5.4; what 5.3 does not know of its
-- grammar is turned into calls: `local x <close> = y` becomes `local x = CLOSING ^ y`, and what was
-- noted so is closed when the test ends.
--
-- usage: lua5.3 run.lua SPEC

local spec = require "spec"

-- Tests of what is not there in 5.3, by name, and why.
local skipped = {
}

local noted = {}

local function close_from(first)
  for i = #noted, first, -1 do
    local object = table.remove(noted, i)
    local metatable = debug.getmetatable(object)
    metatable.__close(object)
  end
end

local closing = setmetatable({}, {
  __pow = function(_, object)
    if object then
      assert(debug.getmetatable(object).__close, "cannot be closed")
      noted[#noted + 1] = object
    end
    return object
  end,
})

local test = spec.test
function spec.test(name, body)
  if skipped[name] then
    return test(name .. " # SKIP " .. skipped[name], function() end)
  end
  test(name, function()
    local first = #noted + 1
    local good, message = xpcall(body, debug.traceback)
    close_from(first)
    if not good then
      error(message, 0)
    end
  end)
end

local file = assert(io.open(arg[1]))
local text = file:read "a"
file:close()
text = text:gsub("(local [%w_]+) <close> =", "%1 = CLOSING ^"):gsub(" <const>", "")
local environment = setmetatable({ CLOSING = closing, arg = { [0] = arg[1] } }, { __index = _G })
assert(load(text, "@" .. arg[1], "t", environment))()
