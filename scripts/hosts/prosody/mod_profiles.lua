-- SPDX-License-Identifier: MIT
--
-- mod_profiles.lua - GET /profiles/NAME, for Prosody: what another server has of somebody.
--
-- The handler runs in a coroutine of util.async, and so does the loader that it gives to the cache:
-- while this waits for the other server, and while others wait for this, Prosody goes on.
local async = require "util.async"
local http = require "net.http"
local perilune = require "perilune"

local source = module:get_option_string("profiles_source")
local cache = require "perilune.prosody".wrap(assert(perilune.open("profiles", {
    redis = module:get_option_string("profiles_redis"),
    ttl = "15m", stale_if_error = "1d", negative = "1m",
})))

-- Called where no tier has the key: once, however many ask.
local function load_profile(_, name)
    local answer, err = async.wait_for(http.request(source .. name))
    if not answer then
        return nil, tostring(err)
    elseif answer.code == 404 then
        return nil -- nobody has that name, and that is cached too
    elseif answer.code ~= 200 then
        return nil, "the source says " .. answer.code
    end
    return answer.body
end

local function serve(event, name)
    local profile, err, how = cache:get("profile:" .. name, load_profile, name)
    event.response.headers.x_cache = how
    if profile then
        return profile
    elseif how == "negative" then
        return 404
    end
    module:log("warn", "no profile of '%s': %s", name, err)
    return 503
end

module:depends "http"
module:provides("http", { route = { ["GET /*"] = serve } })

function module.unload()
    cache:close()
end
