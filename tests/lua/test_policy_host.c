/* SPDX-License-Identifier: MIT
 * test_policy_host.c - core/loaders.c, shaping.c, shared.c, lua/raise.c, and the policies that use
 * them: loaders of the program that rules call for by name, on workers and in the calling thread,
 * and functions that say what an event makes void. */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "../../core/base/base.h"

static struct pln_cache *cache;
static _Atomic int64_t now; /* of the cache's clock */
static char path[64];

static pln_ms tell_time(void *arg) {
    (void) arg;
    return atomic_load(&now);
}

static void ignore(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

static void setup(void) {
    struct pln_options options = {.clock = tell_time, .log = ignore, .ttl_ms = 600000};
    atomic_store(&now, 1000000);
    strcpy(path, "/tmp/perilune-host-XXXXXX");
    close(mkstemp(path));
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

static int64_t stat_of(const char *name) {
    struct pln_stat stats[256];
    size_t n = pln_stats(cache, stats, PLN_ARRAY_LEN(stats));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(stats[i].name, name) == 0) {
            return (int64_t) stats[i].value;
        }
    }
    ck_abort_msg("no statistic %s", name);
}

/* The status of a get; the value, where there is one, is the text given. */
static int get(const char *key, const struct pln_get_options *options, const char *wanted,
               struct pln_result *result) {
    int status = pln_get(cache, pln_key(key), options, result);
    if (wanted != NULL) {
        ck_assert_msg(status == PLN_OK, "%s: %d %s", key, status, pln_error_text());
        ck_assert(pln_bytes_equal(pln_bytes_of(pln_value_data(result->value), result->len),
                                  pln_key(wanted)));
    }
    pln_release(cache, result->value);
    return status;
}

/* ---- loaders of the tests ---- */

static pthread_t loaded_by;
static _Atomic int n_loads;

static int load_text(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) key;
    loaded_by = pthread_self();
    atomic_fetch_add(&n_loads, 1);
    return pln_load_value(load, pln_key(arg), 0);
}

static int load_for_a_second(void *arg, struct pln_bytes key, struct pln_load *load) {
    pln_load_ttl(load, 1000);
    return load_text(arg, key, load);
}

static int load_badly(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) key;
    char kind = *(const char *) arg;
    return kind == 'a'   ? PLN_ABSENT
           : kind == 'o' ? PLN_OK /* and no value */
           : kind == 's' ? 3
           : kind == 'q' ? PLN_ETIMEOUT
                         : pln_load_error(load, "the disk is full");
}

static int load_named(void *arg, const char *name, struct pln_bytes key, struct pln_load *load) {
    ck_assert_str_eq(name, "db");
    return load_text(arg, key, load);
}

static void expect_error(const char *key, int status, const char *text) {
    struct pln_result result;
    ck_assert_int_eq(get(key, NULL, NULL, &result), status);
    const char *said = pln_error_text();
    const char *name = strrchr(path, '/') + 1;
    ck_assert_msg(strncmp(said, name, strlen(name)) == 0 && strcmp(said + strlen(name), text) == 0,
                  "said %s", said);
}

#define ONE_RULE "cache.rule 'k:{id}' { load = loader 'db' }\n"

START_TEST(a_named_loader_runs_on_a_worker_and_its_value_is_shaped) {
    struct pln_result result;
    load_policy("cache.rule 'k:{id}' { load = loader 'db',\n"
                "  ttl = function(key, m, value) return #value * 10 end,\n"
                "  tags = function(key, m) return { 'tag:' .. m.id } end }\n"
                "cache.rule 'short' { load = loader 'short', ttl = function() return '1h' end }");
    ck_assert_int_eq(pln_register_loader(cache, "db", load_text, "value"), PLN_OK);
    ck_assert_int_eq(pln_register_loader(cache, "short", load_for_a_second, "v"), PLN_OK);
    ck_assert_int_eq(get("k:7", NULL, "value", &result), PLN_OK);
    ck_assert_int_eq(result.source, PLN_FROM_LOADER);
    ck_assert_int_eq(result.left_ms, 50000);
    ck_assert(!pthread_equal(loaded_by, pthread_self()));
    ck_assert_int_eq(pln_invalidate_tag(cache, pln_key("tag:7")), PLN_OK);
    ck_assert_int_eq(pln_peek(cache, pln_key("k:7"), &result), PLN_MISS);
    get("short", NULL, "v", &result); /* the loader's own ttl comes first */
    ck_assert_int_eq(result.left_ms, 1000);
}
END_TEST

