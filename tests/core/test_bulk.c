/* SPDX-License-Identifier: MIT
 * test_bulk.c - core/bulk.c: many keys are read, and what is missing is loaded by one call, beside
 * others that load some of them. */
#include "rig.h"

#include <sched.h>
#include <stdio.h>

enum { MOST = 8 };

static struct rig rig;
static struct pln_cache *a, *b;

/* What the loader was asked for, and how it answers: a key that begins with 'n' is absent, with 'f'
 * fails, with 't' lives for 7 s and has a tag; all others are what they are called. */
static struct asked {
    char words[512]; /* "a b | c": two calls */
    int n_calls;
    int status;
    void (*meanwhile)(void);
} asked;

static struct pln_result results[MOST];
static int statuses[MOST];
static struct pln_bytes keys[MOST];

static int load_one(struct pln_bytes key, struct pln_load *load) {
    switch (*(const char *) key.data) {
    case 'n':
        return PLN_ABSENT;
    case 'f':
        return pln_load_error(load, "out of order");
    case 't':
        pln_load_ttl(load, 7000);
        pln_load_tag(load, pln_key("tag"));
        break;
    default:
        break;
    }
    return pln_load_value(load, key, 3);
}

static int load_all(void *arg, const struct pln_bulk *bulk) {
    struct asked *to = arg;
    size_t len = strlen(to->words);
    len += (size_t) snprintf(to->words + len, sizeof to->words - len, "%s",
                             to->n_calls++ > 0 ? " |" : "");
    for (size_t i = 0; i < bulk->n; i++) {
        ck_assert(pln_bytes_equal(bulk->keys[i], keys[bulk->which[i]]));
        len += (size_t) snprintf(to->words + len, sizeof to->words - len, "%s%.*s",
                                 len > 0 ? " " : "", (int) bulk->keys[i].len,
                                 (const char *) bulk->keys[i].data);
        bulk->statuses[i] = load_one(bulk->keys[i], bulk->loads[i]);
    }
    if (to->meanwhile != NULL) {
        to->meanwhile();
    }
    return to->status < 0 ? pln_fail(to->status, "the source is away") : PLN_OK;
}

/* Reads keys, "a b c", and checks how each ended: "l1 miss loaded". */
static void expect_read(struct pln_cache *cache, const char *list, const char *wanted) {
    static char text[256];
    char hows[256] = "";
    size_t n = 0, len = 0;
    snprintf(text, sizeof text, "%s", list);
    char *rest;
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        keys[n++] = pln_key(word);
    }
    asked.words[0] = 0;
    asked.n_calls = 0;
    ck_assert_int_eq(
        pln_get_or_load_many(cache, keys, n, NULL, load_all, &asked, results, statuses), PLN_OK);
    for (size_t i = 0; i < n; i++) {
        const char *how = statuses[i] == PLN_OK ? pln_source_name(results[i].source)
                                                : pln_status_name(statuses[i]);
        len += (size_t) snprintf(hows + len, sizeof hows - len, "%s%s", i > 0 ? " " : "", how);
        if (statuses[i] == PLN_OK) {
            ck_assert(pln_bytes_equal(
                keys[i], pln_bytes_of(pln_value_data(results[i].value), results[i].len)));
        }
        pln_release(cache, results[i].value);
    }
    ck_assert_str_eq(hows, wanted);
}

static void setup_alone(void) {
    memset(&asked, 0, sizeof asked);
    rig_open(&rig, 1, false, NULL);
    a = rig.caches[0];
}

static void setup_fleet(void) {
    struct pln_options options = {.stale_if_error_ms = 60000, .ttl_ms = 10000};
    memset(&asked, 0, sizeof asked);
    rig_open(&rig, 2, true, &options);
    a = rig.caches[0];
    b = rig.caches[1];
}

static void teardown(void) {
    rig_close(&rig);
}

/* ---- alone and in a fleet ---- */

START_TEST(the_loader_is_called_once_for_all_that_is_missing) {
    rig_set(a, "b", "b");
    expect_read(a, "a b c nobody", "loaded l1 loaded negative");
    ck_assert_str_eq(asked.words, "a c nobody");
    expect_read(a, "a b c nobody d", "l1 l1 l1 negative loaded");
    ck_assert_str_eq(asked.words, "d");
    expect_read(a, "a b", "l1 l1");
    ck_assert_int_eq(asked.n_calls, 0);
    ck_assert_uint_eq(rig_stat(a, "gets"), 11);
    ck_assert_uint_eq(rig_stat(a, "misses"), 0);
    ck_assert_uint_eq(rig_stat(a, "loads"), 4);
}
END_TEST

