-- SPDX-License-Identifier: MIT
--
-- documented.lua - the types for editors, the reference and the module name the same functions.
-- usage: documented.lua REPOSITORY

local perilune = require "perilune"
local spec = require "spec"

local root = arg[1]

local function read(name)
  local file = assert(io.open(root .. "/" .. name))
  local text = file:read "a"
  file:close()
  return text
end

local function files(folder, ending)
  local list = assert(io.popen("ls '" .. root .. "/" .. folder .. "'"))
  local names = {}
  for name in list:lines() do
    if name:sub(-#ending) == ending then
      names[#names + 1] = folder .. "/" .. name
    end
  end
  list:close()
  return names
end

local types, pages = {}, {}
for _, name in ipairs(files("lua/types", ".d.lua")) do
  types[#types + 1] = read(name)
end
for _, name in ipairs(files("lua/reference", ".md")) do
  pages[#pages + 1] = read(name)
end
types, pages = table.concat(types, "\n"), table.concat(pages, "\n")

-- What the module really has, by the class that the types give it.
local cache <close> = assert(perilune.open { log = false })
local memory <close> = perilune.memory "documented"
local classes = {
  perilune = perilune,
  Cache = debug.getmetatable(cache).__index,
  Memory = debug.getmetatable(memory).__index,
  Board = debug.getmetatable(cache:board "b").__index,
  Sessions = debug.getmetatable(cache:sessions()).__index,
  Op = debug.getmetatable(cache:get_async "k").__index,
}

local function declared(class)
  local names = {}
  for name in types:gmatch("function " .. class .. "[.:]([%w_]+)%(") do
    names[name] = true
  end
  return names
end

for class, really in pairs(classes) do
  spec.test("all of " .. class .. " is in the types, and nothing else", function()
    local names = declared(class)
    for name, value in pairs(really) do
      if type(value) == "function" and name:sub(1, 2) ~= "__" then
        spec.same(names[name], true, "lua/types: " .. class .. "." .. name)
        names[name] = nil
      end
    end
    spec.same(next(names), nil, "lua/types: what " .. class .. " has not")
  end)
end

spec.test("the reference has every function, what it returns, and whether it waits", function()
  local titles = { perilune = "perilune%.", Cache = "cache:", Memory = "memory:", Board = "board:",
    Sessions = "sessions:", Op = "op:" }
  for class, really in pairs(classes) do
    for name, value in pairs(really) do
      if type(value) == "function" and name:sub(1, 2) ~= "__" then
        local at = pages:find("\n###? [^\n]*" .. titles[class] .. name .. "%f[^%w_]")
        spec.same(at ~= nil, true, "lua/reference: " .. class .. "." .. name)
        local entry = pages:sub(at, (pages:find("\n#", at + 4) or #pages + 1) - 1)
        for _, word in ipairs { "eturns", "lock" } do -- Returns or returns; Blocks, may block
          spec.same(entry:find(word, 1, true) ~= nil, true, name .. " says '" .. word .. "'")
        end
      end
    end
  end
end)

spec.test("the codes in the types are those of the core, and that of a lock", function()
  local names = { lost = true }
  for name in read("core/base/base.c"):gmatch('{PLN_[%u%d_]+, "([%l%d_]+)"') do
    names[name] = name ~= "ok" or nil
  end
  for name in types:match("@alias perilune.Code ([^\n]+)"):gmatch '"([^"]+)"' do
    spec.same(names[name], true, "a code of the types: " .. name)
    names[name] = nil
  end
  spec.same(next(names), nil, "a code that the types lack")
end)

spec.finish()
