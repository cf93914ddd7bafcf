/* SPDX-License-Identifier: MIT
 * faults.c - see faults.h. */
#include "faults.h"

#include <stdio.h>

static const pln_ns most_patience = 20000 * 1000000LL;

void faults_open(struct client *client, const char *url, unsigned pool) {
    client_init(client);
    struct pln_l2_options options = client_options(client, url);
    options.timeout_ms = 250; /* each fault costs it, and a refused connection the other */
    options.connect_timeout_ms = 1000;
    options.pool = pool;
    ck_assert_msg(pln_l2_redis_new(&options, &client->l2) == PLN_OK, "%s", pln_error_text());
}

int faults_get(struct client *client, const char *key, pln_ns deadline, char *text) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_value value;
    int result = pln_l2_get(client->l2, &hashed, deadline, &value);
    if (result == PLN_OK) {
        if (text != NULL) {
            snprintf(text, FAULTS_TEXT, "%.*s", (int) value.item.value.len,
                     (const char *) value.item.value.data);
        }
        pln_l2_value_fini(&value);
    }
    return result;
}

int faults_set(struct client *client, const char *key, const char *text, pln_ns deadline) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    return pln_l2_set(client->l2, &hashed, &item, 0, deadline);
}

void faults_recover(struct client *client) {
    pln_ns until = pln_clock_precise() + most_patience;
    int result = PLN_EL2DOWN;
    while (result != PLN_OK && pln_clock_precise() < until) {
        result = faults_set(client, "recovered", "yes", soon());
    }
    ck_assert_msg(result == PLN_OK, "%s", pln_error_text());
}

size_t faults_logged(struct client *client, const char *part) {
    size_t n = 0;
    pthread_mutex_lock(&client->lock);
    for (const char *at = client->log; (at = strstr(at, part)) != NULL; at += strlen(part)) {
        n++;
    }
    pthread_mutex_unlock(&client->lock);
    return n;
}

static size_t events(struct client *client, char which) {
    size_t n = 0;
    pthread_mutex_lock(&client->lock);
    for (const char *at = client->story; *at != 0; at++) {
        n += *at == which || (which == '+' && *at == '=');
    }
    pthread_mutex_unlock(&client->lock);
    return n;
}

static void await_events(struct client *client, char which, size_t n) {
    pln_ns until = pln_clock_precise() + most_patience;
    while (events(client, which) < n) {
        ck_assert_msg(pln_clock_precise() < until, "the link has %zu times '%c', not %zu: %.400s",
                      events(client, which), which, n, client->log);
        faults_nap(2);
    }
}

void faults_await_ups(struct client *client, size_t n) {
    await_events(client, '+', n);
}

void faults_await_downs(struct client *client, size_t n) {
    await_events(client, '-', n);
}

void faults_nap(int ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

TCase *faults_case(Suite *suite, void (*set_up)(void), void (*tear_down)(void)) {
    TCase *tests = tcase_create("faults");
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    return tests;
}

int faults_run(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

pln_ns faults_in(int ms) {
    return pln_clock_precise() + ms * 1000000LL;
}
