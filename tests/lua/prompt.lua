-- SPDX-License-Identifier: MIT
--
-- prompt.lua - the program perilune without a command, where there is no terminal, and what its
-- prompt knows; test_prompt.c has it on a terminal.

local spec = require "spec"

local program = assert(os.getenv "PERILUNE", "PERILUNE must name the program")
local folder, remove_folder = spec.folder()

-- What a run prints and how it exits, and what its standard error contains.
local function expect(arguments, output, code, complaint, input)
  local command = "printf '%%s' '%s' | env -u LUA_PATH -u LUA_CPATH -u LUA_INIT '%s' %s"
  local escaped = (input or ""):gsub("'", "'\\''")
  local got, exit, said = spec.run(command:format(escaped, program, arguments))
  spec.same({ got, exit }, { output, code }, arguments .. " (" .. said .. ")")
  spec.contains(said, complaint or "")
end

spec.test("without a command standard input is a script, with the options' cache", function()
  expect("--ttl 90s", "90.0\tperilune.cache: perilune (open)\n", 0, nil,
    'print(cache:terms("k").ttl, cache)')
  expect("", "nil\tnil\n", 0, nil, 'print(cache, perilune)')
  local path = spec.write(folder .. "/policy.lua", "cache.rule '*' { ttl = '7s' }")
  expect("-p " .. path, "7.0\n", 0, nil, 'print(cache:terms("k").ttl)')
  expect("-p /nowhere.lua", "", 1, "/nowhere.lua")
  expect("--ttl 1m script.lua", "", 2, "perilune run")
  expect("--ttl soon", "", 2, "ttl")
  expect("--ttl 1m", "", 1, "oh", 'error "oh"')
  expect("--ttl 1m", "", 5, nil, "os.exit(5)")
end)

spec.test("the prompt completes without calling anything, and helps with what there is", function()
  local perilune = require "perilune"
  local helper = dofile(assert(arg[0]:match "^(.*)tests/lua/") .. "scripts/perilune_prompt.lua")
  local cache <close> = perilune.open {}
  for name in pairs(helper.topics) do
    assert(perilune[name] or cache[name], "help on " .. name .. ", which is not there")
  end
  _G.tried = setmetatable({ own = 1, ["not a name"] = 2, [7] = 3 }, { __index = function()
    error "called"
  end })
  _G.derived = setmetatable({}, { __index = { inherited = 1, induced = print } })
  for text, wanted in pairs {
    ["print(tried.o"] = "wn", ["tried.n"] = false, ["tried.x.y"] = false,
    ["derived.inh"] = "erited", ["derived:in"] = "duced", ["(derived.in"] = "listed",
    ["x = str"] = "ing", ["a..derived.inh"] = "erited", ["f().x"] = false, ["loca"] = "l",
    [""] = "  ", ["\t"] = "  ", [".op"] = "en", [".help get_"] = "many", [".open str"] = false,
    ["7str"] = false, ["_G.derived.inh"] = "erited", ["('x'):le"] = false, ["tried."] = "own",
  } do
    local added, listed = helper.complete(text)
    spec.same(added or (listed and "listed") or false, wanted, text)
  end
  spec.same(select(2, helper.complete "(derived.in"), "induced    inherited\n")
end)

remove_folder()
spec.finish()
