/* SPDX-License-Identifier: MIT
 * asks.c - see asks.h. */
#include "asks.h"

#include <check.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards n_ended */
static pthread_cond_t ended;
size_t n_ended;
struct ask asks[MOST_ASKS];
struct server server;
struct proxy proxy;
struct client a;

static void open_client(const char *url, pln_ms timeout, pln_ms ping) {
    client_init(&a);
    struct pln_l2_options options = client_options(&a, url);
    options.timeout_ms = timeout;
    options.ping_ms = ping;
    options.pool = 1;
    ck_assert_msg(pln_l2_redis_new(&options, &a.l2) == PLN_OK, "%s", pln_error_text());
}

void reopen(const char *url, pln_ms timeout, pln_ms ping) {
    client_fini(&a);
    open_client(url, timeout, ping);
}

void asks_set_up(void) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ended, &attributes);
    pthread_condattr_destroy(&attributes);
    n_ended = 0;
    pln_test_redis_start(&server, NULL);
    pln_test_proxy_start(&proxy, server.path);
    open_client(server.url, 20000, 250);
}

void asks_tear_down(void) {
    client_fini(&a);
    pln_test_proxy_stop(&proxy);
    pln_test_redis_stop(&server);
    pthread_cond_destroy(&ended);
}

void command(const char *line) {
    free(pln_test_redis_command(&server, "%s", line));
}

pln_ns in_ms(int ms) {
    return pln_clock_precise() + ms * 1000000LL;
}

/* ---- asking ---- */

void note_end(void) {
    pthread_mutex_lock(&lock);
    n_ended++;
    pthread_cond_signal(&ended);
    pthread_mutex_unlock(&lock);
}

size_t how_many_ended(void) {
    pthread_mutex_lock(&lock);
    size_t n = n_ended;
    pthread_mutex_unlock(&lock);
    return n;
}

/* Waits until so many have ended; far longer than it can take. */
void await(size_t n) {
    struct timespec until = pln_timespec(in_ms(20000));
    int result = 0;
    pthread_mutex_lock(&lock);
    while (n_ended < n && result == 0) {
        result = pthread_cond_timedwait(&ended, &lock, &until);
    }
    size_t seen = n_ended;
    pthread_mutex_unlock(&lock);
    ck_assert_uint_eq(seen, n);
}

static void done(struct pln_l2_get *get, int status, struct pln_l2_value *value) {
    struct ask *ask = get->arg;
    ask->status = status;
    ask->n_ended++;
    ask->is_right = false;
    if (status < 0) {
        snprintf(ask->error, sizeof ask->error, "%s", pln_error_text());
    }
    if (status == PLN_OK) {
        ask->is_right = pln_bytes_equal(value->item.value, pln_key(ask->text));
        pln_l2_value_fini(value);
    }
    bool goes_on = ask->left > 0 && (status != PLN_OK || ask->is_right);
    ask->left -= goes_on;
    if (!goes_on || begin(ask, ask->number + 1, get->deadline) != PLN_OK) {
        note_end();
    }
}

int begin(struct ask *ask, unsigned number, pln_ns deadline) {
    ask->number = number;
    snprintf(ask->key, sizeof ask->key, "key-%u", number % MANY);
    snprintf(ask->text, sizeof ask->text, "text-%u", number % MANY);
    ask->get.key = key_of(ask->key);
    ask->get.deadline = deadline;
    ask->get.done = done;
    ask->get.arg = ask;
    return pln_l2_get_async(a.l2, &ask->get);
}

void begin_some(size_t from, size_t n, pln_ns deadline) {
    for (size_t i = from; i < from + n; i++) {
        asks[i] = (struct ask){.left = 0};
        int result = begin(&asks[i], (unsigned) i, deadline);
        ck_assert_msg(result == PLN_OK, "get %zu: %s", i, pln_error_text());
    }
}

void expect_all(size_t from, size_t n, int status) {
    for (size_t i = from; i < from + n; i++) {
        if (asks[i].status != status || asks[i].n_ended != 1 ||
            asks[i].is_right != (status == PLN_OK)) {
            ck_abort_msg("get %zu ended %u times, with %d (%s), %s", i, asks[i].n_ended,
                         asks[i].status, asks[i].error,
                         asks[i].is_right ? "right" : "not its own value");
        }
    }
}

void fill(void) {
    for (unsigned i = 0; i < MANY; i++) {
        char key[24], text[24];
        snprintf(key, sizeof key, "key-%u", i);
        snprintf(text, sizeof text, "text-%u", i);
        struct pln_hashed hashed = key_of(key);
        struct pln_l2_item item = item_of(text);
        ck_assert_int_eq(pln_l2_set(a.l2, &hashed, &item, 0, soon()), PLN_OK);
    }
}

/* One get, waited for. */
int get_one(struct ask *ask, unsigned number) {
    size_t before = n_ended;
    *ask = (struct ask){.left = 0};
    int result = begin(ask, number, in_ms(10000));
    if (result != PLN_OK) {
        return result;
    }
    await(before + 1);
    return ask->status;
}
