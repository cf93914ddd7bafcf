-- SPDX-License-Identifier: MIT
--
-- sql_rows.lua - many rows by one statement, and what a policy's rules load and store by, on a real
-- SQLite and a real PostgreSQL.

local spec = require "spec"
local databases = require "databases"
local null = spec.null

local each, table_of, names_in = databases.each, databases.table_of, databases.names_in
local folder = databases.folder

-- ---- many rows ----

each("upsert inserts and updates by one statement", function(db)
  table_of(db, "users", "id integer PRIMARY KEY, name text, age integer")
  spec.returns({ 2 }, db:upsert("users", { { id = 1, name = "a", age = 7 },
    { id = 2, name = "b" } }, { key = "id" }))
  spec.returns({ 2 }, db:upsert("users", { { id = 2, name = "c", age = 8 },
    { id = 3, name = "d" } }, { key = "id", columns = { "id", "name" } }))
  spec.same(db:query "SELECT * FROM users ORDER BY id", {
    { id = 1, name = "a", age = 7 }, { id = 2, name = "c" }, { id = 3, name = "d" } })
  spec.returns({ 1 }, db:upsert("users", { { id = 4, name = "old" }, { id = 4, name = "new" } },
    { key = "id" }))
  spec.same(names_in(db), "a c d new")
  spec.returns({ 0 }, db:upsert("users", {}, { key = "id" }))
  spec.returns({ 0 }, db:upsert("users", { { id = 1 } }, { key = "id" })) -- nothing to set
  local many = {}
  for i = 1, 5000 do
    many[i] = { id = i, name = "it's " .. i }
  end
  spec.returns({ 5000 }, db:upsert("users", many, { key = "id" }))
  spec.same(db:query "SELECT count(*) AS n, max(name) AS m FROM users", {
    { n = 5000, m = "it's 999" } })
end)

each("a version keeps what is newer", function(db)
  table_of(db, "users", "id integer PRIMARY KEY, name text, version bigint")
  local options = { key = { "id" }, version = "version" }
  local newest = (1 << 62) + 5
  assert(db:exec "INSERT INTO users (id, name) VALUES (3, 'without')")
  spec.returns({ 2 }, db:upsert("users", { { id = 1, name = "a", version = newest },
    { id = 2, name = "b", version = 5 } }, options))
  spec.returns({ 2 }, db:upsert("users", { { id = 1, name = "late", version = newest - 1 },
    { id = 2, name = "c", version = 6 }, { id = 3, name = "d", version = 1 } }, options))
  spec.same(names_in(db), "a c d")
  spec.returns({ 0 }, db:upsert("users", { { id = 2, name = "twice", version = 6 } }, options))
  spec.returns({ 1 }, db:delete("users", "id", { { id = 1, version = newest },
    { id = 2, version = 7 } }, { version = "version" }))
  spec.same(names_in(db), "a d")
end)

each("delete removes by keys of one column and of several", function(db)
  table_of(db, "users", "id integer PRIMARY KEY, name text")
  assert(db:exec "INSERT INTO users VALUES (1, 'a'), (2, 'b'), (3, 'c')")
  spec.returns({ 2 }, db:delete("users", "id", { 1, "3", 9 }))
  spec.same(names_in(db), "b")
  spec.returns({ 0 }, db:delete("users", "id", {}))
  table_of(db, "pairs", "a integer, b text, PRIMARY KEY (a, b)")
  local rows = {}
  for i = 1, 1200 do
    rows[i] = { a = i, b = "b" .. i % 3 }
  end
  spec.returns({ 1200 }, db:upsert("pairs", rows, { key = { "a", "b" } }))
  rows[1] = { a = 1, b = "no" }
  spec.returns({ 1199 }, db:delete("pairs", { "a", "b" }, rows))
  spec.same(db:query "SELECT a, b FROM pairs", { { a = 1, b = "b1" } })
end)

each("names are quoted, so that they are names and nothing else", function(db)
  table_of(db, "odd \"\" name", "\"Key \"\"x\" integer PRIMARY KEY, \"order\" text")
  spec.returns({ 1 }, db:upsert('odd " name', { { ['Key "x'] = 1, order = "a" } },
    { key = 'Key "x' }))
  spec.same(db:query 'SELECT * FROM "odd "" name"', { { ['Key "x'] = 1, order = "a" } })
  spec.returns({ 1 }, db:delete('odd " name', 'Key "x', { 1 }))
  local done, message = db:delete('odd " name', "none", { 1 }) -- and not the text 'none'
  spec.same(done, nil)
  spec.contains(message, "none")
end)

