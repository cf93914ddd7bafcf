/* SPDX-License-Identifier: MIT
 *
 * test_scarce.c - every method of the module in a state whose allocator fails at its n-th call, for
 * every n until nothing fails: from there on for good, or for as long as it takes that one
 * allocation to fail (Lua tries again after a collection), so that what follows has memory again.
 * Whatever a method was at, the error is Lua's own, the state can be closed and gives all of its
 * memory back, and the engine that it used goes on in the next state.
 */
#include <check.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../core/perilune.h"
#include "../l2/server.h"

int luaopen_perilune(lua_State *L);

static const char engine_name[] = "scarce";

/* ---- memory that ends ---- */

struct memory {
    size_t in_use;
    long left; /* allocations until one fails; negative: none does */
    long most; /* that fail in a row */
    bool has_failed;
};

static bool fails(struct memory *memory) {
    if (memory->left < 0 || memory->left-- > 0) {
        return false;
    }
    memory->left = --memory->most > 0 ? 0 : -1;
    memory->has_failed = true;
    return true;
}

static void *allocate(void *arg, void *block, size_t old_size, size_t new_size) {
    struct memory *memory = arg;
    old_size = block == NULL ? 0 : old_size;
    if (new_size == 0) {
        memory->in_use -= old_size;
        free(block);
        return NULL;
    }
    if (new_size > old_size && fails(memory)) {
        return NULL;
    }
    void *moved = realloc(block, new_size);
    if (moved != NULL) {
        memory->in_use += new_size - old_size;
    }
    return moved;
}

static lua_State *open_state(struct memory *memory) {
    *memory = (struct memory){.left = -1};
    lua_State *L = lua_newstate(allocate, memory);
    ck_assert_ptr_nonnull(L);
    luaL_openlibs(L);
    luaL_requiref(L, "perilune", luaopen_perilune, 0);
    return L;
}

/* ---- pieces ---- */

static char *script;           /* tests/lua/scarce.lua */
static const char *pieces[32]; /* into it, and where the last ends */
static int n_pieces;

static void read_script(void) {
    FILE *file = fopen(SCARCE, "r");
    script = calloc(1, 1 << 16);
    if (file == NULL || script == NULL || fread(script, 1, (1 << 16) - 1, file) == 0) {
        perror(SCARCE);
        exit(EXIT_FAILURE);
    }
    fclose(file);
    for (const char *at = script; (at = strstr(at, "\n---- ")) != NULL;) {
        pieces[n_pieces++] = ++at;
    }
    pieces[n_pieces] = script + strlen(script);
}

static struct server server;
static struct pln_cache *engine;
static char policy[96];

static void no_log(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

static void set_up(void) {
    pln_test_redis_start(&server, NULL);
    struct pln_options options = {.name = engine_name,
                                  .redis = server.url,
                                  .max_bytes = 1 << 20,
                                  .workers = 1,
                                  .timeout_ms = 10000,
                                  .log = no_log};
    ck_assert_msg(pln_open_named(&options, NULL, &engine) == PLN_OK, "%s", pln_error_text());
    snprintf(policy, sizeof policy, "%s/policy.lua", server.folder);
    FILE *file = fopen(policy, "w");
    fputs("cache.rule 'user:{id}' { load = function(key, m) return { m.id } end }\n"
          "cache.on 'changed' { keys = { 'user:{id}' } }\n"
          "cache.test 'user:1' { ttl = '5m' }\n",
          file);
    fclose(file);
}

static void tear_down(void) {
    pln_close(engine);
    pln_test_redis_stop(&server);
}

static int run_piece(lua_State *L, const char *piece, struct memory *memory, long n, long most) {
    size_t len = 0;
    for (int i = 0; i < n_pieces; i++) {
        len = pieces[i] == piece ? (size_t) (pieces[i + 1] - piece) : len;
    }
    ck_assert_msg(luaL_loadbuffer(L, piece, len, "=scarce.lua") == LUA_OK, "%s",
                  lua_tostring(L, -1));
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "perilune");
    lua_remove(L, -2);
    lua_pushstring(L, engine_name);
    lua_pushstring(L, policy);
    memory->most = most;
    memory->left = n;
    int status = lua_pcall(L, 3, 0, 0);
    memory->left = -1;
    return status;
}

static void expect_engine_works(long n) {
    struct pln_result result;
    char text[16];
    ck_assert_msg(pln_set(engine, pln_key("alive"), pln_key("yes"), NULL) == PLN_OK &&
                      pln_get_copy(engine, pln_key("alive"), NULL, text, sizeof text, &result) ==
                          PLN_OK,
                  "after %ld allocations: %s", n, pln_error_text());
}

