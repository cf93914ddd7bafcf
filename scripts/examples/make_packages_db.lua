-- SPDX-License-Identifier: MIT
--
-- make_packages_db.lua - makes the data of the demonstration out of this machine: a SQLite database
-- of the packages that dpkg knows, a list of keys to warm, and a sequence of requests for each of
-- the two instances, Zipf-distributed over the real names.
--
-- usage: lua5.4 make_packages_db.lua FOLDER [N]      N requests each, 200000 without

local sqlite = require "luasql.sqlite3"

local folder, n_requests = arg[1], tonumber(arg[2]) or 200000
local N_HOT = 300              -- keys on the warm list
local ZIPF = 0.99              -- how unequal the names are
local UNIT, RECORD = "\31", "\30" -- ASCII's own separators: no package's text holds them

local fields = {
    { "name", "text primary key", "Package" }, { "version", "text", "Version" },
    { "section", "text", "Section" }, { "size", "integer", "Installed-Size" },
    { "maintainer", "text", "Maintainer" }, { "depends", "text", "Depends" },
    { "description", "text", "Description" },
}

-- The installed packages, each a list of texts in the order of `fields`.
local function read_packages()
    local wanted = {}
    for i, field in ipairs(fields) do
        wanted[i] = "${" .. field[3] .. "}"
    end
    local format = "${db:Status-Status}" .. UNIT .. table.concat(wanted, UNIT) .. UNIT .. RECORD
    local pipe = assert(io.popen("LC_ALL=C.UTF-8 dpkg-query -W -f '" .. format .. "'"))
    local packages = {}
    for record in pipe:read "a":gmatch("([^" .. RECORD .. "]+)" .. RECORD) do
        local texts = {}
        for text in record:gmatch("([^" .. UNIT .. "]*)" .. UNIT) do
            texts[#texts + 1] = text
        end
        if table.remove(texts, 1) == "installed" then
            texts[3] = texts[3] ~= "" and texts[3] or "unknown" -- a section is a key and a tag
            packages[#packages + 1] = texts
        end
    end
    assert(pipe:close() and #packages > 0, "dpkg-query named no package")
    return packages
end

local function fill(db, packages)
    local columns = {}
    for i, field in ipairs(fields) do
        columns[i] = field[1] .. " " .. field[2]
    end
    -- `changed` is the clock's reading at a record's last change: 0 is as dpkg had it
    assert(db:execute("create table packages (" .. table.concat(columns, ", ") ..
        ", changed real not null default 0)"))
    assert(db:execute "create index by_section on packages (section)")
    assert(db:execute "begin")
    for _, texts in ipairs(packages) do
        local quoted = {}
        for i, text in ipairs(texts) do
            quoted[i] = "'" .. db:escape(text) .. "'"
        end
        -- a package may be installed for two architectures: the last stands
        assert(db:execute("insert or replace into packages values (" ..
            table.concat(quoted, ", ") .. ", 0)"))
    end
    assert(db:execute "commit")
end

-- The keys in order of popularity. Which package is popular is chance, and the same at each run.
local function rank(packages)
    math.randomseed(12)
    local names, sections, is_known = {}, {}, {}
    for _, texts in ipairs(packages) do
        names[#names + 1] = texts[1]
        if not is_known[texts[3]] then
            is_known[texts[3]] = true
            sections[#sections + 1] = "section:" .. texts[3]
        end
    end
    for i = #names, 2, -1 do
        local j = math.random(i)
        names[i], names[j] = names[j], names[i]
    end
    return names, sections
end

-- A function that draws 1..n, the k-th with a weight of 1 / k^ZIPF.
local function zipf(n)
    local sums, sum = {}, 0
    for k = 1, n do
        sum = sum + k ^ -ZIPF
        sums[k] = sum
    end
    return function()
        local mark, low, high = math.random() * sum, 1, n
        while low < high do
            local middle = (low + high) // 2
            if sums[middle] < mark then
                low = middle + 1
            else
                high = middle
            end
        end
        return low
    end
end

local function write_requests(path, seed, names, sections)
    local words = { "library", "python", "perl", "GNU", "compression", "documentation", "X11",
        "kernel", "Lua", "fonts", "network", "debug", "terminal", "crypto", "parser", "no-such" }
    math.randomseed(seed)
    local draw = zipf(#names)
    local file <close> = assert(io.open(path, "w"))
    for _ = 1, n_requests do
        local kind = math.random(100)
        if kind <= 2 then
            file:write(sections[math.random(#sections)], "\n")
        elseif kind <= 4 then
            file:write("search:", words[math.random(#words)], "\n")
        elseif kind == 5 then
            file:write("no-such-package-", math.random(50), "\n")
        else
            file:write(names[draw()], "\n")
        end
    end
end

local packages = read_packages()
local environment = assert(sqlite.sqlite3())
local db = assert(environment:connect(folder .. "/packages.db"))
assert(db:execute "pragma journal_mode = wal") -- readers go on while one writes
fill(db, packages)
db:close()
environment:close()

local names, sections = rank(packages)
write_requests(folder .. "/first.txt", 1, names, sections)
write_requests(folder .. "/second.txt", 2, names, sections)
local hot <close> = assert(io.open(folder .. "/hot.txt", "w"))
for i = 1, math.min(N_HOT, #names) do
    hot:write("package:", names[i], "\n")
end
print(("database   %d packages of this machine in %d sections"):format(#packages, #sections))
