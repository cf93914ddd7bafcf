-- SPDX-License-Identifier: MIT
--
-- queries.lua - cache:query, cache:execute and cache:changed on real databases, alone and between
-- two instances over a Redis.

local spec = require "spec"
local perilune = require "perilune"
local postgres_server = require "postgres_server"
local sql = require "perilune.sql"
local waiting = require "perilune.waiting"
local null = spec.null

if not pcall(require, "luasql.sqlite3") then
  print "1..0 # SKIP lua-sql-sqlite3 is not installed"
  os.exit(0)
end

local folder, remove = spec.folder()
local n_bases = 0

-- A database of a test's own, with a table.
local function base(name)
  n_bases = n_bases + 1
  local db = sql.open("sqlite3", ("%s/%d.db"):format(folder, n_bases), { name = name })
  assert(db:exec "CREATE TABLE users (id integer PRIMARY KEY, name text)")
  assert(db:exec "INSERT INTO users VALUES (1, 'a'), (2, 'b')")
  return db
end

local function open(options)
  return assert(perilune.open(options or { log = false }))
end

local ONE = "SELECT name FROM users WHERE id = ?"

spec.test("a result is cached by the statement and its arguments", function()
  local cache <close>, db = open(), base()
  spec.returns({ { { name = "a" } }, null, "loaded" }, cache:query(db, ONE, { 1 }))
  spec.returns({ { { name = "a" } }, null, "l1" }, cache:query(db, ONE, { 1 }))
  spec.returns({ { { name = "b" } }, null, "loaded" }, cache:query(db, ONE, { 2 }))
  spec.returns({ {}, null, "loaded" }, cache:query(db, ONE, { 3 }))
  spec.returns({ {}, null, "l1" }, cache:query(db, ONE, { 3 }))
  -- however it is written
  spec.returns({ { { name = "a" } }, null, "l1" },
    cache:query(db, "select name -- of one\n  from users WHERE id = ?;", { 1 }))
  -- another type is another argument
  spec.same(select(3, cache:query(db, ONE, { "1" })), "loaded")
  spec.returns({ { { n = 2 } }, null, "loaded" },
    cache:query(db, "SELECT count(*) AS n FROM users"))
end)

spec.test("who writes makes void what was read from the table", function()
  local cache <close>, db = open(), base()
  assert(db:exec "CREATE TABLE other (id integer)")
  cache:query(db, ONE, { 1 })
  cache:query(db, "SELECT * FROM other")
  spec.returns({ 1 }, cache:execute(db, "UPDATE Users SET name = ? WHERE id = ?", { "c", 1 }))
  spec.returns({ { { name = "c" } }, null, "loaded" }, cache:query(db, ONE, { 1 }))
  spec.same(select(3, cache:query(db, "SELECT * FROM other")), "l1")
  -- or says that it changed
  assert(db:exec "UPDATE users SET name = 'd' WHERE id = 1")
  spec.returns({ { { name = "c" } }, null, "l1" }, cache:query(db, ONE, { 1 }))
  spec.returns({ true }, cache:changed("other", 'main."Users"'))
  spec.returns({ { { name = "d" } }, null, "loaded" }, cache:query(db, ONE, { 1 }))
  spec.same(select(3, cache:query(db, "SELECT * FROM other")), "loaded")
end)

spec.test("a table's name may be written as a text in SQLite", function()
  local cache <close>, db = open(), base()
  local text = "SELECT count(*) AS n FROM 'users' WHERE name IS NOT 'users'"
  spec.same(cache:query(db, text), { { n = 2 } })
  spec.returns({ 1 }, cache:execute(db, "DELETE FROM 'main'.'users' WHERE id = 1"))
  spec.same(cache:query(db, text), { { n = 1 } })
end)

spec.test("tables that a statement does not name are given", function()
  local cache <close>, db = open(), base()
  assert(db:exec "CREATE VIEW seen AS SELECT * FROM users")
  local tags = { tags = { "users" }, ttl = "1h" }
  local text = "SELECT name FROM seen WHERE id = 1"
  cache:query(db, text, nil, tags)
  spec.same(select(3, cache:query(db, text, {}, tags)), "l1")
  cache:execute(db, "UPDATE users SET name = 'x'")
  spec.returns({ { { name = "x" } }, null, "loaded" }, cache:query(db, text, nil, tags))
  spec.same(tags, { tags = { "users" }, ttl = "1h" }) -- the caller's table stays as it was
  cache:execute(db, "UPDATE users SET name = 'y'", nil, { tags = { "something" } })
  spec.same(select(3, cache:query(db, text, nil, tags)), "l1")
end)