START_TEST(each_key_has_its_own_ttl_and_tags) {
    expect_read(a, "a t", "loaded loaded");
    struct pln_result result;
    ck_assert_int_eq(pln_peek(a, pln_key("t"), &result), PLN_OK);
    ck_assert_int_eq(result.left_ms, 7000);
    ck_assert_uint_eq(result.format, 3);
    pln_release(a, result.value);
    ck_assert_int_eq(pln_invalidate_tag(a, pln_key("tag")), PLN_OK);
    expect_read(a, "a t", "l1 loaded");
}
END_TEST

START_TEST(one_that_fails_is_told_of_alone) {
    expect_read(a, "a f c", "loaded loader loaded");
    expect_read(a, "a f c", "l1 loader l1");
    ck_assert_str_eq(pln_error_text(), "out of order");
    asked.status = PLN_ELOADER;
    expect_read(a, "a x n", "l1 loader loader");
    ck_assert_str_eq(pln_error_text(), "the source is away");
    asked.status = PLN_OK;
    expect_read(a, "x n", "loaded negative");
}
END_TEST

START_TEST(a_key_may_stand_there_twice) {
    expect_read(a, "a b a", "loaded loaded loaded");
    ck_assert_str_eq(asked.words, "a b");
}
END_TEST

static void ask_for_own_key(void) {
    struct pln_result result;
    ck_assert_int_eq(pln_get_or_load(a, pln_key("c"), NULL, NULL, NULL, &result), PLN_ELOADER);
    ck_assert_int_eq(pln_get(a, pln_key("other"), NULL, &result), PLN_MISS);
}

START_TEST(its_loader_never_waits_for_itself) {
    asked.meanwhile = ask_for_own_key;
    expect_read(a, "a c", "loaded loaded");
}
END_TEST

static int load_slowly(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    atomic_fetch_add(&rig.n_loads, 1);
    pthread_mutex_lock(&rig.gate);
    pthread_mutex_unlock(&rig.gate);
    return pln_load_value(load, key, 0);
}

static void *get_c(void *arg) {
    struct pln_result result;
    ck_assert_int_eq(pln_get_or_load(arg, pln_key("c"), NULL, load_slowly, NULL, &result), PLN_OK);
    pln_release(arg, result.value);
    return NULL;
}

static void open_gate(void) {
    pthread_mutex_unlock(&rig.gate);
}

/* The other one's load ends only when our loader has run: nobody waits before. */
static void share_a_load(struct pln_cache *other, const char *hows) {
    pthread_t thread;
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pthread_create(&thread, NULL, get_c, other), 0);
    while (atomic_load(&rig.n_loads) == 0) {
        sched_yield();
    }
    asked.meanwhile = open_gate;
    expect_read(a, "a c d", hows);
    ck_assert_str_eq(asked.words, "a d");
    pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&rig.n_loads), 1);
}

START_TEST(what_another_thread_loads_is_waited_for) {
    share_a_load(a, "loaded loaded loaded");
    ck_assert_uint_eq(rig_stat(a, "load_waits"), 1);
}
END_TEST

/* ---- in a fleet ---- */

START_TEST(what_l2_has_is_not_asked_for) {
    rig_set(b, "a", "a");
    rig_set(b, "c", "c");
    expect_read(a, "a c d", "l2 l2 loaded");
    ck_assert_str_eq(asked.words, "d");
    rig_expect(b, "d", "d", "l2");
}
END_TEST

START_TEST(what_another_process_loads_is_waited_for) {
    share_a_load(b, "loaded l2 loaded");
}
END_TEST

static struct pln_l2_lease lease;
static struct pln_hashed held = {{"c", 1}, 0};

static void give_up_lease(void) {
    asked.meanwhile = NULL;
    ck_assert_int_eq(pln_l2_release(b->l2, &held, &lease, pln_deadline(1000)), PLN_OK);
}

START_TEST(what_another_process_did_not_bring_is_asked_for_anew) {
    ck_assert_int_eq(pln_l2_lease(b->l2, &held, 60000, pln_deadline(1000), &lease), PLN_OK);
    asked.meanwhile = give_up_lease;
    expect_read(a, "a c d", "loaded loaded loaded");
    ck_assert_str_eq(asked.words, "a d | c");
}
END_TEST

