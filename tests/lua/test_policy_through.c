/* SPDX-License-Identifier: MIT
 * test_policy_through.c - rules that write through and around, in a cache that has no Redis: by
 * stores of the program that they call for by name, and by functions of their own on its workers.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "../../core/base/base.h"

static struct pln_cache *cache;
static char path[64];
static char last_log[700];

/* What a store was called with, and what it answers. */
static struct {
    pthread_t by;
    int status;
    size_t n_items;
    enum pln_store_op op;
    char key[32], value[32];
} store;

static void take_line(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    snprintf(last_log, sizeof last_log, "%s", line);
}

static void setup(void) {
    struct pln_options options = {.log = take_line, .workers = 2};
    strcpy(path, "/tmp/perilune-through-XXXXXX");
    close(mkstemp(path));
    memset(&store, 0, sizeof store);
    ck_assert_int_eq(pln_open(&options, &cache), PLN_OK);
}

static void teardown(void) {
    pln_close(cache);
    unlink(path);
}

static void load_policy(const char *text) {
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    ck_assert_msg(pln_load_policy(cache, path, 0) == PLN_OK, "%s", pln_error_text());
}

static int program_store(void *arg, struct pln_store_item *items, size_t n) {
    ck_assert_ptr_eq(arg, &store);
    store.by = pthread_self();
    store.n_items += n;
    store.op = items[0].op;
    snprintf(store.key, sizeof store.key, "%.*s", (int) items[0].key.len,
             (const char *) items[0].key.data);
    snprintf(store.value, sizeof store.value, "%.*s", (int) items[0].value.len,
             items[0].value.len == 0 ? "" : (const char *) items[0].value.data);
    return store.status < 0 ? pln_fail(store.status, "the program's word") : PLN_OK;
}

static int set(const char *key, const char *value) {
    return pln_set(cache, pln_key(key), pln_key(value), NULL);
}

/* What a get finds; "" for nothing. */
static const char *got(const char *key) {
    static char text[64];
    struct pln_result result;
    text[0] = 0;
    if (pln_get(cache, pln_key(key), NULL, &result) == PLN_OK) {
        snprintf(text, sizeof text, "%.*s", (int) result.len,
                 (const char *) pln_value_data(result.value));
    }
    pln_release(cache, result.value);
    return text;
}

static void expect_failure(int got_status, int status, const char *end) {
    const char *said = pln_error_text();
    size_t len = strlen(said), n = strlen(end);
    ck_assert_msg(got_status == status && len >= n && strcmp(said + len - n, end) == 0, "%d '%s'",
                  got_status, said);
}

START_TEST(a_rule_writes_by_a_store_of_the_program) {
    load_policy("cache.class 'c' { write = through(store 'users') }\n"
                "cache.rule 'u:{id}' { class = 'c' }\n"
                "cache.rule 'a:{id}' { write = around { store = store 'users' } }\n"
                "cache.rule 'f:{id}' { class = 'c', write = false }");
    expect_failure(set("u:1", "Ada"), PLN_ESTORE,
                   ":2: rule 'u:{id}': no store 'users' is registered");
    ck_assert_str_eq(got("u:1"), "");
    ck_assert_int_eq(pln_register_store(cache, "users", program_store, &store), PLN_OK);
    ck_assert_int_eq(set("u:1", "Ada"), PLN_OK);
    ck_assert(pthread_equal(store.by, pthread_self()));
    ck_assert_int_eq(store.op, PLN_STORE_SET);
    ck_assert_str_eq(store.key, "u:1");
    ck_assert_str_eq(store.value, "Ada");
    ck_assert_str_eq(got("u:1"), "Ada");
    ck_assert_int_eq(set("a:1", "gone"), PLN_OK);
    ck_assert_str_eq(store.key, "a:1");
    ck_assert_str_eq(got("a:1"), "");
    ck_assert_int_eq(set("f:1", "here"), PLN_OK);
    ck_assert_str_eq(store.key, "a:1"); /* not called */
    store.status = PLN_ESTORE;
    expect_failure(set("u:1", "Bob"), PLN_ESTORE, "the program's word");
    ck_assert_str_eq(got("u:1"), "Ada");
    store.status = PLN_OK;
    ck_assert_int_eq(pln_delete(cache, pln_key("u:1")), PLN_OK);
    ck_assert_int_eq(store.op, PLN_STORE_DELETE);
    ck_assert_str_eq(got("u:1"), "");
    ck_assert_uint_eq(store.n_items, 4);
}
END_TEST

