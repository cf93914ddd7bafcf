/* SPDX-License-Identifier: MIT
 * test_keys.c - core/keys.c, fork.c and L1's options: keys listed, the hottest, budgets changed,
 * who is evicted, a child after fork. */
#include "rig.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__ /* which does not follow a process with threads into a child */
enum { FORKS_ALONE = true };
#else
enum { FORKS_ALONE = false };
#endif

static struct rig rig;

#define CACHE rig.caches[0]

static void open_with(struct pln_options options) {
    rig_open(&rig, 1, false, &options);
}

static void setup(void) {
    open_with((struct pln_options){.ttl_ms = 10000, .max_bytes = 4 << 20});
}

static void teardown(void) {
    rig_close(&rig);
}

static struct pln_bytes numbered(char *text, size_t size, const char *prefix, unsigned i) {
    return pln_bytes_of(text, (size_t) snprintf(text, size, "%s%06u", prefix, i));
}

/* While a budget is lowered a store may be refused for a moment. */
static int set_patiently(struct pln_bytes key, const struct pln_set_options *options) {
    pln_ns end = pln_deadline(10000);
    int status;
    do {
        status = pln_set(CACHE, key, pln_key("value"), options);
    } while (status == PLN_EBUSY && pln_clock_precise() < end);
    return status;
}

static void fill(const char *prefix, unsigned n, const struct pln_set_options *options) {
    char key[32];
    for (unsigned i = 0; i < n; i++) {
        int status = set_patiently(numbered(key, sizeof key, prefix, i), options);
        ck_assert_msg(status == PLN_OK, "%s", pln_error_text());
    }
}

static bool count_key(void *arg, struct pln_bytes key) {
    (void) key;
    ++*(unsigned *) arg;
    return true;
}

static unsigned count(const char *prefix) {
    unsigned n = 0;
    ck_assert_int_eq(pln_each(CACHE, pln_key(prefix), count_key, &n), PLN_OK);
    return n;
}

START_TEST(keys_are_visited_by_prefix_while_they_live) {
    struct pln_set_options absent = {.is_absent = true};
    fill("user:", 300, NULL);
    fill("page:", 20, NULL);
    pln_set(CACHE, pln_key("user:nobody"), pln_key(""), &absent);
    ck_assert_uint_eq(count("user:"), 300);
    ck_assert_uint_eq(count("page:00001"), 10);
    ck_assert_uint_eq(count(""), 320);
    pln_delete(CACHE, pln_key("user:000007"));
    ck_assert_uint_eq(count("user:"), 299);
    rig.now += 10000;
    ck_assert_uint_eq(count(""), 0);
}
END_TEST

static bool stop_at_three(void *arg, struct pln_bytes key) {
    (void) key;
    return ++*(unsigned *) arg < 3;
}

START_TEST(a_visit_ends_where_the_visitor_says) {
    unsigned n = 0;
    fill("k", 100, NULL);
    ck_assert_int_eq(pln_each(CACHE, pln_key(""), stop_at_three, &n), PLN_OK);
    ck_assert_uint_eq(n, 3);
}
END_TEST

struct seen_hot {
    char keys[4][16];
    double shares;
    unsigned n;
};

static bool note_hot(void *arg, struct pln_bytes key, uint64_t requests, double share) {
    struct seen_hot *seen = arg;
    ck_assert_uint_gt(requests, 0);
    snprintf(seen->keys[seen->n++], sizeof seen->keys[0], "%.*s", (int) key.len,
             (const char *) key.data);
    seen->shares += share;
    return true;
}

START_TEST(the_hottest_keys_come_first) {
    struct seen_hot seen = {.n = 0};
    char key[32];
    fill("k", 50, NULL);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned which = i % 8 < 4 ? 7 : i % 8 < 6 ? 8 : i % 50; /* a half, a quarter, the rest */
        struct pln_result result;
        pln_get(CACHE, numbered(key, sizeof key, "k", which), NULL, &result);
        pln_release(CACHE, result.value);
    }
    ck_assert_int_eq(pln_hottest(CACHE, 2, note_hot, &seen), PLN_OK);
    ck_assert_uint_eq(seen.n, 2);
    ck_assert_str_eq(seen.keys[0], "k000007");
    ck_assert_str_eq(seen.keys[1], "k000008");
    ck_assert(seen.shares > 0.6 && seen.shares < 0.9);
}
END_TEST

