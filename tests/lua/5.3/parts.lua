-- SPDX-License-Identifier: MIT
--
-- parts.lua - the parts of the module that are written in Lua are read by a host's 5.3 as well.
--
-- usage: lua5.3 parts.lua ROOT

local folder = arg[1] .. "/scripts/perilune"
local pipe = assert(io.popen("ls '" .. folder .. "'"))
local n, n_failed = 0, 0
for name in pipe:lines() do
  if name:find "%.lua$" then
    local good, message = loadfile(folder .. "/" .. name)
    n = n + 1
    n_failed = n_failed + (good and 0 or 1)
    print(("%sok %d - %s is read"):format(good and "" or "not ", n, name))
    if not good then
      print("# " .. message)
    end
  end
end
pipe:close()
print("1.." .. n)
os.exit(n > 0 and n_failed == 0)
