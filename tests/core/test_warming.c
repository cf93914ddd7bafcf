/* SPDX-License-Identifier: MIT
 * test_warming.c - core/warm.c, warm_list.c, readiness.c, systemd.c: one instance that warms. */
#include "rig.h"
#include "../../core/warm.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct rig rig;
static struct pln_ruleset *ruleset; /* the cache's, to be filled in before it is used */

#define CACHE rig.caches[0]

static void open_rig(bool has_l2) {
    struct pln_options options = {.ttl_ms = 10000, .timeout_ms = 50};
    rig_open(&rig, 1, has_l2, &options);
    rig_policy(&rig, CACHE, rig_rule("k:{id}", pln_cache_terms(CACHE), PLN_RULE_LOAD));
    ruleset = CACHE->policy;
}

static void setup(void) {
    open_rig(false);
}

static void setup_shared(void) {
    open_rig(true);
}

static void teardown(void) {
    rig_close(&rig);
}

static struct pln_warm_source *add_source(enum pln_warm_kind kind) {
    struct pln_warm_plan *plan = &ruleset->warm;
    plan->sources = realloc(plan->sources, (plan->n_sources + 1) * sizeof *plan->sources);
    struct pln_warm_source *source = &plan->sources[plan->n_sources++];
    *source = (struct pln_warm_source){.kind = kind};
    return source;
}

/* k:FIRST, k:FIRST+1, ... */
static struct pln_warm_source *add_keys(size_t first, size_t n) {
    struct pln_warm_source *source = add_source(PLN_WARM_KEYS);
    source->keys = calloc(n, sizeof *source->keys);
    for (size_t i = 0; i < n; i++) {
        char key[32];
        int len = snprintf(key, sizeof key, "k:%zu", first + i);
        source->keys[source->n_keys++] = pln_bytes_of(strdup(key), (size_t) len);
    }
    return source;
}

static void await_loads(int n) {
    pln_ns deadline = pln_deadline(10000);
    while (atomic_load(&rig.n_loads) < n) {
        ck_assert_msg(pln_clock_precise() < deadline, "%d loads", atomic_load(&rig.n_loads));
        sched_yield();
    }
}

static void await_ready(void) {
    pln_ns deadline = pln_deadline(10000);
    while (!pln_ready(CACHE, NULL)) {
        ck_assert_msg(pln_clock_precise() < deadline, "it does not become ready");
        sched_yield();
    }
}

/* ---- what is read, in which order ---- */

START_TEST(sources_are_read_by_priority_and_else_as_they_stand) {
    struct pln_warm_report report;
    ruleset->warm.concurrency = 1;
    add_keys(10, 1);
    add_keys(20, 1)->priority = 5;
    add_keys(30, 1)->priority = -1;
    add_keys(40, 1);
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_OK);
    rig_expect(CACHE, "k:20", "loaded 1", "l1");
    rig_expect(CACHE, "k:10", "loaded 2", "l1");
    rig_expect(CACHE, "k:40", "loaded 3", "l1");
    rig_expect(CACHE, "k:30", "loaded 4", "l1");
}
END_TEST

struct rows {
    size_t n;
    char names[4][40];
    struct pln_warm_report reports[4];
};

static void keep_row(void *arg, const char *source, const struct pln_warm_report *row) {
    struct rows *rows = arg;
    snprintf(rows->names[rows->n], sizeof rows->names[0], "%s", source);
    rows->reports[rows->n++] = *row;
}

START_TEST(a_key_named_twice_is_wanted_once_and_belongs_to_the_first) {
    struct rows rows = {0};
    struct pln_warm_options options = {.row = keep_row, .arg = &rows};
    struct pln_warm_report report;
    add_keys(0, 1000);
    add_keys(990, 20);
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert_uint_eq(report.wanted, 1010);
    ck_assert_uint_eq(report.loaded, 1010);
    ck_assert_uint_eq(rows.n, 2);
    ck_assert_uint_eq(rows.reports[0].wanted, 1000);
    ck_assert_uint_eq(rows.reports[0].loaded, 1000);
    ck_assert_uint_eq(rows.reports[1].loaded, 10);
    ck_assert_str_eq(rows.names[1], "keys");
}
END_TEST

