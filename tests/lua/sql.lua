-- SPDX-License-Identifier: MIT
--
-- sql.lua - perilune.sql on a real SQLite and a real PostgreSQL: what it puts into statements and
-- takes out of them, transactions, and connections that are lost.

local spec = require "spec"
local databases = require "databases"
local sql = require "perilune.sql"
local null = spec.null

local each, table_of, names_in = databases.each, databases.table_of, databases.names_in
local folder, server = databases.folder, databases.server

-- ---- values ----

each("what is written is read, with its type", function(db, dialect)
  table_of(db, "kinds", dialect == "postgres"
    and "i bigint, f double precision, t text, b bytea, o boolean, n numeric"
    or "i integer, f real, t text, b blob, o boolean, n numeric")
  local bytes = ("\0\1'\\\xff"):rep(3)
  spec.same(db:exec("INSERT INTO kinds VALUES (?, ?, ?, ?, ?, ?)",
    { math.mininteger, 0.1, "it's \\ \"é\" ?\n", sql.blob(bytes), true, 12 }), 1)
  spec.same(db:exec("INSERT INTO kinds (i, f) VALUES (?, ?)", { math.maxinteger, 2.0 }), 1)
  local rows = assert(db:query "SELECT * FROM kinds ORDER BY i")
  local is_postgres = dialect == "postgres"
  spec.same(rows, {
    { i = math.mininteger, f = 0.1, t = "it's \\ \"é\" ?\n", b = bytes,
      o = is_postgres and true or 1, n = is_postgres and "12" or 12 },
    { i = math.maxinteger, f = 2.0 },
  })
  spec.same(db:query("SELECT i FROM kinds WHERE t = ?", { "it's \\ \"é\" ?\n" }), {
    { i = math.mininteger } })
  spec.same(db:query("SELECT i FROM kinds WHERE i > ?", { math.maxinteger }), {})
end)

each("text of any form is text, and no statement", function(db)
  for _, text in ipairs { "'; DROP TABLE users; --", "\\'; SELECT 1 --", "''", "\\", "$$", "/*",
    "?", "a\nb", "é", "" } do
    local rows = assert(db:query("SELECT ? AS a, '?' AS b, ? AS c -- ?", { text, text }))
    spec.same(rows, { { a = text, b = "?", c = text } })
  end
end)

