/* SPDX-License-Identifier: MIT
 * test_async.c - gets that do not wait: what is answered at once, what is told, and loads that the
 * host runs; with one flight for all who want a key, ops and threads. */
#include "async_rig.h"

#include <unistd.h>

static struct rig rig;
static struct pln_terms terms;
static struct pln_news *news, *other; /* of the first cache, and of the second */

#define A rig.caches[0]
#define B rig.caches[1]

static void open_rig(bool has_l2) {
    struct pln_options options = {.ttl_ms = 10000, .load_timeout_ms = 5000, .lease_ms = 60000};
    rig_open(&rig, has_l2 ? 2 : 1, has_l2, &options);
    terms = *pln_cache_terms(A);
    ck_assert_int_eq(pln_news_new(A, &news), PLN_OK);
    other = NULL;
    if (has_l2) {
        ck_assert_int_eq(pln_news_new(B, &other), PLN_OK);
    }
}

static void setup(void) {
    open_rig(false);
}

static void setup_two(void) {
    open_rig(true);
}

static void teardown(void) {
    pln_news_free(news);
    pln_news_free(other);
    rig_close(&rig);
}

static void rule_everywhere(void) {
    for (size_t i = 0; i < 2 && rig.caches[i] != NULL; i++) {
        rig_policy(&rig, rig.caches[i], rig_rule("k:{id}", &terms, PLN_RULE_LOAD));
    }
}

/* Answers of L2 take a while, so that a worker waits for them. */
static void slow_down(struct rig *of, pln_ms delay) {
    struct pln_memory_faults faults = {.delay_ms = delay};
    pln_l2_mem_faults(of->server, NULL, &faults);
}

static void heal(void) {
    struct pln_memory_faults faults = {0};
    pln_l2_mem_faults(rig.server, NULL, &faults);
}

static struct begun begin(uint32_t flags) {
    return async_begin(A, news, flags, NULL);
}

static struct begun begin_at_b(uint32_t flags) {
    return async_begin(B, other, flags, NULL);
}

/* ---- at once ---- */

START_TEST(what_l1_has_is_answered_at_once) {
    rig_set(A, "k:1", "value");
    struct begun hit = begin(0), loading = begin(PLN_BEGIN_LOADS);
    ck_assert_ptr_null(hit.op);
    ck_assert_ptr_null(loading.op);
    async_expect(news, &hit, "value", "l1");
    async_expect(news, &loading, "value", "l1");
    ck_assert_uint_eq(rig_stat(A, "l1_hits"), 2);
}
END_TEST

START_TEST(what_nobody_can_load_is_a_miss_at_once) {
    struct begun miss = begin(0);
    ck_assert_ptr_null(miss.op);
    async_expect(news, &miss, NULL, "miss");
    ck_assert_uint_eq(rig_stat(A, "misses"), 1);
}
END_TEST

START_TEST(a_key_that_is_none_is_refused) {
    struct pln_result result;
    struct pln_op *op;
    ck_assert_int_eq(pln_begin_get(news, pln_key(""), NULL, 0, &result, &op), PLN_EINVAL);
    ck_assert_ptr_null(op);
}
END_TEST

START_TEST(a_denied_key_is_refused) {
    terms.is_denied = true;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, 0));
    struct begun denied = begin(PLN_BEGIN_LOADS);
    ck_assert_ptr_null(denied.op);
    async_expect(news, &denied, NULL, "denied");
}
END_TEST

START_TEST(l2_s_answer_comes_and_is_kept_in_l1) {
    rig_set(A, "k:1", "value");
    struct begun found = begin_at_b(0);
    async_expect(other, &found, "value", "l2");
    rig_expect(B, "k:1", "value", "l1");
}
END_TEST

START_TEST(a_slow_l2_is_not_waited_for) {
    rig_set(A, "k:1", "value");
    slow_down(&rig, 30);
    struct begun found = begin_at_b(0);
    ck_assert_ptr_nonnull(found.op);
    ck_assert_int_eq(pln_op_look(found.op), PLN_OP_UNDER_WAY);
    ck_assert(!async_is_told(other));
    async_expect(other, &found, "value", "l2");
    heal();
}
END_TEST

START_TEST(with_l2_cut_off_the_answer_is_its_failure) {
    pln_l2_mem_set_cut(rig.server, NULL, PLN_MEMORY_FAILS);
    struct begun found = begin(0);
    async_expect(news, &found, NULL, "l2_down");
    pln_l2_mem_set_cut(rig.server, NULL, PLN_MEMORY_UNCUT);
}
END_TEST

/* ---- the policy's loads ---- */

static void *get_k(void *arg) {
    struct pln_cache *cache = arg;
    rig_expect(cache, "k:1", "loaded 1", "loaded");
    return NULL;
}

