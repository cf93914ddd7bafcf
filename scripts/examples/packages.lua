-- SPDX-License-Identifier: MIT
-- packages.lua - one of the two processes of `./dev run`: this machine's packages, through a cache.
-- usage: perilune run packages.lua first|second FOLDER REQUESTS [SECONDS]

local name, folder, requests, outage = table.unpack(arg)
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local perilune, report = require "perilune", require "report"
local db = assert(require "luasql.sqlite3".sqlite3():connect(folder .. "/packages.db"))
local other = report.talk(name, folder) -- lines to and from the other process
local cache <close> = assert(perilune.open {
    name = name, ns = "packages", redis = "unix:" .. folder .. "/redis.sock", timeout = "250ms",
    policy = "scripts/examples/packages_policy.lua", trusted = true, max_bytes = "64m",
})

-- Asks for key after key, and notes where each answer came from and how long it took.
local function serve(meter, seconds)
    local stop = seconds and perilune.clock() + seconds or math.huge
    repeat
        for line in io.lines(requests) do
            local key = line:find(":", 1, true) and line or "package:" .. line
            local start = perilune.clock()
            local _, err, how = cache:get(key)
            meter:note(how, perilune.clock() - start, err)
            if start > stop then return end
        end
    until not seconds
end

-- Changes n records in SQLite, while the other process reads them, and tells the cache.
local function change(n)
    for package, section in report.sample(db, n) do
        other:ask(package)
        local committed, event = report.change(db, package), { name = package, section = section }
        report.wait(10, function() return cache:raise("package.changed", event) end)
        other:ask(committed)
    end
end

-- Reads a record without pause until the other's change shows, and notes how long that took.
local function watch(n, changes)
    for _ = 1, n do
        local key = "package:" .. other:hear()
        local before = assert(cache:get(key)).changed
        local function is_fresh() return assert(cache:get(key)).changed > before end
        other:tell "I am reading"
        local seen = report.wait(5, is_fresh)
        changes:note(seen - other:hear(), report.repeats(100, is_fresh))
        other:tell "I have seen it"
    end
end

local results = report.results(name, cache:warm())
serve(results.requests)
if name == "first" then change(50) else watch(50, results.changes) end
if outage then
    report.kill_redis(name, folder)
    serve(results.outage, tonumber(outage))
    if name == "first" then change(10) else watch(10, results.changes_after) end
end
os.exit(report.finish(name, results, cache, db, other), true)
