-- SPDX-License-Identifier: MIT
--
-- warmers.lua - what scripts/warmers ships does what it says. WARMERS names that folder, PERILUNE
-- the program.

local spec = require "spec"
local perilune = require "perilune"

local warmers = assert(os.getenv "WARMERS", "WARMERS must name scripts/warmers")
local program = assert(os.getenv "PERILUNE", "PERILUNE must name the program")
local folder, remove_folder = spec.folder()
local redis = spec.redis()

spec.test("a query names keys, the best selling first", function()
  local path = folder .. "/shop.db"
  -- by the program, which finds libraries where the system has them; the spec's own path has none
  local maker = spec.write(folder .. "/make.lua", [[
    local db = assert(require("luasql.sqlite3").sqlite3():connect(arg[1]))
    assert(db:execute "create table products (id text primary key, value text, sold integer)")
    for i = 1, 200 do
      assert(db:execute(("insert into products values ('%d', 'value %d', %d)"):format(i, i, i)))
    end]])
  local _, made, fault = spec.run(("env -u LUA_PATH -u LUA_CPATH '%s' run %s %s"):format(
    program, maker, path))
  spec.same(made, 0, fault)
  local output, code, said = spec.run(
    ("env -u LUA_PATH -u LUA_CPATH WARM_DB=%s '%s' warm --trusted --json --top 150 --redis %s " ..
      "-p %s/from_sqlite.lua"):format(path, program, redis.url, warmers))
  spec.same(said, "")
  spec.contains(output, '"loaded":150,')
  spec.same(code, 0)
  local cache <close> = assert(perilune.open { redis = redis.url, log = false })
  spec.returns({ "value 51", spec.null, "l2" }, cache:get "product:51")
  spec.same(select(3, cache:get "product:50"), "miss")
end)

spec.test("an access log becomes a list, by patterns", function()
  local log = spec.write(folder .. "/access.log", [[
1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] "GET /users/7 HTTP/1.1" 200 12 "-" "a"
1.2.3.4 - - [01/Jan/2026:00:00:01 +0000] "GET /users/9?tab=1 HTTP/1.1" 200 12
1.2.3.4 - - [01/Jan/2026:00:00:02 +0000] "GET /users/9 HTTP/1.1" 304 0
1.2.3.4 - - [01/Jan/2026:00:00:03 +0000] "POST /users/8 HTTP/1.1" 200 12
1.2.3.4 - - [01/Jan/2026:00:00:04 +0000] "GET /users/8 HTTP/1.1" 404 12
1.2.3.4 - - [01/Jan/2026:00:00:05 +0000] "GET /else HTTP/1.1" 200 12
no line of a log
1.2.3.4 - - [01/Jan/2026:00:00:06 +0000] "GET / HTTP/1.1" 200 12
]])
  local function list(arguments)
    return spec.run(("env -u LUA_PATH -u LUA_CPATH '%s' run %s/from_access_log.lua %s <%s"):format(
      program, warmers, arguments, log))
  end
  spec.same((list "5 '^/users/(%d+)$' 'user:%1' '^/$' 'page:home'"), "user:9\npage:home\nuser:7\n")
  spec.same((list "1 '^/users/(%d+)$' 'user:%1'"), "user:9\n")
  local _, code, said = list "x"
  spec.same(code, 2)
  spec.contains(said, "usage: ")
end)

spec.test("a new instance begins with what was hot in the one before", function()
  local options = { redis = redis.url, ns = "users", log = false,
    policy = warmers .. "/from_previous.lua" }
  do
    local first <close> = assert(perilune.open(options))
    spec.same(first:warm().loaded, 3) -- there is no previous one yet
    for _ = 1, 20000 do
      first:get "user:77"
    end
  end
  local second <close> = assert(perilune.open(options))
  local report = second:warm()
  spec.same(report.wanted, 4)
  spec.same(report.sources[1].source, "previous")
  spec.same(report.sources[1].present, 1)
  spec.same(select(3, second:get "user:77"), "l1")
  spec.same((second:ready()), true)
end)

redis.stop()
remove_folder()
spec.finish()