START_TEST(ops_and_threads_share_one_load_of_the_policys) {
    pthread_t thread;
    rule_everywhere();
    pthread_mutex_lock(&rig.gate);
    struct begun first = begin(0), second = begin(PLN_BEGIN_LOADS);
    ck_assert_int_eq(pthread_create(&thread, NULL, get_k, A), 0);
    rig_await(A, "load_waits", 2);
    ck_assert_int_eq(pln_op_look(first.op), PLN_OP_UNDER_WAY);
    ck_assert_int_eq(pln_op_look(second.op), PLN_OP_UNDER_WAY);
    ck_assert(!async_is_told(news));
    pthread_mutex_unlock(&rig.gate);
    async_expect(news, &first, "loaded 1", "loaded");
    async_expect(news, &second, "loaded 1", "loaded");
    pthread_join(thread, NULL);
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

START_TEST(an_op_that_was_freed_leaves_the_policys_load_to_others) {
    rule_everywhere();
    pthread_mutex_lock(&rig.gate);
    struct begun first = begin(0), second = begin(0);
    pln_op_free(first.op);
    pthread_mutex_unlock(&rig.gate);
    async_expect(news, &second, "loaded 1", "loaded");
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

START_TEST(a_failure_has_its_text) {
    rule_everywhere();
    rig.load_status = PLN_ELOADER;
    struct begun failed = begin(0);
    async_expect(news, &failed, NULL, "loader");
    ck_assert_str_eq(pln_error_text(), "the source is out of order");
}
END_TEST

START_TEST(a_deadline_ends_it) {
    struct pln_get_options hasty = {.timeout_ms = 20};
    rule_everywhere();
    pthread_mutex_lock(&rig.gate);
    struct begun late = async_begin(A, news, 0, &hasty), patient = begin(0);
    async_expect(news, &late, NULL, "timeout");
    pthread_mutex_unlock(&rig.gate);
    async_expect(news, &patient, "loaded 1", "loaded");
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

START_TEST(a_stale_value_is_served_at_once_or_after_the_soft_timeout) {
    struct pln_get_options soft = {.soft_timeout_ms = 20};
    terms.stale_ms = _i == 0 ? 60000 : 0;
    terms.stale_if_error_ms = 60000;
    rule_everywhere();
    rig_expect(A, "k:1", "loaded 1", "loaded");
    rig.now += 10001;
    pthread_mutex_lock(&rig.gate);
    struct begun stale = async_begin(A, news, 0, &soft);
    ck_assert((stale.op == NULL) == (_i == 0));
    async_expect(news, &stale, "loaded 1", "stale");
    ck_assert_uint_eq(rig_stat(A, "soft_timeouts"), (uint64_t) _i);
    pthread_mutex_unlock(&rig.gate);
    rig_await(A, "l1_replaces", 1);
    rig_expect(A, "k:1", "loaded 2", "l1");
}
END_TEST

/* ---- the host's loads ---- */

START_TEST(a_host_loads_when_it_is_told_to) {
    struct pln_get_options tagged = {
        .ttl_ms = 60000, .tags = (struct pln_bytes[]){{"t", 1}}, .n_tags = 1};
    struct begun got = async_begin(A, news, PLN_BEGIN_LOADS, &tagged);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    ck_assert_int_eq(pln_op_timeout(got.op), 0);
    ck_assert_ptr_null(pln_op_loader(got.op));
    async_load(got.op, "mine", 0);
    async_expect(news, &got, "mine", "loaded");
    rig.now += 30000;
    rig_expect(A, "k:1", "mine", "l1");
    ck_assert_int_eq(pln_invalidate_tag(A, pln_key("t")), PLN_OK);
    rig_expect(A, "k:1", NULL, "miss");
    ck_assert_uint_eq(rig_stat(A, "loads"), 1);
}
END_TEST

START_TEST(what_a_host_loads_all_caches_have) {
    struct begun got = begin(PLN_BEGIN_LOADS);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    async_load(got.op, "mine", 0);
    async_expect(news, &got, "mine", "loaded");
    rig_expect(B, "k:1", "mine", "l2");
}
END_TEST

START_TEST(absence_and_failures_are_handed_over) {
    terms.negative_ms = 10000;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, 0));
    struct begun got = begin(PLN_BEGIN_LOADS);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    async_load(got.op, NULL, PLN_ELOADER);
    async_expect(news, &got, NULL, "loader");
    ck_assert_str_eq(pln_error_text(), "the source is out of order");
    got = begin(PLN_BEGIN_LOADS);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    async_load(got.op, NULL, PLN_OK); /* without a value */
    async_expect(news, &got, NULL, "loader");
    got = begin(PLN_BEGIN_LOADS);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    async_load(got.op, NULL, PLN_ABSENT);
    async_expect(news, &got, NULL, "negative");
    rig_expect(A, "k:1", NULL, "negative");
}
END_TEST

START_TEST(of_many_ops_one_is_to_load) {
    enum { N = 100 };
    struct begun all[N];
    for (int i = 0; i < N; i++) {
        all[i] = begin(PLN_BEGIN_LOADS);
    }
    async_await(news, all[0].op, PLN_OP_WANTS_LOAD);
    for (int i = 1; i < N; i++) {
        ck_assert_int_eq(pln_op_look(all[i].op), PLN_OP_UNDER_WAY);
        ck_assert_ptr_null(pln_op_load_begin(all[i].op));
    }
    ck_assert(!async_is_told(news));
    async_load(all[0].op, "mine", 0);
    for (int i = 0; i < N; i++) {
        async_expect(news, &all[i], "mine", "loaded");
    }
    ck_assert_uint_eq(rig_stat(A, "loads"), 1);
    ck_assert_uint_eq(rig_stat(A, "load_waits"), N - 1);
}
END_TEST

START_TEST(a_thread_waits_for_the_load_of_another_threads_host) {
    pthread_t thread;
    struct begun got = begin(PLN_BEGIN_LOADS);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    ck_assert_int_eq(pthread_create(&thread, NULL, get_k, A), 0);
    rig_await(A, "load_waits", 1);
    async_load(got.op, "loaded 1", 0);
    pthread_join(thread, NULL);
    async_expect(news, &got, "loaded 1", "loaded");
}
END_TEST

static int load_own(void *arg, struct pln_bytes key, struct pln_load *load) {
    (void) arg;
    (void) key;
    return pln_load_value(load, pln_key("own"), 0);
}

START_TEST(a_get_that_would_wait_for_its_own_thread_is_told_at_once) {
    struct pln_result result;
    struct begun got = begin(PLN_BEGIN_LOADS);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    ck_assert_int_eq(pln_get(A, pln_key("k:1"), NULL, &result), PLN_PENDING);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "being loaded by this thread"));
    struct pln_load *load = pln_op_load_begin(got.op);
    ck_assert_int_eq(pln_get_or_load(A, pln_key("k:1"), NULL, load_own, NULL, &result),
                     PLN_PENDING);
    ck_assert_int_eq(pln_get_or_load(A, pln_key("k:2"), NULL, load_own, NULL, &result), PLN_OK);
    pln_release(A, result.value);
    ck_assert_uint_eq(rig_stat(A, "failures"), 2);
    pln_load_value(load, pln_key("mine"), 0);
    pln_op_load_end(got.op, PLN_OK);
    async_expect(news, &got, "mine", "loaded");
}
END_TEST

