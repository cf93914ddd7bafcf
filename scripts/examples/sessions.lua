-- SPDX-License-Identifier: MIT
--
-- sessions.lua - who is logged in, on which device, and "log out everywhere".
--
-- usage: perilune run sessions.lua [REDIS_URL]

local perilune = require "perilune"

local url = arg[1] or "redis://localhost"
local cache <close> = assert(perilune.open { redis = url, ns = "examples" })
local sessions = cache:sessions { ttl = "30m" } -- after the last use

-- The id goes into the cookie: who has it is logged in.
local function log_in(user, device)
    return assert(sessions:create(user, { device = device, cart = {} }))
end

sessions:destroy_all "ada" -- of an earlier run
local phone, laptop = log_in("ada", "phone"), log_in("ada", "laptop")
print(("an id is %d characters that nobody guesses"):format(#phone))

-- A request comes with its cookie. What is changed in the table is kept by update.
local data, err, info = sessions:get(phone)
if not data then
    error(err or "not logged in")
end
table.insert(data.cart, "book")
assert(sessions:update(phone, data))
print(("%s has a %s in the cart, on the %s"):format(info.user, sessions:get(phone).cart[1],
    data.device))

print(("%s is logged in %d times"):format(info.user, #assert(sessions:of "ada")))
for _, session in ipairs(sessions:of "ada") do
    print(("  for %d s, seen %d s ago"):format(session.age // 1, session.idle // 1))
end

-- A new password: whoever has the old one is out, now and on every machine, for sessions are never
-- served from memory.
print(("%d sessions ended"):format(assert(sessions:destroy_all "ada")))
print("the laptop is " .. (sessions:get(laptop) and "logged in" or "logged out"))