spec.test("a failed read is not cached, and a failed write makes void", function()
  local cache <close>, db = open(), base()
  for _ = 1, 2 do
    local rows, message, code = cache:query(db, "SELECT unknown FROM users")
    spec.same(rows, nil)
    spec.contains(message, "no such column: unknown")
    spec.same(code, "loader")
  end
  cache:query(db, ONE, { 1 })
  local done, message = cache:execute(db, "INSERT INTO users VALUES (1, 'twice')")
  spec.same(done, nil)
  spec.contains(message, "UNIQUE")
  spec.same(select(3, cache:query(db, ONE, { 1 })), "loaded")
end)

spec.test("in a transaction results are not shared, and tables change when it ends", function()
  local cache <close>, db = open(), base()
  cache:query(db, ONE, { 1 })
  assert(db:transaction(function()
    spec.returns({ 1 }, cache:execute(db, "UPDATE users SET name = 'in' WHERE id = 1"))
    spec.returns({ { { name = "in" } }, null, "loaded" }, cache:query(db, ONE, { 1 }))
    local other = sql.open("sqlite3", db.source, { name = "", timeout = "1s" })
    spec.returns({ { { name = "a" } }, null, "l1" }, cache:query(other, ONE, { 1 }))
    return true
  end))
  spec.returns({ { { name = "in" } }, null, "loaded" }, cache:query(db, ONE, { 1 }))
end)

spec.test("databases with other names have other results", function()
  local cache <close> = open()
  local a, b = base(), base "b"
  assert(b:exec "UPDATE users SET name = 'of b'")
  spec.same(cache:query(a, ONE, { 1 }), { { name = "a" } })
  spec.returns({ { { name = "of b" } }, null, "loaded" }, cache:query(b, ONE, { 1 }))
end)

