/* SPDX-License-Identifier: MIT
 * load.c - see load.h. */
#include "load.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>

#include "client.h"

static const pln_ns grace = 2000 * 1000000LL; /* for a busy machine; a hang would be endless */
static const pln_ns most_patience = 20000 * 1000000LL;

/* ---- judging ---- */

static void complain(struct load *load, long *count, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void complain(struct load *load, long *count, const char *format, ...) {
    va_list args;
    pthread_mutex_lock(&load->lock);
    (*count)++;
    if (load->complaint[0] == 0) {
        va_start(args, format);
        vsnprintf(load->complaint, sizeof load->complaint, format, args);
        va_end(args);
    }
    pthread_mutex_unlock(&load->lock);
}

static void note(struct load *load, const char *what, int status, pln_ns deadline) {
    pln_ns late = pln_clock_precise() - deadline;
    pthread_mutex_lock(&load->lock);
    load->n_of[status + LOAD_STATUSES / 2]++;
    load->n_calls++;
    load->n_ok += status >= 0;
    if (status < 0) {
        snprintf(load->failure, sizeof load->failure, "%s", pln_error_text());
    }
    pthread_cond_broadcast(&load->moved);
    pthread_mutex_unlock(&load->lock);
    if (late > grace) {
        complain(load, &load->n_late, "%s came back %lld ms after its deadline, with %d", what,
                 (long long) late / 1000000, status);
    }
}

static void judge(struct load *load, struct load_key *key, int status,
                  const struct pln_l2_value *value) {
    char text[64] = "";
    long version = 0;
    int end = 0;
    /* relaxed: it is set before the server loses anything */
    bool may_lose = atomic_load_explicit(&load->may_lose, memory_order_relaxed);
    if (status == PLN_MISS && key->least > 0 && !may_lose) {
        complain(load, &load->n_lost, "%s: version %ld was acknowledged and is gone", key->name,
                 key->least);
    }
    if (status == PLN_MISS && may_lose) {
        key->least = key->last; /* an older one must not come back */
    }
    if (status != PLN_OK) {
        return;
    }
    size_t len = value->item.value.len < sizeof text - 1 ? value->item.value.len : sizeof text - 1;
    memcpy(text, value->item.value.data, len);
    size_t name_len = strlen(key->name);
    bool is_own = strncmp(text, key->name, name_len) == 0 && text[name_len] == '=' &&
                  sscanf(text + name_len + 1, "%ld;%n", &version, &end) == 1 && end > 0;
    /* relaxed: it is set before the failover */
    if (is_own && version < key->least && !key->has_gone_back &&
        atomic_load_explicit(&load->may_go_back, memory_order_relaxed)) {
        key->has_gone_back = true;
        key->least = version;
    }
    if (!is_own || version < key->least || version > key->last) {
        complain(load, &load->n_wrong, "%s: '%s', expected a version from %ld to %ld", key->name,
                 text, key->least, key->last);
    } else {
        key->least = version;
    }
}

/* ---- calls ---- */

static pln_ns deadline_of(struct load *load) {
    /* relaxed: a number by itself */
    int ms = atomic_load_explicit(&load->patience_ms, memory_order_relaxed);
    return pln_clock_precise() + ms * 1000000LL;
}

static struct pln_l2_item next_item(const struct load *load, struct load_key *key, char *text) {
    size_t bytes = load->value_bytes;
    int len = sprintf(text, "%s=%ld;", key->name, ++key->last);
    for (size_t i = (size_t) len; i < bytes; i++) {
        text[i] = 'x';
    }
    return (struct pln_l2_item){
        .value = pln_bytes_of(text, bytes > (size_t) len ? bytes : (size_t) len),
        .fresh_left = 3600000,
        .life_left = 7200000};
}

static void set(struct load *load, struct load_key *key, char *text) {
    struct pln_hashed hashed = key_of(key->name);
    struct pln_l2_item item = next_item(load, key, text);
    pln_ns deadline = deadline_of(load);
    int status = pln_l2_set(load->l2, &hashed, &item, 0, deadline);
    if (status == PLN_OK) {
        key->least = key->last;
    }
    note(load, "set", status, deadline);
}

static void get(struct load *load, struct load_key *key) {
    struct pln_hashed hashed = key_of(key->name);
    struct pln_l2_value value = {0};
    pln_ns deadline = deadline_of(load);
    int status = pln_l2_get(load->l2, &hashed, deadline, &value);
    note(load, "get", status, deadline);
    judge(load, key, status, &value);
    pln_l2_value_fini(&value);
}

static void get_many(struct load *load, struct load_key *keys) {
    struct pln_hashed hashed[LOAD_KEYS];
    struct pln_l2_value values[LOAD_KEYS] = {0};
    int statuses[LOAD_KEYS];
    for (size_t i = 0; i < LOAD_KEYS; i++) {
        hashed[i] = key_of(keys[i].name);
    }
    pln_ns deadline = deadline_of(load);
    int status = pln_l2_get_many(load->l2, hashed, LOAD_KEYS, deadline, values, statuses);
    note(load, "get_many", status, deadline);
    for (size_t i = 0; status == PLN_OK && i < LOAD_KEYS; i++) {
        judge(load, &keys[i], statuses[i], &values[i]);
        pln_l2_value_fini(&values[i]);
    }
}

static void load_and_commit(struct load *load, struct load_key *key, char *text) {
    struct pln_hashed hashed = key_of(key->name);
    struct pln_l2_lease lease;
    pln_ns deadline = deadline_of(load);
    int status = pln_l2_lease(load->l2, &hashed, 200, deadline, &lease);
    note(load, "lease", status, deadline);
    if (status != PLN_OK) {
        return;
    }
    struct pln_l2_item item = next_item(load, key, text);
    deadline = deadline_of(load);
    status = pln_l2_commit(load->l2, &hashed, &lease, &item, deadline);
    if (status == PLN_OK) {
        key->least = key->last;
    }
    note(load, "commit", status, deadline);
}

static void *work(void *arg) {
    struct load_thread *thread = arg;
    struct load *load = thread->load;
    char *text = malloc(load->value_bytes + 64);
    /* relaxed: a flag by itself, here and below */
    for (unsigned i = 0; !atomic_load_explicit(&load->is_stopping, memory_order_relaxed); i++) {
        struct load_key *key = &thread->keys[i / 2 % LOAD_KEYS];
        if (i % 16 == 15) {
            get_many(load, thread->keys);
        } else if (i % 16 == 7) {
            load_and_commit(load, key, text);
        } else if (i % 2 == 0) {
            get(load, key); /* first, so that what came since the last set is seen */
        } else {
            set(load, key, text);
        }
        if (i % 8 == 0) {
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL); /* one machine for all */
        }
    }
    free(text);
    return NULL;
}

