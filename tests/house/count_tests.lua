-- SPDX-License-Identifier: MIT
--
-- count_tests.lua - reads what meson wrote down of a test run, for ./dev test.
--
--   sum FOLDER CODE       prints "N passed, N failed" over the single tests inside each program;
--                         exits 1 where one failed, or where meson itself ended with CODE
--   titles FOLDER TEXT    prints the titles of the tests that contain TEXT, a line each
--
-- A program that speaks TAP counts once for each of its lines; another counts once as a whole. A
-- program that fails without a failed line (a crash, a missing plan) counts as one failure more.

local function count_tap(output)
    local passed, failed = 0, 0
    for line in output:gmatch "[^\n]+" do
        if line:find "^not ok" and not line:find "# *TODO" then
            failed = failed + 1
        elseif line:find "^ok" and not line:upper():find "# *SKIP" then
            passed = passed + 1
        end
    end
    return passed, failed
end

-- One line of testlog.json. Quotes inside a text are escaped, so `"result": "` is found once.
local function count_program(line)
    local result = line:match '"result": "(%u+)"'
    local output = line:match '"stdout": "(.-[^\\])", "' or ""
    local passed, failed = count_tap((output:gsub("\\n", "\n")))
    local is_good = result == "OK" or result == "EXPECTEDFAIL" or result == "SKIP"
    if result == "OK" and passed + failed == 0 then
        passed = 1
    elseif not is_good and failed == 0 then
        failed = 1
    end
    return passed, failed
end

local function sum(folder, code)
    local passed, failed = 0, 0
    local log = io.open(folder .. "/meson-logs/testlog.json")
    for line in log and log:lines() or function() end do
        local p, f = count_program(line)
        passed, failed = passed + p, failed + f
    end
    if code ~= 0 and failed == 0 then
        failed = 1 -- meson could not run them
    end
    print(("%d passed, %d failed"):format(passed, failed))
    os.exit(failed == 0 and passed > 0)
end

local function titles(folder, text)
    local command = "meson test -C '%s' --no-rebuild --list 2>/dev/null"
    local list = assert(io.popen(command:format(folder)))
    local n = 0
    for line in list:lines() do
        local title = line:match "^%S+ / (.*)$" or line
        if title:lower():find(text:lower(), 1, true) then
            print(title)
            n = n + 1
        end
    end
    os.exit(n > 0)
end

local verb, folder, argument = arg[1], arg[2], arg[3]
if verb == "sum" then
    sum(folder, tonumber(argument))
elseif verb == "titles" then
    titles(folder, argument)
else
    error "usage: count_tests.lua sum FOLDER CODE | titles FOLDER TEXT"
end
