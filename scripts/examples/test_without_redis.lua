-- SPDX-License-Identifier: MIT
--
-- test_without_redis.lua - how a program's own tests try what it does when Redis is late, away or
-- forgetful, without a Redis: caches opened with redis = "memory:NAME" share a server inside the
-- process, and perilune.memory(NAME) says what goes wrong with it.
--
--     perilune run scripts/examples/test_without_redis.lua
--
-- The program under test is a shop whose prices two processes keep in their caches.

local perilune = require "perilune"

-- ---- what is tested ----

local Shop = {}
Shop.__index = Shop

-- `redis` comes from the shop's settings: redis://... in production, memory:... here. `prices`
-- stands for its database.
local function open_shop(redis, prices)
    local cache = assert(perilune.open { redis = redis, ns = "shop", ttl = "15m", stale = "1m",
        timeout = "50ms", max_staleness = "20ms", log = false })
    return setmetatable({ cache = cache, prices = prices }, Shop)
end

-- The price, and whether it may be out of date; nil, message where it cannot be known.
function Shop:price(name)
    local price, err, how = self.cache:get("price:" .. name, function()
        if not self.prices then
            return nil, "the database is away"
        end
        return self.prices[name]
    end)
    return price, err or how == "stale"
end

-- The database first, then the cache. False where the other processes could not be told: the shop
-- has to try again.
function Shop:change(name, price)
    self.prices[name] = price
    return (self.cache:delete("price:" .. name)) == true
end

-- ---- its tests ----

local n_tests = 0

local function test(title, body)
    local memory <close> = perilune.memory "shop" -- fresh for each: gone with its last user
    local prices = { tea = 3 }
    local here, there = open_shop("memory:shop", prices), open_shop("memory:shop", prices)
    body(memory, here, there)
    here.cache:close()
    there.cache:close()
    n_tests = n_tests + 1
    print(("ok %d - %s"):format(n_tests, title))
end

test("a price that is changed here is changed there", function(_, here, there)
    assert(there:price "tea" == 3)
    assert(here:change("tea", 4))
    assert(there:price "tea" == 4)
end)

test("while the news is on its way, the old price is shown, and then the new one",
    function(memory, here, there)
        assert(there:price "tea" == 3)
        memory:faults { hold = true }
        here:change("tea", 4)
        assert(there:price "tea" == 3)
        memory:deliver()
        assert(there:price "tea" == 4)
    end)

test("late, doubled and reordered news ends with the last price", function(memory, here, there)
    memory:faults { seed = 42, message_delay = "1ms", message_random = "2ms", duplicate = "20%",
        reorder = 3 }
    for price = 1, 50 do
        here:change("tea", price)
        there:price "tea"
    end
    local deadline = perilune.clock() + 10
    repeat
        assert(perilune.clock() < deadline, "the news does not arrive")
    until memory:stats().waiting == 0
    assert(there:price "tea" == 50)
end)

test("with Redis and the database away, the shop shows the last price it knew, and says so",
    function(memory, here)
        assert(here:price "tea" == 3)
        memory:cut()
        here.prices = nil
        local price, is_old
        repeat -- for 20 ms it is as good as new
            price, is_old = here:price "tea"
            assert(price == 3)
        until is_old
        local none, err = here:price "coffee"
        assert(none == nil and err:find "database")
    end)

test("a change that Redis did not confirm in time is known to be doubtful",
    function(memory, here, there)
        there:price "tea"
        memory:faults({ delay = "1s", carried_out = 0 }, here.cache)
        assert(not here:change("tea", 4))
        memory:faults {}
        assert(there:price "tea" == 3) -- nobody was told ...
        assert(here:change("tea", 4))  -- ... so the shop tries again
        assert(there:price "tea" == 4)
    end)

test("after a restart that loses everything, prices come from the database again",
    function(memory, here)
        here:price "tea"
        memory:forget()
        assert(here:price "tea" == 3)
        assert(here.cache:stats().loads == 2)
    end)

print("1.." .. n_tests)