/* ---- for tests ---- */

void load_start(struct load *load) {
    pthread_condattr_t attributes;
    ck_assert_uint_le(load->n_threads, LOAD_THREADS);
    pthread_mutex_init(&load->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&load->moved, &attributes);
    pthread_condattr_destroy(&attributes);
    for (unsigned i = 0; i < load->n_threads; i++) {
        struct load_thread *thread = &load->threads[i];
        thread->load = load;
        thread->number = i;
        for (unsigned j = 0; j < LOAD_KEYS; j++) {
            snprintf(thread->keys[j].name, sizeof thread->keys[j].name, "load %u.%u", i, j);
        }
        ck_assert_int_eq(pthread_create(&thread->thread, NULL, work, thread), 0);
    }
}

void load_set_patience(struct load *load, int ms) {
    atomic_store_explicit(&load->patience_ms, ms, memory_order_relaxed); /* relaxed: as above */
}

void load_let_lose(struct load *load) {
    atomic_store_explicit(&load->may_lose, true, memory_order_relaxed); /* relaxed: as above */
}

void load_let_fail_over(struct load *load) {
    load_let_lose(load);
    atomic_store_explicit(&load->may_go_back, true, memory_order_relaxed); /* relaxed: as above */
}

void load_go_on(struct load *load, struct pln_l2 *l2, int patience_ms) {
    load->l2 = l2;
    load_set_patience(load, patience_ms);
    atomic_store_explicit(&load->is_stopping, false, memory_order_relaxed); /* relaxed: as above */
    load_start(load);
}

static void await_count(struct load *load, const long *count, long n, const char *what) {
    struct timespec until = pln_timespec(pln_clock_precise() + most_patience);
    pthread_mutex_lock(&load->lock);
    long least = *count + n;
    int waited = 0;
    while (*count < least && waited != ETIMEDOUT) {
        waited = pthread_cond_timedwait(&load->moved, &load->lock, &until);
    }
    bool is_there = *count >= least;
    pthread_mutex_unlock(&load->lock);
    ck_assert_msg(is_there, "the load waits for %ld calls that end with %s; last failure: %s", n,
                  what, load->failure);
}

void load_await_ok(struct load *load, long n) {
    await_count(load, &load->n_ok, n, "success");
}

void load_await(struct load *load, int status, long n) {
    await_count(load, &load->n_of[status + LOAD_STATUSES / 2], n, pln_status_name(status));
}

long load_count(struct load *load, int status) {
    pthread_mutex_lock(&load->lock);
    long n = load->n_of[status + LOAD_STATUSES / 2];
    pthread_mutex_unlock(&load->lock);
    return n;
}

void load_stop(struct load *load) {
    atomic_store_explicit(&load->is_stopping, true, memory_order_relaxed); /* relaxed: as above */
    for (unsigned i = 0; i < load->n_threads; i++) {
        pthread_join(load->threads[i].thread, NULL);
    }
    ck_assert_msg(load->n_wrong + load->n_late + load->n_lost == 0,
                  "%ld wrong, %ld late, %ld lost of %ld calls: %s", load->n_wrong, load->n_late,
                  load->n_lost, load->n_calls, load->complaint);
}

/* A key once more, until there is an answer. */
static void check_key(struct load *load, struct load_key *key) {
    struct pln_hashed hashed = key_of(key->name);
    struct pln_l2_value value = {0};
    pln_ns until = pln_clock_precise() + most_patience;
    int status = PLN_EL2DOWN;
    while (status < 0 && pln_clock_precise() < until) {
        status = pln_l2_get(load->l2, &hashed, soon(), &value);
    }
    ck_assert_msg(status >= 0, "%s cannot be read after the fault: %s", key->name,
                  pln_error_text());
    judge(load, key, status, &value);
    pln_l2_value_fini(&value);
}

void load_check(struct load *load) {
    for (unsigned i = 0; i < load->n_threads; i++) {
        for (unsigned j = 0; j < LOAD_KEYS; j++) {
            check_key(load, &load->threads[i].keys[j]);
        }
    }
    ck_assert_msg(load->n_wrong + load->n_lost == 0, "%ld wrong, %ld lost after the fault: %s",
                  load->n_wrong, load->n_lost, load->complaint);
}
