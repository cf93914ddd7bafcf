-- SPDX-License-Identifier: MIT
--
-- report.lua - what packages.lua needs beside the cache: talking to the other process, noting
-- times, comparing with the database, and the table at the end.

local perilune = require "perilune"

local report = {}

local SOURCES = { "l1", "l2", "loaded", "stale", "negative", "miss" }
local LONGEST = 0.250 + 0.100 -- seconds: the timeout given at open, and a margin for the scheduler

-- ---- the other process ----

local Talk = {}
Talk.__index = Talk

-- A pair of named pipes made by packages.sh. Both sides open them in the same order.
function report.talk(name, folder)
    local function open(pipe, mode)
        local file = assert(io.open(folder .. "/" .. pipe, mode))
        file:setvbuf "line"
        return file
    end
    local to_second = open("to-second", name == "first" and "w" or "r")
    local to_first = open("to-first", name == "first" and "r" or "w")
    return setmetatable(name == "first" and { out = to_second, back = to_first } or
        { out = to_first, back = to_second }, Talk)
end

function Talk:tell(text)
    assert(self.out:write(text, "\n"))
end

function Talk:hear()
    return assert(self.back:read "l", "the other process has gone")
end

function Talk:ask(text)
    self:tell(text)
    return self:hear()
end

-- ---- waiting and changing ----

-- Calls f until it answers true; returns the time at which it did, or infinity after `seconds`.
function report.wait(seconds, f)
    local start = perilune.clock()
    while true do
        local done, err = f()
        local now = perilune.clock()
        if done then
            return now
        elseif now - start > seconds then
            io.stderr:write(("waited %g s in vain: %s\n"):format(seconds, err or "still old"))
            return math.huge
        end
    end
end

-- How often f answers false in n calls.
function report.repeats(n, f)
    local misses = 0
    for _ = 1, n do
        misses = misses + (f() and 0 or 1)
    end
    return misses
end