spec.test("an entry of another statement with the same hash is not handed out", function()
  local cache <close>, db = open(), base()
  cache:query(db, ONE, { 1 })
  local key = cache:keys("sql:")[1]
  spec.same(#key, 36)
  assert(cache:set(key, { of = "another", rows = { { name = "secret" } } }))
  spec.returns({ { { name = "a" } }, null, "loaded" }, cache:query(db, ONE, { 1 }))
end)

spec.test("a rule of the policy says how long results live", function()
  local policy = spec.write(folder .. "/policy.lua", 'cache.rule "sql:*" { ttl = "7s" }')
  local cache <close>, db = open { log = false, policy = policy }, base()
  cache:query(db, ONE, { 1 })
  spec.same(cache:terms(cache:keys("sql:")[1]).ttl, 7.0)
  local left = select(5, cache:peek(cache:keys("sql:")[1]))
  assert(left > 0 and left <= 7, left)
end)

spec.test("a connection of LuaSQL's will do", function()
  local cache <close>, db = open(), base()
  local connection = assert(require("luasql.sqlite3").sqlite3():connect(db.source))
  spec.same(select(3, cache:query(connection, ONE, { 1 })), "loaded")
  spec.same(select(3, cache:query(connection, ONE, { 1 })), "l1")
  spec.returns({ 1 }, cache:execute(connection, "DELETE FROM users WHERE id = 1"))
  spec.same(cache:query(connection, ONE, { 1 }), {})
  connection:close()
end)

spec.test("misuse raises, and is said of the line that called", function()
  local cache <close>, db = open(), base()
  spec.raises("a database of perilune.sql is wanted", cache.query, cache, {}, "SELECT 1")
  spec.raises("a statement must be a string, got a nil", cache.query, cache, db)
  spec.raises("0 arguments for 1 placeholder", cache.query, cache, db, ONE)
  spec.raises("argument 1: a function is no value of SQL", cache.query, cache, db, ONE, { print })
  spec.raises("options must be a table, got a string", cache.query, cache, db, ONE, { 1 }, "ttl")
  spec.raises("unknown option 'tll', did you mean 'ttl'", cache.query, cache, db, ONE, { 1 },
    { tll = 1 })
  spec.raises("only what reads can be cached", cache.query, cache, db, "DELETE FROM users")
  spec.raises("a table must be a name, got '7'", cache.changed, cache, 7)
  spec.raises("no table is named in: select 1", cache.execute, cache, db, "SELECT 1")
  spec.raises("unknown option 'ttl', only tags", cache.execute, cache, db, ONE, { 1 }, { ttl = 1 })
  spec.raises("options must be a table, got a number", cache.execute, cache, db, ONE, { 1 }, 7)
  for _, method in ipairs { "query", "execute" } do -- a text passed for an empty list
    spec.raises("option 'tags' must be a list of tables, got a string", cache[method], cache, db,
      ONE, { 1 }, { tags = "users" })
  end
  spec.raises("a table must be a name, got '7'", cache.execute, cache, db, "DELETE FROM users", {},
    { tags = { "users", 7 } })
  spec.same(db:query "SELECT count(*) AS n FROM users", { { n = 2 } }) -- nothing was done
  spec.raises("queries.lua:", function()
    cache:query(db, ONE)
  end)
  cache:close()
  spec.raises("attempt to use a closed cache", cache.query, cache, db, ONE, { 1 })
end)

spec.test("an adapter's cache waits for the cache, not in the statement", function()
  local memory <close> = perilune.memory "queries"
  local cache, db = open { redis = "memory:queries", log = false }, base()
  memory:faults { delay = "5ms" } -- so that there is what to wait for
  local n_waits = 0
  local wrapped = waiting.wrap(cache, function()
    n_waits = n_waits + 1
    coroutine.yield()
  end)
  -- the first load stops once, so that the other one has to wait for it
  rawset(db, "query", function(...)
    rawset(db, "query", nil)
    coroutine.yield()
    return db.query(...)
  end)
  local results = {}
  local threads = {}
  for i = 1, 2 do
    threads[i] = coroutine.create(function()
      results[i] = table.pack(wrapped:query(db, ONE, { 1 }))
      spec.returns({ true }, wrapped:changed "none")
    end)
  end
  local function run(...)
    for _ = 1, 10000 do
      local is_over = true
      for _, thread in ipairs { ... } do
        if coroutine.status(thread) ~= "dead" then
          assert(coroutine.resume(thread))
          is_over = false
        end
      end
      if is_over then
        return
      end
      os.execute "sleep 0.001"
    end
    error "they wait for ever"
  end
  run(table.unpack(threads))
  spec.same(results[1], { { { name = "a" } }, nil, "loaded", n = 3 })
  spec.same(results[2][1], { { name = "a" } })
  assert(n_waits > 0)
  run(coroutine.create(function()
    spec.returns({ 1 }, wrapped:execute(db, "UPDATE users SET name = 'z' WHERE id = 1"))
    spec.returns({ { { name = "z" } }, null, "loaded" }, wrapped:query(db, ONE, { 1 }))
  end))
  wrapped:close()
  spec.raises("attempt to use a closed cache", wrapped.query, wrapped, db, ONE, { 1 })
end)

-- ---- over a Redis ----

local server = pcall(require, "luasql.postgres") and postgres_server.start()
if server then
  spec.test("two instances share results, and a write of one makes void both", function()
    local redis <close> = spec.redis()
    local options = { redis = redis.url, ns = "queries", log = false, timeout = "10s" }
    local a <close> = open(options)
    local b <close> = open(options)
    for _, cache in ipairs { a, b } do
      spec.wait_until("the link is live", function()
        return cache:stats().bus_ok == 1
      end)
    end
    local db = sql.open("postgres", server.conninfo)
    assert(db:exec "CREATE TABLE users (id integer PRIMARY KEY, name text, age real, ok boolean)")
    assert(db:exec("INSERT INTO users VALUES (1, 'a', 0.5, true), (2, NULL, NULL, NULL)"))
    local text = "SELECT * FROM public.users ORDER BY id"
    local wanted = { { id = 1, name = "a", age = 0.5, ok = true }, { id = 2 } }
    spec.returns({ wanted, null, "loaded" }, a:query(db, text))
    spec.returns({ wanted, null, "l2" }, b:query(db, text))
    spec.returns({ wanted, null, "l1" }, b:query(db, text))
    spec.returns({ 1 }, a:execute(db, "DELETE FROM users WHERE id = ?", { 1 }))
    spec.wait_until("it is void there, too", function()
      return #b:query(db, text) == 1
    end)
    spec.same(#a:query(db, text), 1)
    db:close()
  end)

  spec.test("a write that was done is told, though the cache could not be", function()
    local redis = spec.redis()
    local cache <close> = open { redis = redis.url, ns = "away", log = false, timeout = "100ms",
      recovery = "none" }
    local db = sql.open("postgres", server.conninfo)
    redis.stop()
    local n, message, code = cache:execute(db, "INSERT INTO users VALUES (9, 'z')")
    spec.same(n, 1)
    assert(code == "l2_down" or code == "timeout", code)
    assert(message)
    spec.same(db:query "SELECT count(*) AS n FROM users WHERE id = 9", { { n = 1 } })
    db:close()
  end)
  server.remove()
end

remove()
spec.finish()