START_TEST(a_loader_may_come_after_the_policy_and_outlives_it) {
    struct pln_result result;
    load_policy("\n" ONE_RULE);
    expect_error("k:1", PLN_ELOADER, ":2: rule 'k:{id}': no loader 'db' is registered");
    ck_assert_int_eq(get("k:1", &(struct pln_get_options){.flags = PLN_GET_NO_LOAD}, NULL, &result),
                     PLN_MISS);
    ck_assert_int_eq(pln_register_loader(cache, "db", load_text, "one"), PLN_OK);
    get("k:1", NULL, "one", &result);
    load_policy(ONE_RULE);
    get("k:2", NULL, "one", &result);
    ck_assert_int_eq(pln_register_loader(cache, "db", load_text, "two"), PLN_OK);
    get("k:3", NULL, "two", &result);
    ck_assert_int_eq(pln_register_loader(cache, "db", NULL, NULL), PLN_OK);
    expect_error("k:4", PLN_ELOADER, ":1: rule 'k:{id}': no loader 'db' is registered");
}
END_TEST

START_TEST(what_a_named_loader_gets_wrong_is_told_with_the_rule) {
    struct pln_result result;
    load_policy(ONE_RULE);
    ck_assert_int_eq(pln_register_loader(cache, "db", load_badly, "e"), PLN_OK);
    expect_error("k:1", PLN_ELOADER, ":1: rule 'k:{id}': the disk is full");
    ck_assert_int_eq(pln_register_loader(cache, "db", load_badly, "o"), PLN_OK);
    expect_error("k:1", PLN_ELOADER, ":1: rule 'k:{id}': loader 'db' succeeded without a value");
    ck_assert_int_eq(pln_register_loader(cache, "db", load_badly, "s"), PLN_OK);
    expect_error("k:1", PLN_ELOADER, ":1: rule 'k:{id}': loader 'db' returned status 3");
    ck_assert_int_eq(pln_register_loader(cache, "db", load_badly, "q"), PLN_OK);
    expect_error("k:1", PLN_ETIMEOUT, ":1: rule 'k:{id}': loader 'db' failed and gave no reason");
    ck_assert_int_eq(stat_of("load_errors"), 4);
    ck_assert_int_eq(stat_of("policy_errors"), 0); /* no fault of the script's */
    ck_assert_int_eq(pln_register_loader(cache, "db", load_badly, "a"), PLN_OK);
    ck_assert_int_eq(get("k:1", NULL, NULL, &result), PLN_ABSENT);
}
END_TEST

START_TEST(a_call_brings_its_loaders_and_they_run_in_its_thread) {
    struct pln_get_options options = {.load_by_name = load_named, .load_arg = "mine"};
    struct pln_result result;
    load_policy("cache.rule 'k:{id}' { load = loader 'db', refresh = '50%', stale = '1h',\n"
                "  ttl = function(key, m, value) return #value * 10 end }\n"
                "cache.rule 'f' { load = function() return 'of the rule' end }");
    get("k:1", &options, "mine", &result);
    ck_assert(pthread_equal(loaded_by, pthread_self()));
    ck_assert_int_eq(result.left_ms, 40000);
    get("f", &options, "of the rule", &result);
    options.flags = PLN_GET_NO_LOAD;
    ck_assert_int_eq(get("k:2", &options, NULL, &result), PLN_MISS);
    ck_assert_int_eq(get("k:2", NULL, NULL, &result), PLN_ELOADER);
    int64_t n_errors = stat_of("load_errors");
    atomic_fetch_add(&now, 30000); /* due to be loaded behind, which nobody can */
    get("k:1", NULL, "mine", &result);
    atomic_fetch_add(&now, 20000);
    get("k:1", NULL, "mine", &result);
    ck_assert_int_eq(result.source, PLN_FROM_STALE);
    options = (struct pln_get_options){.load_by_name = load_named, .load_arg = "new"};
    get("k:1", &options, "new", &result);
    ck_assert_int_eq(stat_of("load_errors"), n_errors);
}
END_TEST

