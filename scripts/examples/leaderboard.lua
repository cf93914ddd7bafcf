-- SPDX-License-Identifier: MIT
--
-- leaderboard.lua - a game's day: scores on a board, the players' profiles as hashes that are kept
-- in the process, and a stream of what happened. Two caches stand for two processes.
--
-- usage: perilune run leaderboard.lua [REDIS_URL]

local perilune = require "perilune"

local url = arg[1] or "redis://localhost"
local policy = (arg[0]:match "^(.*/)" or "") .. "leaderboard_policy.lua"
local function open(name)
    return assert(perilune.open { name = name, ns = "examples", redis = url, policy = policy })
end
local game <close> = open "game"
local website <close> = open "website"

for _, name in ipairs { "board:today", "events", "player:ada" } do -- of an earlier run
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
local shown = website:board "board:today"
for _, entry in ipairs(assert(shown:top(3))) do
    print(("%d. %s %d"):format(entry.rank, entry.member, entry.score))
end
local rank, score = shown:rank "bob"
print(("bob is number %d of %d with %d points"):format(rank, shown:size(), score))
print(("%d events"):format(website:xlen "events"))

-- Calls f until it answers true: what another process wrote is heard of a moment later.
local function wait(f)
    local stop = perilune.clock() + 10
    while not f() do
        assert(perilune.clock() < stop, "waited in vain for 10 seconds")
    end
end

-- A profile costs one question; then its fields come from the process, until the game writes one.
wait(function() return select(3, website:hget("player:ada", "title")) == "l1" end)
print(website:hget("player:ada", "games") .. " games, from " ..
    select(3, website:hget("player:ada", "games")))
assert(game:hset("player:ada", { games = 43 }))
wait(function() return website:hget("player:ada", "games") == "43" end)
print "43 games, as soon as the other process has said so"
