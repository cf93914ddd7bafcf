-- SPDX-License-Identifier: MIT
--
-- auth.lua - passdb and userdb of Dovecot, out of a cache. The accounts are lines of a file,
-- NAME:PASSWORD:HOME, in the place of a database or another server.
--
-- What is written to standard error Dovecot logs as an error, so the cache is told to keep its log
-- to itself (log = false); what matters comes back from get, and Dovecot logs it.
local perilune = require "perilune"

local accounts = os.getenv "ACCOUNTS"
-- a passdb and a userdb have a Lua state each, and find one cache by its name
local cache = assert(perilune.open("accounts", {
    redis = os.getenv "REDIS",
    log = false,
    ttl = "10m", stale_if_error = "1d", negative = "1m", timeout = "100ms",
}))

-- Called where no tier has the account. nil: there is none of that name, and that is cached too.
local function load_account(_, name)
    for line in io.lines(accounts) do
        local user, password, home = line:match "^([^:]*):([^:]*):([^:]*)$"
        if user == name then
            return { password = password, home = home }
        end
    end
end

local function find(request)
    return cache:get("account:" .. request.user, { timeout = "2s" }, load_account, request.user)
end

function auth_passdb_lookup(request)
    local account, message, how = find(request)
    if account then
        return dovecot.auth.PASSDB_RESULT_OK, { password = account.password }
    elseif how == "negative" then
        return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
    end
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, message
end

function auth_userdb_lookup(request)
    local account, message, how = find(request)
    if account then
        return dovecot.auth.USERDB_RESULT_OK,
            { uid = "nobody", gid = "nogroup", home = account.home }
    elseif how == "negative" then
        return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "no such user"
    end
    return dovecot.auth.USERDB_RESULT_INTERNAL_FAILURE, message
end