START_TEST(of_many_callers_one_runs_the_named_loader) {
    struct pln_result result;
    atomic_store(&n_loads, 0);
    load_policy(ONE_RULE);
    ck_assert_int_eq(pln_register_loader(cache, "db", load_text, "value"), PLN_OK);
    for (int i = 0; i < 10; i++) {
        get("k:1", NULL, "value", &result);
    }
    ck_assert_int_eq(atomic_load(&n_loads), 1);
}
END_TEST

START_TEST(names_of_loaders_are_checked) {
    char name[PLN_MAX_LOADER_NAME + 2];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    const char *wanted = "register_loader: a cache, and a name of 1 to 512 bytes wanted";
    ck_assert_int_eq(pln_register_loader(cache, name, load_text, NULL), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), wanted);
    ck_assert_int_eq(pln_register_loader(cache, "", load_text, NULL), PLN_EINVAL);
    ck_assert_int_eq(pln_register_loader(cache, NULL, load_text, NULL), PLN_EINVAL);
    ck_assert_int_eq(pln_register_loader(NULL, "db", load_text, NULL), PLN_EINVAL);
    ck_assert_int_eq(pln_register_loader(cache, name + 1, load_text, NULL), PLN_OK);
}
END_TEST

/* ---- numbers that functions share ---- */

static int64_t number_of(const char *name) {
    int64_t number;
    ck_assert_msg(pln_shared_get(cache, pln_key(name), &number) == PLN_OK, "%s", pln_error_text());
    return number;
}

START_TEST(functions_share_numbers_through_reloads) {
    static const char policy[] =
        "cache.rule 'k:{id}' { load = function(key, m)\n"
        "  shared.incr('loads')\n"
        "  shared.set('last', math.tointeger(m.id))\n"
        "  return tostring(shared.incr('sum', m.id)) .. shared.get('none')\n"
        "end }";
    struct pln_result result;
    load_policy(policy);
    get("k:7", NULL, "70", &result);
    load_policy(policy);
    get("k:5", NULL, "120", &result);
    ck_assert_int_eq(number_of("loads"), 2);
    ck_assert_int_eq(number_of("last"), 5);
    ck_assert_int_eq(number_of("none"), 0);
    ck_assert_int_eq(pln_shared_set(cache, pln_key("sum"), -1), PLN_OK);
    get("k:1", NULL, "00", &result);
}
END_TEST

START_TEST(what_is_wrong_with_a_shared_number_is_told_with_its_line) {
    static const char *const wrong[][2] = {
        {"shared.incr('')", "shared: a name of 0 bytes, must be 1 to 250"},
        {"shared.get(('n'):rep(251))", "shared: a name of 251 bytes, must be 1 to 250"},
        {"shared.set('n', 1.5)", "bad argument #2 to 'set' (number has no integer representation)"},
        {"shared.incr({})", "bad argument #1 to 'incr' (string expected, got table)"},
    };
    const char *name = strrchr(path, '/') + 1;
    char text[256];
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        snprintf(text, sizeof text, "cache.rule 'k' { load = function()\n%s end }", wrong[i][0]);
        load_policy(text);
        snprintf(text, sizeof text, ":1: rule 'k': load: %s:2: %s", name, wrong[i][1]);
        expect_error("k", PLN_ELOADER, text);
    }
}
END_TEST