static int name_three(void *arg, unsigned worker, unsigned function, pln_key_sink add,
                      void *add_arg) {
    char key[24];
    (void) arg;
    ck_assert_uint_eq(worker, CACHE->n_workers);
    for (int i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "k:%u-%d", function, i);
        int status = add(add_arg, pln_key(key));
        if (status != PLN_OK) {
            return status < 0 ? status : PLN_OK;
        }
    }
    return function == 9 ? pln_fail(PLN_EPOLICY, "no more") : PLN_OK;
}

START_TEST(a_function_names_keys_until_no_more_are_wanted) {
    struct pln_warm_report report;
    ruleset->hooks.name_keys = name_three;
    add_source(PLN_WARM_FUNCTION)->function = 1;
    struct pln_warm_source *bounded = add_source(PLN_WARM_FUNCTION);
    bounded->function = 2;
    bounded->top = 2;
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_OK);
    ck_assert_uint_eq(report.loaded, 5);
    rig_expect(CACHE, "k:2-2", "loaded 6", "loaded");
    struct pln_warm_options options = {.top = 4};
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert_uint_eq(report.wanted, 4);
}
END_TEST

START_TEST(a_source_that_cannot_be_read_ends_it_before_the_first_load) {
    struct pln_warm_report report;
    ruleset->hooks.name_keys = name_three;
    add_source(PLN_WARM_FUNCTION)->function = 9;
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_EPOLICY);
    struct pln_warm_options options = {.keys = (struct pln_bytes[]){{"", 0}}, .n_keys = 1};
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "warm: keys: key 1: 0 bytes, must be 1 to 4096");
    ck_assert_int_eq(rig.n_loads, 0);
}
END_TEST

START_TEST(keys_of_the_call_come_in_the_place_of_the_policys) {
    struct pln_bytes keys[] = {pln_key("k:a"), pln_key("k:b")};
    struct pln_warm_options options = {.keys = keys, .n_keys = 2};
    struct pln_warm_report report;
    add_keys(0, 100);
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert_uint_eq(report.loaded, 2);
}
END_TEST

START_TEST(as_many_keys_are_loaded_at_once_as_the_plan_says) {
    ruleset->warm.concurrency = 6; /* there are two workers */
    add_keys(0, 100);
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pln_warm_start(CACHE, NULL), PLN_OK);
    await_loads(6);
    ck_assert(!pln_ready(CACHE, NULL));
    ck_assert_int_eq(pln_warm(CACHE, NULL, NULL), PLN_EBUSY);
    ck_assert_int_eq(pln_warm_start(CACHE, NULL), PLN_EBUSY);
    ck_assert_int_eq(atomic_load(&rig.n_loads), 6);
    pthread_mutex_unlock(&rig.gate);
    await_ready();
    ck_assert_int_eq(rig.n_loads, 100);
}
END_TEST

/* ---- how it ends ---- */

static bool stop_after_ten(void *arg, const struct pln_warm_report *report) {
    (void) arg;
    return report->loaded < 10;
}

START_TEST(a_second_run_goes_on_where_the_first_one_stopped) {
    struct pln_warm_options options = {.progress = stop_after_ten, .rate = 200};
    struct pln_warm_report first, second;
    add_keys(0, 100);
    ck_assert_int_eq(pln_warm(CACHE, &options, &first), PLN_OK);
    ck_assert_uint_ge(first.loaded, 10);
    ck_assert_uint_lt(first.loaded, 100);
    ck_assert(!first.is_ready && !pln_ready(CACHE, NULL));
    ck_assert_int_eq(pln_warm(CACHE, NULL, &second), PLN_OK);
    ck_assert_uint_eq(second.present, first.loaded);
    ck_assert_uint_eq(second.loaded, 100 - first.loaded);
    ck_assert_int_eq(rig.n_loads, 100);
}
END_TEST

START_TEST(closing_the_cache_stops_what_runs_behind) {
    ruleset->warm.rate = 0.001; /* no turn but the first comes within the test's time */
    add_keys(0, 1000);
    ck_assert_int_eq(pln_warm_start(CACHE, NULL), PLN_OK);
    await_loads(1);
    pln_close(CACHE);
    CACHE = NULL;
    ck_assert_int_eq(rig.n_loads, 1);
}
END_TEST

