-- SPDX-License-Identifier: MIT
--
-- mutate.lua - does a test fail for each memory order and each second look that L1 needs?
--
--     lua5.4 tests/house/mutate.lua [PATTERN]      from the root; PATTERN: of "file:line what"
--
-- In a copy of the tree one release, acquire, fence or PLN_RECHECK after the other is taken out of
-- l1, and L1's tests are run: under ThreadSanitizer, which sees a missing edge also on a processor
-- that keeps the order by itself, and without it. What no test can tell says so at its place, in a
-- comment with "no test:" and the reason. A line a mutant: killed, excused, or survived.

package.path = arg[0]:match "^(.*)/" .. "/?.lua;" .. package.path
local tree = require "tree"

local WEAKER = {
    memory_order_release = "memory_order_relaxed",
    memory_order_acquire = "memory_order_relaxed",
    memory_order_acq_rel = "memory_order_relaxed",
    memory_order_seq_cst = "memory_order_relaxed",
}
local TESTS = {
    plain = { "test_looks", "test_l1", "test_table", "test_evict", "test_parked", "test_torture",
        "test_linear" },
    tsan = { "test_linear", "test_table", "test_torture", "test_looks", "test_parked" },
}
local REACH = 8 -- lines above a site in which its comment may stand

-- The reason that the last comment above a line gives why no test can tell, or nil.
local function excuse(lines, at)
    local said = table.concat(lines, " ", math.max(1, at - REACH), at):match ".*/%*(.*)" or ""
    said = said:gsub("%s+%*?%s+", " ") -- a comment may be broken anywhere
    return said:match "no test:%s*(.-)%s*%*/"
end

