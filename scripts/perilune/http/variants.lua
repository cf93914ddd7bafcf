-- SPDX-License-Identifier: MIT
--
-- variants.lua - the keys that answers are stored under: of what a request asks for, and of the
-- fields of the request that an answer varies by (RFC 9111, 2 and 4.1).
--
-- An answer with a Vary that the options do not name is not stored under the first key but leaves a
-- marker there: the names, and an id. Answers are then under that key, the id and a hash of the
-- request's values. The id is new with each marker, so who deletes the first key reaches them all.

local perilune = require "perilune"
local fields = require "perilune.http.fields"

local variants = {}

local LONGEST = 1024 -- of a first key that can be read; a longer one is a hash
local MOST = 4000 -- of one of the program's: with what answers vary by, a key may have 4096 bytes
local MOST_NAMES = 16

local function escape(text)
  return (text:gsub("[^%w.:%[%]_-]", function(byte)
    return ("%%%02X"):format(byte:byte())
  end))
end

-- The part of a key that says whose request it is: scheme and host.
local function place_of(request)
  local host = request.host or fields.text(request.headers.host) or ""
  local scheme = request.scheme and escape(request.scheme:lower()) .. "://" or ""
  return scheme .. escape(host:lower())
end

-- Whether a target can be a key's: a path of visible ASCII without a fragment.
function variants.has_key(request)
  return request.path:find "^/[\x21\x22\x24-\x7e]*$" ~= nil
end

-- first(request, prefix) -> "http:example.org/path?query"
function variants.first(request, prefix)
  local place = prefix .. place_of(request)
  if #place + #request.path <= LONGEST then
    return place .. request.path
  end
  return prefix .. "#" .. perilune.hash(place .. request.path)
end

-- A first key of the program's; a client that sends a long path has it end in a hash.
function variants.bounded(key)
  if type(key) ~= "string" or #key <= MOST then
    return key
  end
  return key:sub(1, LONGEST) .. "#" .. perilune.hash(key)
end

-- The names of a Vary, in lower case and in order, each once; nil where they are too many.
function variants.names(header)
  local names, seen = {}, {}
  for name in (fields.text(header) or ""):lower():gmatch "[^%s,]+" do
    if not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return #names <= MOST_NAMES and names or nil
end

-- Whether every name is among some.
function variants.are_among(names, some)
  local is_there = {}
  for _, name in ipairs(some) do
    is_there[name] = true
  end
  for _, name in ipairs(names) do
    if not is_there[name] then
      return false
    end
  end
  return true
end

-- What a request says for the names, as a text that no other values have. Blanks around commas make
-- no difference in Accept and its kind; in others they may, and what else makes none is for the
-- options' `normalize` to say (RFC 9111, 4.1).
function variants.values(request, names, normalize)
  local parts = {}
  for i, name in ipairs(names) do
    local value = fields.text(request.headers[name])
    if value and normalize and normalize[name] then
      value = normalize[name](value)
    elseif value and name:find "^accept" and not value:find('"', 1, true) then
      value = value:gsub("[^,]*", fields.trim)
    end
    parts[i] = value and ("%d:%s"):format(#value, value) or "-"
  end
  return table.concat(parts)
end

function variants.key(first, id, request, names, normalize)
  return ("%s#%s#%s"):format(first, id, perilune.hash(variants.values(request, names, normalize)))
end

local n_ids = 0

-- An id that no other marker has, here or elsewhere.
function variants.new_id(first)
  n_ids = n_ids + 1
  local seed = { first, n_ids, perilune.clock(), os.time(), tostring(n_ids), tostring({}),
    math.random() }
  return perilune.hash(table.concat(seed, "/")):sub(1, 12)
end

return variants
