-- SPDX-License-Identifier: MIT
--
-- etags.lua - entity tags: made from bytes, read from headers, and compared (RFC 9110, 8.8.3 and
-- 13.1).
--
-- A list that is not quite right matches nothing: then a client gets the whole answer (If-None-
-- Match), or its change is refused (If-Match), and nothing old is taken for new.

local perilune = require "perilune"

local etags = {}

local MOST_BYTES = 16384

-- make(bytes, [weak]) -> '"7d..."': 128 bits of a hash. A strong tag says that the bytes are the
-- same; a weak one, of a version or of what matters of a page, that one will do for the other.
function etags.make(bytes, weak)
  if type(bytes) ~= "string" then
    error(("a string was expected, got a %s"):format(type(bytes)), 2)
  end
  return (weak and 'W/"' or '"') .. perilune.hash(bytes) .. '"'
end

-- read(text) -> opaque part, is_weak | nil where it is no entity tag
function etags.read(text)
  if type(text) ~= "string" then
    return nil
  end
  local prefix, opaque = text:match '^(W?/?)("[\x21\x23-\x7e\x80-\xff]*")$'
  if prefix ~= "" and prefix ~= "W/" then
    return nil
  end
  return opaque, prefix == "W/"
end

-- The same tag, neither of them weak.
function etags.same_strong(a, b)
  local opaque_a, a_is_weak = etags.read(a)
  local opaque_b, b_is_weak = etags.read(b)
  return opaque_a ~= nil and opaque_a == opaque_b and not a_is_weak and not b_is_weak
end

-- The same but for weakness.
function etags.same_weak(a, b)
  local opaque = etags.read(a)
  return opaque ~= nil and opaque == (etags.read(b))
end

-- list(header) -> a list of the tags, or "*"; nil where it is neither.
function etags.list(header)
  if type(header) ~= "string" or #header > MOST_BYTES then
    return nil
  elseif header:find "^[ \t]*%*[ \t]*$" then
    return "*"
  end
  local tags, at = {}, 1
  while true do
    at = header:match("^[ \t,]*()", at)
    if at > #header then
      return #tags > 0 and tags or nil
    end
    local tag, after = header:match('^(W?/?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*()', at)
    if not tag or not etags.read(tag) or (after <= #header and header:byte(after) ~= 44) then
      return nil
    end
    tags[#tags + 1] = tag
    at = after
  end
end

-- Whether a header's list has the tag (nil: there is none); `*` fits whatever there is.
function etags.matches(header, tag, same)
  local tags = etags.list(header)
  if tags == "*" then
    return true
  end
  for _, candidate in ipairs(tags or {}) do
    if tag and same(candidate, tag) then
      return true
    end
  end
  return false
end

return etags
