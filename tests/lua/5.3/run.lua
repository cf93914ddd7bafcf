-- SPDX-License-Identifier: MIT
--
-- run.lua - runs a spec under Lua 5.3. The specs are written for 5.4; what 5.3 does not know of its
-- grammar is turned into calls: `local x <close> = y` becomes `local x = CLOSING ^ y`, and what is
-- noted so is closed when the test ends. So it is in what a spec requires from the specs' folder.
--
-- usage: lua5.3 run.lua SPEC [ARGUMENT...]

-- Tests of what is not there in 5.3, by name, and why.
local NO_CLOSE, NO_COROUTINE_CLOSE = "there is no <close>", "there is no coroutine.close"
local skipped = {
  ["a cache is closed at the end of its block"] = NO_CLOSE,
  ["a lock ends with its block, also by an error"] = NO_CLOSE,
  ["an engine stays when its handles are closed, until it is ended by name"] = NO_CLOSE,
  ["a cache in which nobody waits is closed at once, and by its block"] = NO_CLOSE,
  ["and one whose variable is closed"] = NO_CLOSE,
  ["a lock behind an adapter ends with its block"] = NO_CLOSE,
  ["so does one that is collected with its coroutine"] = "what is to be closed is held here",
  ["a loop that is left gives up what it held"] = NO_CLOSE,
  ["two processes add at the same time, and every addition counts"] = "the program reads 5.4",
  ["a coroutine that is closed cancels, and the next one loads"] = NO_COROUTINE_CLOSE,
  ["a coroutine that is closed gives its lock back, and waits for nothing"] = NO_COROUTINE_CLOSE,
  ["an error of the host's comes through, and cancels"] = NO_COROUTINE_CLOSE,
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
local environment = setmetatable({
  CLOSING = closing,
  arg = { [0] = arg[1], table.unpack(arg, 2) },
}, { __index = _G })

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  text = text:gsub("(local [%w_]+) <close> =", "%1 = CLOSING ^")
    :gsub("(local [%w_]+) <close>(, [%w_]+) = ([^\n]+)", "%1%2 = CLOSING(%3)")
    :gsub(" <const>", "")
  return assert(load(text, "@" .. path, "t", environment))
end

-- Before Lua's own, which has the rest: what is not in the specs' folder must be good as it is.
table.insert(package.searchers, 2, function(name)
  local path = package.searchpath(name, (arg[0]:gsub("5%.3/[^/]*$", "?.lua")))
  return path and read(path) or "\n\tnot among the specs"
end)

local spec = require "spec"
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

read(arg[1])()
