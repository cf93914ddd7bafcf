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
  KeyMaker = perilune.key,
  Cache = debug.getmetatable(cache).__index,
  Memory = debug.getmetatable(memory).__index,
  Board = debug.getmetatable(cache:board "b").__index,
  Sessions = debug.getmetatable(cache:sessions()).__index,
  Op = debug.getmetatable(cache:get_async "k").__index,
}

-- A function, or a table that is called as one: `perilune.key`.
local function is_function(name, value)
  local class = debug.getmetatable(value)
  return name:sub(1, 2) ~= "__" and
    (type(value) == "function" or (type(value) == "table" and class and class.__call ~= nil))
end

-- Fields of each class whose own class can be called.
local callable = {}
do
  local class
  for line in types:gmatch "[^\n]*" do
    class = line:match "^%-%-%-@class ([%w.]+)" or line:find "^%-%-%-" and class or nil
    local name, of = line:match "^%-%-%-@field ([%w_]+) (perilune%.%w+)"
    if class and name and types:find("@class " .. of .. "\n---@overload", 1, true) then
      callable[class] = callable[class] or {}
      callable[class][name] = true
    end
  end
end

local function declared(class)
  local names = {}
  for name in pairs(callable[class == "perilune" and class or "perilune." .. class] or {}) do
    names[name] = true
  end
  for name in types:gmatch("function " .. class .. "[.:]([%w_]+)%(") do
    names[name] = true
  end
  return names
end

for class, really in pairs(classes) do
  spec.test("all of " .. class .. " is in the types, and nothing else", function()
    local names = declared(class)
    for name, value in pairs(really) do
      if is_function(name, value) then
        spec.same(names[name], true, "lua/types: " .. class .. "." .. name)
        names[name] = nil
      end
    end
    spec.same(next(names), nil, "lua/types: what " .. class .. " has not")
  end)
end

spec.test("the reference has every function, what it returns, and whether it waits", function()
  local titles = { perilune = "perilune%.", KeyMaker = "perilune%.key%.", Cache = "cache:",
    Memory = "memory:", Board = "board:", Sessions = "sessions:", Op = "op:" }
  for class, really in pairs(classes) do
    for name, value in pairs(really) do
      if is_function(name, value) then
        local title = type(value) == "table" and titles.perilune or titles[class] -- one for both
        local at, is_said = 0, false
        while at and not is_said do -- also where others speak of it
          at = pages:find("\n###? [^\n]*" .. title .. name .. "%f[^%w_]", at + 1)
          local entry = at and pages:sub(at, (pages:find("\n#", at + 4) or #pages + 1) - 1) or ""
          is_said = entry:find "[Rr]eturns" and entry:find "[Bb]lock" and true
        end
        spec.same(is_said, true, "lua/reference: returns and blocks of " .. class .. "." .. name)
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

spec.test("the options in the types are those of the core, and a few of the module's", function()
  local names = { log = true, policy = true, trusted = true, decoded = true }
  for name in read("core/options.c"):gmatch '\n    {"([%l%d_]+)", [%u_%d]+, ' do
    names[name] = true
  end
  spec.same(names.ttl, true)
  for body in types:gmatch "@class perilune.OpenOptions\n(.-)\n\n" do
    for name in body:gmatch "@field ([%w_]+)" do
      spec.same(names[name], true, "an option of the types: " .. name)
      names[name] = nil
    end
  end
  spec.same(next(names), nil, "an option that the types lack")
end)

spec.finish()