START_TEST(a_budget_is_changed_while_the_cache_serves) {
    fill("k", 30000, NULL);
    unsigned before = count("");
    ck_assert_int_eq(pln_resize(CACHE, 1 << 20), PLN_OK);
    ck_assert_uint_eq(rig_stat(CACHE, "l1_max_bytes"), 1 << 20);
    fill("more", 5000, NULL);
    ck_assert_uint_lt(count(""), before - before / 3);
    ck_assert_int_eq(pln_resize(CACHE, 8 << 20), PLN_OK);
    for (pln_ns end = pln_deadline(10000); count("k") < 29000 && pln_clock_precise() < end;) {
        fill("k", 30000, NULL); /* the table grows with writes, and behind */
    }
    ck_assert_uint_ge(count("k"), 29000);
}
END_TEST

START_TEST(a_budget_out_of_bounds_is_refused_and_changes_nothing) {
    ck_assert_int_eq(pln_resize(CACHE, 1 << 17), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(),
                     "resize: 131072 bytes are less than one value may have, 262144");
    ck_assert_int_eq(pln_resize(CACHE, (size_t) 1 << 40), PLN_EINVAL);
    ck_assert(strstr(pln_error_text(), "l1: a budget of 1099511627776 bytes; it can be from") !=
              NULL);
    ck_assert_uint_eq(rig_stat(CACHE, "l1_max_bytes"), 4 << 20);
}
END_TEST

START_TEST(every_eviction_keeps_the_budget) {
    static const char *const names[] = {"lru", "adaptive", "fifo", "random"};
    teardown();
    open_with((struct pln_options){.max_bytes = 1 << 20, .eviction = names[_i], .weigh = "bytes"});
    fill("k", 40000, NULL);
    ck_assert_uint_gt(count(""), 5000);
    ck_assert_uint_lt(count(""), 40000);
    /* by the last store, and by what it evicted */
    ck_assert_uint_le(rig_stat(CACHE, "l1_bytes"), (1 << 20) + (1 << 14));
}
END_TEST

START_TEST(without_eviction_what_does_not_fit_is_refused) {
    char key[32];
    int status = PLN_OK;
    unsigned i;
    teardown();
    open_with((struct pln_options){.max_bytes = 1 << 20, .eviction = "none"});
    for (i = 0; i < 40000 && status == PLN_OK; i++) {
        status = pln_set(CACHE, numbered(key, sizeof key, "k", i), pln_key("value"), NULL);
    }
    ck_assert_int_eq(status, PLN_EBUSY);
    ck_assert_uint_eq(count(""), i - 1);
    rig_expect(CACHE, "k000000", "value", "l1");
}
END_TEST

START_TEST(a_number_of_entries_is_kept) {
    teardown();
    open_with((struct pln_options){.max_entries = 1000});
    fill("k", 5000, NULL);
    ck_assert_uint_le(count(""), 1000);
    ck_assert_uint_gt(count(""), 900);
}
END_TEST

START_TEST(a_wrong_name_is_refused_with_those_that_exist) {
    static const struct {
        struct pln_options options;
        const char *text;
    } cases[] = {
        {{.eviction = "mru"},
         "eviction: must be one of lru, adaptive, fifo, random, none, got 'mru'"},
        {{.weigh = "gold"}, "weigh: must be one of entries, bytes, got 'gold'"},
    };
    struct pln_cache *cache;
    ck_assert_int_eq(pln_open(&cases[_i].options, &cache), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), cases[_i].text);
}
END_TEST

START_TEST(what_has_a_higher_priority_stays) {
    struct pln_set_options high = {.priority = 1};
    fill("kept", 1000, &high);
    fill("else", 60000, NULL);
    ck_assert_uint_ge(count("kept"), 950); /* those it looked at had a choice */
}
END_TEST

START_TEST(a_rule_gives_weight_and_priority_and_a_call_overrides) {
    struct pln_terms terms = *pln_cache_terms(CACHE);
    struct pln_set_options low = {.priority = -1};
    terms.priority = 1;
    rig_policy(&rig, CACHE, rig_rule("kep{n}", &terms, 0));
    fill("kept", 1000, NULL);
    fill("keep", 1000, &low);
    fill("else", 200000, NULL); /* of one size: memory for another is found without asking */
    ck_assert_uint_ge(count("kept"), 950); /* those it looked at had a choice */
    ck_assert_uint_le(count("keep"), 10);
}
END_TEST

START_TEST(numbers_out_of_range_are_refused) {
    struct pln_set_options heavy = {.weight = 256}, high = {.priority = 128};
    ck_assert_int_eq(pln_set(CACHE, pln_key("k"), pln_key("v"), &heavy), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "set: weight must be from 0 to 255, got 256");
    ck_assert_int_eq(pln_set(CACHE, pln_key("k"), pln_key("v"), &high), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "set: priority must be from -128 to 127, got 128");
}
END_TEST