-- Names and sections of n packages, spread over all.
function report.sample(db, n)
    local cursor = assert(db:execute(([[select name, section from packages
        order by (rowid * 7919) %% 1009, name limit %d]]):format(n)))
    local list = {}
    for name, section in function() return cursor:fetch() end do
        list[#list + 1] = { name, section }
    end
    local i = 0
    return function()
        i = i + 1
        return list[i] and list[i][1], list[i] and list[i][2]
    end
end

-- Changes a record in the database; returns the time at which that was done.
function report.change(db, package)
    local sql = "update packages set changed = %.9f where name = '%s'"
    assert(db:execute(sql:format(perilune.clock(), package)))
    return perilune.clock()
end

-- Has packages.sh kill Redis in a second, and start another two seconds later.
function report.kill_redis(name, folder)
    if name == "first" then
        assert(io.open(folder .. "/kill-redis", "w")):close()
    end
end

-- ---- noting ----

local Meter = {}
Meter.__index = Meter

-- Counts and times by source; times in buckets that are 2 % wide.
local function new_meter()
    local meter = { n = 0, failed = 0, longest = 0, counts = {}, buckets = {} }
    for _, source in ipairs(SOURCES) do
        meter.counts[source], meter.buckets[source] = 0, {}
    end
    return setmetatable(meter, Meter)
end

function Meter:note(source, seconds, err)
    self.n = self.n + 1
    self.longest = math.max(self.longest, seconds)
    if err then
        self.failed, self.last_error = self.failed + 1, err
        return
    end
    local buckets, bucket = self.buckets[source], math.log(seconds * 1e9 + 1) * 50 // 1
    self.counts[source] = self.counts[source] + 1
    buckets[bucket] = (buckets[bucket] or 0) + 1
end

-- The time that `share` of a source's answers did not exceed, in seconds.
function Meter:percentile(source, share)
    local order, left = {}, self.counts[source] * share
    for bucket in pairs(self.buckets[source]) do
        order[#order + 1] = bucket
    end
    table.sort(order)
    for _, bucket in ipairs(order) do
        left = left - self.buckets[source][bucket]
        if left <= 0 then
            return math.exp((bucket + 0.5) / 50) / 1e9
        end
    end
end

local Changes = {}
Changes.__index = Changes

function Changes:note(seconds, old_again)
    self.times[#self.times + 1] = seconds
    self.old_again = self.old_again + old_again
end

-- What a process has to tell in the end. Begins with how warming went.
function report.results(name, warmed, err)
    assert(warmed, err)
    print(("%-10s warmed: %d loaded, %d found in Redis, %d failed, in %.2f s"):format(name,
        warmed.loaded, warmed.present, warmed.failed, warmed.took))
    return {
        requests = new_meter(),
        outage = new_meter(),
        changes = setmetatable({ times = {}, old_again = 0 }, Changes),
        changes_after = setmetatable({ times = {}, old_again = 0 }, Changes),
    }
end

-- ---- the end ----

-- Compares every package and section with the database; returns how many, and how many differ.
local function audit(cache, db)
    local cursor = assert(db:execute "select name, version, changed from packages")
    local n, n_differ = 0, 0
    for name, version, changed in function() return cursor:fetch() end do
        local value = cache:get("package:" .. name)
        local is_same = value and value.version == version and value.changed == changed
        n, n_differ = n + 1, n_differ + (is_same and 0 or 1)
    end
    return n, n_differ
end

-- What of a meter goes to the other process and into the table: plain numbers.
local function summary(meter)
    local plain = { n = meter.n, failed = meter.failed, longest = meter.longest,
        last_error = meter.last_error, counts = meter.counts, p50 = {}, p99 = {} }
    for _, source in ipairs(SOURCES) do
        plain.p50[source] = meter:percentile(source, 0.50)
        plain.p99[source] = meter:percentile(source, 0.99)
    end
    return plain
end

-- 1234567 as "1 234 567".
local function count(n)
    return (tostring(n):reverse():gsub("(%d%d%d)", "%1 "):reverse():gsub("^ ", ""))
end

-- Seconds with a unit that keeps the number short.
local function time(seconds)
    if not seconds then
        return "-"
    elseif seconds == math.huge then
        return "not seen"
    elseif seconds < 1e-3 then
        return ("%.1f µs"):format(seconds * 1e6)
    end
    return ("%.1f ms"):format(seconds * 1e3)
end

-- Right-aligned by characters, not bytes.
local function pad(text, width)
    return (" "):rep(width - utf8.len(text)) .. text
end

local function row(title, ...)
    local line = ("  %-22s"):format(title)
    for _, cell in ipairs { ... } do
        line = line .. pad(cell, 23)
    end
    print(line)
end

local function head(title, ...)
    print()
    row(title, ...)
    print("  " .. ("─"):rep(22 + 23 * select("#", ...)))
end

local function share(n, total)
    return ("%s  %5.1f %%"):format(count(n), total > 0 and 100 * n / total or 0)
end

local function show_requests(title, first, second)
    head(title, "first", "second")
    row("answered", count(first.n - first.failed), count(second.n - second.failed))
    for _, source in ipairs(SOURCES) do
        if source ~= "miss" or first.counts.miss + second.counts.miss > 0 then
            row("  " .. source, share(first.counts[source], first.n),
                share(second.counts[source], second.n))
        end
    end
    row("failed", count(first.failed), count(second.failed))
    row("longest wait", time(first.longest), time(second.longest))
end

local function show_latencies(first, second)
    local function both(meter, source)
        return pad(time(meter.p50[source]), 10) .. pad(time(meter.p99[source]), 11)
    end
    head("p50 and p99 by tier", "first", "second")
    for _, source in ipairs(SOURCES) do
        if first.counts[source] + second.counts[source] > 0 then
            row("  " .. source, both(first, source), both(second, source))
        end
    end
end

local function show_queries(first, second)
    local function saved(results)
        local stats = results.stats
        return share(math.max(stats.gets - stats.loads, 0), stats.gets)
    end
    head("database, whole run", "first", "second")
    row("queries made", count(first.stats.loads), count(second.stats.loads))
    row("queries saved", saved(first), saved(second))
end

-- The keys that each process was asked for most, with their share of its hits in L1.
local function show_hottest(first, second)
    local function cell(hot)
        local name = hot and hot.key:match ":(.*)":sub(1, 14)
        return hot and ("%s %4.1f %%"):format(name, 100 * hot.share) or "-"
    end
    head("hottest keys in L1", "first", "second")
    for i = 1, 3 do
        row(("  %d"):format(i), cell(first.hottest[i]), cell(second.hottest[i]))
    end
end

-- One line of the changes: how fast the other process read the new value.
local function show_changes(title, changes)
    local times = table.move(changes.times, 1, #changes.times, 1, {})
    table.sort(times)
    head(#times .. title, "median", "slowest")
    row("until second reads it", time(times[(#times + 1) // 2]), time(times[#times]))
    row("old value read after", count(changes.old_again) .. " times")
end

-- What went wrong, as a list of sentences: empty after a good run.
local function faults(first, second)
    local list = {}
    local function expect(is_good, format, ...)
        list[#list + 1] = not is_good and format:format(...) or nil
    end
    for name, results in pairs { first = first, second = second } do
        for _, phase in ipairs { "requests", "outage" } do
            local meter = results[phase]
            expect(meter.failed == 0, "%s: %d of the %s failed, the last with: %s", name,
                meter.failed, phase, meter.last_error)
            expect(meter.longest <= LONGEST, "%s: one of the %s waited %s", name, phase,
                time(meter.longest))
        end
        expect(results.n_differ == 0, "%s: %d records differ from the database", name,
            results.n_differ)
    end
    for _, changes in ipairs { second.changes, second.changes_after } do
        local last = math.max(0, table.unpack(changes.times))
        expect(last < math.huge, "second: a change was not seen within seconds")
        expect(changes.old_again == 0, "second: read an old value %d times after the new one",
            changes.old_again)
    end
    return list
end

local function show(first, second)
    show_requests("requests", first.requests, second.requests)
    show_latencies(first.requests, second.requests)
    show_queries(first, second)
    show_hottest(first, second)
    show_changes(" changes by first", second.changes)
    if first.outage.n > 0 then
        show_requests("Redis killed, then back", first.outage, second.outage)
        show_changes(" changes after that", second.changes_after)
    end
    local list = faults(first, second)
    print(("\n  %d records compared with the database in both: %d differ"):format(first.n_compared,
        first.n_differ + second.n_differ))
    print(#list == 0 and "  good: no request failed, nothing old was served after a change" or
        "  not good:\n    " .. table.concat(list, "\n    "))
    return #list == 0
end

-- Ends both: second hands its results over through the cache, first prints the table.
-- Returns whether all was well.
function report.finish(name, results, cache, db, other)
    results.requests, results.outage = summary(results.requests), summary(results.outage)
    results.n_compared, results.n_differ = audit(cache, db)
    results.stats, results.hottest = cache:stats(), cache:hottest(3)
    if name == "second" then
        assert(cache:set("report:second", results))
        other:tell "the report is there"
        return true
    end
    other:hear()
    return show(results, assert(cache:get "report:second"))
end

return report
