-- SPDX-License-Identifier: MIT
--
-- http_docs.lua - what is written about perilune.http: its types, its reference, its example.

local spec = require "spec"
local http = require "perilune.http"
local options_of = require("perilune.http.options").of

local root = assert(arg[0]:match "^(.*)tests/lua/")

local function text_of(path)
  local file <close> = assert(io.open(root .. path))
  return file:read "a"
end

spec.test("the types and the reference have every function, and no other", function()
  local types, reference = text_of "lua/types/http.d.lua", text_of "lua/reference/http.md"
  local described = {}
  for name in types:gmatch "\nfunction http%.([%w_]+)%(" do
    described[name] = true
    spec.same(type(http[name]), "function", name)
  end
  for name in pairs(http) do
    spec.same(described[name], true, name .. " in the types")
    spec.contains(reference, name .. "(")
  end
end)

spec.test("what the reference shows prints what it says, and the example runs", function()
  local program = assert(os.getenv "PERILUNE", "PERILUNE must name the program")
  local folder, remove = spec.folder()
  local n = 0
  for code, wanted in text_of "lua/reference/http.md":gmatch "```lua\n(.-)```\n```text\n(.-)```" do
    n = n + 1
    spec.write(folder .. "/block.lua", code)
    spec.same(spec.run(("'%s' run %s/block.lua"):format(program, folder)), wanted)
  end
  spec.same(n, 2)
  remove()
  local output, code, said = spec.run(("'%s' run %sscripts/examples/http_cache.lua"):format(
    program, root))
  spec.same({ code, said }, { 0, "" })
  spec.contains(output, "GET /tea -> 304, 0 bytes, l1\n")
  spec.contains(output, "GET /tea -> 200, 13 bytes, stale\n")
  spec.contains(output, "the CDN is sent a purge of: page:tea\n")
  spec.contains(output, "3 requests reached the upstream\n")
end)

spec.test("the types and the reference have every option of serve, and no other", function()
  local types, reference = text_of "lua/types/http.d.lua", text_of "lua/reference/http.md"
  local options = types:match "@class perilune.http.Options\n(.-)\n\n"
  for name in options:gmatch "@field ([%w_]+)%?" do
    local good, message = pcall(options_of, { [name] = 0 / 0 })
    assert(good or not message:find "unknown option", name)
    spec.contains(reference, "`" .. name .. "`")
  end
  for names in reference:match "\n| option |.-\n\n":gmatch "\n| ([^|]+) |" do
    for name in names:gmatch "`([%w_]+)`" do
      local good, message = pcall(options_of, { [name] = 0 / 0 })
      assert(good or not message:find "unknown option", name)
    end
  end
end)

spec.finish()
