-- SPDX-License-Identifier: MIT
--
-- check_rock.lua - the rockspec installs every Lua file of the module, and names none that is not
-- there. usage: check_rock.lua ROOT

local root = arg[1]
local rock = {}
assert(loadfile(root .. "/perilune-scm-0.rockspec", "t", rock))()

local named, missing = rock.build.install.lua, {}
local list = assert(io.popen("cd '" .. root .. "/scripts' && find perilune -name '*.lua' | sort"))
local there = {}
for path in list:lines() do
    local name = path:gsub("%.lua$", ""):gsub("/", ".")
    there[name] = true
    if named[name] ~= "scripts/" .. path then
        missing[#missing + 1] = name .. " is not installed from scripts/" .. path
    end
end
list:close()
for name in pairs(named) do
    if not there[name] then
        missing[#missing + 1] = name .. " is named, and not there"
    end
end

for _, text in ipairs(missing) do
    print("# " .. text)
end
local is_good = #missing == 0 and next(there) ~= nil
print((is_good and "" or "not ") .. "ok 1 - the rock has all of the module")
print "1..1"
os.exit(is_good)