each("rows whose key the database makes are all inserted", function(db, dialect)
  table_of(db, "users", dialect == "postgres" and "id serial PRIMARY KEY, name text"
    or "id integer PRIMARY KEY, name text")
  spec.returns({ 3 }, db:upsert("users", { { name = "a" }, { name = "b" }, { name = "a" } },
    { key = "id" }))
  spec.same(names_in(db), "a b a")
end)

each("misuse of many rows raises, and says where", function(db)
  spec.raises("the rows must be a list, got a nil", db.upsert, db, "users", nil, { key = "id" })
  spec.raises("the rows must be a list, got a table with the field 'id'", db.upsert, db, "users",
    { id = 1 }, { key = "id" })
  spec.raises("row 2 is a number, must be a table", db.upsert, db, "users", { { id = 1 }, 7 },
    { key = "id", columns = "id" })
  spec.raises("option 'version' must be a name, got '7'", db.upsert, db, "users", {},
    { key = "id", version = 7 })
  spec.raises("option 'version' must be a name, got 'true'", db.loader, db,
    { table = "users", key = "id", from = "{id}", version = true })
  spec.raises("the keys must be a list, got a nil", db.delete, db, "users", "id")
  spec.raises("key 1: the version must be an integer, got '1.5'", db.delete, db, "users", "id",
    { { id = 1, version = 1.5 } }, { version = "version" })
  for _, name in ipairs { ".", "a..b", "a.", ".a", "" } do
    spec.raises("a table must be a name, got ''", db.delete, db, name, "id", { 1 })
  end
  spec.raises("upsert wants a table of options, got a nil", db.upsert, db, "users", {})
  spec.raises("upsert: unknown option 'keys'", db.upsert, db, "users", {}, { keys = "id" })
  spec.raises("option 'key' must be a name", db.upsert, db, "users", {}, {})
  spec.raises("a table must be a name, got '7'", db.upsert, db, 7, { { id = 1 } }, { key = "id" })
  spec.raises("column 'id': a table is no value of SQL", db.upsert, db, "users", { { id = {} } },
    { key = "id" })
  spec.raises("key 1 is a number, must be a table by column", db.delete, db, "users", { "a", "b" },
    { 1 })
  spec.returns({ null, "column 'id': the value has a byte of zero: sql.blob(bytes) is for those" },
    db:upsert("users", { { id = "\0" } }, { key = "id" }))
end)

-- ---- rules ----

each("a loader reads one row or many by the form of the key", function(db)
  table_of(db, "users", "id integer PRIMARY KEY, name text, mail text")
  assert(db:exec "INSERT INTO users VALUES (1, 'a', 'a@x'), (2, 'b', NULL), (3, 'c', 'c@x')")
  local load, load_many = db:loader {
    table = "users", key = "id", columns = { "name", "mail" }, from = "user:{id}" }
  spec.returns({ { name = "a", mail = "a@x" } }, load("user:1"))
  spec.returns({ { name = "b" } }, load("other", { id = "2" })) -- as the rule's match says
  spec.returns({ null }, load("user:9"))
  spec.returns({ null }, load("user:01")) -- nobody would make that void when user 1 changes
  spec.same(load_many { "user:1", "user:3", "user:9" }, {
    ["user:1"] = { name = "a", mail = "a@x" }, ["user:3"] = { name = "c", mail = "c@x" } })
  spec.same(load_many({ "x", "y" }, { { id = "1" }, { id = "2" } }), {
    x = { name = "a", mail = "a@x" }, y = { name = "b" } })
  spec.same(load_many {}, {})
  spec.raises("key 'shop:1' is not as option 'from' says", load, "shop:1")
  local name_of = db:loader { table = "users", key = "id", columns = "name", from = "{id}:name" }
  spec.returns({ "c" }, name_of "3:name")
  local whole = db:loader { table = "users", key = "id", from = "u{id}" }
  spec.returns({ { id = 2, name = "b" } }, whole "u2")
  local broken = db:loader { table = "none", key = "id", from = "u{id}" }
  local value, message = broken "u1"
  spec.same(value, nil)
  spec.contains(message, "none")
end)

each("a loader reads by a key of several columns", function(db)
  table_of(db, "prices", "shop text, id integer, price real, PRIMARY KEY (shop, id)")
  assert(db:exec "INSERT INTO prices VALUES ('a:b', 1, 1.5), ('c', 1, 2.5), ('c', 2, 3.5)")
  local load, load_many = db:loader { table = "prices", key = { "shop", "id" }, columns = "price",
    from = "{shop}/{id}/price" }
  spec.returns({ 1.5 }, load "a:b/1/price")
  spec.same(load_many { "c/1/price", "c/2/price", "a:b/2/price" }, {
    ["c/1/price"] = 2.5, ["c/2/price"] = 3.5 })
  spec.raises("option 'from' has 1 names, option 'key' 2 columns", db.loader, db, {
    table = "prices", key = { "shop", "id" }, from = "{id}" })
  spec.raises("option 'from' must be a key's form", db.loader, db, { table = "t", key = "id" })
end)