-- Every place of a text that can be taken out: { line, what, from, to, with }.
local function sites(text)
    local found, lines = {}, tree.lines(text)
    local function line_of(at)
        return select(2, text:sub(1, at):gsub("\n", "")) + 1
    end
    local function add(what, from, to, with)
        local line = line_of(from)
        found[#found + 1] = { line = line, what = what, from = from, to = to, with = with,
            excuse = not what:find "^recheck" and excuse(lines, line) or nil }
    end
    for from, call, to in text:gmatch "()(atomic_[%w_]+%s*%b())()" do
        local offset = from - 1
        if call:find "^atomic_thread_fence" then
            local order = call:match "memory_order_%w+"
            add("fence " .. order .. " out", from, to - 1, "((void) 0)")
        elseif not call:find "^atomic_signal_fence" then
            local first = call:find "memory_order_"
            for at, order in call:gmatch "()(memory_order_[%w_]+)" do
                -- a compare-and-swap's second order is the one of its failure
                if WEAKER[order] then
                    add(order:sub(14) .. (at > first and " (failure)" or "") .. " -> relaxed",
                        offset + at, offset + at + #order - 1, WEAKER[order])
                end
            end
        end
    end
    for from, inner, to in text:gmatch "()PLN_RECHECK(%b())()" do
        if not text:sub(1, from - 1):match "#define%s+$" then
            add("recheck " .. inner:sub(1, 40):gsub("%s+", " ") .. " -> true", from, to - 1,
                "((void) " .. inner .. ", true)")
        end
    end
    table.sort(found, function(a, b) return a.from < b.from end)
    return found
end

local function mutated(text, site)
    return text:sub(1, site.from - 1) .. site.with .. text:sub(site.to + 1)
end

-- ---- the mutants' tests ----

local function run(command)
    return (os.execute(command .. " >/dev/null 2>&1"))
end

local function write(path, text)
    local handle = assert(io.open(path, "wb"))
    handle:write(text)
    handle:close()
end

local function prepare(root)
    local pipe = assert(io.popen "mktemp -d")
    local folder = pipe:read "l"
    pipe:close()
    assert(run(("cp -r %s/. %s/tree && rm -rf %s/tree/build*"):format(root, folder, folder)))
    for _, kind in ipairs { { "tsan", "-Db_sanitize=thread" }, { "plain", "-Db_sanitize=none" } } do
        assert(run(("cd %s/tree && meson setup ../%s %s -Db_lundef=false " ..
            "-Dbuildtype=debugoptimized -Dwerror=false -Dc_args=-w"):format(folder, kind[1],
            kind[2])), "meson failed")
    end
    return folder
end

local function targets(kind)
    local names = {}
    for _, name in ipairs(TESTS[kind]) do
        names[#names + 1] = "tests/l1/" .. name
    end
    return table.concat(names, " ")
end

-- The first test that fails, or nil.
local function killer(folder)
    for _, kind in ipairs { "plain", "tsan" } do
        if not run(("ninja -C %s/%s %s"):format(folder, kind, targets(kind))) then
            return "does not compile"
        end
        for _, name in ipairs(TESTS[kind]) do
            local command = "cd %s && PLN_SEEDS=%d TSAN_OPTIONS=halt_on_error=1 " ..
                "timeout 60 %s/tests/l1/%s"
            if not run(command:format(folder, kind == "plain" and 3000 or 300, kind, name)) then
                return kind .. " " .. name
            end
        end
    end
end

local function main(pattern)
    local folder, counts = prepare ".", { killed = 0, excused = 0, survived = 0 }
    local before = killer(folder)
    assert(not before, "before anything is taken out there is a failure: " .. tostring(before))
    for _, file in ipairs(tree.read(".", "l1", { c = true, h = true })) do
        for _, site in ipairs(sites(file.text)) do
            local title = ("%s:%d %s"):format(file.path, site.line, site.what)
            if title:find(pattern) then
                local path = folder .. "/tree/" .. file.path
                write(path, mutated(file.text, site))
                local by = killer(folder)
                write(path, file.text)
                local verdict = by and "killed" or site.excuse and "excused" or "survived"
                counts[verdict] = counts[verdict] + 1
                local why = by and " (" .. by .. ")" or site.excuse and ": " .. site.excuse or ""
                print(("%-8s %s%s"):format(verdict, title, (why:gsub("%s+%*?%s*", " "))))
                io.flush()
            end
        end
    end
    run("rm -rf " .. folder)
    print(("%d killed, %d excused, %d survived"):format(counts.killed, counts.excused,
        counts.survived))
    os.exit(counts.survived == 0)
end

-- ---- the script itself, tried on small samples ----

local function check(files)
    local found = {}
    for _, file in ipairs(files) do
        for _, site in ipairs(sites(file.text)) do
            found[#found + 1] = site.what .. " => " .. mutated(file.text, site) ..
                (site.excuse and " excused: " .. site.excuse or "")
        end
    end
    return found
end

local samples = {
    { "a relaxed access is left alone",
        { ["x.c"] = "atomic_load_explicit(&a, memory_order_relaxed);" } },
    { "a release is weakened", { ["x.c"] = "atomic_store_explicit(&a, 1, memory_order_release);" },
        "=> atomic_store_explicit(&a, 1, memory_order_relaxed);" },
    { "a fence is taken out", { ["x.c"] = "atomic_thread_fence(memory_order_seq_cst);" },
        "=> ((void) 0);" },
    { "a second look always agrees", { ["x.c"] = "if (PLN_RECHECK(a == b)) {" },
        "=> if (((void) (a == b), true)) {" },
    { "an order of failure is a site of its own", {
        ["x.c"] = "atomic_compare_exchange_strong_explicit(&a, &b, c, memory_order_relaxed,\n" ..
            "    memory_order_acquire)" }, "acquire (failure) -> relaxed" },
    { "a reason is read where its comment is broken", {
        ["x.c"] = "/* P1 acquire: pairs with put. no\n * test: x86 */\n" ..
            "atomic_load_explicit(&a, memory_order_acquire);" }, "excused: x86" },
}

if arg[1] == "--self-test" then
    tree.run(check, samples, "the samples are all there is", { { path = "none.c", text = "" } })
else
    main(arg[1] or "")
end
