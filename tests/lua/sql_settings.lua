-- SPDX-License-Identifier: MIT
--
-- sql_settings.lua - what perilune.sql has to bear: the process's locale, the settings of
-- connections, tables that are altered while they are read, and wrong use.

local spec = require "spec"
local databases = require "databases"
local sql = require "perilune.sql"

local each, table_of, names_in = databases.each, databases.table_of, databases.names_in
local server = databases.server

-- ---- settings ----

each("numbers have a point, whatever the locale", function(db)
  local real = string.format
  rawset(string, "format", function(...) -- as with os.setlocale "de_DE", which may not be there
    return (real(...):gsub("^(-?%d)%.(%d+[^,]*)$", "%1,%2"))
  end)
  spec.same(("%.17g"):format(0.5), "0,5")
  local rows, message = db:query("SELECT 1 WHERE ? > 0.25", { 0.5 })
  local quoted = table.concat({ db:quote(-1.5), db:quote(1e300), db:quote(2.0) }, " ")
  rawset(string, "format", real)
  spec.same(#assert(rows, message), 1)
  spec.same(quoted, "(-1.5) 1.0000000000000001e+300 2.0")
end)

if databases.postgres then
  spec.test("text is text also on a connection on which backslashes are special", function()
    local connection = assert(require("luasql.postgres").postgres():connect(server.conninfo))
    local db = sql.of(connection)
    connection:execute "SET standard_conforming_strings = off"
    local text = "a\\'; SELECT 1 --"
    spec.same(db:query("SELECT ? AS a, ? AS b", { text, sql.blob(text .. "\0") }), {
      { a = text, b = text .. "\0" } })
    -- to the database the first placeholder is in a string, which what takes its place would end
    local rows, message = db:query([[SELECT 'a\'?', ?, 'c\'?']], { " AS x, version() --" })
    spec.same(rows, nil)
    spec.contains(message, "standard_conforming_strings off")
    connection:execute "SET standard_conforming_strings = on"
    spec.same(db:query([[SELECT '\' AS a, ? AS b]], { "\\" }), { { a = "\\", b = "\\" } })
    connection:close()
  end)
end

if databases.sqlite3 then
  spec.test("what comes behind a transaction that SQLite has undone is undone as well", function()
    local db = databases.sqlite3
    table_of(db, "users", "id integer PRIMARY KEY, name text")
    local done, message = db:transaction(function()
      assert(db:exec "INSERT INTO users VALUES (1, 'a')")
      for id = 2, 5 do -- as a full disk does it, again and again
        spec.same(db:exec "INSERT OR ROLLBACK INTO users VALUES (9, 'b'), (9, 'b')", nil)
        assert(db:exec("INSERT INTO users VALUES (?, 'c')", { id }))
      end
      return true
    end)
    spec.same(done, nil)
    spec.contains(message, "UNIQUE")
    spec.same(names_in(db), "")
  end)
end

-- ---- tables that are altered ----

each("columns that are added while a program runs have their types", function(db, dialect)
  table_of(db, "grown", "id integer PRIMARY KEY")
  assert(db:exec "INSERT INTO grown VALUES (1)")
  spec.same(db:query "SELECT * FROM grown", { { id = 1 } })
  assert(db:exec "ALTER TABLE grown ADD COLUMN n integer DEFAULT 7")
  spec.same(db:query "SELECT * FROM grown", { { id = 1, n = 7 } })
  if dialect == "postgres" then -- a column's type is looked at again after a minute
    server.sql "ALTER TABLE grown ALTER COLUMN n TYPE text USING '007'"
    local real = os.time
    rawset(os, "time", function()
      return real() + 60
    end)
    local rows = db:query "SELECT * FROM grown"
    rawset(os, "time", real)
    spec.same(rows, { { id = 1, n = "007" } })
  end
end)

-- ---- wrong use ----

each("options and arguments of the wrong type are told", function(db, dialect)
  spec.raises("options must be a table, got a number", sql.open, dialect, "x", 5)
  spec.raises("the arguments' n must be their number, got '1'", db.query, db, "SELECT ?",
    { 7, n = "1" })
  spec.raises("the arguments must be a list, got a table with the field 'id'", db.query, db,
    "SELECT ?", { id = 7 }) -- and not NULL
end)

each("a text without a statement is told as one", function(db)
  for _, text in ipairs { "", " \n", "-- SELECT 1", " ; " } do
    spec.raises("SQL: no statement", db.query, db, text)
  end
end)

each("transactions are begun and ended by their own function", function(db, dialect)
  table_of(db, "users", "id integer PRIMARY KEY, name text")
  for _, text in ipairs { "BEGIN", "start transaction", "COMMIT", "ROLLBACK", "savepoint a",
    "/**/ROLLBACK TO a", "END" } do
    spec.raises("db:transaction(f) begins and ends transactions, not: ", db.exec, db, text)
    spec.raises("db:transaction(f) begins and ends transactions, not: ", db.query, db, text)
  end
  spec.returns({ true }, db:transaction(function()
    spec.raises("db:transaction(f) begins and ends", db.exec, db, "COMMIT")
    spec.raises("db:transaction(f) begins and ends", db.exec, db, "ROLLBACK")
    assert(db:exec "INSERT INTO users VALUES (1, 'a')")
    assert(db:exec "SAVEPOINT here")
    assert(db:exec "INSERT INTO users VALUES (2, 'b')")
    assert(db:exec "ROLLBACK TO here")
    assert(db:exec "RELEASE here")
  end))
  spec.same(names_in(db), "a")
  local source = dialect == "postgres" and server.conninfo or ":memory:"
  local driver = require("luasql." .. dialect)
  local connection = assert(driver[dialect]():connect(source))
  assert(sql.of(connection):exec "BEGIN") -- its owner knows
  assert(sql.of(connection):exec "COMMIT")
  connection:close()
end)

databases.finish()
