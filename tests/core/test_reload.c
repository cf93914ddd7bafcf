/* SPDX-License-Identifier: MIT
 * test_reload.c - core/reload.c and files.c: policies that change while calls go on.
 *
 * Where a test needs a script to stand still, the script reads from a FIFO: it has come there once
 * the FIFO can be opened for writing without waiting, and it goes on when that is closed. */
#include "rig.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The one does not follow a process with threads into a child; the other's allocator may be locked
 * there. */
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
enum { MAY_FORK = false };
#else
enum { MAY_FORK = true };
#endif

static char folder[32], path[64], fifo[64], marks[64];
static char last_error[512];

static void keep_errors(void *arg, int level, const char *line) {
    (void) arg;
    if (level == PLN_LOG_ERROR) {
        snprintf(last_error, sizeof last_error, "%s", line);
    }
}

static struct pln_cache *open_cache(pln_ms watch) {
    struct pln_cache *cache;
    struct pln_options options = {.log = keep_errors, .policy_watch_ms = watch};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    return cache;
}

/* Writes the file as editors do: aside, then in its place. */
static void write_policy(const char *text) {
    char aside[80];
    snprintf(aside, sizeof aside, "%s.new", path);
    FILE *file = fopen(aside, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    ck_assert_int_eq(rename(aside, path), 0);
}

/* A policy whose values begin with a version. */
static void write_version(const char *version) {
    char text[200];
    snprintf(text, sizeof text,
             "cache.rule '*' { ttl = '1h', load = function(key) return '%s of ' .. key end }",
             version);
    write_policy(text);
}

static void load(struct pln_cache *cache, uint32_t flags) {
    ck_assert_msg(pln_load_policy(cache, path, flags) == PLN_OK, "%s", pln_error_text());
}

static void expect(struct pln_cache *cache, const char *key, const char *version) {
    struct pln_result result;
    char value[64];
    snprintf(value, sizeof value, "%s of %s", version, key);
    ck_assert_msg(pln_get(cache, pln_key(key), NULL, &result) == PLN_OK, "%s", pln_error_text());
    ck_assert_uint_eq(result.len, strlen(value));
    ck_assert_mem_eq(pln_value_data(result.value), value, result.len);
    pln_release(cache, result.value);
}

static void await_none_retiring(struct pln_cache *cache) {
    pln_ns until = pln_clock_precise() + 10000000000;
    while (rig_stat(cache, "policies_retiring") > 0) {
        ck_assert_msg(pln_clock_precise() < until, "a replaced policy is still there");
        sched_yield();
    }
}

/* Waits until a script reads from the FIFO, and keeps it there until this is closed. */
static int hold_reader(void) {
    pln_ns until = pln_clock_precise() + 10000000000;
    int fd;
    while ((fd = open(fifo, O_WRONLY | O_NONBLOCK)) < 0) {
        ck_assert_msg(pln_clock_precise() < until, "nobody reads from the FIFO");
        sched_yield();
    }
    return fd;
}

static void setup(void) {
    strcpy(folder, "/tmp/perilune-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/policy.lua", folder);
    snprintf(fifo, sizeof fifo, "%s/fifo", folder);
    snprintf(marks, sizeof marks, "%s/marks", folder);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    last_error[0] = 0;
}

static void teardown(void) {
    unlink(path);
    unlink(fifo);
    unlink(marks);
    rmdir(folder);
}

/* ---- nobody waits, nobody fails ---- */

struct reading {
    struct pln_cache *cache;
    atomic_bool is_over;
    int status;
};

static void *load_slowly(void *arg) {
    struct reading *reading = arg;
    reading->status = pln_load_policy(reading->cache, path, PLN_POLICY_TRUSTED);
    /* release: the status before the flag */
    atomic_store_explicit(&reading->is_over, true, memory_order_release);
    return NULL;
}

START_TEST(no_call_waits_while_a_file_is_read) {
    char text[300], key[32];
    struct reading reading = {.cache = open_cache(0)};
    pthread_t thread;
    write_version("one");
    load(reading.cache, 0);
    expect(reading.cache, "hot", "one");
    snprintf(text, sizeof text,
             "local file = assert(io.open('%s')) file:read 'a' file:close()\n"
             "cache.rule '*' { load = function(key) return 'two of ' .. key end }\n",
             fifo);
    write_policy(text);
    ck_assert_int_eq(pthread_create(&thread, NULL, load_slowly, &reading), 0);
    int held = hold_reader();
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "during %d", i);
        expect(reading.cache, key, "one");
        expect(reading.cache, "hot", "one");
    }
    close(held);
    /* acquire: pairs with load_slowly() */
    while (!atomic_load_explicit(&reading.is_over, memory_order_acquire)) {
        int fd = open(fifo, O_WRONLY | O_NONBLOCK); /* each worker's state reads the file too */
        close(fd);
        sched_yield();
    }
    pthread_join(thread, NULL);
    ck_assert_int_eq(reading.status, PLN_OK);
    unlink(fifo); /* from here on reading the file would fail: no load has to do that */
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "after %d", i);
        expect(reading.cache, key, "two");
    }
    await_none_retiring(reading.cache);
    pln_close(reading.cache);
}
END_TEST