START_TEST(what_is_invalidated_while_the_host_loads_is_handed_out_and_not_kept) {
    struct pln_result result;
    struct begun got = begin(PLN_BEGIN_LOADS);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    struct pln_load *load = pln_op_load_begin(got.op);
    ck_assert_int_eq(pln_delete(_i == 0 || B == NULL ? A : B, pln_key("k:1")), PLN_OK);
    pln_load_value(load, pln_key("old"), 0);
    pln_op_load_end(got.op, PLN_OK);
    async_expect(news, &got, "old", "loaded");
    for (size_t i = 0; i < 2 && rig.caches[i] != NULL; i++) {
        ck_assert_int_eq(pln_get(rig.caches[i], pln_key("k:1"), NULL, &result), PLN_MISS);
    }
}
END_TEST

START_TEST(a_host_s_failure_is_made_good_by_what_is_stale) {
    terms.stale_if_error_ms = 60000;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, 0));
    rig_set(A, "k:1", "value");
    rig.now += 10001;
    struct begun got = begin(PLN_BEGIN_LOADS);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    async_load(got.op, NULL, PLN_ELOADER);
    async_expect(news, &got, "value", "stale");
}
END_TEST

START_TEST(a_host_may_say_that_the_old_value_is_the_same) {
    uint8_t format;
    terms.stale_if_error_ms = 60000;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, 0));
    rig_set(A, "k:1", "value");
    rig.now += 10001;
    struct begun got = begin(PLN_BEGIN_LOADS);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    struct pln_load *load = pln_op_load_begin(got.op);
    struct pln_bytes old = pln_load_old(load, &format);
    ck_assert(pln_bytes_equal(old, pln_key("value")));
    ck_assert_int_eq(pln_load_same(load), PLN_OK);
    pln_op_load_end(got.op, PLN_OK);
    async_expect(news, &got, "value", "loaded");
    ck_assert_uint_eq(rig_stat(A, "loads_same"), 1);
}
END_TEST

