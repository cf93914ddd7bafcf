-- SPDX-License-Identifier: MIT
--
-- check_readme.lua - runs what README.md shows, against a Redis of its own.
--
-- Each block of Lua or C is a program, and prints what the text block after it says; a block of Lua
-- with a cache.rule is a policy, and must load and answer. Files that are linked must exist.
--
-- usage: lua5.4 check_readme.lua ROOT LIBRARY PERILUNE [FLAG]     FLAG: as the library was built
--        with, where that is -fsanitize=...

local root, library, perilune = arg[1], arg[2], arg[3]
local sanitize = arg[4] and arg[4] ~= "-fsanitize=none" and arg[4] or "-O2"

local POLICY_PROBE = [[
local options = { policy = arg[1], redis = "redis://localhost" }
local cache <close> = assert(require "perilune".open(options))
assert(cache:get("user:7").id == "7")
assert(cache:raise("user.changed", { id = "7" }))
assert(select(3, cache:get "user:7") == "loaded")
]]

local function read(path)
    local file = assert(io.open(path))
    local text = file:read "a"
    file:close()
    return text
end

local function write(path, text)
    local file <close> = assert(io.open(path, "w"))
    assert(file:write(text))
end

-- Output of a command, and whether it ended well. What it says of errors is part of the output.
local function run(...)
    local words = {}
    for i, word in ipairs { ... } do
        words[i] = "'" .. word .. "'"
    end
    local pipe = assert(io.popen(table.concat(words, " ") .. " 2>&1 </dev/null"))
    local output = pipe:read "a"
    return output, pipe:close()
end

-- The fenced blocks of a text, in order: { language, text }.
local function blocks(text)
    local list = {}
    for language, body in text:gmatch "\n```(%l+)\n(.-)\n```\n" do
        list[#list + 1] = { language = language, text = body .. "\n" }
    end
    return list
end

local folder = run("mktemp", "-d", "/tmp/perilune-readme.XXXXXX"):match "%S+"
local socket = folder .. "/redis.sock"

local function start_redis()
    local output, is_good = run("redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
        "--appendonly", "no", "--daemonize", "yes", "--pidfile", folder .. "/redis.pid",
        "--dir", folder)
    assert(is_good, output)
    local stop = os.time() + 10
    while not select(2, run("redis-cli", "-s", socket, "ping")) do
        assert(os.time() < stop, "redis-server does not answer")
    end
end

local function stop_redis()
    local file = io.open(folder .. "/redis.pid")
    if file then
        run("kill", file:read "l")
        file:close()
    end
    run("rm", "-rf", folder)
end

local function run_lua(text, ...)
    write(folder .. "/program.lua", text)
    return run(perilune, "run", folder .. "/program.lua", ...)
end

local function run_c(text)
    write(folder .. "/program.c", text)
    local libraries = library:match "^(.*)/"
    local output, is_good = run("cc", "-std=gnu11", sanitize, "-Wall", "-Wextra", "-Werror",
        "-I" .. root .. "/core", "-o", folder .. "/program", folder .. "/program.c", library,
        "-Wl,-rpath," .. libraries)
    if not is_good then
        return output, false
    end
    return run(folder .. "/program")
end

local function run_policy(text)
    write(folder .. "/policy.lua", text)
    local probe = POLICY_PROBE:gsub("redis://localhost", "unix:" .. socket)
    return run_lua(probe, folder .. "/policy.lua")
end

-- Runs a block; returns its title, whether it did as it should, and what it printed.
local function try(block, next_block)
    run("redis-cli", "-s", socket, "flushall") -- none may live on what another left behind
    local text = block.text:gsub("redis://localhost", "unix:" .. socket)
    if block.language == "lua" and text:find "cache%.rule" then
        local output, is_good = run_policy(text)
        return "the policy loads, loads a value and carries out an event", is_good, output
    end
    local output, is_good = (block.language == "c" and run_c or run_lua)(text)
    local wanted = next_block and next_block.language == "text" and next_block.text
    return ("the %s program prints what is shown"):format(block.language),
        is_good and output == wanted, output
end

local readme = read(root .. "/README.md")
local list = blocks(readme)
local results = {}

start_redis()
local is_done, err = pcall(function()
    for i, block in ipairs(list) do
        if block.language ~= "text" then
            results[#results + 1] = { try(block, list[i + 1]) }
        end
    end
    results[#results + 1] = { "a program that prints something else is caught",
        not select(2, try({ language = "lua", text = "print(1)\n" },
            { language = "text", text = "2\n" })), "" }
    for path in readme:gmatch "%]%(([^)]+)%)" do
        local file = io.open(root .. "/" .. path)
        results[#results + 1] = { "there is a " .. path, file ~= nil, "" }
    end
end)
stop_redis()
assert(is_done, err)

print("1.." .. #results)
local all_good = #list > 0
for i, result in ipairs(results) do
    all_good = all_good and result[2]
    print(("%s %d - %s"):format(result[2] and "ok" or "not ok", i, result[1]))
    if not result[2] then
        print((("\n" .. result[3]):gsub("\n(.)", "\n# %1"):sub(2)))
    end
end
os.exit(all_good and true or false)
