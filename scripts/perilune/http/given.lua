-- SPDX-License-Identifier: MIT
--
-- given.lua - what the rooms of perilune.http are given by programs: tables of options, checked for
-- unknown names, and durations.

local given = {}

local seconds_of = { [""] = 1, ms = 0.001, s = 1, m = 60, min = 60, h = 3600, d = 86400,
  w = 7 * 86400 }

-- How many letters differ; names are short.
local function distance(a, b)
  local row = {}
  for j = 0, #b do
    row[j] = j
  end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j) and 0 or 1
      diagonal, row[j] = row[j], math.min(diagonal + same, row[j] + 1, row[j - 1] + 1)
    end
  end
  return row[#b]
end

-- Raises where the table has a name that `known`, a table by name, has not.
function given.check_names(options, known, level)
  for name in pairs(options) do
    if known[name] == nil then
      local nearest, least = nil, 3 -- two edits are a slip, three another word
      for candidate in pairs(known) do
        local edits = distance(candidate, tostring(name))
        if edits < least then
          nearest, least = candidate, edits
        end
      end
      error(("unknown option '%s'%s"):format(tostring(name),
        nearest and (", did you mean '%s'?"):format(nearest) or ""), (level or 1) + 1)
    end
  end
end

-- A duration in seconds: of a number, or of a text such as "15m" or "forever"; nil where it is
-- none.
function given.seconds(value)
  if type(value) == "number" then
    return value >= 0 and value or nil
  elseif value == "forever" then
    return math.huge
  elseif type(value) ~= "string" then
    return nil
  end
  local number, unit = value:match "^([%d.]+)(%a*)$"
  local factor = unit and seconds_of[unit:lower()]
  number = factor and tonumber(number)
  return number and number * factor
end

-- The same of an option, which raises where it is none, and may be left out.
function given.duration(options, name, otherwise)
  if options[name] == nil then
    return otherwise
  end
  local seconds = given.seconds(options[name])
  if not seconds then
    error(("option '%s' must be a duration, such as 30 or \"15m\", got %s '%s'"):format(name,
      type(options[name]), tostring(options[name])), 3)
  end
  return seconds
end

-- An option of one of some types ("string", "function", ...); raises where it is of another.
function given.typed(options, name, types)
  local value = options[name]
  if value ~= nil and not (" " .. types .. " "):find(" " .. type(value) .. " ", 1, true) then
    error(("option '%s' must be a %s, got a %s"):format(name, types:gsub(" ", " or a "),
      type(value)), 3)
  end
  return value
end

return given