static void *keep_setting(void *arg) {
    atomic_bool *has_ended = arg;
    char key[32];
    for (unsigned i = 0; !atomic_load(has_ended); i++) {
        pln_set(CACHE, numbered(key, sizeof key, "busy", i % 500), pln_key("value"), NULL);
    }
    return NULL;
}

static bool child_is_well(void) {
    char key[32], text[16];
    struct pln_result result;
    for (unsigned i = 0; i < 2000; i++) {
        if (pln_get_copy(CACHE, numbered(key, sizeof key, "k", i), NULL, text, sizeof text,
                         &result) != PLN_OK ||
            pln_set(CACHE, numbered(key, sizeof key, "child", i), pln_key("value"), NULL) !=
                PLN_OK) {
            return false;
        }
    }
    return pln_delete(CACHE, pln_key("k000007")) == PLN_OK &&
           pln_get(CACHE, pln_key("k000007"), NULL, &result) == PLN_MISS;
}

START_TEST(a_child_after_fork_goes_on_with_every_cache) {
    atomic_bool has_ended = false;
    pthread_t thread;
    fill("k", 2000, NULL);
    pthread_create(&thread, NULL, keep_setting, &has_ended);
    for (int i = 0; i < 20; i++) {
        int status = 1;
        pid_t pid = fork();
        if (pid == 0) {
            _exit(child_is_well() ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "fork %d: status %d", i,
                      status);
    }
    atomic_store(&has_ended, true);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(count("child"), 0);
    rig_expect(CACHE, "k000007", "value", "l1");
}
END_TEST

static int load_own(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    (void) key;
    return pln_load_value(load, pln_key("loaded"), 0), PLN_OK;
}

static const char *source_of(struct pln_cache *cache, const char *key, pln_loader loader) {
    struct pln_result result;
    int status = loader != NULL ? pln_get_or_load(cache, pln_key(key), NULL, loader, NULL, &result)
                                : pln_get(cache, pln_key(key), NULL, &result);
    return status == PLN_OK ? pln_source_name(result.source) : pln_error_text();
}

/* Its L2 is a copy, too: that of a server in memory. */
START_TEST(a_child_has_l2_and_does_not_trust_its_copies) {
    int status = 1;
    struct pln_cache *cache;
    struct pln_options options = {.redis = "memory:child", .ttl_ms = 10000};
    ck_assert_int_eq(pln_open(&options, &cache), PLN_OK);
    rig_set(cache, "k", "value");
    rig_expect(cache, "k", "value", "l1");
    pid_t pid = fork();
    if (pid == 0) {
        bool is_unsure = strcmp(source_of(cache, "k", NULL), "l2") == 0;
        bool is_loaded = strcmp(source_of(cache, "other", load_own), "loaded") == 0;
        bool is_set = pln_set(cache, pln_key("k"), pln_key("new"), NULL) == PLN_OK &&
                      strcmp(source_of(cache, "k", NULL), "l1") == 0;
        pln_close(cache);
        _exit(!is_unsure + 2 * !is_loaded + 4 * !is_set);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    rig_expect(cache, "k", "value", "l1");
    pln_close(cache);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("keys");
    TCase *tcase = tcase_create("keys");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, keys_are_visited_by_prefix_while_they_live);
    tcase_add_test(tcase, a_visit_ends_where_the_visitor_says);
    tcase_add_test(tcase, the_hottest_keys_come_first);
    tcase_add_test(tcase, a_budget_is_changed_while_the_cache_serves);
    tcase_add_test(tcase, a_budget_out_of_bounds_is_refused_and_changes_nothing);
    tcase_add_loop_test(tcase, every_eviction_keeps_the_budget, 0, 4);
    tcase_add_test(tcase, without_eviction_what_does_not_fit_is_refused);
    tcase_add_test(tcase, a_number_of_entries_is_kept);
    tcase_add_loop_test(tcase, a_wrong_name_is_refused_with_those_that_exist, 0, 2);
    tcase_add_test(tcase, what_has_a_higher_priority_stays);
    tcase_add_test(tcase, a_rule_gives_weight_and_priority_and_a_call_overrides);
    tcase_add_test(tcase, numbers_out_of_range_are_refused);
    if (!FORKS_ALONE) {
        tcase_add_test(tcase, a_child_after_fork_goes_on_with_every_cache);
        tcase_add_test(tcase, a_child_has_l2_and_does_not_trust_its_copies);
    }
    suite_add_tcase(suite, tcase);
    return rig_run(suite);
}
