-- SPDX-License-Identifier: MIT
--
-- sql_words.lua - SQL is cut where its databases cut it: properties of thousands of texts put
-- together by chance, the same ones each time. What real databases say of it: sql.lua.

local spec = require "spec"
local statement = require "perilune.sql.statement"
local words = require "perilune.sql.words"

local DIALECTS = { "postgres", "sqlite3" }

-- A generator of our own: the same numbers with any Lua.
local state = 20240607

local function random(n)
  state = (state * 1103515245 + 12345) % 2147483648
  return state // 65536 % n + 1
end

local function one_of(list)
  return list[random(#list)]
end

-- What is in quotes, and must stay as it is.
local quoted = {
  postgres = {
    "'a  b'", "'it''s -- no  comment'", "'SELECT ?'", "E'back\\'slash  ?'", "e'\\\\'", "''",
    "'one' \n  'two'", "E'x\\''\n'y\\''", "'a' -- why\n\t'b'", "$$ dollars '  ? $ $$",
    "$tag$ /* $$ ?  $tag$", "$q$$$'$q$", "U&'\\0041  ?'", "X'1F'", "\"Name  with ? \"",
    "\"a\"\"b\"", "'/* no'", "'\\'",
  },
  sqlite3 = {
    "'a  b'", "'it''s -- no  comment'", "'SELECT ?'", "''", "x'1f'", "\"Name  with ? \"",
    "\"a\"\"b\"", "[a ' ? ]", "`b  \" ``?`", "'\\'", "'/* no'",
  },
}
local gaps = {
  postgres = { " ", "\n", "\t ", "/* a */", "/* a /* ' ? */ */", "-- it's ?\n", "/**/", "--\r",
    "/*/ ? /**/ */*/" },
  sqlite3 = { " ", "\n", "\t ", "/* a */", "/* a /* ' ? */", "-- it's \r ?\n", "/**/", "/*/ ?*/" },
}
local plain = { "SELECT", "select", "From", "users", "Users", "a1", "$1", "a$b", "_x", "12",
  "1.5e3", "(", ")", ",", "=", "<>", "+", "-", "*", "/", "||", ".", "::", "?", "??", ";",
  "\xc3\xa9t\xc3\xa9", "AS", "WHERE", "IN" }

-- A text, and what of it is in quotes.
local function made(dialect)
  local pieces, kept = {}, {}
  for _ = 1, random(12) do
    local kind = random(3)
    if kind == 1 then
      local text = one_of(quoted[dialect])
      kept[#kept + 1] = text
      pieces[#pieces + 1] = text
    else
      pieces[#pieces + 1] = one_of(kind == 2 and plain or gaps[dialect])
    end
    pieces[#pieces + 1] = " , " -- so that two pieces stay two
  end
  return table.concat(pieces), kept
end

-- Any bytes of those that matter.
local function soup()
  local bytes = { "'", "\"", "$", "-", "/", "*", "\\", "\n", " ", "?", "E", "e", "a", "[", "]", "`",
    "1", ";", "\r", "$a$", "--", "/*", "*/", "''", "U&", "SELECT" }
  local pieces = {}
  for i = 1, random(16) do
    pieces[i] = one_of(bytes)
  end
  return table.concat(pieces)
end

local function each_text(check)
  for _, dialect in ipairs(DIALECTS) do
    for _ = 1, 1500 do
      check(dialect, made(dialect))
      check(dialect, soup(), {})
    end
  end
end

spec.test("the pieces of a text are the text", function()
  each_text(function(dialect, text)
    local kinds, texts = words.split(text, dialect)
    spec.same(table.concat(texts), text)
    spec.same(#kinds, #texts)
    for i, piece in ipairs(texts) do
      assert(piece ~= "", i)
    end
  end)
end)

spec.test("what is in quotes is in the normal form as it was, and in its order", function()
  each_text(function(dialect, text, kept)
    local normal, at = statement.learn(text, dialect).text, 1
    for _, piece in ipairs(kept) do
      local from, to = normal:find(piece, at, true)
      assert(from, ("%s: %q has no %q"):format(dialect, normal, piece))
      at = to + 1
    end
  end)
end)

spec.test("the normal form of a normal form is itself", function()
  each_text(function(dialect, text)
    local normal = statement.learn(text, dialect).text
    spec.same(statement.learn(normal, dialect).text, normal, ("%q"):format(text))
  end)
end)

spec.test("the normal form has the same pieces that count", function()
  local function counted(dialect, text)
    local kinds, texts = words.split(text, dialect)
    local list = {}
    for i, kind in ipairs(kinds) do
      if kind == "open" then
        list[#list + 1] = texts[i]
      elseif kind ~= "gap" then
        list[#list + 1] = kind .. ":" .. (kind == "word" and texts[i]:lower() or texts[i])
      end
    end
    while list[#list] == "other:;" do
      list[#list] = nil
    end
    return list
  end
  each_text(function(dialect, text)
    spec.same(counted(dialect, statement.learn(text, dialect).text), counted(dialect, text),
      ("%s %q"):format(dialect, text))
  end)
end)

spec.test("gaps and keywords are written in one way, names and literals as they are", function()
  local texts = {
    ["  SELECT\n\tName FROM/* all */Users -- of them\nWHERE id=? ;\n"] =
      "select Name from Users where id=?",
    ["select 'A  B', \"From\" FROM t"] = "select 'A  B', \"From\" from t",
    ["SELECT 1 AS Order"] = "select 1 as Order",
    ["SELECT By FROM t ORDER\nBY By"] = "select By from t order by By",
    ["SELECT Count(*) FROM t"] = "select Count(*) from t",
    ["a/**/b"] = "a b",
    ["-/**/-1"] = "- -1",
    [";;"] = "",
    [""] = "",
  }
  for text, wanted in pairs(texts) do
    for _, dialect in ipairs(DIALECTS) do
      spec.same(statement.learn(text, dialect).text, wanted)
    end
  end
end)

spec.test("databases differ", function()
  local function marks(text, dialect)
    local known = statement.learn(text, dialect)
    return known.problem and "problem" or known.n_marks
  end
  local both = {
    -- text, placeholders for PostgreSQL, for SQLite
    { "/* /* ? */ ? */ ?", 1, 2 },
    { "$$ ? $$", 0, 1 },
    { "E'\\' ? '", 0, "problem" },
    { "'\\' ?", 1, 1 },
    { "[?]", 1, 0 },
    { "`?`", 1, 0 },
    { "a--\r?", 1, 0 },
    { "a$$ ? $$", "problem", 1 },
    { "a$$ ?", 1, 1 },
    { "?1", "problem", "problem" },
    { "a ?? b", 0, 0 },
    { "E'a'\n'\\'?'", 0, "problem" },
    { "'a'\n'\\'?", 1, 1 },
    { "SELECT 1; SELECT 2", "problem", "problem" },
    { "SELECT 1; -- no more", 0, 0 },
    { "'open ?", "problem", "problem" },
  }
  for _, case in ipairs(both) do
    spec.same(marks(case[1], "postgres"), case[2], case[1])
    spec.same(marks(case[1], "sqlite3"), case[3], case[1])
  end
end)

spec.test("tables are found by what stands before them", function()
  local cases = {
    ["SELECT * FROM users"] = "users",
    ["SELECT * FROM Shop.\"Users\" u, only b AS c, (SELECT 1 FROM d) e, f"] = "users b d f",
    ["SELECT a, b FROM x LEFT JOIN y USING (k, l) JOIN z ON z.a IN (1, 2), w WHERE a, b"] =
      "x y z w",
    ["INSERT INTO a (b, c) SELECT d, e FROM f"] = "a f",
    ["INSERT OR REPLACE INTO a VALUES (1, 2), (3, 4)"] = "a",
    ["UPDATE OR IGNORE a SET b = 1, c = (SELECT d, e FROM g) WHERE 1"] = "a g",
    ["UPDATE ONLY a SET b = 1 FROM c"] = "a c",
    ["DELETE FROM a USING b, c WHERE a.x = b.x"] = "a b c",
    ["INSERT INTO a VALUES (1) ON CONFLICT DO UPDATE SET x = 1, y = 2"] = "a",
    ["TRUNCATE TABLE a, b"] = "a b",
    ["SELECT 'FROM no', \"from\" FROM (a JOIN b ON true)"] = "a b",
    ["WITH x AS (SELECT 1 FROM a) SELECT * FROM x, b ORDER BY 1, 2"] = "a x b",
    ["MERGE INTO a USING b ON true"] = "a b",
    ["SELECT 1, 2"] = "",
    ["SELECT 1 FROM a UNION SELECT 2, 3 FROM b"] = "a b",
    ["REFRESH MATERIALIZED VIEW CONCURRENTLY v"] = "v",
    ["SELECT 1 FROM a FOR UPDATE OF a"] = "a",
  }
  for text, wanted in pairs(cases) do
    for _, dialect in ipairs(DIALECTS) do
      spec.same(table.concat(statement.learn(text, dialect).tables, " "), wanted, text)
    end
  end
end)

spec.test("a statement only reads where no word of it writes", function()
  for text, is_read in pairs {
    ["SELECT 1"] = true, ["(SELECT 1)"] = true, ["WITH a AS (SELECT 1) SELECT 2"] = true,
    ["VALUES (1)"] = true, ["SELECT 'INSERT'"] = true,
    ["WITH a AS (DELETE FROM b) SELECT 1"] = false,
    ["SELECT 1 INTO a"] = false, ["SELECT 1 FROM a FOR UPDATE"] = false, ["INSERT INTO a"] = false,
    ["SELECT replace(a, 'b', 'c')"] = true, ["EXPLAIN ANALYZE DELETE FROM a"] = false,
    ["PRAGMA x"] = false, ["BEGIN"] = false, [""] = false,
  } do
    spec.same(statement.learn(text, "postgres").is_read, is_read, text)
  end
end)

-- ---- arguments ----

local function escape(text)
  return (text:gsub("'", "''"))
end

local function filled(text, args, dialect)
  return statement.fill(statement.learn(text, dialect or "sqlite3"), args, dialect or "sqlite3",
    escape)
end

spec.test("arguments are put in their places, as SQL writes them", function()
  spec.returns({ "a = 'it''s ?' AND b = 7 OR '?' = TRUE" },
    filled("a = ? AND b = ? OR '?' = ?", { "it's ?", 7, true }))
  spec.returns({ "1-(-5), NULL, 2.0, 1.0000000000000001e+300, 0.10000000000000001" },
    filled("1-?, ?, ?, ?, ?", { -5, nil, 2.0, 1e300, 0.1 }))
  spec.returns({ "(-9223372036854775808)" }, filled("?", { math.mininteger }))
  spec.returns({ "x ? y" }, filled("x ?? y"))
  spec.returns({ "x'00ff'" }, filled("?", { statement.blob "\0\xff" }))
  spec.returns({ "E'\\\\x00ff'::bytea" }, filled("?", { statement.blob "\0\xff" }, "postgres"))
  spec.returns({ "NULL, NULL" }, filled("?, ?", {}))
end)

spec.test("what has no place in SQL is told, and what no value has is misuse", function()
  spec.returns({ spec.null, "argument 2 has a byte of zero: sql.blob(bytes) is for those" },
    filled("?, ?", { 1, "a\0b" }))
  spec.returns({ spec.null, "argument 1 is not finite, and SQL has no such number" },
    filled("?", { 1 / 0 }))
  spec.returns({ spec.null, "argument 1 is not finite, and SQL has no such number" },
    filled("?", { 0 / 0 }))
  local sql = require "perilune.sql"
  local db = sql.open("sqlite3", ":memory:")
  spec.raises("argument 1: a table is no value of SQL", db.query, db, "SELECT ?", { {} })
  spec.raises("1 argument for 2 placeholders in: select ?, ?", db.query, db, "SELECT ?, ?",
    { 1, n = 1 })
  spec.raises("0 arguments for 1 placeholder", db.query, db, "SELECT ?")
  spec.raises("3 arguments for 1 placeholder", db.query, db, "SELECT ?", { nil, nil, 1 })
  spec.raises("the arguments must be a list, got a string", db.query, db, "SELECT ?", "a")
  spec.raises("SQL: more than one statement", db.query, db, "SELECT 1; SELECT 2")
  spec.raises("SQL: what begins with 'a does not end", db.query, db, "SELECT 'a")
  spec.raises("a statement must be a string, got a nil", db.query, db)
  spec.raises("sql_words.lua:", function() -- said of this file
    db:query("SELECT 1", 7)
  end)
end)

spec.test("arguments of another type or another split are others", function()
  local known = statement.learn("?, ?", "sqlite3")
  local seen = {}
  for _, args in ipairs { { 1, 2 }, { 12, nil }, { "1", 2 }, { 1.0, 2 }, { 1, "2" }, { true, 2 },
    { "true", 2 }, {}, { "s1:", "a" }, { "s1:s1:", "" }, { "", "s1:a" }, { statement.blob "1", 2 },
    { 0.0, 0 }, { -0.0, 0 }, { "i1;", 2 } } do
    local text = statement.encode(known, args)
    spec.same(seen[text], nil, text)
    seen[text] = true
  end
  spec.same(statement.encode(known, { "a", 1 }), statement.encode(known, { "a", 1, n = 2 }))
end)

spec.test("texts that are not asked for again are forgotten", function()
  collectgarbage()
  local before = collectgarbage "count"
  for i = 1, 20000 do
    statement.learn("SELECT " .. i .. (" "):rep(200), "sqlite3")
  end
  collectgarbage()
  assert(collectgarbage "count" - before < 8192)
end)

spec.finish()