#ifndef __SANITIZE_THREAD__ /* which ends a forked child that starts a thread */
START_TEST(a_child_that_was_forked_meanwhile_warms_for_itself) {
    int status;
    add_keys(0, 50);
    pthread_mutex_lock(&rig.gate);
    ck_assert_int_eq(pln_warm_start(CACHE, NULL), PLN_OK);
    await_loads(1);
    pid_t child = fork();
    if (child == 0) {
        struct pln_warm_report report;
        pthread_mutex_unlock(&rig.gate); /* this thread's, also here */
        bool is_good = !pln_ready(CACHE, NULL) && pln_warm(CACHE, NULL, &report) == PLN_OK &&
                       report.loaded == 50 && pln_ready(CACHE, NULL);
        _exit(is_good ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    pthread_mutex_unlock(&rig.gate);
    await_ready();
    ck_assert_int_eq(rig.n_loads, 50);
}
END_TEST
#endif

struct readings {
    size_t ready_at; /* how many keys were there when it was ready first; 0: never */
    bool differs;    /* pln_ready() said something else */
};

static bool read_readiness(void *arg, const struct pln_warm_report *report) {
    struct readings *readings = arg;
    struct pln_warm_report told;
    readings->differs = readings->differs || pln_ready(CACHE, &told) != report->is_ready ||
                        told.loaded != report->loaded;
    if (report->is_ready && readings->ready_at == 0) {
        readings->ready_at = report->loaded;
    }
    return true;
}

START_TEST(a_cache_is_ready_when_its_share_is_there_though_more_is_to_come) {
    struct readings readings = {0};
    struct pln_warm_options options = {.progress = read_readiness, .arg = &readings, .rate = 40};
    struct pln_warm_report report;
    ck_assert(pln_ready(CACHE, NULL)); /* nothing is to be warmed */
    add_keys(0, 20);
    ruleset->warm.ready_at = 0.5;
    ck_assert(!pln_ready(CACHE, NULL));
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert(!readings.differs);
    ck_assert_uint_ge(readings.ready_at, 10);
    ck_assert_uint_lt(readings.ready_at, 20);
    rig.load_status = PLN_ELOADER;
    struct pln_bytes other = pln_key("k:other");
    options = (struct pln_warm_options){.keys = &other, .n_keys = 1};
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert_uint_eq(report.failed, 1);
    ck_assert_str_eq(report.error, "k:other: the source is out of order");
    ck_assert(pln_ready(CACHE, NULL)); /* what was warm stays so */
}
END_TEST

START_TEST(options_that_make_no_sense_are_refused) {
    struct pln_warm_report report;
    struct pln_warm_options wrong[] = {
        {.flags = 64},       {.concurrency = 257},        {.rate = -1},   {.ready_at = 2},
        {.deadline_ms = -1}, {.flags = PLN_WARM_L2_ONLY}, {.rate = 9e-7}, {.rate = NAN}};
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        ck_assert_int_eq(pln_warm(CACHE, &wrong[i], &report), PLN_EINVAL);
        ck_assert_int_eq(pln_warm_start(CACHE, &wrong[i]), PLN_EINVAL);
    }
    ck_assert_int_eq(pln_warm(CACHE, NULL, &report), PLN_OK);
}
END_TEST

/* ---- L2 alone ---- */

START_TEST(for_l2_alone_counts_what_l2_took) {
    struct pln_warm_options options = {.flags = PLN_WARM_L2_ONLY};
    struct pln_warm_report report;
    struct pln_result result;
    struct pln_get_options l2 = {.flags = PLN_GET_NO_L1 | PLN_GET_NO_LOAD};
    add_keys(0, 100);
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert_uint_eq(report.loaded, 100);
    ck_assert_int_eq(pln_get(CACHE, pln_key("k:99"), &l2, &result), PLN_OK);
    ck_assert_int_eq(result.source, PLN_FROM_L2);
    pln_release(CACHE, result.value);
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert_uint_eq(report.present, 100);
    ck_assert_int_eq(rig.n_loads, 100);
}
END_TEST

START_TEST(for_l2_alone_nothing_is_loaded_that_l2_cannot_take) {
    struct pln_warm_options options = {.flags = PLN_WARM_L2_ONLY};
    struct pln_warm_report report;
    add_keys(0, 100);
    pln_l2_mem_cut(CACHE->l2, true);
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert_uint_eq(report.failed, 100);
    ck_assert(!report.is_ready);
    ck_assert_ptr_nonnull(strstr(report.error, "is cut off"));
    ck_assert_int_eq(rig.n_loads, 0);
    pln_l2_mem_cut(CACHE->l2, false);
    ruleset->rules[0].terms.max_bytes = 1; /* what is longer is handed out, and not stored */
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert_uint_eq(report.failed, 100);
    ck_assert_ptr_nonnull(strstr(report.error, "it was loaded, but Redis has not got it"));
    ruleset->rules[0].terms.use_l2 = false;
    ck_assert_int_eq(pln_warm(CACHE, &options, &report), PLN_OK);
    ck_assert_uint_eq(report.wanted, 0);
    ck_assert_int_eq(rig.n_loads, 100);
}
END_TEST

/* ---- the service manager ---- */

/* A socket that hears what is notified; its name is in the environment. */
static int listen_at(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    size_t len = strlen(name);
    memcpy(address.sun_path, name, len);
    address.sun_path[0] = name[0] == '@' ? 0 : name[0];
    ck_assert_int_eq(bind(fd, (struct sockaddr *) &address,
                          (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len)),
                     0);
    ck_assert_int_eq(setenv("NOTIFY_SOCKET", name, 1), 0);
    return fd;
}

static void hear(int fd, char *text, size_t size) {
    ssize_t len = recv(fd, text, size - 1, 0);
    text[len > 0 ? len : 0] = 0;
}

START_TEST(the_service_manager_hears_how_far_it_is_and_when_it_is_ready) {
    struct pln_warm_options options = {.flags = PLN_WARM_NOTIFY};
    char name[64], text[400];
    add_keys(0, 10);
    unsetenv("NOTIFY_SOCKET");
    ck_assert_int_eq(pln_notify("READY=1"), PLN_MISS);
    ck_assert_int_eq(pln_warm(CACHE, &options, NULL), PLN_OK);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, i == 0 ? "@perilune-test-%d" : "/tmp/pln-notify-%d",
                 (int) getpid());
        int fd = listen_at(name);
        ck_assert_int_eq(pln_warm(CACHE, &options, NULL), PLN_OK);
        bool is_ready = false, asks_for_time = false;
        for (hear(fd, text, sizeof text); text[0] != 0; hear(fd, text, sizeof text)) {
            is_ready = is_ready ||
                       strstr(text, "READY=1\nSTATUS=10 of 10 keys are warm, 0 failed") == text;
            asks_for_time = asks_for_time || strstr(text, "\nEXTEND_TIMEOUT_USEC=10000000") != NULL;
        }
        ck_assert(is_ready && asks_for_time);
        ck_assert_int_eq(pln_notify("STOPPING=1"), PLN_OK);
        hear(fd, text, sizeof text);
        ck_assert_str_eq(text, "STOPPING=1");
        close(fd);
        unlink(name);
        ck_assert_int_eq(pln_notify("READY=1"), PLN_ESYSTEM); /* nobody is there */
    }
    setenv("NOTIFY_SOCKET", "vsock:2", 1);
    ck_assert_int_eq(pln_notify("READY=1"), PLN_ESYSTEM);
    ck_assert_str_eq(pln_error_text(), "notify: NOTIFY_SOCKET is 'vsock:2', which names no socket");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("warming");
    TCase *tests = tcase_create("warming"), *shared = tcase_create("shared");
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, shared);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_checked_fixture(shared, setup_shared, teardown);
    tcase_add_test(tests, sources_are_read_by_priority_and_else_as_they_stand);
    tcase_add_test(tests, a_key_named_twice_is_wanted_once_and_belongs_to_the_first);
    tcase_add_test(tests, a_function_names_keys_until_no_more_are_wanted);
    tcase_add_test(tests, a_source_that_cannot_be_read_ends_it_before_the_first_load);
    tcase_add_test(tests, keys_of_the_call_come_in_the_place_of_the_policys);
    tcase_add_test(tests, as_many_keys_are_loaded_at_once_as_the_plan_says);
    tcase_add_test(tests, a_second_run_goes_on_where_the_first_one_stopped);
    tcase_add_test(tests, closing_the_cache_stops_what_runs_behind);
#ifndef __SANITIZE_THREAD__
    tcase_add_test(tests, a_child_that_was_forked_meanwhile_warms_for_itself);
#endif
    tcase_add_test(tests, a_cache_is_ready_when_its_share_is_there_though_more_is_to_come);
    tcase_add_test(tests, options_that_make_no_sense_are_refused);
    tcase_add_test(tests, the_service_manager_hears_how_far_it_is_and_when_it_is_ready);
    tcase_add_test(shared, for_l2_alone_counts_what_l2_took);
    tcase_add_test(shared, for_l2_alone_nothing_is_loaded_that_l2_cannot_take);
    return rig_run(suite);
}