enum { N_CALLERS = 4, N_VERSIONS = 60 };

struct caller {
    struct pln_cache *cache;
    atomic_bool *is_over;
    unsigned number, n_calls, n_wrong;
    char wrong[200];
};

/* Reads keys that are there, and such as have to be loaded; any of the versions will do. */
static void *call(void *arg) {
    struct caller *caller = arg;
    struct pln_result result;
    char key[40];
    /* relaxed: a flag by itself */
    while (!atomic_load_explicit(caller->is_over, memory_order_relaxed)) {
        unsigned n = caller->n_calls++;
        snprintf(key, sizeof key, n % 4 == 0 ? "fresh %u %u" : "hot", caller->number, n);
        int status = pln_get(caller->cache, pln_key(key), NULL, &result);
        if (status != PLN_OK || result.len < 6 ||
            memcmp(pln_value_data(result.value), "version", 6) != 0) {
            snprintf(caller->wrong, sizeof caller->wrong, "%s: %d, %.100s", key, status,
                     pln_error_text());
            caller->n_wrong++;
        }
        pln_release(caller->cache, status == PLN_OK ? result.value : NULL);
    }
    return NULL;
}

/* One after another, with a file that is refused after every third. */
static void change_often(struct pln_cache *cache) {
    char version[32], key[32];
    for (int i = 1; i <= N_VERSIONS; i++) {
        snprintf(version, sizeof version, "version %d", i);
        snprintf(key, sizeof key, "of main %d", i);
        write_version(version);
        ck_assert_msg(pln_reload_policy(cache) == PLN_OK, "%s", pln_error_text());
        expect(cache, key, version); /* in force once it has returned */
        if (i % 3 == 0) {
            write_policy("cache.rule '*' { tll = 1 }");
            ck_assert_int_eq(pln_reload_policy(cache), PLN_EPOLICY);
            snprintf(key, sizeof key, "still %d", i);
            expect(cache, key, version);
        }
    }
}

