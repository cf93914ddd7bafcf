-- SPDX-License-Identifier: MIT
--
-- versions.lua - the versions of packages, for the plain lua5.4: asked of dpkg once, however many
-- processes want to know.
--
-- usage: lua5.4 versions.lua PACKAGE...        REDIS: the URL of the Redis that they share
local perilune = require "perilune"

-- <close>: where the block ends, also by an error, what is under way is brought to its end
local cache <close> = assert(perilune.open {
    name = "versions", redis = os.getenv "REDIS", ttl = "1h", negative = "1m",
})

local function ask_dpkg(key)
    local package = key:match "^version:([%w.+-]+)$"
    if not package then
        return nil, "not a package's name"
    end
    local pipe = assert(io.popen("dpkg-query -W -f '${Version}' " .. package .. " 2>/dev/null"))
    local version = pipe:read "a"
    pipe:close()
    return version ~= "" and version or nil -- nil: not installed, and that is cached too
end

for _, package in ipairs(arg) do
    local version, err, how = cache:get("version:" .. package, ask_dpkg)
    print(package, version or err or "none", how)
end
