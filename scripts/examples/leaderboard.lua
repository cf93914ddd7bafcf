-- SPDX-License-Identifier: MIT
--
-- leaderboard.lua - a game's day: scores on a board, the players' profiles as hashes that are kept
-- in the process, and a stream of what happened. Two caches stand for two processes.
--
-- usage: perilune run leaderboard.lua [URL]     URL: of a Redis; default redis://localhost

local perilune = require "perilune"
local url = arg[1] or "redis://localhost"

-- A board goes a week after its first score, a profile an hour; profiles are read whole into L1.
local policy = os.tmpname()
local file <close> = assert(io.open(policy, "w"))
file:write [[
cache.rule "board:{day}" { ttl = "7d" }
cache.rule "player:{name}" { ttl = "1h", hash_l1 = true }
]]
file:flush()

local function open(name)
    return assert(perilune.open { name = name, ns = "leaderboard", redis = url, policy = policy })
end

local game <close> = open "game"
local website <close> = open "website"
os.remove(policy)

-- Calls f until it answers true: what another process wrote is heard of a moment later.
local function wait(f)
    local stop = perilune.clock() + 10
    while not f() do
        assert(perilune.clock() < stop, "waited in vain for 10 seconds")
    end
end

for _, name in ipairs { "board:today", "events", "player:ada" } do
    local _, err = game:drop(name)
    assert(not err, err)
end

-- The game writes.
local board = game:board "board:today"
for player, score in pairs { ada = 1200, bob = 900, cyd = 1500, dan = 900 } do
    assert(board:add(player, score))
    assert(game:xadd("events", { player = player, score = score }, { maxlen = 1000, ttl = "1d" }))
end
assert(board:incr("ada", 400))
assert(game:hset("player:ada", { title = "Countess", games = 41 }))
assert(game:hincr("player:ada", "games"))

-- The website reads.
for _, entry in ipairs(assert(website:board("board:today"):top(3))) do
    print(("%d. %s %d"):format(entry.rank, entry.member, entry.score))
end
local rank, score = website:board("board:today"):rank "bob"
print(("bob is number %d of %d with %d points"):format(rank, website:board("board:today"):size(),
    score))
print(("%d events"):format(website:xlen "events"))

-- A profile costs one question; then its fields come from the process, until the game writes one.
wait(function()
    return select(3, website:hget("player:ada", "title")) == "l1"
end)
print(website:hget("player:ada", "games") .. " games, from " ..
    select(3, website:hget("player:ada", "games")))
assert(game:hset("player:ada", { games = 43 }))
wait(function()
    return website:hget("player:ada", "games") == "43"
end)
print "43 games, as soon as the other process has said so"