START_TEST(a_write_that_comes_in_between_is_not_undone) {
    asked.meanwhile = NULL;
    expect_read(a, "a", "loaded");
    rig_set(b, "a", "new");
    rig_expect(a, "a", "new", "l2");
}
END_TEST

/* ---- what is stored ---- */

static struct pln_l2_ops counting;
static size_t n_together, n_alone;

static int commit_alone(struct pln_l2 *l2, const struct pln_hashed *key,
                        const struct pln_l2_lease *its, const struct pln_l2_item *item,
                        pln_ns deadline) {
    n_alone++;
    return b->l2->ops->commit(l2, key, its, item, deadline);
}

static void commit_together(struct pln_l2 *l2, const struct pln_hashed *all,
                            const struct pln_l2_lease *leases, const struct pln_l2_item *items,
                            size_t n, pln_ns deadline, int *ended) {
    n_together++;
    for (size_t i = 0; i < n; i++) {
        ended[i] = b->l2->ops->commit(l2, &all[i], &leases[i], &items[i], deadline);
    }
}

START_TEST(all_that_is_loaded_is_stored_in_one_round_trip) {
    counting = *a->l2->ops;
    counting.commit = commit_alone;
    counting.commit_many = commit_together;
    n_together = n_alone = 0;
    a->l2->ops = &counting;
    expect_read(a, "a no c t f d", "loaded negative loaded loaded loader loaded");
    ck_assert_uint_eq(n_together, 1);
    ck_assert_uint_eq(n_alone, 0);
    expect_read(a, "a no c t d", "l1 negative l1 l1 l1");
    expect_read(b, "a no c t d", "l2 negative l2 l2 l2");
    ck_assert_int_eq(pln_invalidate_tag(b, pln_key("tag")), PLN_OK);
    rig_expect(a, "t", NULL, "miss");
    a->l2->ops = b->l2->ops;
}
END_TEST

static void delete_a(void) {
    ck_assert_int_eq(pln_delete(b, pln_key("a")), PLN_OK);
}

START_TEST(what_was_deleted_meanwhile_is_handed_out_and_not_kept) {
    asked.meanwhile = delete_a;
    expect_read(a, "a c", "loaded loaded");
    asked.meanwhile = NULL;
    expect_read(a, "a c", "loaded l1");
    ck_assert_uint_eq(rig_stat(a, "leases_lost"), 1);
}
END_TEST

START_TEST(with_l2_away_it_loads_and_after_a_failure_the_stale_value_is_served) {
    expect_read(a, "a", "loaded");
    pln_l2_mem_cut(a->l2, true);
    expect_read(a, "a c", "l1 loaded");
    pln_l2_mem_cut(a->l2, false);
    expect_read(a, "d", "loaded");
    atomic_fetch_add(&rig.now, 20000); /* past their ttl */
    asked.status = PLN_ELOADER;
    expect_read(a, "d x", "stale loader");
    asked.status = PLN_OK;
    expect_read(a, "d", "loaded");
}
END_TEST

static TCase *both(Suite *suite, const char *name, void (*set_up)(void)) {
    TCase *tests = tcase_create(name);
    tcase_add_checked_fixture(tests, set_up, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_loader_is_called_once_for_all_that_is_missing);
    tcase_add_test(tests, each_key_has_its_own_ttl_and_tags);
    tcase_add_test(tests, one_that_fails_is_told_of_alone);
    tcase_add_test(tests, a_key_may_stand_there_twice);
    tcase_add_test(tests, its_loader_never_waits_for_itself);
    tcase_add_test(tests, what_another_thread_loads_is_waited_for);
    suite_add_tcase(suite, tests);
    return tests;
}

int main(void) {
    Suite *suite = suite_create("bulk");
    both(suite, "alone", setup_alone);
    TCase *fleet = both(suite, "fleet", setup_fleet);
    tcase_add_test(fleet, what_l2_has_is_not_asked_for);
    tcase_add_test(fleet, what_another_process_loads_is_waited_for);
    tcase_add_test(fleet, what_another_process_did_not_bring_is_asked_for_anew);
    tcase_add_test(fleet, all_that_is_loaded_is_stored_in_one_round_trip);
    tcase_add_test(fleet, a_write_that_comes_in_between_is_not_undone);
    tcase_add_test(fleet, what_was_deleted_meanwhile_is_handed_out_and_not_kept);
    tcase_add_test(fleet, with_l2_away_it_loads_and_after_a_failure_the_stale_value_is_served);
    return rig_run(suite);
}
