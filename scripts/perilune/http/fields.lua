-- SPDX-License-Identifier: MIT
--
-- fields.lua - the header fields of a message, as tables: names in lower case, and a text for each,
-- or a list of texts where a field came more than once.
--
-- What comes from outside is copied into that form and loses what cannot stand in a message: a name
-- that is no token, and a line's end or a zero in a value, which would let its writer add fields of
-- his own, and becomes a blank (RFC 9110, 5.5): what a damaged field forbids stays forbidden.

local fields = {}

-- Fields of one connection, not of the message (RFC 9110, 7.6.1).
local of_connection = {
  ["connection"] = true, ["keep-alive"] = true, ["proxy-authenticate"] = true,
  ["proxy-authentication-info"] = true, ["proxy-authorization"] = true,
  ["proxy-connection"] = true, ["te"] = true, ["trailer"] = true, ["transfer-encoding"] = true,
  ["upgrade"] = true,
}

-- Those that are for all who get it, and that nobody may have dropped by naming them in Connection.
local for_all = {
  ["authorization"] = true, ["cache-control"] = true, ["cookie"] = true, ["host"] = true,
  ["set-cookie"] = true, ["vary"] = true,
}

-- Without the blanks around it. A pattern for both ends at once would take the square of the time
-- for many blanks in the midst.
function fields.trim(text)
  local from = text:find "[^ \t]"
  return from and text:match("^.*[^ \t]", from) or ""
end

local function clean_value(value)
  if type(value) == "number" then
    value = tostring(value)
  end
  if type(value) ~= "string" then
    return nil
  end
  return fields.trim((value:gsub("[\0\r\n]", " ")))
end

local function clean(value)
  if type(value) ~= "table" then
    return clean_value(value)
  end
  local list = {}
  for _, one in ipairs(value) do
    list[#list + 1] = clean_value(one)
  end
  return #list > 1 and list or list[1]
end

-- A value as one text: a field that came more than once is a list with commas (RFC 9110, 5.3).
function fields.text(value)
  return type(value) == "table" and table.concat(value, ", ") or value
end

-- The same for a server that takes one text a field. Cookies cannot be a list, for there are commas
-- in them (RFC 6265, 3): each gets a line of its own. No value has an end of line in it.
function fields.lines(name, value)
  return name == "set-cookie" and type(value) == "table"
    and table.concat(value, "\r\nSet-Cookie: ") or fields.text(value)
end

-- A copy of the fields of a message, in the form above, without those of the connection. Two names
-- that differ in case only are one field.
function fields.copy(headers)
  local copy = {}
  for name, value in pairs(type(headers) == "table" and headers or {}) do
    value = type(name) == "string" and name:find "^[%w!#$%%&'*+.^_`|~-]+$" and clean(value)
    if value then
      name = name:lower()
      local before = copy[name]
      if before then
        local list = type(before) == "table" and before or { before }
        for _, one in ipairs(type(value) == "table" and value or { value }) do
          list[#list + 1] = one
        end
        value = list
      end
      copy[name] = value
    end
  end
  for name in (fields.text(copy.connection) or ""):lower():gmatch "[^%s,]+" do
    if not for_all[name] then
      copy[name] = nil
    end
  end
  for name in pairs(of_connection) do
    copy[name] = nil
  end
  return copy
end

return fields
