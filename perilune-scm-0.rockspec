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
dependencies = { "lua >= 5.4, < 5.5" }
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
        lua = {
            ["perilune.copas"] = "scripts/perilune/copas.lua",
            ["perilune.cqueues"] = "scripts/perilune/cqueues.lua",
            ["perilune.haproxy"] = "scripts/perilune/haproxy.lua",
            ["perilune.http"] = "scripts/perilune/http.lua",
            ["perilune.http.cache_control"] = "scripts/perilune/http/cache_control.lua",
            ["perilune.http.conditional"] = "scripts/perilune/http/conditional.lua",
            ["perilune.http.dates"] = "scripts/perilune/http/dates.lua",
            ["perilune.http.etags"] = "scripts/perilune/http/etags.lua",
            ["perilune.http.fields"] = "scripts/perilune/http/fields.lua",
            ["perilune.http.given"] = "scripts/perilune/http/given.lua",
            ["perilune.http.hosts.haproxy"] = "scripts/perilune/http/hosts/haproxy.lua",
            ["perilune.http.hosts.lighttpd"] = "scripts/perilune/http/hosts/lighttpd.lua",
            ["perilune.http.hosts.lua_http"] = "scripts/perilune/http/hosts/lua_http.lua",
            ["perilune.http.hosts.prosody"] = "scripts/perilune/http/hosts/prosody.lua",
            ["perilune.http.options"] = "scripts/perilune/http/options.lua",
            ["perilune.http.serve"] = "scripts/perilune/http/serve.lua",
            ["perilune.http.stored"] = "scripts/perilune/http/stored.lua",
            ["perilune.http.storing"] = "scripts/perilune/http/storing.lua",
            ["perilune.http.surrogates"] = "scripts/perilune/http/surrogates.lua",
            ["perilune.http.variants"] = "scripts/perilune/http/variants.lua",
            ["perilune.luv"] = "scripts/perilune/luv.lua",
            ["perilune.prosody"] = "scripts/perilune/prosody.lua",
            ["perilune.query"] = "scripts/perilune/query.lua",
            ["perilune.sql"] = "scripts/perilune/sql.lua",
            ["perilune.sql.bulk"] = "scripts/perilune/sql/bulk.lua",
            ["perilune.sql.drivers"] = "scripts/perilune/sql/drivers.lua",
            ["perilune.sql.misuse"] = "scripts/perilune/sql/misuse.lua",
            ["perilune.sql.rules"] = "scripts/perilune/sql/rules.lua",
            ["perilune.sql.statement"] = "scripts/perilune/sql/statement.lua",
            ["perilune.sql.words"] = "scripts/perilune/sql/words.lua",
            ["perilune.waiting"] = "scripts/perilune/waiting.lua",
        },
    },
}