/* In the pieces' order, once for good and once for a moment. */
START_TEST(every_method_survives_a_lack_of_memory) {
    const char *piece = pieces[_i / 2];
    long most = _i % 2 == 0 ? 1L << 40 : 2; /* the second is Lua's second try */
    bool has_failed = true;
    for (long n = 0; has_failed; n++) {
        struct memory memory;
        lua_State *L = open_state(&memory);
        int status = run_piece(L, piece, &memory, n, most);
        has_failed = memory.has_failed;
        if (status != LUA_OK && !has_failed) {
            ck_abort_msg("%.40s: without a failure: %s", piece, lua_tostring(L, -1));
        }
        if (status != LUA_OK && status != LUA_ERRMEM) {
            ck_assert_msg(lua_type(L, -1) == LUA_TSTRING, "%.40s: after %ld: an error of type %s",
                          piece, n, luaL_typename(L, -1));
        }
        lua_close(L);
        ck_assert_uint_eq(memory.in_use, 0);
        expect_engine_works(n);
    }
}
END_TEST

/* ---- none is left out ---- */

static bool is_called(const char *before, const char *name) {
    char call[64];
    snprintf(call, sizeof call, "%s%s", before, name);
    size_t len = strlen(call);
    for (const char *at = script; (at = strstr(at, call)) != NULL; at++) {
        if (strchr("abcdefghijklmnopqrstuvwxyz_", at[len]) == NULL) {
            return true;
        }
    }
    return false;
}

/* Names of functions in the table on top of the stack. */
static void expect_all_called(lua_State *L, const char *before) {
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_isfunction(L, -1)) {
            const char *name = lua_tostring(L, -2);
            ck_assert_msg(is_called(before, name) || is_called("cache.", name),
                          "tests/lua/scarce.lua does not call %s%s", before, name);
        }
    }
}

START_TEST(no_method_is_left_out) {
    struct memory memory;
    lua_State *L = open_state(&memory);
    expect_all_called(L, "perilune.");
    lua_getfield(L, -1, "open");
    lua_pushstring(L, engine_name);
    lua_call(L, 1, 1);
    lua_getmetatable(L, -1);
    lua_getfield(L, -1, "__index");
    expect_all_called(L, ":");
    lua_close(L);
}
END_TEST

/* ---- states come and go ---- */

static void *use_engine(void *arg) {
    uintptr_t n_wrong = 0;
    for (int round = 0; round < 20; round++) {
        struct memory memory;
        lua_State *L = open_state(&memory);
        lua_pushinteger(L, (lua_Integer) (uintptr_t) arg);
        lua_setglobal(L, "number");
        n_wrong += luaL_dostring(L, "local cache <close> = require('perilune').open 'scarce'"
                                    " for i = 1, 20 do"
                                    "  local key = number .. ':' .. i "
                                    "  assert(cache:set(key, { i })) assert(cache:get(key)[1] == i)"
                                    " end "
                                    "left_open = require('perilune').open 'scarce'") != LUA_OK;
        lua_close(L);
        n_wrong += memory.in_use != 0;
    }
    return (void *) n_wrong;
}

START_TEST(states_in_several_threads_share_one_engine) {
    enum { N = 4 };
    pthread_t threads[N];
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, use_engine, (void *) (uintptr_t) i), 0);
    }
    for (int i = 0; i < N; i++) {
        void *n_wrong;
        pthread_join(threads[i], &n_wrong);
        ck_assert_ptr_null(n_wrong);
    }
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    luaL_requiref(L, "perilune", luaopen_perilune, 1);
    ck_assert_msg(luaL_dostring(L, "local cache = perilune.open 'scarce'"
                                   " assert(cache:stats().sets == 4 * 20 * 20)") == LUA_OK,
                  "%s", lua_tostring(L, -1));
    lua_close(L);
}
END_TEST

/* The policy's function runs for a while; the states that asked for the key are closed meanwhile.
 */
START_TEST(a_state_is_closed_while_a_refresh_runs) {
    FILE *file = fopen(policy, "w");
    fputs("cache.rule '*' { ttl = '1ms', stale = '1h', load = function(key)\n"
          "  local sum = 0 for i = 1, 300000 do sum = sum + i end return sum end }\n",
          file);
    fclose(file);
    for (int round = 0; round < 30; round++) {
        struct memory memory;
        lua_State *L = open_state(&memory);
        lua_pushstring(L, policy);
        lua_setglobal(L, "policy");
        int status = luaL_dostring(
            L, "local cache = require('perilune').open('refreshed', { policy = policy, workers = 1,"
               "  log = false })"
               " assert(cache:get 'k' == 45000150000)"
               " local _, _, how repeat _, _, how = cache:get 'k' until how == 'stale'");
        ck_assert_msg(status == LUA_OK, "%s", lua_tostring(L, -1));
        lua_close(L);
        ck_assert_uint_eq(memory.in_use, 0);
    }
    ck_assert_int_eq(pln_shutdown("refreshed"), PLN_OK);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("scarce");
    TCase *tests = tcase_create("scarce");
    read_script();
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 170);
    tcase_add_test(tests, no_method_is_left_out);
    tcase_add_loop_test(tests, every_method_survives_a_lack_of_memory, 0, 2 * n_pieces);
    tcase_add_test(tests, states_in_several_threads_share_one_engine);
    tcase_add_test(tests, a_state_is_closed_while_a_refresh_runs);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    free(script);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