START_TEST(under_load_no_call_fails_and_each_sees_one_whole_policy) {
    struct pln_cache *cache = open_cache(0);
    struct caller callers[N_CALLERS];
    pthread_t threads[N_CALLERS];
    atomic_bool is_over = false;
    write_version("version 0");
    load(cache, 0);
    for (unsigned i = 0; i < N_CALLERS; i++) {
        callers[i] = (struct caller){.cache = cache, .is_over = &is_over, .number = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
    }
    change_often(cache);
    /* relaxed: a flag by itself */
    atomic_store_explicit(&is_over, true, memory_order_relaxed);
    for (unsigned i = 0; i < N_CALLERS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_msg(callers[i].n_wrong == 0, "%u calls, the last: %s", callers[i].n_wrong,
                      callers[i].wrong);
        ck_assert_uint_gt(callers[i].n_calls, 0);
    }
    ck_assert_uint_eq(rig_stat(cache, "policy_reloads"), N_VERSIONS);
    ck_assert_uint_eq(rig_stat(cache, "policy_reload_errors"), N_VERSIONS / 3);
    await_none_retiring(cache);
    pln_close(cache);
}
END_TEST

/* ---- what is left behind ---- */

static void *read_old(void *arg) {
    struct reading *reading = arg;
    expect(reading->cache, "slow", "old");
    return NULL;
}

START_TEST(a_replaced_policy_goes_when_its_last_call_has_left) {
    char text[500];
    struct stat info;
    struct reading reading = {.cache = open_cache(0)};
    pthread_t thread;
    snprintf(text, sizeof text,
             "at_end = setmetatable({}, { __gc = function()\n"
             "  local file = io.open('%s', 'a') file:write 'x' file:close()\n"
             "end })\n"
             "cache.rule '*' { load = function(key)\n"
             "  local file = assert(io.open('%s')) file:read 'a' file:close()\n"
             "  return 'old of ' .. key\n"
             "end }\n",
             marks, fifo);
    write_policy(text);
    load(reading.cache, PLN_POLICY_TRUSTED);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_old, &reading), 0);
    int held = hold_reader();
    write_version("new");
    load(reading.cache, 0);
    expect(reading.cache, "quick", "new");
    ck_assert_uint_eq(rig_stat(reading.cache, "policies_retiring"), 1);
    ck_assert_int_ne(stat(marks, &info), 0);
    close(held);
    pthread_join(thread, NULL);
    await_none_retiring(reading.cache);
    pln_close(reading.cache); /* the states are closed by now at the latest */
    ck_assert_int_eq(stat(marks, &info), 0);
    ck_assert_int_eq(info.st_size, 2); /* a state for each worker */
}
END_TEST

/* ---- who asks for it ---- */

START_TEST(a_watched_file_is_read_when_it_changes) {
    struct pln_cache *cache = open_cache(10);
    write_version("one");
    load(cache, 0);
    expect(cache, "a", "one");
    write_version("two");
    rig_await(cache, "policy_reloads", 1);
    expect(cache, "b", "two");
    expect(cache, "a", "one"); /* what is there stays */
    write_policy("cache.rule 'x' { ttl = 'soon' }");
    rig_await(cache, "policy_reload_errors", 1);
    expect(cache, "c", "two");
    unlink(path);
    rig_await(cache, "policy_reload_errors", 2);
    write_version("three");
    rig_await(cache, "policy_reloads", 2);
    expect(cache, "d", "three");
    ck_assert_uint_eq(rig_stat(cache, "policy_reload_errors"), 2); /* once for each change */
    pln_close(cache);
    ck_assert_ptr_nonnull(strstr(last_error, "policy: the one in force stays: "));
}
END_TEST

START_TEST(what_was_refused_is_tried_again_and_told_of_once) {
    char text[200];
    struct pln_cache *cache = open_cache(2);
    write_version("one");
    load(cache, PLN_POLICY_TRUSTED);
    snprintf(text, sizeof text,
             "dofile '%s' cache.rule '*' { load = function(key) return 'two of ' .. key end }",
             marks); /* which is not there yet, and is no file of the policy in force */
    write_policy(text);
    rig_await(cache, "policy_reload_errors", 1);
    expect(cache, "a", "one");
    fclose(fopen(marks, "w"));
    rig_await(cache, "policy_reloads", 1);
    expect(cache, "b", "two");
    ck_assert_uint_eq(rig_stat(cache, "policy_reload_errors"), 1);
    pln_close(cache);
}
END_TEST

START_TEST(a_fault_that_comes_back_is_told_of_again) {
    struct pln_cache *cache = open_cache(2);
    write_version("one");
    load(cache, 0);
    for (uint64_t i = 1; i <= 2; i++) {
        write_policy("cache.rule '*' { tll = 1 }");
        rig_await(cache, "policy_reload_errors", i);
        write_version("two");
        load(cache, 0); /* by somebody else than who watches */
    }
    pln_close(cache);
}
END_TEST

