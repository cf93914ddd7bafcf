-- SPDX-License-Identifier: MIT
--
-- tree.lua - what the checkers of this folder share: reading the tree, and reporting in TAP.
--
-- A checker is a function from files to findings. It is tried on small bad samples first, so that
-- a checker that has gone blind fails as loudly as a tree with a fault.

local tree = {}

-- The files under the folders, as a list of { path = "l1/table.c", text = "..." }, sorted.
function tree.read(root, folders, extensions)
    local files = {}
    local command = "cd '%s' && find %s -type f | LC_ALL=C sort"
    local list = assert(io.popen(command:format(root, folders)))
    for path in list:lines() do
        if extensions[path:match "%.(%w+)$" or ""] then
            local handle = assert(io.open(root .. "/" .. path, "rb"))
            files[#files + 1] = { path = path, text = handle:read "a" }
            handle:close()
        end
    end
    assert(list:close(), "find failed in " .. root)
    return files
end

-- A text's lines, numbered from 1.
function tree.lines(text)
    local lines = {}
    for line in (text:gsub("\n?$", "\n", 1)):gmatch "(.-)\n" do
        lines[#lines + 1] = line
    end
    return lines
end

-- Runs a checker. `samples` is a list of { title, files, expected }, where `expected` is a plain
-- part of the one finding wanted, or nil where there must be none; `files` maps a path to a text.
function tree.run(check, samples, real_title, real_files)
    print("1.." .. #samples + 1)
    local is_good = true
    local function say(i, ok, title, notes)
        is_good = is_good and ok
        print(("%s %d - %s"):format(ok and "ok" or "not ok", i, title))
        for _, note in ipairs(notes) do
            print("# " .. note)
        end
    end
    for i, sample in ipairs(samples) do
        local files = {}
        for path, text in pairs(sample[2]) do
            files[#files + 1] = { path = path, text = text }
        end
        local found = check(files)
        local wanted = sample[3]
        local ok = wanted and #found == 1 and found[1]:find(wanted, 1, true) or
            not wanted and #found == 0
        say(i, not not ok, sample[1], ok and {} or found)
    end
    local found = check(real_files)
    say(#samples + 1, #found == 0 and #real_files > 0, real_title, found)
    os.exit(is_good)
end

return tree