/* Counts every name once; `arg` is where to begin, so that threads meet on all of them. */
static void *count_all(void *arg) {
    int64_t sum;
    char name[16];
    for (size_t i = 0; i < PLN_MAX_SHARED; i++) {
        snprintf(name, sizeof name, "n%zu", (i + (size_t) arg) % PLN_MAX_SHARED);
        while (pln_shared_add(cache, pln_key(name), 1, &sum) == PLN_EBUSY) {
            sched_yield(); /* two that make the last name take two places for a moment */
        }
    }
    return NULL;
}

START_TEST(shared_numbers_are_exact_and_their_names_bounded) {
    pthread_t threads[8];
    int64_t number = 7;
    char name[16];
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, count_all, (void *) (i * 100)), 0);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    for (size_t i = 0; i < PLN_MAX_SHARED; i++) {
        snprintf(name, sizeof name, "n%zu", i);
        ck_assert_int_eq(number_of(name), PLN_ARRAY_LEN(threads));
    }
    ck_assert_int_eq(pln_shared_set(cache, pln_key("more"), 1), PLN_EBUSY);
    ck_assert_str_eq(pln_error_text(), "shared: a cache has at most 1024 names");
    ck_assert_int_eq(pln_shared_get(cache, pln_key("more"), &number), PLN_OK);
    ck_assert_int_eq(number, 0);
    ck_assert_int_eq(pln_shared_set(cache, pln_key("n0"), INT64_MAX), PLN_OK);
    ck_assert_int_eq(pln_shared_add(cache, pln_key("n0"), 1, &number), PLN_OK);
    ck_assert_int_eq(number, INT64_MIN);
}
END_TEST

/* ---- events with a function ---- */

static void set_all(const char *const *keys, size_t n) {
    const struct pln_bytes tag = pln_key("tag");
    for (size_t i = 0; i < n; i++) {
        struct pln_set_options options = {.tags = &tag, .n_tags = keys[i][0] == 't'};
        ck_assert_int_eq(pln_set(cache, pln_key(keys[i]), pln_key("v"), &options), PLN_OK);
    }
}

static bool is_there(const char *key) {
    struct pln_result result;
    int status = pln_peek(cache, pln_key(key), &result);
    pln_release(cache, result.value);
    return status == PLN_OK;
}

static int raise_event(const char *event, const char *name, const char *value) {
    struct pln_field field = {pln_key(name), pln_key(value)};
    return pln_raise(cache, pln_key(event), &field, 1);
}

START_TEST(an_events_function_says_what_is_void) {
    static const char *const keys[] = {"a:1", "a:2", "b:1", "p:1:x", "p:2:x", "tagged", "stays"};
    load_policy(
        "local calls = 0\n"
        "cache.on 'one' (function(e) calls = calls + 1 return { keys = 'a:' .. e.id } end)\n"
        "cache.on 'some' (function(e)\n"
        "  return { keys = { 'a:2', 'b:1' }, tags = { 'tag' }, match = 'p:' .. e.id .. ':*' }\n"
        "end)\n"
        "cache.on 'none' (function(e) if e.id == '7' then return {} end end)\n"
        "cache.on 'table' { keys = { 'a:{id}' } }\n");
    set_all(keys, PLN_ARRAY_LEN(keys));
    ck_assert_int_eq(raise_event("none", "id", "7"), PLN_OK);
    ck_assert_int_eq(raise_event("none", "id", ""), PLN_OK);
    ck_assert_int_eq(raise_event("unheard", "id", "7"), PLN_MISS);
    ck_assert_int_eq(raise_event("one", "id", "1"), PLN_OK);
    ck_assert(!is_there("a:1") && is_there("a:2"));
    ck_assert_int_eq(raise_event("some", "id", "2"), PLN_OK);
    ck_assert(!is_there("a:2") && !is_there("b:1") && !is_there("tagged") && !is_there("p:2:x"));
    ck_assert(is_there("p:1:x") && is_there("stays"));
    ck_assert_int_eq(stat_of("policy_errors"), 0);
}
END_TEST

