rockspec_format = "3.0"
package = "perilune"
version = "scm-0"
source = {
    url = "git+file://.", -- for `luarocks make` in a checkout
}
description = {
    summary = "A multi-tier cache: lock-free in the process, Redis between processes",
    detailed = [[
        A cache for Lua and C programs. Processes tell each other what changed, so a value that was
        replaced in one is not served from the memory of another. How a key lives stands in a policy,
        a Lua file.
    ]],
    license = "MIT",
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.3, < 5.5" }
external_dependencies = {
    HIREDIS = { header = "hiredis/hiredis.h" },
    CK = { header = "ck_pr.h" },
    UTHASH = { header = "uthash.h" },
    XXHASH = { header = "xxhash.h" },
    JANSSON = { header = "jansson.h" },
    MSGPACK = { header = "msgpack.h" },
}
-- Meson builds it, as for everybody else: it knows what the system has.
build = {
    type = "command",
    build_command = "meson setup build-rock -Dtests=false && ninja -C build-rock",
    install = {
        lib = { perilune = "build-rock/lua/perilune.so" },
    },
}
