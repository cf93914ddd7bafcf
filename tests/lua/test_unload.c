/* SPDX-License-Identifier: MIT
 *
 * test_unload.c - a host that has a state for each request: closing it unloads the module as far as
 * Lua is concerned. The module stays all the same, with its threads in it, and so do its engines.
 */
#include <check.h>
#include <dlfcn.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdlib.h>

static lua_State *open_state(void) {
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    /* as require does, which finds the opener by the file's name */
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loadlib");
    lua_pushliteral(L, MODULE);
    lua_pushliteral(L, "luaopen_perilune");
    lua_call(L, 2, 2);
    ck_assert_msg(lua_isfunction(L, -2), "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
    lua_call(L, 0, 1);
    lua_setglobal(L, "perilune");
    lua_settop(L, 0);
    return L;
}

static void run(const char *text) {
    lua_State *L = open_state();
    int status = luaL_dostring(L, text);
    ck_assert_msg(status == LUA_OK, "%s", lua_tostring(L, -1));
    lua_close(L);
}

START_TEST(an_engine_goes_on_from_request_to_request) {
    for (int i = 1; i <= 200; i++) {
        run("local cache = assert(perilune.open 'requests')"
            " local n = (cache:get 'n' or 0) + 1"
            " assert(cache:set('n', n))"
            " if n % 2 == 0 then cache:close() end");
        void *library = dlopen(MODULE, RTLD_LAZY | RTLD_NOLOAD);
        ck_assert_ptr_nonnull(library);
        dlclose(library);
    }
    run("assert(perilune.open('requests'):get 'n' == 200)");
}
END_TEST

START_TEST(a_states_own_cache_ends_with_it) {
    for (int i = 0; i < 20; i++) {
        run("own = perilune.open { workers = 2 } own:set('k', 'v') own:get 'k'");
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("unload");
    TCase *tests = tcase_create("unload");
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, an_engine_goes_on_from_request_to_request);
    tcase_add_test(tests, a_states_own_cache_ends_with_it);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
