-- SPDX-License-Identifier: MIT
--
-- stores.lua - rules that write to a database: a trusted policy over LuaSQL, two instances, and a
-- Redis. First with SQLite, then the same with PostgreSQL, where that is installed.

local spec = require "spec"
local perilune = require "perilune"

local null = spec.null
local found, sqlite = pcall(require, "luasql.sqlite3")
if not found then
  print "1..0 # SKIP lua-sql-sqlite3 is not installed"
  os.exit(0)
end

local redis = spec.redis()
local folder, remove = spec.folder()
local notes = folder .. "/notes"

-- Each worker has a connection of its own, made when it is first wanted.
local POLICY = [[
local luasql = require "luasql.@DRIVER@"
local environment, connection = luasql.@DRIVER@(), nil

local function note(...)
  local file <close> = assert(io.open("@NOTES@", "a"))
  file:write(table.concat({ ... }, " "), "\n")
end

local function db()
  if not connection then
    note "connect"
    connection = assert(environment:connect(@SOURCE@))
  end
  return connection
end

local function quoted(text)
  return "'" .. db():escape(text) .. "'"
end

local function execute(text, ...)
  local arguments = { ... }
  for i, argument in ipairs(arguments) do
    arguments[i] = type(argument) == "number" and argument or quoted(argument)
  end
  return db():execute(text:format(table.unpack(arguments)))
end

local function load_users(keys, ms)
  note("load", #keys)
  local ids, values = {}, {}
  for i, m in ipairs(ms) do
    ids[i] = quoted(m.id)
  end
  local cursor, message = db():execute("select id, name from users where id in (" ..
    table.concat(ids, ", ") .. ")")
  if not cursor then
    return nil, message
  end
  for id, name in function() return cursor:fetch() end do
    values["user:" .. id] = { name = name }
  end
  cursor:close()
  return values
end

local function store_user(key, m, value, item)
  note("store", key, item.op)
  if not value then
    return execute("delete from users where id = %s", m.id)
  elseif value.name == "Mallory" then
    return nil, "Mallory may not be stored"
  elseif value.name == "Victor" then
    return nil, "there is no Victor", "never"
  elseif value.name == "Trent" then
    execute("insert into users values (%s, 'Trent')", m.id)
    return nil, "the connection was lost", "unknown"
  elseif value.name == "Eve" then
    return value.name.no.such.field
  end
  return execute("insert into users values (%s, %s)" ..
    " on conflict (id) do update set name = excluded.name", m.id, value.name)
end

local function store_views(items)
  note("batch", #items)
  local rows, wrong = {}, {}
  for i, item in ipairs(items) do
    if item.op == "delete" then
      execute("delete from views where page = %s", item.m.page)
    elseif type(item.value) ~= "number" then
      wrong[i] = { "no number: " .. item.value, "never" }
    elseif item.value < 0 then
      note("negative", item.attempt)
      wrong[i] = "a view cannot be undone"
    else
      rows[#rows + 1] = ("(%s, %d, %d)"):format(quoted(item.m.page), item.value, item.version)
    end
  end
  if #rows > 0 then
    local done, message = db():execute("insert into views values " .. table.concat(rows, ", ") ..
      " on conflict (page) do update set n = excluded.n, version = excluded.version" ..
      " where views.version < excluded.version")
    if not done then
      return nil, message
    end
  end
  return wrong
end

cache.rule "user:{id}" { ttl = "1h", load_many = load_users, write = through(store_user) }
cache.class "counted" {
  ttl = "1h",
  write = behind {
    store = store_views, every = "20ms", batch = 100, attempts = 3, backoff = "10ms",
  },
}
cache.rule "views:{page}" {
  class = "counted",
  load = function(key, m)
    local cursor = assert(db():execute("select n from views where page = " .. quoted(m.page)))
    local n = cursor:fetch()
    cursor:close()
    return n and math.tointeger(tonumber(n))
  end,
}
cache.rule "audit:{id}" {
  ttl = "1h",
  load = function(key, m)
    local cursor = assert(execute("select text from audit where id = %s", m.id))
    local text = cursor:fetch()
    cursor:close()
    return text
  end,
  write = around(function(key, m, text)
    return execute("insert into audit values (%s, %s)", m.id, text)
  end),
}
cache.rule "away:{id}" { write = through(function() return nil, "the database is away" end) }
cache.test "views:1" { write = "behind" }
]]

local TABLES = {
  "create table users (id text primary key, name text)",
  "create table views (page text primary key, n bigint, version bigint)",
  "create table audit (id text, text text)",
}

-- What the functions have noted, as a list of lines; and no more of it.
local function noted()
  local list = {}
  local file = io.open(notes)
  for line in file and file:lines() or function() end do
    list[#list + 1] = line
  end
  if file then
    file:close()
  end
  os.remove(notes)
  return list
end

-- What is noted, without connections.
local function calls()
  local list = {}
  for _, line in ipairs(noted()) do
    list[#list + 1] = line ~= "connect" and line or nil
  end
  return list
end

local function run(driver, environment, source, ...)
  local sql = assert(environment:connect(source, ...))
  local path = folder .. "/" .. driver .. ".lua"
  spec.write(path, (POLICY:gsub("@(%u+)@", {
    DRIVER = driver, NOTES = notes, SOURCE = ("%q, %s"):format(source, (... or "nil")),
  })))
  for _, text in ipairs(TABLES) do
    assert(sql:execute(text))
  end

  local function ask(text)
    local cursor = assert(sql:execute(text))
    local first, second = cursor:fetch()
    cursor:close()
    return first and tostring(first), second and tostring(second)
  end

  local function open(name)
    local cache = assert(perilune.open { redis = redis.url, ns = driver, name = name, policy = path,
      trusted = true, workers = 2, log = false })
    spec.wait_until("the link is live", function() return cache:stats().bus_ok == 1 end)
    return cache
  end

  local function drained(cache)
    spec.wait_until("nothing waits", function()
      return cache:redis("XLEN", driver .. ":queue") == 0
    end)
  end

  -- Of two instances that write a key within one nobody knows who was last, and it is loaded anew.
  local function next_millisecond(cache)
    local function now()
      local time = cache:redis "TIME"
      return time[1] * 1000 + time[2] // 1000
    end
    local past = now() + 1
    spec.wait_until("time goes on", function() return now() > past end)
  end

  local function test(name, body)
    spec.test(driver .. ": " .. name, function()
      noted()
      local here <close> = open "here"
      local there <close> = open "there"
      body(here, there)
    end)
  end

  test("through: the database has it first, and every instance after that", function(here, there)
    assert(here:set("user:1", { name = "Ada" }))
    spec.same(ask "select name from users where id = '1'", "Ada")
    spec.same(there:get("user:1").name, "Ada")
    next_millisecond(there)
    assert(there:set("user:1", { name = "O'Hara" }))
    spec.wait_until("the other one hears of it", function()
      return here:get("user:1").name == "O'Hara"
    end)
    spec.same(ask "select name from users where id = '1'", "O'Hara")
    next_millisecond(here)
    assert(here:delete "user:1")
    spec.same(ask "select count(*) from users", "0")
    spec.same(calls(), { "store user:1 set", "store user:1 set", "store user:1 delete" })
  end)

  test("through: what the store refuses changes nothing, and says why", function(here, there)
    assert(here:set("user:2", { name = "Bob" }))
    local good, message, code = here:set("user:2", { name = "Mallory" })
    spec.same({ good, code }, { nil, "store" })
    spec.contains(message, "rule 'user:{id}': write: Mallory may not be stored")
    good, message, code = here:set("user:2", { name = "Eve" })
    spec.same({ good, code }, { nil, "store" })
    spec.contains(message, "attempt to index a nil value")
    spec.same(here:get("user:2").name, "Bob")
    spec.same(there:get("user:2").name, "Bob")
    good, message, code = here:set("user:2", { name = "Victor" }) -- it is no misuse of set
    spec.same({ good, code }, { nil, "store" })
    spec.contains(message, "there is no Victor")
    good, message, code = here:set("away:1", "x")
    spec.same({ good, code }, { nil, "store" })
    spec.contains(message, "the database is away")
    spec.returns({ null, null, "miss" }, here:get "away:1")
  end)

  test("through: where nobody knows, the database is asked again", function(here, there)
    assert(sql:execute "delete from users")
    assert(here:get "user:3" == nil)
    local good, _, code = here:set("user:3", { name = "Trent" })
    spec.same({ good, code }, { nil, "timeout" })
    spec.same(here:get("user:3").name, "Trent")
    spec.same(there:get("user:3").name, "Trent")
  end)

  test("around: the database has it, and the next reader loads it", function(here, there)
    assert(here:set("audit:1", "began"))
    local value, _, how = there:get "audit:1"
    spec.same({ value, how }, { "began", "loaded" })
    value, _, how = there:get "audit:1" -- the word of the write may have come behind the load
    spec.same({ value, how ~= "loaded" }, { "began", true })
  end)

  test("many are loaded by one call, and known from then on", function(here)
    for i = 1, 5 do
      assert(sql:execute(("insert into users values ('m%d', 'name%d')"):format(i, i)))
    end
    local keys = { "user:m1", "user:m2", "user:m3", "user:none", "user:m5" }
    local values = here:get_many(keys)
    spec.same({ values[1].name, values[3].name, values[4], values[5].name },
      { "name1", "name3", nil, "name5" })
    spec.same(calls(), { "load 5" })
    spec.same(select(3, here:get "user:none"), "negative")
    spec.same(select(3, here:get "user:m4"), "loaded")
    spec.same(calls(), { "load 1" })
  end)

  test("what is loaded ahead is loaded by some calls for many", function(here)
    local keys = {}
    for i = 1, 200 do
      assert(sql:execute(("insert into users values ('w%d', 'name%d')"):format(i, i)))
      keys[i] = "user:w" .. i
    end
    spec.same(here:warm({ keys = keys, concurrency = 2 }).loaded, 200)
    local list, n = calls(), 0
    for _, line in ipairs(list) do
      n = n + tonumber(line:match "^load (%d+)$")
    end
    spec.same(n, 200)
    assert(#list < 60, #list .. " calls")
    spec.same(here:get("user:w200").name, "name200")
    spec.same(here:warm({ keys = keys, concurrency = 2 }).present, 200)
    spec.same(calls(), {})
  end)

  test("behind: all see it at once, and the database has the last of it", function(here, there)
    for i = 1, 200 do
      assert(here:set("views:p" .. i % 10, i))
      spec.same(here:get("views:p" .. i % 10), i)
    end
    for i = 1, 9 do
      spec.same(there:get("views:p" .. i), 190 + i)
    end
    assert(here:delete "views:p0")
    drained(here)
    spec.same(ask "select count(*) from views", "9")
    for i = 1, 9 do
      spec.same(ask(("select n from views where page = 'p%d'"):format(i)), tostring(190 + i))
    end
    spec.same(here:incr("views:p9", 5), 204)
    drained(there)
    spec.same(ask "select n from views where page = 'p9'", "204")
    assert(here:clear()) -- what no tier has is not counted anew
    spec.same(here:incr("views:p9", 1, { initial = 0 }), 205)
    local n, message = there:incr("views:p10", 1, { initial = 7 })
    assert(n == 8, tostring(message))
    drained(there)
    spec.same(ask "select n from views where page = 'p9'", "205")
    assert(#calls() < 100, "batches are not put together")
  end)

  test("behind: what can never be stored is put aside, and holds nothing up", function(here)
    assert(here:set("views:q1", "many"))
    assert(here:set("views:q2", -1))
    assert(here:set("views:q3", 3))
    drained(here)
    spec.same(ask "select n from views where page = 'q3'", "3")
    spec.same(ask "select count(*) from views where page in ('q1', 'q2')", "0")
    spec.wait_until("it is seen", function() return here:stats().queue_dead == 2 end)
    local attempts = {}
    for _, line in ipairs(calls()) do
      attempts[#attempts + 1] = line:match "^negative (%d+)$"
    end
    spec.same(attempts, { "1", "2", "3" })
    local letters = redis.command("--no-raw XRANGE " .. driver .. ":queue:dead - +")
    spec.contains(letters, "rule 'views:{page}': write: no number: many")
    spec.contains(letters, "rule 'views:{page}': write: a view cannot be undone")
  end)

  test("a candidate beside the policy in force stores nothing", function(here)
    local candidate = folder .. "/candidate.lua"
    spec.write(candidate, POLICY:gsub("@(%u+)@", { DRIVER = driver, NOTES = notes,
      SOURCE = '"nowhere"' }):gsub("every = \"20ms\"", "every = \"1s\"") ..
      'cache.rule "*" { write = behind(function() note "candidate" end) }\n')
    assert(here:shadow(candidate, { sample = 1, trusted = true }))
    assert(here:set("user:s", { name = "Sam" }))
    assert(here:set("views:s", 1))
    assert(here:set("other", 1))
    assert(here:get_many { "user:s", "user:t", "views:s", "other" })
    drained(here)
    spec.wait_until("it has caught up", function() return here:shadow_report().waiting == 0 end)
    spec.contains(here:shadow_report().terms, "write every_ms 20, candidate 1000")
    spec.contains(here:shadow_report().terms, "write aside, candidate behind")
    here:shadow_end()
    local list = calls()
    table.sort(list) -- a batch is stored when its time has come
    spec.same(list, { "batch 1", "load 1", "store user:s set" })
  end)

  test("a worker has one connection, whatever its functions do", function(here)
    for i = 1, 50 do
      assert(here:set("user:c" .. i, { name = "n" .. i }))
      assert(here:set("audit:c" .. i, "x"))
      assert(here:get("audit:c" .. i))
    end
    local n = 0
    for _, line in ipairs(noted()) do
      n = n + (line == "connect" and 1 or 0)
    end
    assert(n >= 1 and n <= 2, n .. " connections of two workers")
  end)
  sql:close()
end

run("sqlite3", sqlite.sqlite3(), folder .. "/writes.db", 5000)

-- ---- the same with PostgreSQL ----

local has_driver, postgres = pcall(require, "luasql.postgres")
local server = has_driver and require("postgres_server").start()
if server then
  run("postgres", postgres.postgres(), server.conninfo)
  server.remove()
else
  spec.test("PostgreSQL: SKIP, it is not installed, or lua-sql-postgres is not", function() end)
end

-- ---- servers that can have no queue ----

spec.test("a policy that writes behind is refused where Redis can have no queue", function()
  local path = spec.write(folder .. "/behind.lua",
    'cache.rule "views:{page}" { write = behind(function() end) }')
  local options = { policy = path, log = false, ns = "shop",
    redis = "redis+cluster://localhost:1" }
  local cache, message, code = perilune.open(options)
  spec.same({ cache, code }, { nil, "policy" })
  spec.contains(message, "behind.lua:1: rule 'views:{page}': write: ")
  spec.contains(message, "{shop} in the place of shop")
  options.ns = "{shop}"
  assert(perilune.open(options)):close()
  options.redis = "redis+ring://localhost:1,localhost:2"
  spec.contains(select(2, perilune.open(options)), "redis+ring spreads keys over independent ones")
  options.policy = nil
  cache = assert(perilune.open(options))
  spec.contains(select(2, cache:load_policy(path)), "redis+ring spreads keys")
  cache:close()
end)

redis.stop()
remove()
spec.finish()
