-- SPDX-License-Identifier: MIT
--
-- example.lua - the example in C, scripts/examples/writes_sqlite.c, over a Redis of its own.
--
-- usage: lua5.4 example.lua WRITES_SQLITE

local spec = require "spec"

local program = arg[1]
if not program then
  print "1..0 # SKIP the library of SQLite is not installed"
  os.exit(0)
end

local folder, remove = spec.folder()
local redis = spec.redis()

local function run(words)
  local output, code, said = spec.run(("%s %s %s/db %s"):format(program, redis.url, folder, words))
  return output .. said, code
end

-- What a program with nothing but the file sees.
local function row(key)
  local other = spec.redis()
  local output = spec.run(("%s %s %s/db get %s"):format(program, other.url, folder, key))
  other.stop()
  return output
end

spec.test("what was set is in the table when the program ends, and read by the next", function()
  spec.returns({ "", 0 }, run "set user:7 Ada")
  spec.same(row "user:7", "Ada\n")
  spec.returns({ "Ada\n", 0 }, run "get user:7")
  spec.returns({ "", 0 }, run "set user:7 Grace")
  spec.returns({ "Grace\n", 0 }, run "get user:7")
  spec.same(row "user:7", "Grace\n")
end)

spec.test("what was deleted is gone from both", function()
  spec.returns({ "", 0 }, run "delete user:7")
  spec.returns({ "", 1 }, run "get user:7")
  spec.same(row "user:7", "")
end)

spec.test("additions reach the table as their sum", function()
  for i = 1, 3 do
    spec.returns({ "", 0 }, run("add views " .. i))
  end
  spec.same(row "views", "6\n")
  redis.command "flushall"
  spec.returns({ "", 0 }, run "add views 4")
  spec.same(row "views", "10\n")
end)

spec.test("what is wrong is said", function()
  spec.returns({ "writes_sqlite: see its head\n", 2 }, run "gte user:7")
  local output, code, said = spec.run(("%s %s %s/nowhere/db get k"):format(program, redis.url,
    folder))
  spec.same({ output, code, said }, { "", 2, "writes_sqlite: unable to open database file\n" })
end)

spec.test("without Redis nothing is acknowledged, and nothing is stored", function()
  redis.stop()
  local said, code = run "set user:8 Lin"
  spec.same(code, 1)
  spec.contains(said, "writes_sqlite: ")
  spec.same(row "user:8", "")
end)

redis.stop()
remove()
spec.finish()