-- What stands around a placeholder is cut by the database itself in the same places.
each("the database finds the placeholders where they are found here", function(db, dialect)
  local pieces = {
    postgres = { "'a''?'", "E'\\'?'", "$$?$$", "$t$ $$ ? '$t$", "'\\'", "'a'\n'?'", "U&'\\0041?'",
      "E'a'\n'\\'?'", "'--?'", "1 /* ? /* ? */ ' */", "2 --?'\r", "3 /* $$ */" },
    sqlite3 = { "'a''?'", "'\\'", "'--?'", "1 /* ? /* ' */", "2 --\r?'\n", "'/*'", "x'3f'" },
  }
  local state = 7
  for _ = 1, 200 do
    local parts, args = {}, {}
    for i = 1, 6 do
      state = (state * 1103515245 + 12345) % 2147483648
      if state // 65536 % 3 == 0 then
        args[#args + 1] = "argument " .. i
        parts[i] = "? AS a" .. #args
      else
        parts[i] = pieces[dialect][state // 65536 % #pieces[dialect] + 1] .. " AS x" .. i
      end
    end
    args[#args + 1] = "end"
    local rows = assert(db:query("SELECT " .. table.concat(parts, ",") .. ", ? AS last", {
      table.unpack(args) }))
    for i = 1, #args - 1 do
      spec.same(rows[1]["a" .. i], args[i])
    end
    spec.same(rows[1].last, "end")
  end
end)

each("a question mark of one's own is written twice", function(db, dialect)
  if dialect == "postgres" then
    spec.same(db:query("SELECT '{\"a\": 1}'::jsonb ?? ? AS has", { "a" }), { { has = true } })
  else
    spec.returns({ null, 'near "?": syntax error' }, (function()
      local rows, message = db:query "SELECT 1 ?? 2"
      return rows, message:match 'near "%?": syntax error'
    end)())
  end
end)

each("quote writes a value as the database has it", function(db)
  spec.returns({ "'it''s'" }, db:quote "it's")
  spec.returns({ "(-7)" }, db:quote(-7))
  spec.returns({ "NULL" }, db:quote(nil))
  spec.returns({ null, "the value has a byte of zero: sql.blob(bytes) is for those" },
    db:quote "\0")
  spec.raises("a function is no value of SQL", db.quote, db, print)
end)

each("what the database refuses is nil, message", function(db)
  local rows, message, code = db:query "SELECT * FROM no_such_table"
  spec.same(rows, nil)
  spec.contains(message, "no_such_table")
  assert(not message:find "\n", message)
  spec.same(code, nil)
  spec.same({ db:query "SELECT 1 AS one" }, { { { one = 1 } } }) -- and it goes on
end)

each("exec tells how many rows were written, or brought", function(db, dialect)
  table_of(db, "users", "id integer PRIMARY KEY, name text")
  spec.returns({ 2 }, db:exec("INSERT INTO users VALUES (1, 'a'), (2, 'b')"))
  spec.returns({ 1 }, db:exec("UPDATE users SET name = ? WHERE id = ?", { "c", 2 }))
  spec.returns({ 0 }, db:exec("DELETE FROM users WHERE id = 9"))
  spec.returns({ 1 }, db:exec [[WITH a AS (SELECT 2 AS id)
    DELETE FROM users WHERE id IN (SELECT id FROM a)]])
  spec.returns({ 0 }, db:exec("CREATE INDEX names ON users (name)"))
  spec.returns({ 1 }, db:exec("INSERT INTO users VALUES (2, 'c')"))
  local returning = "INSERT INTO users VALUES (3, 'd'), (4, 'e') RETURNING id"
  if dialect == "postgres" then
    spec.same(db:query "SET search_path = public", {})
    spec.returns({ 2 }, db:exec(returning))
    spec.same(db:query "INSERT INTO users VALUES (5, 'f') RETURNING id, name", {
      { id = 5, name = "f" } })
    spec.same(names_in(db), "a c d e f")
  else
    spec.raises("RETURNING is not for SQLite", db.exec, db, returning)
    spec.same(names_in(db), "a c")
  end
end)

-- ---- transactions ----

each("a transaction is done whole, or not at all", function(db)
  table_of(db, "users", "id integer PRIMARY KEY, name text")
  spec.returns({ "yes", 7 }, db:transaction(function(inner)
    assert(rawequal(inner, db) and db:in_transaction())
    assert(db:exec "INSERT INTO users VALUES (1, 'a')")
    return "yes", 7
  end))
  spec.same(db:in_transaction(), false)
  spec.returns({ null, "no", "why" }, db:transaction(function()
    assert(db:exec "INSERT INTO users VALUES (2, 'b')")
    return nil, "no", "why"
  end))
  local done, message = db:transaction(function()
    assert(db:exec "INSERT INTO users VALUES (2, 'b')")
    error "broken"
  end)
  spec.same(done, nil)
  spec.contains(message, "broken")
  spec.returns({ true }, db:transaction(function()
    assert(db:exec "INSERT INTO users VALUES (3, 'c')")
  end))
  spec.same(names_in(db), "a c")
  spec.raises("a transaction is under way already", function()
    assert(db:transaction(function()
      return db:transaction(print)
    end))
  end)
  spec.same(db:in_transaction(), false)
  spec.same(names_in(db), "a c")
end)

each("a statement that fails does not pass for one that was done", function(db, dialect)
  table_of(db, "users", "id integer PRIMARY KEY, name text")
  local done, message = db:transaction(function()
    assert(db:exec "INSERT INTO users VALUES (1, 'a')")
    assert(not db:exec "INSERT INTO users VALUES (1, 'b')")
    return true
  end)
  if dialect == "postgres" then -- in which nothing of it is left
    spec.same(done, nil)
    spec.contains(message, "duplicate key")
    spec.same(names_in(db), "")
  else
    spec.same(done, true)
    spec.same(names_in(db), "a")
  end
end)

each("while a coroutine has a transaction others are refused, and what is after waits", function(db)
  table_of(db, "users", "id integer PRIMARY KEY, name text")
  local said = {}
  local first = coroutine.create(function()
    assert(db:transaction(function()
      db:after(function()
        said[#said + 1] = "after"
      end)
      assert(db:exec "INSERT INTO users VALUES (1, 'a')")
      coroutine.yield()
      said[#said + 1] = "end"
    end))
  end)
  assert(coroutine.resume(first))
  spec.returns({ null, "another coroutine has a transaction under way" }, db:query "SELECT 1")
  spec.returns({ null, "another coroutine has a transaction under way" },
    db:transaction(function() end))
  spec.raises("cannot close a database while a transaction is under way", db.close, db)
  spec.same(said, {})
  spec.same(db:in_transaction(), false) -- of this coroutine
  assert(coroutine.resume(first))
  spec.same(said, { "end", "after" })
  spec.same(names_in(db), "a")
  db:after(function()
    said[#said + 1] = "at once"
  end)
  spec.same(said[3], "at once")
end)

each("a coroutine that will never end its transaction has it undone", function(db)
  table_of(db, "users", "id integer PRIMARY KEY, name text")
  local n_after = 0
  local function begin()
    local thread = coroutine.create(function()
      db:transaction(function()
        db:after(function()
          n_after = n_after + 1
        end)
        assert(db:exec "INSERT INTO users VALUES (1, 'a')")
        coroutine.yield()
      end)
    end)
    assert(coroutine.resume(thread))
    return thread
  end
  begin() -- whom nobody knows
  collectgarbage()
  collectgarbage()
  spec.same(names_in(db), "")
  spec.same(n_after, 1)
  if coroutine.close then
    local thread = begin()
    spec.returns({ null, "another coroutine has a transaction under way" }, db:exec "SELECT 1")
    coroutine.close(thread)
    spec.returns({ true }, db:transaction(function()
      assert(db:exec "INSERT INTO users VALUES (2, 'b')")
    end))
    spec.same(names_in(db), "b")
    spec.same(n_after, 2)
  end
end)

each("all that waits for a transaction's end is done, also behind what raises", function(db)
  local said = {}
  local good, problem = pcall(db.transaction, db, function()
    for i = 1, 3 do
      db:after(function()
        said[i] = i
        assert(i ~= 2, "the second")
      end)
    end
  end)
  spec.same(good, false)
  spec.contains(problem, "the second")
  spec.same(said, { 1, 2, 3 })
  spec.same(db:in_transaction(), false)
  spec.raises("transaction wants a function, got a nil", db.transaction, db)
end)

-- ---- opening ----

spec.test("the same is opened once, and options are checked", function()
  local a = sql.open("sqlite3", ":memory:", { timeout = "1s" })
  assert(rawequal(a, sql.open("sqlite3", ":memory:", { timeout = 1 })))
  assert(not rawequal(a, sql.open("sqlite3", ":memory:", { timeout = "1m" })))
  spec.same(tostring(a), "perilune.sql: sqlite3 (open)")
  a:close()
  a:close()
  spec.same(tostring(a), "perilune.sql: sqlite3 (closed)")
  spec.raises("attempt to use a closed database", a.query, a, "SELECT 1")
  spec.raises("no driver 'mysql', only sqlite3 and postgres", sql.open, "mysql", "x")
  spec.raises("a database's source must be a string", sql.open, "sqlite3")
  spec.raises("unknown option 'timeot'", sql.open, "sqlite3", "x", { timeot = 1 })
  spec.raises("option 'timeout' must be a duration such as \"5s\", got '5 parsecs'", sql.open,
    "sqlite3", "x", { timeout = "5 parsecs" })
  spec.raises("option 'prepare' must be a table, got a string", sql.open, "sqlite3", "x",
    { prepare = "x" })
  spec.raises("a database of perilune.sql is wanted, or a connection of LuaSQL's", sql.of, {})
end)

if databases.sqlite3 then
  spec.test("statements may prepare each connection", function()
    local db = sql.open("sqlite3", folder .. "/prepared.db", {
      prepare = { "PRAGMA journal_mode = WAL", "PRAGMA foreign_keys = on" } })
    spec.same(db:query "PRAGMA foreign_keys", { { foreign_keys = 1 } })
    spec.same(db:query "PRAGMA journal_mode", { { journal_mode = "wal" } })
    db:close()
    local bad = sql.open("sqlite3", folder .. "/prepared.db", { prepare = { "NO" } })
    spec.returns({ null, 'near "NO": syntax error' }, bad:query "SELECT 1")
    local nowhere = sql.open("sqlite3", "/nowhere/x.db")
    spec.returns({ null, "unable to open database file" }, nowhere:exec "SELECT 1")
  end)

  spec.test("a lock of another's is waited for so long and no longer", function()
    local first = sql.open("sqlite3", folder .. "/lock.db")
    assert(first:exec "CREATE TABLE t (a)")
    local second = sql.open("sqlite3", folder .. "/lock.db", { timeout = "10ms" })
    assert(first:transaction(function()
      spec.returns({ null, "database is locked" }, second:exec "INSERT INTO t VALUES (1)")
      spec.returns({ null, "database is locked" }, second:transaction(print))
      return true
    end))
    spec.returns({ 1 }, second:exec "INSERT INTO t VALUES (1)")
  end)

  spec.test("a connection of LuaSQL's own is used as it is, and stays its owner's", function()
    local connection = assert(require("luasql.sqlite3").sqlite3():connect(":memory:"))
    local db = sql.of(connection)
    assert(rawequal(db, sql.of(connection)) and rawequal(db, sql.of(db)))
    spec.same(db:query("SELECT ? AS a", { "x" }), { { a = "x" } })
    db:close()
    spec.same(db:query "SELECT 1 AS a", { { a = 1 } })
    connection:close()
    spec.raises("closed", db.query, db, "SELECT 1")
  end)
end

-- ---- lost connections ----

if databases.postgres then
  local db = databases.postgres

  -- Ends all connections but psql's own.
  local function cut()
    server.sql([[SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE pid <> pg_backend_pid() AND backend_type = 'client backend']])
  end

  -- Calls f while os.time tells these, one after the other, and then the last again.
  local function at_times(times, f)
    local real, n = os.time, 0
    rawset(os, "time", function()
      n = math.min(n + 1, #times)
      return times[n]
    end)
    local good, problem = pcall(f)
    rawset(os, "time", real)
    assert(good, problem)
  end

  spec.test("a read whose connection was lost is sent again", function()
    table_of(db, "users", "id integer PRIMARY KEY, name text")
    assert(db:exec "INSERT INTO users VALUES (1, 'a')")
    cut()
    spec.same(names_in(db), "a")
  end)

  spec.test("a write whose connection was lost is not, and may have been done", function()
    local done, message, code
    at_times({ 100, 100 }, function()
      assert(db:exec "UPDATE users SET name = 'b'")
      cut()
      -- it was used within this second: nobody looks whether it lives
      done, message, code = db:exec "UPDATE users SET name = 'c'"
    end)
    spec.same(done, nil)
    spec.contains(message, "terminating connection")
    spec.same(code, "unknown")
    spec.same(names_in(db), "b")
  end)

  spec.test("one that may be done twice is sent again", function()
    assert(db:exec "UPDATE users SET name = 'b'")
    cut()
    spec.returns({ 2 }, db:upsert("users", { { id = 1, name = "d" }, { id = 2, name = "e" } },
      { key = "id" }))
    cut()
    spec.returns({ 1 }, db:delete("users", "id", { 2 }))
    spec.same(names_in(db), "d")
  end)

  spec.test("where one of two sendings may have been carried out, that is said", function()
    table_of(db, "checked", "id integer PRIMARY KEY, n integer CHECK (n > 0)")
    cut()
    local done, message, code = db:upsert("checked", { { id = 1, n = -1 } }, { key = "id" })
    spec.same({ done, code }, { nil, "unknown" })
    spec.contains(message, "check constraint")
  end)

  spec.test("what exec selects may write, so it is not sent again", function()
    assert(db:exec "CREATE SEQUENCE numbers")
    local done, code, _
    at_times({ 100 }, function()
      spec.returns({ 1 }, db:exec "SELECT nextval('numbers')")
      cut()
      done, _, code = db:exec "SELECT nextval('numbers')"
    end)
    spec.same({ done, code }, { nil, "unknown" })
  end)

  spec.test("a connection that was idle is looked after before a write", function()
    at_times({ 100 }, function()
      assert(db:exec "UPDATE users SET name = 'e'")
    end)
    cut()
    at_times({ 101 }, function()
      spec.returns({ 1 }, db:exec "UPDATE users SET name = 'f'")
    end)
  end)

  spec.test("what took its time is not sent again", function()
    assert(db:query "SELECT 1")
    cut()
    at_times({ 100, 103 }, function() -- two seconds are a statement's
      local rows, message = db:query "SELECT 1"
      spec.same(rows, nil)
      spec.contains(message, "terminating connection")
    end)
    spec.same(db:query "SELECT 1 AS one", { { one = 1 } })
  end)

  spec.test("a transaction whose connection is lost fails, and the next one does not", function()
    local done, message = db:transaction(function()
      assert(db:exec "UPDATE users SET name = 'g'")
      cut()
      return db:exec "UPDATE users SET name = 'h'"
    end)
    spec.same(done, nil)
    spec.contains(message, "terminating connection")
    spec.returns({ 1 }, db:transaction(function()
      return db:exec "UPDATE users SET name = 'i'"
    end))
    local committed, why, code = db:transaction(function()
      assert(db:exec "UPDATE users SET name = 'j'")
      cut()
      return true
    end)
    spec.same(committed, nil)
    spec.contains(why, "terminating connection")
    spec.same(code, "unknown")
    spec.same(names_in(db), "i")
  end)

  spec.test("a server that is away is told, and found when it is back", function()
    server.stop()
    local rows, message = db:query "SELECT 1 AS one"
    spec.same(rows, nil)
    assert(#message > 0 and not message:find "\n", message)
    local done, _, code = db:upsert("users", { { id = 1, name = "x" } }, { key = "id" })
    spec.same({ done, code }, {})
    server.start()
    spec.same(db:query "SELECT 1 AS one", { { one = 1 } })
  end)

  spec.test("a statement that takes too long is cancelled", function()
    local hasty = sql.open("postgres", server.conninfo, { timeout = "50ms" })
    local rows, message = hasty:query "SELECT pg_sleep(30)"
    spec.same(rows, nil)
    spec.contains(message, "statement timeout")
    spec.same(hasty:query "SELECT 1 AS one", { { one = 1 } })
    hasty:close()
  end)

  spec.test("a source may be words, a URI, or a name", function()
    local uri = sql.open("postgres",
      ("postgresql://postgres@/postgres?host=%s"):format(server.folder))
    spec.same(uri:query "SELECT current_user AS u", { { u = "postgres" } })
    uri:close()
    local name = sql.open("postgres", "no 'such' one", { connect_timeout = "1s" })
    local rows, message = name:query "SELECT 1"
    spec.same(rows, nil)
    assert(#message > 0)
  end)

  spec.test("a connection of LuaSQL's own is not made anew", function()
    local connection = assert(require("luasql.postgres").postgres():connect(server.conninfo))
    local given = sql.of(connection)
    spec.same(given:query("SELECT ?::int AS a, true AS b", { 7 }), { { a = 7, b = true } })
    cut()
    local rows = given:query "SELECT 1"
    spec.same(rows, nil)
    spec.same(given:query "SELECT 1", nil)
    connection:close()
    connection = assert(require("luasql.postgres").postgres():connect(server.conninfo))
    local done, message, code = sql.of(connection):transaction(cut)
    spec.same({ done, code }, { nil, "unknown" })
    spec.contains(message, "terminating connection")
    connection:close()
  end)
end

databases.finish()
