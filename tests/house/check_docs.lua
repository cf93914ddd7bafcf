-- SPDX-License-Identifier: MIT
--
-- check_docs.lua - runs what the documentation shows, against a Redis of its own.
--
-- README.md: each block of Lua or C is a program, and prints what the text block after it says; a
-- block of Lua with a cache.rule is a policy, and must load and answer. The guide to policies: a
-- block "lua NAME" is a file of that name, a block "console" a session in a shell, in which what
-- stands under a command is what it prints ("..." for any text). The manual pages: each example is
-- a policy, and is right. The reference: what a block of text follows is a program, but for pages
-- that need more than Redis and SQLite, which specs in tests/lua try. Files that are linked must
-- exist.
--
-- usage: lua5.4 check_docs.lua ROOT LIBRARY PERILUNE [FLAG]     FLAG: as the library was built
--        with, where that is -fsanitize=...

local root, library, perilune = arg[1], arg[2], arg[3]
if not perilune:find "^/" then -- a session runs in a folder of its own
    local pipe <close> = assert(io.popen "pwd")
    perilune = pipe:read "l" .. "/" .. perilune
end
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
        words[i] = "'" .. word:gsub("'", "'\\''") .. "'"
    end
    local pipe = assert(io.popen(table.concat(words, " ") .. " 2>&1 </dev/null"))
    local output = pipe:read "a"
    return output, pipe:close()
end

-- The fenced blocks of a text, in order: { language, name, text }.
local function blocks(text)
    local list = {}
    for language, name, body in text:gmatch "\n```(%l+) ?(%S*)\n(.-)\n```\n" do
        list[#list + 1] = { language = language, name = name, text = body .. "\n" }
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
    if block.language == "lua" and text:find "cache%.rule" and not text:find "require" then
        local output, is_good = run_policy(text)
        return "the policy loads, loads a value and carries out an event", is_good, output
    end
    local output, is_good = (block.language == "c" and run_c or run_lua)(text)
    local wanted = next_block and next_block.language == "text" and next_block.text
    return ("the %s program prints what is shown"):format(block.language),
        is_good and output == wanted, output
end

-- Whether a text is what is wanted, in which "..." stands for any text.
local function is_like(text, wanted)
    local pattern = wanted:gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.", ".-")
    return text:find("^" .. pattern .. "$") ~= nil
end

-- Runs the commands of a session in the shell, one after the other; returns whether each printed
-- what stands under it, and what the first that did not has printed.
local function run_session(text)
    local shell = ("cd '%s'; perilune() { '%s' \"$@\"; }; "):format(folder, perilune)
    local command, wanted
    for line in (text:gsub("redis://localhost", "unix:" .. socket) .. "$ \n"):gmatch "(.-)\n" do
        if not line:find "^%$ " then
            wanted = wanted .. line .. "\n"
        else
            local output = command and run("sh", "-c", shell .. command) or ""
            if command and not is_like(output, wanted) then
                return false, "$ " .. command .. "\n" .. output
            end
            command, wanted = line:sub(3), ""
        end
    end
    return true, ""
end

local results = {}

local function note(title, is_good, output)
    results[#results + 1] = { title, is_good, output or "" }
end

local function check_readme(text)
    local list = blocks(text)
    for i, block in ipairs(list) do
        if block.language ~= "text" then
            note(try(block, list[i + 1]))
        end
    end
    note("a program that prints something else is caught",
        #list > 0 and not select(2, try({ language = "lua", text = "print(1)\n" },
            { language = "text", text = "2\n" })))
end

local function check_reference(text)
    local list = blocks(text)
    for i, block in ipairs(list) do
        if block.language == "lua" and list[i + 1] and list[i + 1].language == "text" then
            note(try(block, list[i + 1]))
        end
    end
end

local function check_guide(text)
    local n = 0
    for _, block in ipairs(blocks(text)) do
        if block.language == "lua" and block.name ~= "" then
            write(folder .. "/" .. block.name,
                (block.text:gsub("redis://localhost", "unix:" .. socket)))
        elseif block.language == "console" then
            n = n + 1
            note(("session %d of the guide goes as shown"):format(n), run_session(block.text))
        end
    end
    note("a session that prints something else is caught",
        n > 0 and not run_session "$ echo one two\none ... three\n")
end

local function check_manual(name)
    local n = 0
    for body in read(root .. "/lua/" .. name):gmatch "\n%.EX\n(.-)\n%.EE\n" do
        n = n + 1
        write(folder .. "/policy.lua", (body:gsub("\\%-", "-"):gsub("\\e", "\\")))
        local output, is_good = run(perilune, "policy", "check", folder .. "/policy.lua")
        note(("example %d of %s is right"):format(n, name), is_good, output)
    end
    note(name .. " has an example", n > 0)
end

local function check_links(text, base)
    for path in text:gmatch "%]%(([^)#]+)[^)]*%)" do
        if not path:find "^%a+:" then
            note("there is a " .. base .. path, io.open(root .. "/" .. base .. path) ~= nil)
        end
    end
end

start_redis()
local is_done, err = pcall(function()
    local readme, guide = read(root .. "/README.md"), read(root .. "/scripts/policies/README.md")
    check_readme(readme)
    check_links(readme, "")
    check_guide(guide)
    check_links(guide, "scripts/policies/")
    check_links(read(root .. "/scripts/examples/README.md"), "scripts/examples/")
    check_manual "perilune-policy.5"
    local tried_elsewhere = { adapters = true, http = true, sql = true }
    for name in run("ls", root .. "/lua/reference"):gmatch "(%S+)%.md" do
        local page = read(root .. "/lua/reference/" .. name .. ".md")
        if not tried_elsewhere[name] then
            check_reference(page)
        end
        check_links(page, "lua/reference/")
    end
end)
stop_redis()
assert(is_done, err)

print("1.." .. #results)
local all_good = true
for i, result in ipairs(results) do
    all_good = all_good and result[2]
    print(("%s %d - %s"):format(result[2] and "ok" or "not ok", i, result[1]))
    if not result[2] then
        print((("\n" .. result[3]):gsub("\n(.)", "\n# %1"):sub(2)))
    end
end
os.exit(all_good and true or false)
