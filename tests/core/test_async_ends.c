/* SPDX-License-Identifier: MIT
 * test_async_ends.c - ops that end early, wherever they are; get_many and calls; one descriptor for
 * all; a forked child; a cache without threads. */
#include "../../core/simulate.h"
#include "async_rig.h"

#include <sys/wait.h>
#include <unistd.h>

static struct rig rig;
static struct pln_news *news, *other;

#define A rig.caches[0]
#define B rig.caches[1]

static void open_rig(bool has_l2) {
    struct pln_options options = {.ttl_ms = 10000, .load_timeout_ms = 5000, .lease_ms = 60000};
    rig_open(&rig, has_l2 ? 2 : 1, has_l2, &options);
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

static void set_delay(pln_ms delay) {
    struct pln_memory_faults faults = {.delay_ms = delay};
    pln_l2_mem_faults(rig.server, NULL, &faults);
}

/* ---- early ends ---- */

/* Where an op of a host's may be when it ends. */
enum place { ASKING, LEASING, RESTING, WANTED, OUT, STORING, N_PLACES };

/* Brings an op there. Of the two caches, A. */
static struct begun bring_to(enum place place, struct begun *holder) {
    struct begun begun;
    if (place == RESTING) {
        *holder = async_begin(B, other, PLN_BEGIN_LOADS, NULL);
        async_await(other, holder->op, PLN_OP_WANTS_LOAD);
    }
    set_delay(place == ASKING || place == LEASING ? 40 : 0);
    begun = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    ck_assert_ptr_nonnull(begun.op);
    if (place == LEASING) { /* the second command of the cache's is for the lease */
        rig_await(A, "l2_commands", 2);
    } else if (place == RESTING) {
        rig_await(A, "lease_waits", 1);
    } else if (place > RESTING) {
        async_await(news, begun.op, PLN_OP_WANTS_LOAD);
    }
    if (place == OUT) {
        ck_assert_ptr_nonnull(pln_op_load_begin(begun.op));
    } else if (place == STORING) {
        set_delay(40);
        async_load(begun.op, "first", 0);
    }
    return begun;
}

START_TEST(whoever_waits_for_an_op_that_ends_goes_on_without_it) {
    struct begun holder = {.op = NULL}, first = bring_to(_i, &holder);
    struct begun second = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    pln_op_free(first.op);
    set_delay(0);
    if (_i == RESTING) {
        pln_op_free(holder.op);
    }
    if (_i == STORING) { /* it was brought */
        async_expect(news, &second, "first", "loaded");
        return;
    }
    async_await(news, second.op, PLN_OP_WANTS_LOAD);
    async_load(second.op, "second", 0);
    async_expect(news, &second, "second", "loaded");
    rig_expect(B, "k:1", "second", "l2");
}
END_TEST

START_TEST(the_cache_may_close_wherever_an_op_is) {
    struct pln_result result;
    struct begun holder = {.op = NULL}, first = bring_to(_i, &holder);
    struct begun second = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    pln_news_free(news);
    news = NULL;
    pln_close(A);
    A = NULL;
    ck_assert_int_eq(pln_op_look(first.op), PLN_OP_READY);
    ck_assert_int_eq(pln_op_timeout(first.op), 0);
    ck_assert_int_eq(pln_op_result(first.op, &result), PLN_ECLOSED);
    ck_assert_str_eq(pln_error_text(), "op: the cache was closed");
    ck_assert_ptr_null(pln_op_load(first.op));
    pln_op_load_end(first.op, PLN_OK);
    pln_op_free(first.op);
    pln_op_free(second.op);
    pln_op_free(holder.op);
    set_delay(0);
}
END_TEST

START_TEST(an_op_that_is_ready_gives_its_value_back_with_itself) {
    struct begun got = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    async_load(got.op, "mine", 0);
    async_await(news, got.op, PLN_OP_READY);
    if (_i == 0) {
        pln_op_free(got.op);
    } else {
        pln_news_free(news);
        news = NULL;
        pln_op_free(got.op);
    }
}
END_TEST

START_TEST(a_stale_value_is_given_back_by_who_ends_early) {
    struct pln_terms terms = *pln_cache_terms(A);
    terms.stale_if_error_ms = 60000;
    rig_policy(&rig, A, rig_rule("k:{id}", &terms, 0));
    rig_set(A, "k:1", "value");
    rig.now += 10001;
    struct begun got = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    pln_op_free(got.op);
    got = async_begin(A, news, PLN_BEGIN_LOADS, NULL); /* the next may load */
    async_await(news, got.op, PLN_OP_WANTS_LOAD);
    pln_op_free(got.op);
}
END_TEST

/* ---- news ---- */

START_TEST(the_descriptor_is_readable_while_there_is_news_unseen) {
    rig_policy(&rig, A, rig_rule("k:{id}", pln_cache_terms(A), PLN_RULE_LOAD));
    pthread_mutex_lock(&rig.gate);
    struct begun first = async_begin(A, news, 0, NULL), second = async_begin(A, news, 0, NULL);
    ck_assert(!async_is_told(news));
    int fd = pln_news_fd(news);
    pthread_mutex_unlock(&rig.gate);
    rig_await(A, "l1_inserts", 1);
    async_await(news, second.op, PLN_OP_READY);
    ck_assert_int_eq(pln_op_timeout(first.op), 0);
    ck_assert(async_is_told(news));
    ck_assert(async_is_told(news));
    ck_assert_int_eq(pln_op_look(first.op), PLN_OP_READY);
    ck_assert(!async_is_told(news));
    ck_assert_int_eq(pln_news_fd(news), fd);
    async_expect(news, &first, "loaded 1", "loaded");
    async_expect(news, &second, "loaded 1", "loaded");
}
END_TEST

START_TEST(who_asks_late_for_the_descriptor_has_the_news_yet) {
    struct begun got = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    struct begun same = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    pln_ns until = pln_deadline(10000);
    while (pln_op_look(got.op) != PLN_OP_WANTS_LOAD) {
        ck_assert(pln_clock_precise() < until);
    }
    async_load(got.op, "mine", 0); /* the other is told */
    ck_assert(async_is_told(news));
    async_expect(news, &got, "mine", "loaded");
    async_expect(news, &same, "mine", "loaded");
}
END_TEST

/* ---- many keys, and calls ---- */

START_TEST(many_keys_are_one_op) {
    struct pln_bytes keys[] = {pln_key("a"), pln_key("b"), pln_key("c")};
    struct pln_result *results;
    struct pln_op *op;
    int *statuses;
    size_t n;
    rig_set(A, "a", "1");
    rig_set(B, "b", "2");
    set_delay(_i == 0 ? 0 : 20);
    ck_assert_int_eq(pln_begin_get_many(news, keys, 3, NULL, &op), PLN_OK);
    if (_i == 2) {
        pln_op_free(op); /* what a worker brings yet is given back */
        set_delay(0);
        return;
    }
    async_await(news, op, PLN_OP_READY);
    ck_assert_int_eq(pln_op_results(op, &n, &results, &statuses), PLN_OK);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(statuses[0], PLN_OK);
    ck_assert_int_eq(results[0].source, PLN_FROM_L1);
    ck_assert_int_eq(statuses[1], PLN_OK);
    ck_assert_int_eq(results[1].source, PLN_FROM_L2);
    ck_assert_mem_eq(pln_value_data(results[1].value), "2", 1);
    ck_assert_int_eq(statuses[2], PLN_MISS);
    pln_release(A, results[0].value);
    pln_release(A, results[1].value);
    pln_op_free(op);
    ck_assert_int_eq(pln_begin_get_many(news, keys, 0, NULL, &op), PLN_OK);
    ck_assert_int_eq(pln_op_look(op), PLN_OP_READY);
    pln_op_free(op);
    keys[1] = pln_key("");
    ck_assert_int_eq(pln_begin_get_many(news, keys, 3, NULL, &op), PLN_EINVAL);
    set_delay(0);
}
END_TEST

struct note {
    _Atomic int n_runs, n_ends;
    int status;
};

static int set_k(struct pln_cache *cache, void *arg) {
    struct note *note = arg;
    atomic_fetch_add(&note->n_runs, 1);
    int status = pln_set(cache, pln_key("k:1"), pln_key("value"), NULL);
    return note->status != 0 ? pln_fail(note->status, "no") : status;
}

static void end_k(void *arg) {
    atomic_fetch_add(&((struct note *) arg)->n_ends, 1);
}

START_TEST(a_call_is_carried_out_by_a_worker) {
    struct pln_result result;
    struct note note = {.status = _i == 1 ? PLN_EL2DOWN : 0};
    struct pln_op *op;
    set_delay(20);
    ck_assert_int_eq(pln_begin_call(news, set_k, end_k, &note, &op), PLN_OK);
    if (_i == 2) { /* it is carried out all the same */
        pln_op_free(op);
        pln_news_free(news);
        news = NULL;
        pln_close(A);
        A = NULL;
        set_delay(0);
    } else {
        async_await(news, op, PLN_OP_READY);
        ck_assert_int_eq(pln_op_result(op, &result), note.status);
        ck_assert(note.status == 0 || strcmp(pln_error_text(), "no") == 0);
        pln_op_free(op);
    }
    ck_assert_int_eq(note.n_runs, 1);
    ck_assert_int_eq(note.n_ends, 1);
    set_delay(0);
    rig_expect(B, "k:1", "value", "l2");
}
END_TEST

/* ---- a child ---- */

#ifndef __SANITIZE_THREAD__ /* which ends a forked child that starts a thread */
static int be_child(struct begun *wanted, struct begun *ready) {
    struct pln_result result;
    bool is_lost = pln_news_are_lost(news);
    bool is_dead = pln_op_look(wanted->op) == PLN_OP_READY &&
                   pln_op_result(wanted->op, &result) == PLN_ECLOSED &&
                   strstr(pln_error_text(), "was forked") != NULL &&
                   pln_op_load_begin(wanted->op) == NULL && pln_news_fd(news) == PLN_ECLOSED;
    bool is_refused = pln_begin_get(news, pln_key("k:2"), NULL, PLN_BEGIN_LOADS, &result,
                                    &(struct pln_op *){NULL}) == PLN_ECLOSED;
    pln_op_free(wanted->op);
    pln_news_free(news);
    pln_op_free(ready->op);
    pln_news_new(A, &news);
    struct begun own = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    async_await(news, own.op, PLN_OP_WANTS_LOAD);
    async_load(own.op, "the child's", 0);
    async_expect(news, &own, "the child's", "loaded");
    pln_news_free(news);
    pln_close(A);
    return !is_lost + 2 * !is_dead + 4 * !is_refused;
}

START_TEST(a_child_has_none_of_its_parents_ops_and_may_begin_its_own) {
    int status = 1;
    struct begun wanted = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    async_await(news, wanted.op, PLN_OP_WANTS_LOAD);
    struct begun follower = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    ck_assert(!async_is_told(news));
    pid_t pid = fork();
    if (pid == 0) {
        _exit(be_child(&wanted, &follower));
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    async_load(wanted.op, "mine", 0);
    async_expect(news, &wanted, "mine", "loaded");
    async_expect(news, &follower, "mine", "loaded");
}
END_TEST
#endif

/* ---- without threads ---- */

static int make_mem(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2) {
    struct rig *of = arg;
    return pln_l2_mem_new(options, of->server, l2);
}

static pln_ms rig_time(void *arg) {
    (void) arg;
    return rig.now;
}

START_TEST(without_threads_an_op_does_its_work_when_it_is_looked_at) {
    struct pln_options options = {.ttl_ms = 10000, .clock = rig_time};
    struct pln_alone alone = {.n_threads = 0};
    struct pln_bytes keys[] = {pln_key("k:1"), pln_key("k:2")};
    struct pln_result *results;
    struct pln_op *op;
    int *statuses;
    size_t n;
    pln_news_free(news);
    pln_close(A);
    ck_assert_int_eq(pln_open_alone(&options, &alone, make_mem, &rig, &A), PLN_OK);
    ck_assert_int_eq(pln_news_new(A, &news), PLN_OK);
    rig_set(B, "k:1", "value");
    struct begun found = async_begin(A, news, 0, NULL);
    ck_assert_ptr_nonnull(found.op);
    ck_assert(async_is_told(news));
    ck_assert_int_eq(pln_op_timeout(found.op), 0);
    ck_assert_int_eq(pln_op_look(found.op), PLN_OP_READY);
    async_expect(news, &found, "value", "l2");
    ck_assert_int_eq(pln_delete(B, pln_key("k:1")), PLN_OK);
    struct begun got = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    struct begun same = async_begin(A, news, PLN_BEGIN_LOADS, NULL);
    ck_assert_int_eq(pln_op_look(got.op), PLN_OP_WANTS_LOAD);
    ck_assert_int_eq(pln_op_look(same.op), PLN_OP_UNDER_WAY);
    ck_assert_int_eq(pln_get(A, pln_key("k:1"), NULL, &same.result), PLN_PENDING);
    async_load(got.op, "mine", 0);
    async_expect(news, &got, "mine", "loaded");
    async_expect(news, &same, "mine", "loaded");
    ck_assert_int_eq(pln_begin_get_many(news, keys, 2, NULL, &op), PLN_OK);
    ck_assert_int_eq(pln_op_look(op), PLN_OP_READY);
    ck_assert_int_eq(pln_op_results(op, &n, &results, &statuses), PLN_OK);
    ck_assert_int_eq(statuses[0], PLN_OK);
    pln_release(A, results[0].value);
    pln_op_free(op);
    struct note note = {.n_runs = 0};
    ck_assert_int_eq(pln_begin_call(news, set_k, end_k, &note, &op), PLN_OK);
    ck_assert_int_eq(pln_op_look(op), PLN_OP_READY);
    pln_op_free(op);
}
END_TEST

/* ---- all at once ---- */

enum { N_THREADS = 4, N_ROUNDS = 3000, N_AT_ONCE = 8, N_KEYS = 5 };

static void play(struct pln_op **ops, uint64_t *dice) {
    struct pln_result result;
    struct pln_op **op = &ops[(*dice >> 8) % N_AT_ONCE];
    if (*op == NULL) {
        return;
    }
    enum pln_op_state state = pln_op_look(*op);
    if (state == PLN_OP_WANTS_LOAD && (*dice & 3) != 0) {
        async_load(*op, "value", 0);
    } else if (state == PLN_OP_READY) {
        int status = pln_op_result(*op, &result);
        ck_assert_msg(status == PLN_OK, "%s", pln_error_text());
        pln_release(A, result.value);
        pln_op_free(*op);
        *op = NULL;
    } else if ((*dice & 15) == 0) {
        pln_op_free(*op);
        *op = NULL;
    }
}

static void *play_all(void *arg) {
    struct pln_op *ops[N_AT_ONCE] = {NULL};
    struct pln_result result;
    struct pln_news *own;
    uint64_t dice = (uint64_t) (uintptr_t) arg;
    ck_assert_int_eq(pln_news_new(A, &own), PLN_OK);
    (void) pln_news_fd(own);
    for (int i = 0; i < N_ROUNDS; i++) {
        dice = dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t roll = dice >> 33;
        char key[] = {'k', ':', (char) ('0' + roll % N_KEYS), 0};
        struct pln_op **op = &ops[roll % N_AT_ONCE];
        if (*op == NULL) {
            int status = pln_begin_get(own, pln_key(key), NULL, PLN_BEGIN_LOADS, &result, op);
            ck_assert_int_ge(status, 0);
            pln_release(A, result.value);
        }
        if (roll % 16 == 0) {
            ck_assert_int_eq(pln_delete(A, pln_key(key)), PLN_OK);
        }
        play(ops, &roll);
    }
    for (int i = 0; i < N_AT_ONCE / 2; i++) {
        pln_op_free(ops[i]);
        ops[i] = NULL;
    }
    pln_news_free(own);
    for (int i = 0; i < N_AT_ONCE; i++) {
        pln_op_free(ops[i]);
    }
    return NULL;
}

START_TEST(threads_begin_load_and_give_up_at_once) {
    pthread_t threads[N_THREADS];
    for (size_t i = 0; i < N_THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, play_all, (void *) (i + 1)), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("async_ends");
    TCase *one = tcase_create("one cache"), *two = tcase_create("two caches");
    tcase_set_timeout(one, 60);
    tcase_set_timeout(two, 60);
    tcase_add_checked_fixture(one, setup, teardown);
    tcase_add_checked_fixture(two, setup_two, teardown);
    tcase_add_loop_test(two, whoever_waits_for_an_op_that_ends_goes_on_without_it, 0, N_PLACES);
    tcase_add_loop_test(two, the_cache_may_close_wherever_an_op_is, 0, N_PLACES);
    tcase_add_loop_test(one, an_op_that_is_ready_gives_its_value_back_with_itself, 0, 2);
    tcase_add_loop_test(two, an_op_that_is_ready_gives_its_value_back_with_itself, 0, 2);
    tcase_add_test(one, a_stale_value_is_given_back_by_who_ends_early);
    tcase_add_test(one, the_descriptor_is_readable_while_there_is_news_unseen);
    tcase_add_test(one, who_asks_late_for_the_descriptor_has_the_news_yet);
    tcase_add_loop_test(two, many_keys_are_one_op, 0, 3);
    tcase_add_loop_test(two, a_call_is_carried_out_by_a_worker, 0, 3);
#ifndef __SANITIZE_THREAD__
    tcase_add_test(one, a_child_has_none_of_its_parents_ops_and_may_begin_its_own);
#endif
    tcase_add_test(two, without_threads_an_op_does_its_work_when_it_is_looked_at);
    tcase_add_test(one, threads_begin_load_and_give_up_at_once);
    tcase_add_test(two, threads_begin_load_and_give_up_at_once);
    suite_add_tcase(suite, one);
    suite_add_tcase(suite, two);
    return rig_run(suite);
}
