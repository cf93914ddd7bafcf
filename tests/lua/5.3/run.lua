-- SPDX-License-Identifier: MIT
--
-- run.lua - runs a spec under Lua 5.3. The specs are written for 5.4; what 5.3 does not know of its
-- grammar is turned into calls: `local x <close> = y` becomes `local x = CLOSING ^ y`, and what is
-- noted so is closed when the test ends.
--
-- usage: lua5.3 run.lua SPEC

local spec = require "spec"

-- Tests of what is not there in 5.3, by name, and why.
local skipped = {
  ["a cache is closed at the end of its block"] = "there is no <close>",
  ["a lock ends with its block, also by an error"] = "there is no <close>",
  ["a finalizer cannot close the cache while test_policy lists its tests"] =
    "the collector is set in words of 5.4",
}

local noted = {}

local function close_from(first)
  for i = #noted, first, -1 do
    local object = table.remove(noted, i)
    debug.getmetatable(object).__close(object)
  end
end

local function note(object)
  local metatable = debug.getmetatable(object)
  if metatable and metatable.__close then -- which files have not
    noted[#noted + 1] = object
  end
end

local closing = setmetatable({}, {
  __pow = function(_, object)
    note(object)
    return object
  end,
  __call = function(_, ...)
    note((...))
    return ...
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
text = text:gsub("(local [%w_]+) <close> =", "%1 = CLOSING ^")
  :gsub("(local [%w_]+) <close>(, [%w_]+) = ([^\n]+)", "%1%2 = CLOSING(%3)"):gsub(" <const>", "")
local environment = setmetatable({ CLOSING = closing, arg = { [0] = arg[1] } }, { __index = _G })
assert(load(text, "@" .. arg[1], "t", environment))()
