-- SPDX-License-Identifier: MIT
--
-- from_access_log.lua - makes a list of keys to warm out of what was asked for: the access logs of
-- a web server, in the common or combined format.
--
--     perilune run from_access_log.lua 5000 '^/users/(%d+)$' 'user:%1' '^/$' 'page:home' \
--         < /var/log/nginx/access.log > hot-keys.txt
--     perilune warm -p policy.lua --list hot-keys.txt --redis redis://localhost
--
-- The first argument is how many keys are wanted. Then come pairs: a Lua pattern that a path is
-- compared with (without what follows '?'), and the key that it stands for. The first pattern that
-- fits counts. Only GETs that were answered with 2xx or 304 count: what failed need not be warm.
-- Keys are printed by the number of requests, the most wanted first.

local most = math.tointeger(tonumber(arg[1]))
if not most or most < 1 or #arg < 3 or #arg % 2 == 0 then
    io.stderr:write "usage: from_access_log.lua NUMBER PATTERN KEY [PATTERN KEY]... < access.log\n"
    os.exit(2)
end

local function key_of(path)
    for i = 2, #arg, 2 do
        local key, n = path:gsub(arg[i], arg[i + 1], 1)
        if n > 0 then
            return key
        end
    end
end

local counts, keys = {}, {}
for line in io.lines() do
    local path, status = line:match '"GET ([^ ?"]+)[^"]*" (%d%d%d)'
    local key = path and (status:find "^2" or status == "304") and key_of(path)
    if key then
        if not counts[key] then
            counts[key] = 0
            keys[#keys + 1] = key
        end
        counts[key] = counts[key] + 1
    end
end

table.sort(keys, function(a, b)
    return counts[a] > counts[b] or (counts[a] == counts[b] and a < b)
end)
for i = 1, math.min(most, #keys) do
    print(keys[i])
end