each("a store writes one value through", function(db)
  table_of(db, "users", "id integer PRIMARY KEY, name text, version bigint")
  local store = db:store { table = "users", key = "id", columns = { "name" }, from = "user:{id}",
    version = "version" }
  spec.returns({ true }, store("user:1", { id = "1" }, { name = "a" }, { version = 0, op = "set" }))
  spec.same(names_in(db), "a")
  spec.returns({ true }, store("user:1", nil, { name = "b" }))
  spec.same(names_in(db), "b")
  spec.returns({ true }, store("user:1", { id = "1" }, nil))
  spec.same(names_in(db), "")
  spec.returns({ null, "the value is a string, must be a table by column", "never" },
    store("user:1", nil, "text"))
  spec.returns({ null, "column 'name': the value has a byte of zero: sql.blob(bytes) is for those",
    "never" }, store("user:1", nil, { name = "\0" }))
  spec.raises("option 'columns' is needed", db.store, db,
    { table = "t", key = "id", from = "{id}" })
end)

each("a store writes bytes, and a loader reads them", function(db, dialect)
  local kind = dialect == "postgres" and "bytea" or "blob"
  table_of(db, "files", "name text PRIMARY KEY, data " .. kind .. ", note text")
  local mapping = { table = "files", key = "name", columns = { "data", "note" }, from = "f:{name}" }
  local load = db:loader(mapping)
  mapping.bytes = "data"
  local store = db:store(mapping)
  for _, bytes in ipairs { "\0\1\\x41\\\xff'", "\\x41", "a\\b", "" } do
    spec.returns({ true }, store("f:a", nil, { data = bytes, note = "\\x41" }))
    spec.returns({ { data = bytes, note = "\\x41" } }, load "f:a")
  end
  spec.returns({ true }, store("f:a", nil, { note = "none" }))
  spec.returns({ { note = "none" } }, load "f:a")
  spec.raises("option 'bytes' must be a name", db.store, db, { table = "files", key = "name",
    columns = "data", from = "f:{name}", bytes = true })
  spec.raises("option 'bytes' has 'date', which is none of the columns", db.store, db,
    { table = "files", key = "name", columns = "data", from = "f:{name}", bytes = "date" })
end)

-- A write of a batch.
local function write(id, value, version)
  return { key = "user:" .. id, m = { id = tostring(id) }, op = value and "set" or "delete",
    value = value and { name = value }, version = version, id = "0-" .. version, attempt = 1 }
end

each("a store writes a batch, of each key the last", function(db)
  table_of(db, "users", "id integer PRIMARY KEY, name text, version bigint")
  local store = db:store { table = "users", key = "id", columns = { "name" }, from = "user:{id}",
    version = "version" }
  spec.returns({ true }, store { write(1, "a", 1), write(2, "b", 2), write(1, "c", 3) })
  spec.same(names_in(db), "c b")
  spec.returns({ true }, store { write(1, nil, 4), write(3, "d", 5), write(2, nil, 6),
    write(2, "e", 7) })
  spec.same(names_in(db), "e d")
  spec.returns({ true }, store { write(3, nil, 8) })
  spec.same(names_in(db), "e")
  -- what comes late or twice does no harm
  spec.returns({ true }, store { write(2, "late", 2), write(4, "f", 9) })
  spec.returns({ true }, store { write(2, nil, 6) })
  spec.same(names_in(db), "e f")
  spec.same(db:query "SELECT id, version FROM users ORDER BY id", {
    { id = 2, version = 7 }, { id = 4, version = 9 } })
end)

each("of a batch what no row can be made of is told, and the rest is stored", function(db)
  table_of(db, "users", "id integer PRIMARY KEY, name text")
  local store = db:store { table = "users", key = "id", columns = { "name" }, from = "user:{id}" }
  local bad = write(2, "x", 3)
  bad.value = 7
  local earlier = write(2, "good", 2)
  spec.returns({ {
    [3] = { "the value is a number, must be a table by column", "never" },
    [4] = { "column 'name': the value has a byte of zero: sql.blob(bytes) is for those", "never" },
  } }, store { write(1, "a", 1), earlier, bad, write(3, "\0", 4) })
  spec.same(names_in(db), "a good")
  -- all or nothing where the database refuses
  table_of(db, "users", "id integer PRIMARY KEY, name text CHECK (name <> 'no')")
  local done, message = store { write(1, "a", 1), write(2, "no", 2) }
  spec.same(done, nil)
  spec.contains(message:lower(), "check")
  local tried = store { write(1, "a", 1), write(9, nil, 2), write(2, "no", 3) }
  spec.same(tried, nil)
  spec.same(names_in(db), "")
end)