START_TEST(a_rule_writes_by_a_function_of_its_own) {
    load_policy("cache.rule 'u:{id}' { write = through(function(key, m, value)\n"
                "  log.info('%s %s %s', key, m.id, value)\n"
                "  if m.id == '2' then return nil, 'the disk is full' end\n"
                "  if m.id == '3' then return nil, 'no such column', 'never' end\n"
                "end) }");
    ck_assert_msg(set("u:1", "Ada") == PLN_OK, "%s", pln_error_text());
    ck_assert_ptr_nonnull(strstr(last_log, ": u:1 1 Ada"));
    ck_assert_str_eq(got("u:1"), "Ada");
    ck_assert_int_eq(pln_delete(cache, pln_key("u:1")), PLN_OK);
    ck_assert_ptr_nonnull(strstr(last_log, ": u:1 1 nil"));
    expect_failure(set("u:2", "Bob"), PLN_ESTORE, "rule 'u:{id}': write: the disk is full");
    ck_assert_str_eq(got("u:2"), "");
    expect_failure(set("u:3", "Bob"), PLN_ESTORE, "rule 'u:{id}': write: no such column");
    ck_assert_str_eq(got("u:3"), "");
}
END_TEST

START_TEST(a_reload_gives_writes_another_way) {
    load_policy("cache.rule 'u:{id}' { write = through(function() return nil, 'no' end) }");
    expect_failure(set("u:1", "Ada"), PLN_ESTORE, "write: no");
    load_policy("cache.rule 'u:{id}' { write = around(function() end) }");
    ck_assert_int_eq(set("u:1", "Ada"), PLN_OK);
    ck_assert_str_eq(got("u:1"), "");
    load_policy("cache.rule 'u:{id}' {}");
    ck_assert_int_eq(set("u:1", "Ada"), PLN_OK);
    ck_assert_str_eq(got("u:1"), "Ada");
}
END_TEST

START_TEST(behind_is_refused_where_there_is_no_redis) {
    load_policy("cache.rule 'u:{id}' { write = behind(function() end) }");
    expect_failure(set("u:1", "Ada"), PLN_EINVAL, "which needs Redis: the cache has none");
}
END_TEST

START_TEST(many_that_are_missing_are_loaded_by_one_call) {
    struct pln_bytes keys[] = {pln_key("u:1"), pln_key("u:2"), pln_key("v:1"), pln_key("u:3")};
    struct pln_result results[4];
    int statuses[4];
    load_policy(
        "cache.rule 'u:{id}' { negative = '1m', load_many = function(keys, ms)\n"
        "  log.info('%s', table.concat(keys, ','))\n"
        "  local values = {}\n"
        "  for i, m in ipairs(ms) do values[keys[i]] = m.id < '3' and 'n' .. m.id or nil end\n"
        "  return values end }");
    ck_assert_int_eq(pln_get_many(cache, keys, 4, NULL, results, statuses), PLN_OK);
    ck_assert_ptr_nonnull(strstr(last_log, ": u:1,u:2,u:3"));
    ck_assert_int_eq(statuses[0], PLN_OK);
    ck_assert_int_eq(statuses[1], PLN_OK);
    ck_assert_int_eq(statuses[2], PLN_MISS);
    ck_assert_int_eq(statuses[3], PLN_ABSENT);
    for (size_t i = 0; i < 4; i++) {
        pln_release(cache, results[i].value);
    }
    last_log[0] = 0;
    ck_assert_str_eq(got("u:2"), "n2");
    ck_assert_str_eq(last_log, "");
    ck_assert_int_eq(pln_delete(cache, pln_key("u:2")), PLN_OK);
    ck_assert_str_eq(got("u:2"), "n2");
    ck_assert_ptr_nonnull(strstr(last_log, ": u:2"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_through");
    TCase *tests = tcase_create("policy_through");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_rule_writes_by_a_store_of_the_program);
    tcase_add_test(tests, a_rule_writes_by_a_function_of_its_own);
    tcase_add_test(tests, a_reload_gives_writes_another_way);
    tcase_add_test(tests, behind_is_refused_where_there_is_no_redis);
    tcase_add_test(tests, many_that_are_missing_are_loaded_by_one_call);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
