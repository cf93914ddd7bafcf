-- SPDX-License-Identifier: MIT
--
-- bench_resty.lua - lua-resty-lrucache under LuaJIT, for bench_lua.lua, which starts it and says
-- when to run, so that it takes its turn among the others.
--
-- usage: luajit bench_resty.lua SIZE FILE: the file has the requests, a key's number a line. Reads
-- lines from standard input; at each it runs once, and writes the nanoseconds per operation.

local ffi = require "ffi"
ngx = { now = os.time, config = {} } -- luacheck: ignore 111
local lrucache = require "resty.lrucache"

ffi.cdef [[
struct timespec { long tv_sec; long tv_nsec; };
int clock_gettime(int, struct timespec *);
]]

local time = ffi.new "struct timespec"
local function clock()
  ffi.C.clock_gettime(1, time) -- monotonic
  return tonumber(time.tv_sec) + tonumber(time.tv_nsec) / 1e9
end

local size, value_bytes = tonumber(arg[1]), 100
local cache, keys, ops = assert(lrucache.new(size)), {}, {}
for i = 1, size do
  keys[i] = ("key:%012d"):format(i)
  cache:set(keys[i], ("%08d"):format(i) .. ("v"):rep(value_bytes - 8))
end
for line in io.lines(arg[2]) do
  ops[#ops + 1] = keys[tonumber(line)]
end

local function loop()
  for i = 1, #ops do
    local _ = cache:get(ops[i])
  end
end

io.stdout:setvbuf "line"
for _ in io.lines() do
  collectgarbage()
  local start = clock()
  loop()
  print((clock() - start) / #ops * 1e9)
end
