-- SPDX-License-Identifier: MIT
--
-- perilune_arguments.lua - what the program perilune makes of a command line: a command's options
-- and the rest, the cache that the options describe, and complaints.
--
-- It is part of the program: called with the table that perilune_program.lua is called with, it
-- returns what is there as program.arguments.

local program = ...
local perilune = require "perilune"

local FAILED = 1

local function complain(format, ...)
  io.stderr:write("perilune: ", format:format(...), "\n")
end

-- Raised for wrong usage; caught at the end of perilune_program.lua.
local function refuse(format, ...)
  error({ usage = format:format(...) }, 0)
end

-- Raised for what did not work; likewise.
local function fail(message, code)
  error({ failure = message, code = code or FAILED }, 0)
end

local function dashed(name)
  return "--" .. name:gsub("_", "-")
end

local is_cache_option = {}
for _, name in ipairs(program.options) do
  is_cache_option[dashed(name)] = name
end

local function refuse_option(command, name)
  local known = { "--help" }
  for option in pairs(command.options) do
    known[#known + 1] = option
  end
  for option in pairs(is_cache_option) do
    known[#known + 1] = option
  end
  local nearest = program.nearest(name, known)
  refuse("unknown option '%s'%s", name, nearest and (", did you mean '%s'?"):format(nearest) or "")
end

-- Puts one option where it belongs; returns false where it took no value.
local function take_option(command, name, value, given)
  local kind = command.options[name]
  if not kind and not is_cache_option[name] then
    refuse_option(command, name)
  end
  if kind == "flag" then
    given[name] = true
    return false
  end
  if not value then
    refuse("option '%s' wants a value", name)
  end
  if kind == "list" then
    given[name] = given[name] or {}
    table.insert(given[name], value)
  elseif kind then
    given[name] = value
  else
    given.open[is_cache_option[name]] = value
  end
  return true
end

-- Splits a command's arguments into options and the rest. "--name value" and "--name=value".
local function parse(command, arguments)
  local given, rest = { open = {} }, {}
  local i = 1
  while i <= #arguments do
    local argument = arguments[i]
    local name, value = argument:match "^(%-%-[^=]+)=(.*)$"
    if argument == "--" then
      table.move(arguments, i + 1, #arguments, #rest + 1, rest)
      break
    elseif name then
      if not take_option(command, name, value, given) then
        refuse("option '%s' takes no value", name)
      end
    elseif argument:find "^%-." then
      local took = take_option(command, argument == "-p" and "--policy" or argument,
        arguments[i + 1], given)
      i = took and i + 1 or i
    else
      rest[#rest + 1] = argument
    end
    i = i + 1
  end
  return given, rest
end

-- "1000" or "1000/s" -> 1000.0
local function rate(text, what, example)
  local number = tonumber(text:match "^([%d.eE+-]+)$" or text:match "^([%d.eE+-]+)/s$")
  if not number or number < 1e-6 or number > 1e9 then
    refuse("option '--rate' must be %s per second from 1e-6 to 1e9, such as \"%s\", got '%s'", what,
      example, text)
  end
  return number
end

-- Calls what takes words of the command line as they are: where it raises, they are wrong usage.
local function try(f, ...)
  local results = table.pack(pcall(f, ...))
  if not results[1] then
    refuse("%s", (tostring(results[2]):gsub("^bad argument #%d+ to '[^']*' %((.*)%)$", "%1")))
  end
  return table.unpack(results, 2, results.n)
end

-- Opens the cache that the options describe.
local function open(given, needs_redis)
  if needs_redis and not given.open.redis then
    refuse "option '--redis' is needed: without it there is nothing to look at"
  end
  local cache, message = try(perilune.open, given.open)
  return cache or fail(message)
end

-- The results of a call to the cache, or the end.
local function check(result, message, code)
  if result == nil and message then
    fail(("%s (%s)"):format(message, code))
  end
  return result, code
end

return {
  complain = complain, refuse = refuse, fail = fail, parse = parse, rate = rate, try = try,
  open = open, check = check,
}
