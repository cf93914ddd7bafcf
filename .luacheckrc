-- luacheck's settings: Lua 5.4; a policy file is read with the words of the policy language.
std = "lua54"
max_line_length = 100
codes = true

local policy = {
    ignore = { "212" }, -- a function takes its arguments by place, and may not need all
    read_globals = { "cache", "keys", "file", "zset", "previous", "loader", "log", "store",
        "through", "behind", "around" },
}
files["scripts/policies"] = policy
files["scripts/warmers/from_sqlite.lua"] = policy
files["scripts/warmers/from_previous.lua"] = policy
files["scripts/examples/*_policy.lua"] = policy
files["lua/types"] = { ignore = { "111", "112", "113", "211", "212", "231", "241", "631" } }

-- what hosts give their scripts, and take from them
files["scripts/hosts/lighttpd/site.lua"] = { globals = { "lighty" } }
files["scripts/hosts/lighttpd/site_policy.lua"] = policy
files["scripts/hosts/prosody/mod_profiles.lua"] = { globals = { "module" } }
files["scripts/hosts/prosody/prosody.cfg.lua"] = { ignore = { "111", "113" } } -- all are settings
files["scripts/hosts/dovecot/auth.lua"] = {
    globals = { "auth_passdb_lookup", "auth_userdb_lookup" }, read_globals = { "dovecot" },
}
-- what editors read: functions without bodies, lines as long as a type is
files["lua/types"] = { ignore = { "212", "241" }, max_line_length = false }
files["tests/hosts/http/haproxy_pages.lua"] = { read_globals = { "core" } }
files["tests/hosts/http/mod_pages.lua"] = { read_globals = { "module" } }
files["tests/hosts/http/magnet.lua"] = { read_globals = { "lighty" } }