START_TEST(all_caches_of_the_process_read_again_when_told) {
    struct pln_cache *with = open_cache(0), *without = open_cache(0);
    ck_assert_int_eq(pln_reload_policy(without), PLN_MISS);
    write_version("one");
    ck_assert_uint_eq(pln_reload_policies(), 0);
    load(with, 0);
    write_version("two");
    ck_assert_uint_eq(pln_reload_policies(), 1);
    rig_await(with, "policy_reloads", 1);
    expect(with, "a", "two");
    write_policy("cache.rule 'x' {");
    ck_assert_uint_eq(pln_reload_policies(), 1);
    rig_await(with, "policy_reload_errors", 1);
    expect(with, "b", "two");
    pln_close(with);
    pln_close(without);
    ck_assert_msg(strstr(last_error, "the one in force stays: policy.lua:1: ") != NULL, "%s",
                  last_error);
}
END_TEST

START_TEST(a_file_is_found_from_any_folder) {
    char here[256];
    struct pln_cache *cache = open_cache(0);
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    ck_assert_int_eq(chdir(folder), 0);
    write_version("one");
    ck_assert_int_eq(pln_load_policy(cache, "policy.lua", 0), PLN_OK);
    ck_assert_int_eq(chdir(here), 0);
    write_version("two");
    ck_assert_msg(pln_reload_policy(cache) == PLN_OK, "%s", pln_error_text());
    expect(cache, "a", "two");
    pln_close(cache);
}
END_TEST

START_TEST(a_child_goes_on_with_its_policy) {
    int status;
    struct pln_cache *cache = open_cache(10);
    write_version("one");
    load(cache, 0);
    expect(cache, "a", "one");
    write_version("two");
    ck_assert_int_eq(pln_reload_policy(cache), PLN_OK); /* so that there is a thread */
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        expect(cache, "a", "one");
        if (pln_reload_policies() != 1 || pln_reload_policy(cache) != PLN_OK) {
            _exit(2);
        }
        expect(cache, "c", "two"); /* loaded here, by a worker and in a state of the child's */
        pln_close(cache);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect(cache, "b", "two");
    pln_close(cache);
}
END_TEST

static void *get_slowly(void *arg) {
    struct pln_result result;
    if (pln_get(arg, pln_key("slow"), NULL, &result) >= 0) {
        pln_release(arg, result.value);
    }
    return NULL;
}

/* The parent's worker is in the midst of a function of the policy; its script is none for a child.
 */
START_TEST(a_child_begins_the_policys_scripts_anew) {
    pthread_t thread;
    int status;
    write_policy("cache.rule '*' { ttl = '1h', load = function(key)\n"
                 "  local sum = 0\n"
                 "  for i = 1, key == 'slow' and 3000000 or 0 do sum = sum + i end\n"
                 "  return 'one of ' .. key\nend }");
    for (int round = 0; round < 5; round++) {
        struct pln_cache *cache = open_cache(0);
        load(cache, 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, get_slowly, cache), 0);
        rig_await(cache, "loads", 1);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            expect(cache, "a", "one");
            expect(cache, "b", "one");
            pln_close(cache);
            _exit(0);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        pthread_join(thread, NULL);
        expect(cache, "slow", "one");
        pln_close(cache);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reload");
    TCase *tests = tcase_create("reload");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, no_call_waits_while_a_file_is_read);
    tcase_add_test(tests, under_load_no_call_fails_and_each_sees_one_whole_policy);
    tcase_add_test(tests, a_replaced_policy_goes_when_its_last_call_has_left);
    tcase_add_test(tests, a_watched_file_is_read_when_it_changes);
    tcase_add_test(tests, what_was_refused_is_tried_again_and_told_of_once);
    tcase_add_test(tests, a_fault_that_comes_back_is_told_of_again);
    tcase_add_test(tests, all_caches_of_the_process_read_again_when_told);
    tcase_add_test(tests, a_file_is_found_from_any_folder);
    if (MAY_FORK) {
        tcase_add_test(tests, a_child_goes_on_with_its_policy);
        tcase_add_test(tests, a_child_begins_the_policys_scripts_anew);
    }
    return rig_run(suite);
}
