-- SPDX-License-Identifier: MIT
--
-- examples.lua - the eight programs that show what a cache is for: each is short, says at its head
-- what it shows and how it is run, prints what is written here, and does so again when it is run
-- again over the same Redis. PERILUNE names the program.

local spec = require "spec"

local pipe <close> = assert(io.popen "pwd")
local here = pipe:read "l" .. "/"

local function absolute(path)
  return path:find "^/" and path or here .. path
end

local folder = absolute(assert(arg[0]:match "^(.*)tests/lua/") .. "scripts/examples/")
local redis = spec.redis()

-- They make their databases in the folder that they are run in. What they need beside the module is
-- found where the system has it.
local place, remove_place = spec.folder()
local run = ("cd %s && env 'LUA_PATH=%s;;' 'LUA_CPATH=%s;;' timeout 60 '%s' run %s"):format(place,
  assert(os.getenv "LUA_PATH"), assert(os.getenv "LUA_CPATH"),
  absolute(assert(os.getenv "PERILUNE")), folder)

local function read(name)
  local file <close> = assert(io.open(folder .. name))
  return file:read "a"
end

local function count_lines(text)
  return select(2, text:gsub("\n", ""))
end

-- Whether a text is what is wanted, in which "..." stands for any text within a line.
local function is_like(text, wanted)
  return text:find("^" .. wanted:gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.", "[^\n]-") .. "$") ~= nil
end

local examples = {
  catalog = [[
tea (loaded)
  assam     7 (loaded)
  sencha    9 (loaded)
tea (l...)
  assam     7 (l...)
  sencha    9 (l...)
coffee (loaded)
  arabica   8 (loaded)
assam costs 12 now
tea (loaded)
  sencha    9 (l...)
  assam    12 (loaded)
coffee (l...)
  arabica   8 (l...)
]],
  profiles = [[
Ada signs up
  the database has 7, Ada, Turin
  the website reads Ada, Turin (l...)
  the app reads Ada, Turin (l...)
Ada moves, by the app
  the website reads Ada, London (l...)
a profile without a name
  store: profiles_policy.lua:13: ...: CHECK constraint failed: name <> '' (store)
  the website reads Ada, London (l...)
Ada leaves
  the database has 0 rows
  the website reads no such user (negative)
]],
  views = [[
2000 views, 1000 of them of home
the database has 1001000 for home
the database has 100 for page 0
the database has 100 for page 1
... rows were written, by ... statements
]],
  dashboard = [[
a screen
  sold          Bern 25, Linz 42 (loaded)
  large orders  Bern 25, Linz 30 (loaded)
  visits        Bern 20, Linz 50 (loaded)
  per visit     Bern 1.25, Linz 0.84 (loaded)
another screen; how a query is written does not matter
  sold          Bern 25, Linz 42 (l...)
  large orders  Bern 25, Linz 30 (l...)
  visits        Bern 20, Linz 50 (l...)
  per visit     Bern 1.25, Linz 0.84 (l...)
  sold          Bern 25, Linz 42 (l1)
an order comes in: what reads the orders is void, the visits are not
  sold          Bern 65, Linz 42 (loaded)
  large orders  Bern 25, Linz 30, Bern 40 (loaded)
  visits        Bern 20, Linz 50 (l...)
  per visit     Bern 3.25, Linz 0.84 (loaded)
somebody else writes visits, and says so
  sold          Bern 65, Linz 42 (l...)
  large orders  Bern 25, Linz 30, Bern 40 (l...)
  visits        Bern 30, Linz 60 (loaded)
  per visit     Bern 2.17, Linz 0.7 (loaded)
]],
  sessions = [[
an id is 43 characters that nobody guesses
ada has a book in the cart, on the phone
ada is logged in 2 times
  for ... s, seen ... s ago
  for ... s, seen ... s ago
2 sessions ended
the laptop is logged out
]],
  leaderboard = [[
1. ada 1600
2. cyd 1500
3. dan 900
bob is number 4 of 4 with 900 points
4 events
42 games, from l1
43 games, as soon as the other process has said so
]],
  limiter = [[
request 1: 200, 4 more at once
request 2: 200, 3 more at once
request 3: 200, 2 more at once
request 4: 200, 1 more at once
request 5: 200, 0 more at once
request 6: 429, come back in 120 s
request 7: 429, come back in 120 s
another caller: 200
requests in this hour: 8
]],
  weather = [[
oslo     rain           loaded     asked the service
oslo     rain           l1         did not ask
atlantis no such place  negative   asked the service
atlantis no such place  negative   did not ask
the service goes away, and what is there becomes old
oslo     rain           stale      asked the service
oslo     rain           stale      did not ask
rome     ?              loader     asked the service
  weather.example: connection refused
it is back, with other weather
oslo     snow           l1         did not ask
]],
}

for _, name in ipairs { "catalog", "profiles", "views", "sessions", "leaderboard", "limiter",
  "weather", "dashboard" } do
  spec.test(name .. ".lua is short, and says what it is and how it is run", function()
    local text = read(name .. ".lua")
    assert(count_lines(text) < 80, "it has 80 lines or more")
    spec.contains(text, "-- " .. name .. ".lua - ")
    spec.contains(text, "-- usage: perilune run " .. name .. ".lua [REDIS_URL]")
    local policy = text:match '"([%w_]+_policy%.lua)"'
    if policy then
      local rules = read(policy)
      assert(count_lines(rules) < 80, "its policy has 80 lines or more")
      spec.contains(rules, "-- " .. policy .. " - ")
    end
  end)

  for _, time in ipairs { "", ", and again" } do
    spec.test(name .. ".lua shows what it should" .. time, function()
      local output, code, errors = spec.run(("%s%s.lua %s"):format(run, name, redis.url))
      spec.same(errors, "")
      spec.same(code, 0)
      if not is_like(output, examples[name]) then
        spec.same(output, examples[name]) -- which tells both
      end
    end)
  end
end

spec.test("none leaves a database behind", function()
  spec.same((spec.run("ls " .. place)), "")
end)

remove_place()
redis.stop()
spec.finish()
