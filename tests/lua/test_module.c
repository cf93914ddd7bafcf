/* SPDX-License-Identifier: MIT
 *
 * test_module.c - the module under an allocator that fails from the n-th call on, for every n:
 * whatever a method was doing, the error is Lua's, the state can be closed, and all of its memory
 * comes back. Borrowed values that were not given back would trip the core's own checks when the
 * cache is closed, or the address sanitizer's.
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

#include "../l2/server.h"

int luaopen_perilune(lua_State *L);

struct memory {
    size_t in_use;
    long left; /* allocations until all fail, also Lua's second try; negative: none does */
    bool has_failed;
};

static void *allocate(void *arg, void *block, size_t old_size, size_t new_size) {
    struct memory *memory = arg;
    old_size = block == NULL ? 0 : old_size;
    if (new_size == 0) {
        memory->in_use -= old_size;
        free(block);
        return NULL;
    }
    if (new_size > old_size && memory->left == 0) {
        memory->has_failed = true;
        return NULL;
    }
    if (new_size > old_size && memory->left > 0) {
        memory->left--;
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
    lua_pop(L, 1);
    return L;
}

/* Runs the text with the n-th allocation from then on failing, for n from 0 until none fails. */
static void run_with_failures(const char *text) {
    bool has_failed = true;
    for (long n = 0; has_failed; n++) {
        struct memory memory;
        lua_State *L = open_state(&memory);
        ck_assert_int_eq(luaL_loadstring(L, text), LUA_OK);
        memory.left = n;
        int status = lua_pcall(L, 0, 0, 0);
        memory.left = -1;
        has_failed = memory.has_failed;
        if (!has_failed && status != LUA_OK) {
            ck_abort_msg("without a failure: %s", lua_tostring(L, -1));
        }
        lua_close(L);
        ck_assert_uint_eq(memory.in_use, 0);
    }
}

START_TEST(opening_and_closing_survive_a_lack_of_memory) {
    run_with_failures("local cache <close> = require('perilune').open {"
                      "  name = 'name', max_bytes = '1m', workers = 1, log = false }"
                      "tostring(cache)");
}
END_TEST

START_TEST(reads_survive_a_lack_of_memory) {
    run_with_failures(
        "local cache <close> = require('perilune').open { max_bytes = '1m', workers = 1 }"
        "cache:set('short', ('x'):rep(100)) cache:set('long', ('x'):rep(5000))"
        "cache:set('table', { 1, { a = 'b' } }) cache:set('json', { 'a', { b = 1 } }, { codec = 'json' })"
        "local t = cache:get 'table' for _ in pairs(t) do end cache:copy(t) cache:set('again', t)"
        "cache:get 'json' cache:get 'table' cache:get('table', { copy = true })"
        "cache:get('json', function() end) cache:get_many { 'json', 'table' }"
        "pcall(function() t.x = 1 end) cache:set('table', { 2 }) cache:get 'table'"
        "cache:get 'short' cache:get 'long' cache:get 'table' cache:peek 'long'"
        "cache:get_many { 'short', 'long', 'table', 1 }");
}
END_TEST

START_TEST(loaders_survive_a_lack_of_memory) {
    run_with_failures(
        "local cache <close> = require('perilune').open { max_bytes = '1m', workers = 1 }"
        "cache:get('k', { tags = { 'a', 'b' } }, function(key, x) return { key, x } end, 1)"
        "cache:get('e', nil, function() error 'broken' end)"
        "cache:get('f', nil, function() return nil, 'soft' end)"
        "local f = cache:wrap(function(a) return ('y'):rep(4000) end, { prefix = 'f', ttl = 9 })"
        "f(1) f('x') f.invalidate(1)");
}
END_TEST

START_TEST(ops_survive_a_lack_of_memory) {
    run_with_failures(
        "local cache <close> = require('perilune').open {"
        "  redis = 'memory:ops', max_bytes = '1m', workers = 1, log = false }"
        "local function finish(op)"
        "  while not op:ready() do if op:wants_load() then op:load() end end "
        "  return op:result() "
        "end "
        "finish(cache:call_async('set', 'k', { 1 }, { tags = { 'a', 'b' }, ttl = 60 }))"
        "finish(cache:get_async('k', { l1 = false })) finish(cache:get_async 'k')"
        "finish(cache:get_async('l', { tags = { 'a' } }, function(key, x) return { key, x } end, 1))"
        "finish(cache:get_async('e', function() error 'broken' end))"
        "finish(cache:get_many_async { 'k', 'l', 1 })"
        "finish(cache:call_async('delete_many', { 'k', 2 }))"
        "local run = coroutine.wrap(function()"
        "  local op <close> = cache:get_async('y', function() coroutine.yield() return 'y' end)"
        "  return finish(op)"
        "end)"
        "run() run()"
        "cache:get_async('z', function() end):cancel()"
        "finish(cache:get_or_async('w', function() return 'w' end)) cache:get_or_async 'w'");
}
END_TEST

START_TEST(keys_numbers_and_lists_survive_a_lack_of_memory) {
    run_with_failures(
        "local perilune = require('perilune')"
        "local cache <close> = perilune.open { max_bytes = '1m', workers = 1, log = false }"
        "local key = perilune.key('a:b', 7, true, ('x'):rep(300)) perilune.key.parse 'a%3Ab:7:x'"
        "pcall(perilune.key, {}) perilune.key.parse(key)"
        "cache:get_many({ 'k', 1, 'n' }, function(keys) return { k = { 1 }, [1] = 2 }, nil, 9 end)"
        "cache:get_many({ 'e' }, nil, function() error 'broken' end)"
        "cache:get_many({ 'f' }, nil, function() return nil, 'soft' end)"
        "for key, info in cache:each '*' do end "
        "cache:incr('i', 1, { initial = 5, ttl = 9 }) cache:incr 'k'"
        "cache:cas('c', nil, { 1, 2 }) cache:cas('c', { 1, 2 }, { a = 1 }) cache:cas('c', 1, 2)"
        "local f = cache:wrap(function(a) return a end, { prefix = 'w' })"
        "f.refresh(1) f.peek(1) f.key(1) cache:events(5) cache:poll_event()");
}
END_TEST

START_TEST(commands_and_structures_survive_a_lack_of_memory) {
    struct server server;
    char text[2048];
    pln_test_redis_start(&server, NULL);
    snprintf(text, sizeof text,
             "local cache <close> = require('perilune').open { redis = '%s', log = false,"
             "  max_bytes = '1m', workers = 1, pool = 1, timeout = '10s' }"
             "cache:redis('SET', 'k', 0.5, { timeout = 9 }) cache:redis('MGET', 'k', 'none')"
             "cache:hset('h', { f = 'v', [1] = 2 }) cache:hget('h', 'f')"
             "cache:hmget('h', { 'f', 1 }) cache:hgetall 'h'"
             "for _ in cache:hscan('h', { match = '*', count = 5 }) do end "
             "local board = cache:board 'b'"
             "board:add('ada', 1.5) board:top() board:rank 'ada' board:around 'ada'"
             "cache:xadd('x', { a = 1 }, { maxlen = 2 }) cache:xrange 'x'"
             "pcall(cache.sadd, cache, 's', print) tostring(board)",
             server.url);
    run_with_failures(text);
    pln_test_redis_stop(&server);
}
END_TEST

START_TEST(the_rest_survives_a_lack_of_memory) {
    run_with_failures(
        "local cache <close> = require('perilune').open { max_bytes = '1m', workers = 1 }"
        "cache:set('k', { 1 }, { ttl = '1m', tags = { 'a' }, nx = true }) cache:raise('e', { a = 1 })"
        "cache:touch('k', 5) cache:stats() cache:prometheus() cache:explain 'k'"
        "cache:warm { progress = function() end, keys = { 'a', 1 } } cache:ready()"
        "cache:warm { keys = ('a b'):gmatch '%a', top = 1, rate = 1000 }"
        "cache:shadow_report() cache:shadow_end()"
        "pcall(cache.get, cache, 'k', { ttll = 1 }) pcall(cache.set, cache, 'k', print)");
}
END_TEST

START_TEST(a_memory_survives_a_lack_of_memory) {
    run_with_failures(
        "local memory <close> = require('perilune').memory 'lack'"
        "local cache <close> = require('perilune').open {"
        "  redis = 'memory:lack', max_bytes = '1m', workers = 1, log = false }"
        "memory:faults { seed = 1, delay_random = '1ms', lose = '10%', hold = true }"
        "pcall(memory.faults, memory, { delay = 'x' }) cache:set('k', { 1 })"
        "memory:cut('hang', cache) memory:heal() memory:deliver() memory:evict(1) memory:forget()"
        "memory:stats() tostring(memory) cache:nodes() cache:prometheus()");
}
END_TEST

START_TEST(locks_limits_and_sessions_survive_a_lack_of_memory) {
    run_with_failures(
        "local perilune = require 'perilune'"
        "local cache <close> = perilune.open { max_bytes = '1m', workers = 1 }"
        "local nodes = perilune.nodes { 'unix:/nowhere/1', 'unix:/nowhere/2', timeout = 1 }"
        "cache:lock('x', 5, { wait = 0 }) cache:lock('x', 5, { nodes = nodes })"
        "cache:count('n', 2, { ttl = 5 }) cache:counter 'n'"
        "cache:limit('l', { rate = 5, kind = 'log', on_error = 'allow' })"
        "pcall(cache.limit, cache, 'l', { rate = 5, kind = 'none' })"
        "local sessions = cache:sessions { ttl = 5 }"
        "sessions:create('ada', { 1 }) sessions:get(('x'):rep(43)) sessions:of 'ada'");
}
END_TEST

/* A finalizer that closes the cache, run by the collector in the midst of a method. */
START_TEST(a_finalizer_that_closes_the_cache_does_no_harm) {
    struct memory memory;
    lua_State *L = open_state(&memory);
    int status = luaL_dostring(
        L, "local cache = require('perilune').open { max_bytes = '1m', workers = 1 }"
           "cache:set('long', ('x'):rep(50000))"
           "local closed "
           "setmetatable({}, { __gc = function() closed = pcall(cache.close, cache) end })"
           "collectgarbage('setpause', 0) collectgarbage('setstepmul', 1000)"
           "while closed == nil do"
           "  pcall(cache.get, cache, 'long')"
           "end");
    if (status != LUA_OK) {
        ck_abort_msg("%s", lua_tostring(L, -1));
    }
    lua_close(L);
    ck_assert_uint_eq(memory.in_use, 0);
}
END_TEST

/* States in threads of their own, each with caches of its own. */
static void *use_state(void *arg) {
    struct memory memory;
    lua_State *L = open_state(&memory);
    (void) arg;
    int status = luaL_dostring(
        L, "local perilune = require 'perilune'"
           " for round = 1, 20 do"
           "  local cache <close> = perilune.open { max_bytes = '1m', workers = 1 }"
           "   for i = 1, 200 do cache:set(i, { i }) assert(cache:get(i)[1] == i) end "
           "end");
    char *failure = status == LUA_OK ? NULL : strdup(lua_tostring(L, -1));
    lua_close(L);
    return failure;
}

START_TEST(states_in_several_threads_do_not_meet) {
    enum { N = 3 };
    pthread_t threads[N];
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, use_state, NULL), 0);
    }
    for (int i = 0; i < N; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        ck_assert_pstr_eq(failure, NULL);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("module");
    TCase *tests = tcase_create("module");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, opening_and_closing_survive_a_lack_of_memory);
    tcase_add_test(tests, reads_survive_a_lack_of_memory);
    tcase_add_test(tests, keys_numbers_and_lists_survive_a_lack_of_memory);
    tcase_add_test(tests, loaders_survive_a_lack_of_memory);
    tcase_add_test(tests, ops_survive_a_lack_of_memory);
    tcase_add_test(tests, commands_and_structures_survive_a_lack_of_memory);
    tcase_add_test(tests, the_rest_survives_a_lack_of_memory);
    tcase_add_test(tests, a_memory_survives_a_lack_of_memory);
    tcase_add_test(tests, locks_limits_and_sessions_survive_a_lack_of_memory);
    tcase_add_test(tests, a_finalizer_that_closes_the_cache_does_no_harm);
    tcase_add_test(tests, states_in_several_threads_do_not_meet);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