START_TEST(of_two_caches_one_loads) {
    struct begun first = begin(PLN_BEGIN_LOADS);
    async_await(news, first.op, PLN_OP_WANTS_LOAD);
    struct pln_load *load = pln_op_load_begin(first.op);
    struct begun second = begin_at_b(PLN_BEGIN_LOADS);
    rig_await(B, "lease_waits", 1);
    ck_assert_int_eq(pln_op_look(second.op), PLN_OP_UNDER_WAY);
    ck_assert_int_ne(pln_op_timeout(second.op), PLN_FOREVER); /* or it would not look again */
    pln_load_value(load, pln_key("mine"), 0);
    pln_op_load_end(first.op, PLN_OK);
    async_expect(news, &first, "mine", "loaded");
    async_expect(other, &second, "mine", "l2");
    ck_assert_uint_eq(rig_stat(B, "loads"), 0);
}
END_TEST

START_TEST(a_host_that_does_not_come_is_not_waited_for) {
    struct pln_get_options hasty = {.timeout_ms = 20};
    struct begun first = async_begin(A, news, PLN_BEGIN_LOADS, &hasty);
    async_await(news, first.op, PLN_OP_WANTS_LOAD);
    struct begun second = begin(PLN_BEGIN_LOADS);
    async_expect(news, &first, NULL, "timeout");
    async_await(news, second.op, PLN_OP_WANTS_LOAD);
    async_load(second.op, "mine", 0);
    async_expect(news, &second, "mine", "loaded");
}
END_TEST

START_TEST(a_host_that_does_not_come_back_is_not_joined_for_longer_than_a_load_may_take) {
    struct pln_get_options hasty = {.timeout_ms = 20};
    struct begun first = async_begin(A, news, PLN_BEGIN_LOADS, &hasty);
    async_await(news, first.op, PLN_OP_WANTS_LOAD);
    struct pln_load *load = pln_op_load_begin(first.op);
    struct begun second = async_begin(A, news, PLN_BEGIN_LOADS, &hasty);
    async_expect(news, &second, NULL, "timeout");
    second = begin(PLN_BEGIN_LOADS);
    async_await(news, second.op, PLN_OP_WANTS_LOAD);
    pln_load_value(load, pln_key("late"), 0);
    pln_op_load_end(first.op, PLN_OK);
    async_expect(news, &first, "late", "loaded");
    async_load(second.op, "mine", 0);
    async_expect(news, &second, "mine", "loaded");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("async");
    TCase *one = tcase_create("one cache"), *two = tcase_create("two caches");
    tcase_add_checked_fixture(one, setup, teardown);
    tcase_add_checked_fixture(two, setup_two, teardown);
    tcase_add_test(one, what_l1_has_is_answered_at_once);
    tcase_add_test(one, what_nobody_can_load_is_a_miss_at_once);
    tcase_add_test(one, a_key_that_is_none_is_refused);
    tcase_add_test(one, a_denied_key_is_refused);
    tcase_add_test(two, l2_s_answer_comes_and_is_kept_in_l1);
    tcase_add_test(two, a_slow_l2_is_not_waited_for);
    tcase_add_test(two, with_l2_cut_off_the_answer_is_its_failure);
    for (int i = 0; i < 2; i++) {
        TCase *tcase = i == 0 ? one : two;
        tcase_add_test(tcase, ops_and_threads_share_one_load_of_the_policys);
        tcase_add_test(tcase, an_op_that_was_freed_leaves_the_policys_load_to_others);
        tcase_add_test(tcase, a_failure_has_its_text);
        tcase_add_test(tcase, a_deadline_ends_it);
        tcase_add_test(tcase, a_host_loads_when_it_is_told_to);
        tcase_add_test(tcase, absence_and_failures_are_handed_over);
        tcase_add_test(tcase, of_many_ops_one_is_to_load);
        tcase_add_test(tcase, a_thread_waits_for_the_load_of_another_threads_host);
        tcase_add_test(tcase, a_get_that_would_wait_for_its_own_thread_is_told_at_once);
        tcase_add_loop_test(
            tcase, what_is_invalidated_while_the_host_loads_is_handed_out_and_not_kept, 0, 2);
        tcase_add_test(tcase, a_host_s_failure_is_made_good_by_what_is_stale);
        tcase_add_test(tcase, a_host_may_say_that_the_old_value_is_the_same);
        tcase_add_test(tcase, a_host_that_does_not_come_is_not_waited_for);
    }
    tcase_add_loop_test(one, a_stale_value_is_served_at_once_or_after_the_soft_timeout, 0, 2);
    tcase_add_test(one,
                   a_host_that_does_not_come_back_is_not_joined_for_longer_than_a_load_may_take);
    tcase_add_test(two, what_a_host_loads_all_caches_have);
    tcase_add_test(two, of_two_caches_one_loads);
    suite_add_tcase(suite, one);
    suite_add_tcase(suite, two);
    return rig_run(suite);
}