static const struct {
    const char *body, *text;
} wrong_answers[] = {
    {"return 7", "a table with keys, tags or match is wanted, or nil, got 7"},
    {"return { key = 'a' }", "unknown field 'key' (did you mean 'keys'?) in the answer"},
    {"return { 'a' }", "unknown field 1 in the answer"},
    {"return { keys = 7 }", "keys: a text or a list of texts is wanted, got 7"},
    {"return { keys = { 'a:1', {} } }", "keys: a text of 1 to 4096 bytes is wanted, got a table"},
    {"return { keys = 'a:1', tags = { '' } }", "tags: a text of 1 to 250 bytes is wanted, got ''"},
    {"local t = {} for i = 1, 17 do t[i] = '*' end return { keys = 'a:1', match = t }",
     "match: at most 16, got 17"},
    {"return { keys = 'a:1' .. e.missing }",
     "NAME:2: attempt to concatenate a nil value (field 'missing')"},
    {"while true do end", "NAME:2: stopped: it ran longer than 1 s"},
};

START_TEST(a_wrong_answer_of_an_events_function_makes_nothing_void) {
    const char *name = strrchr(path, '/') + 1;
    char text[512];
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong_answers); i++) {
        snprintf(text, sizeof text, "cache.on 'e' (function(e)\n%s end)", wrong_answers[i].body);
        load_policy(text);
        set_all((const char *const[]){"a:1"}, 1);
        ck_assert_int_eq(raise_event("e", "id", "1"), PLN_EPOLICY);
        const char *wanted = wrong_answers[i].text;
        bool has_place = strncmp(wanted, "NAME", 4) == 0;
        snprintf(text, sizeof text, "%s:1: on 'e': %s%s", name, has_place ? name : "",
                 has_place ? wanted + 4 : wanted);
        ck_assert_str_eq(pln_error_text(), text);
        ck_assert(is_there("a:1"));
        ck_assert_int_eq(stat_of("policy_errors"), (int64_t) i + 1);
    }
}
END_TEST

static void *raise_many(void *arg) {
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(raise_event("e", "id", arg), PLN_OK);
    }
    return NULL;
}

START_TEST(events_with_functions_come_in_many_threads_and_through_reloads) {
    static const char policy[] = "cache.on 'e' (function(e) return { keys = 'a:' .. e.id } end)";
    pthread_t threads[8];
    load_policy(policy);
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, raise_many, "1"), 0);
    }
    for (int i = 0; i < 20; i++) {
        load_policy(policy);
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    ck_assert_int_eq(stat_of("deletes"), 1600);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_host");
    TCase *tests = tcase_create("policy_host");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_named_loader_runs_on_a_worker_and_its_value_is_shaped);
    tcase_add_test(tests, a_loader_may_come_after_the_policy_and_outlives_it);
    tcase_add_test(tests, what_a_named_loader_gets_wrong_is_told_with_the_rule);
    tcase_add_test(tests, a_call_brings_its_loaders_and_they_run_in_its_thread);
    tcase_add_test(tests, of_many_callers_one_runs_the_named_loader);
    tcase_add_test(tests, names_of_loaders_are_checked);
    tcase_add_test(tests, functions_share_numbers_through_reloads);
    tcase_add_test(tests, what_is_wrong_with_a_shared_number_is_told_with_its_line);
    tcase_add_test(tests, shared_numbers_are_exact_and_their_names_bounded);
    tcase_add_test(tests, an_events_function_says_what_is_void);
    tcase_add_test(tests, a_wrong_answer_of_an_events_function_makes_nothing_void);
    tcase_add_test(tests, events_with_functions_come_in_many_threads_and_through_reloads);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
