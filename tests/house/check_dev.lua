-- SPDX-License-Identifier: MIT
--
-- check_dev.lua - ./dev installs packages without their services being started: run with an apt-get
-- and a dpkg-query of the test's own, which install nothing.
--
-- usage: lua5.4 check_dev.lua ROOT

local root = arg[1]
local n_tests = 0

local function run(command)
    local pipe <close> = assert(io.popen(command))
    return pipe:read "a"
end

local folder = run "mktemp -d":match "[^\n]+"

local function write(name, text)
    local file <close> = assert(io.open(folder .. "/" .. name, "w"))
    file:write(text)
end

-- What ./dev prints with this end of the installation, and whether the policy is there afterwards.
local function dev(ending)
    write("apt-get", ([[#!/bin/sh
[ "$2" = update ] && exit 0
"$PLN_POLICY_RC_D" lighttpd start
echo "may start: $?"
%s
]]):format(ending))
    local said = run(("cd %s && PATH=%s:$PATH PLN_POLICY_RC_D=%s/policy sh ./dev mutate none 2>&1")
        :format(root, folder, folder))
    local file = io.open(folder .. "/policy")
    local is_there = file ~= nil
    if file then
        file:close()
    end
    return said, is_there
end

local function check(what, condition, said)
    n_tests = n_tests + 1
    print(("%sok %d - %s"):format(condition and "" or "not ", n_tests, what))
    if not condition then
        print("# " .. said:gsub("\n", "\n# "))
        os.execute("rm -rf " .. folder)
        os.exit(1)
    end
end

for _, name in ipairs { "dpkg-query", "id", "apt-get" } do
    write(name, name == "id" and "#!/bin/sh\necho 0\n" or "#!/bin/sh\n")
    os.execute(("chmod 755 %s/%s"):format(folder, name))
end

for _, ending in ipairs { "exit 1", "kill -INT $PPID; sleep 1" } do
    local said, is_there = dev(ending)
    check("no service may start while packages are installed: " .. ending,
        said:find "may start: 101" ~= nil, said)
    local told = said:find "do not start" or math.huge
    check("it is said before", told < said:find "may start", said)
    check("and over with the installation", not is_there, said)
end
write("policy", "#!/bin/sh\nexit 0\n")
os.execute(("chmod 755 %s/policy"):format(folder))
local said, is_there = dev "exit 1"
check("what the machine says itself holds, and stays",
    is_there and said:find "may start: 0" ~= nil and not said:find "do not start", said)
os.execute("rm -rf " .. folder)
print("1.." .. n_tests)
