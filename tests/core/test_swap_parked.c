/* SPDX-License-Identifier: MIT
 * test_swap_parked.c - core/swap.c and write.c without Redis: one writer is stopped in L1 where its
 * value is certain to be stored and is seen by nobody yet, another where it has looked at the key
 * and is about to store what follows from that. L1 is built here with its points. */
#include "rig.h"

#include <sched.h>
#include <semaphore.h>

enum { MANY_YIELDS = 20000 }; /* longer than anything takes that waits for nobody */

static struct rig rig;

/* A write on a thread of its own, which stops once at a point. */
struct call {
    pthread_t thread;
    const char *stops_at;
    const char *value; /* NULL: an addition of 1 */
    uint32_t flags;
    int status;
    int64_t sum;
    _Atomic bool has_stopped; /* or it has ended */
    sem_t may_go_on;
};

static _Thread_local struct call *own;

void pln_point(const char *name) {
    if (own != NULL && !atomic_load(&own->has_stopped) && strcmp(name, own->stops_at) == 0) {
        atomic_store(&own->has_stopped, true);
        while (sem_wait(&own->may_go_on) != 0) {
        }
    }
}

static void *run(void *arg) {
    struct call *call = arg;
    struct pln_set_options set = {.flags = call->flags};
    own = call;
    call->status = call->value == NULL
                       ? pln_incr(rig.caches[0], pln_key("k"), 1, NULL, &call->sum)
                       : pln_set(rig.caches[0], pln_key("k"), pln_key(call->value), &set);
    atomic_store(&call->has_stopped, true);
    return NULL;
}

/* The first stops where its value is certain to be stored, the second when it has looked and is
 * about to store its own, or it waits for the first. Then the first goes on to its end. */
static void run_both(struct call *first, struct call *second) {
    first->stops_at = "checked";
    second->stops_at = "versioned";
    sem_init(&first->may_go_on, 0, 0);
    sem_init(&second->may_go_on, 0, 0);
    ck_assert_int_eq(pthread_create(&first->thread, NULL, run, first), 0);
    while (!atomic_load(&first->has_stopped)) {
        sched_yield();
    }
    ck_assert_int_eq(pthread_create(&second->thread, NULL, run, second), 0);
    for (int i = 0; i < MANY_YIELDS && !atomic_load(&second->has_stopped); i++) {
        sched_yield();
    }
    sem_post(&first->may_go_on);
    pthread_join(first->thread, NULL);
    sem_post(&second->may_go_on);
    pthread_join(second->thread, NULL);
}

static void setup(void) {
    rig_open(&rig, 1, false, NULL);
}

static void teardown(void) {
    rig_close(&rig);
}

START_TEST(a_set_that_was_overlooked_is_stored_again) {
    struct call set = {.value = "100"}, add = {.value = NULL};
    rig_set(rig.caches[0], "k", "5");
    run_both(&set, &add);
    ck_assert_int_eq(set.status, PLN_OK);
    ck_assert_int_eq(add.status, PLN_OK);
    ck_assert(add.sum == 6 || add.sum == 101);
    rig_expect(rig.caches[0], "k", add.sum == 6 ? "100" : "101", "l1");
}
END_TEST

START_TEST(a_set_that_overtakes_an_addition_stays) {
    struct call add = {.value = NULL}, set = {.value = "100"};
    rig_set(rig.caches[0], "k", "5");
    run_both(&add, &set);
    ck_assert_int_eq(set.status, PLN_OK);
    ck_assert_int_eq(add.status, PLN_OK);
    ck_assert(add.sum == 6 || add.sum == 101);
    rig_expect(rig.caches[0], "k", add.sum == 6 ? "100" : "101", "l1");
}
END_TEST

START_TEST(of_two_additions_the_second_waits_for_the_first) {
    struct call first = {.value = NULL}, second = {.value = NULL};
    rig_set(rig.caches[0], "k", "5");
    run_both(&first, &second);
    ck_assert_int_eq(first.status, PLN_OK);
    ck_assert_int_eq(second.status, PLN_OK);
    ck_assert_int_eq(first.sum + second.sum, 6 + 7);
    rig_expect(rig.caches[0], "k", "7", "l1");
}
END_TEST

START_TEST(of_two_that_want_to_be_first_one_is) {
    struct call first = {.value = "1", .flags = PLN_SET_NX};
    struct call second = {.value = "2", .flags = PLN_SET_NX};
    run_both(&first, &second);
    ck_assert(first.status != second.status);
    ck_assert(first.status == PLN_NOT_STORED || second.status == PLN_NOT_STORED);
    rig_expect(rig.caches[0], "k", first.status == PLN_OK ? "1" : "2", "l1");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("swap, parked");
    TCase *tests = tcase_create("all");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_set_that_was_overlooked_is_stored_again);
    tcase_add_test(tests, a_set_that_overtakes_an_addition_stays);
    tcase_add_test(tests, of_two_additions_the_second_waits_for_the_first);
    tcase_add_test(tests, of_two_that_want_to_be_first_one_is);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