spec.test("a database that cannot be connected to is not a fault of the rows", function()
  for driver, source in pairs { sqlite3 = folder .. "/nowhere/db", postgres = "host=" .. folder } do
    local store = require "perilune.sql".open(driver, source):store { table = "users", key = "id",
      columns = { "name" }, from = "user:{id}" }
    for _, answer in ipairs { table.pack(store { write(1, "a", 1), write(2, nil, 2) }),
      table.pack(store("user:1", nil, { name = "a" })) } do
      spec.same(answer[1], nil)
      spec.same(answer[2]:find "column", nil)
      spec.same(answer[3], nil)
    end
  end
end)

spec.test("without LuaSQL it is said which package has it", function()
  for _, driver in ipairs { "sqlite3", "postgres" } do
    local output = spec.run(([['%s' run -e '
      package.preload["luasql.%s"] = function() error "gone" end
      local db = require "perilune.sql".open("%s", "")
      print(pcall(db.query, db, "SELECT 1"))']]):format(os.getenv "PERILUNE", driver, driver))
    spec.contains(output, "LuaSQL is not there for this database (Debian: lua-sql-" .. driver)
  end
end)

-- ---- as policies of caches have it ----

-- A cache whose trusted policy loads and stores users by this database.
local function open_with(db, dialect, strategy, redis)
  local source = dialect == "sqlite3" and folder .. "/test.db" or databases.server.conninfo
  local policy = spec.write(folder .. "/policy.lua", ([[
    local db = require("perilune.sql").open(%q, %q, { connect_timeout = "5s", timeout = "5s" })
    local users = { table = "users", key = "id", columns = { "name" }, from = "user:{id}" }
    local load, load_many = db:loader(users)
    users.version = "version"
    cache.rule "user:{id}" { ttl = "1h", load = load, load_many = load_many,
      write = %s { store = db:store(users), timeout = "30s" } }]]):format(dialect, source,
    strategy))
  table_of(db, "users", "id integer PRIMARY KEY, name text, version bigint")
  assert(db:exec "INSERT INTO users (id, name) VALUES (7, 'a'), (8, 'b')")
  return assert(require("perilune").open { log = false, policy = policy, trusted = true,
    redis = redis and redis.url, ns = "rows-" .. strategy .. "-" .. dialect, timeout = "10s" })
end

each("a trusted policy loads, and writes through", function(db, dialect)
  local cache <close> = open_with(db, dialect, "through")
  spec.returns({ { name = "a" }, null, "loaded" }, cache:get "user:7")
  spec.returns({ null, null, "negative" }, cache:get "user:9")
  spec.returns({ true }, cache:set("user:7", { name = "c" }))
  spec.same(names_in(db), "c b")
  spec.returns({ { name = "c" }, null, "l1" }, cache:get "user:7")
  spec.returns({ true }, cache:delete "user:8")
  spec.same(names_in(db), "c")
  spec.returns({ null, null, "negative" }, cache:get "user:8")
  local good, message, code = cache:set("user:7", "text")
  spec.same({ good, code }, { nil, "store" })
  spec.contains(message, "the value is a string, must be a table")
  spec.same(names_in(db), "c")
  spec.same(cache:get("user:7").name, "c")
end)

each("and around", function(db, dialect)
  local cache <close> = open_with(db, dialect, "around")
  spec.returns({ true }, cache:set("user:7", { name = "c" }))
  spec.same(names_in(db), "c b")
  spec.returns({ { name = "c" }, null, "loaded" }, cache:get "user:7")
end)

each("and behind, in batches", function(db, dialect)
  local redis <close> = spec.redis()
  local cache <close> = open_with(db, dialect, "behind", redis)
  for i = 1, 300 do
    assert(cache:set("user:" .. i % 100, { name = "n" .. i }))
  end
  assert(cache:delete "user:50")
  assert(cache:set("user:7", "no row")) -- acknowledged, and never stored
  assert(cache:set("user:7", { name = "last" }))
  spec.same(cache:get("user:7").name, "last")
  spec.returns({ true }, cache:flush())
  spec.same(db:query "SELECT count(*) AS n FROM users", { { n = 99 } })
  spec.same(db:query "SELECT id, name FROM users WHERE id IN (0, 7, 50, 99) ORDER BY id", {
    { id = 0, name = "n300" }, { id = 7, name = "last" }, { id = 99, name = "n299" } })
  local stats = cache:stats()
  assert(stats.store_batches < stats.stores, stats.store_batches)
end)

if databases.sqlite3 then
  spec.test("the example of the reference prints what it says", function()
    spec.example(assert(arg[0]:match "^(.*)tests/lua/") .. "lua/reference/sql.md")
  end)
end

databases.finish()
