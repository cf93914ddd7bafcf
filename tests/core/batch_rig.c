/* SPDX-License-Identifier: MIT
 *
 * batch_rig.c - see batch_rig.h.
 */
#include "batch_rig.h"

#include <stdio.h>

struct pln_batches *batches;
struct pln_write_options terms, others; /* of keys, and of those that begin with 'o' */
static uint64_t last_id;
pln_ns now;

/* The store: what it was called with, "a=1 b=2 | c=3", a call after the other. */
static char calls[4096];
size_t n_calls, n_items;
bool is_away;            /* it takes nothing */
const char *poison;      /* a value that makes a call fail as a whole */
const char *bad, *never; /* values that it says so of */
bool loses_lead;
bool is_mute;
pln_ms takes;     /* a call: so long */
char item_id[64]; /* of the last item, likewise the next two */
uint64_t item_version;
unsigned item_attempt;

static void note(const char *text) {
    size_t len = strlen(calls);
    ck_assert_uint_lt(len + strlen(text), sizeof calls);
    snprintf(calls + len, sizeof calls - len, "%s", text);
}

static bool is(struct pln_bytes value, const char *text) {
    return text != NULL && pln_bytes_equal(value, pln_key(text));
}

bool batch_store(void *arg, size_t group, struct pln_store_item *items, size_t n) {
    char text[64];
    bool fails = is_away;
    (void) arg;
    (void) group;
    if (loses_lead) {
        return false;
    }
    if (!is_mute && n_calls > 0) {
        note(" | ");
    }
    n_calls++;
    n_items += n;
    now += takes * MS;
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(items[i].status, PLN_OK);
        ck_assert_int_eq(items[i].error[0], 0);
        snprintf(text, sizeof text, "%s%.*s%s%.*s", i > 0 ? " " : "", (int) items[i].key.len,
                 (const char *) items[i].key.data, items[i].op == PLN_STORE_SET ? "=" : "-",
                 (int) items[i].value.len, (const char *) items[i].value.data);
        if (!is_mute) {
            note(text);
        }
        fails = fails || is(items[i].value, poison);
        snprintf(item_id, sizeof item_id, "%s", items[i].id);
        item_version = items[i].version;
        item_attempt = items[i].attempt;
    }
    for (size_t i = 0; i < n; i++) {
        if (fails) {
            pln_store_fail(&items[i], PLN_ESTORE, "all of it");
        } else if (is(items[i].value, bad)) {
            pln_store_fail(&items[i], PLN_ESTORE, "bad");
        } else if (is(items[i].value, never)) {
            pln_store_fail(&items[i], PLN_EINVAL, "never");
        }
    }
    return true;
}

static const struct pln_write_options *terms_of(void *arg, struct pln_bytes key, size_t *group) {
    const char *name = key.data;
    (void) arg;
    *group = name[0] == 'o' ? 3 : 1;
    return name[0] == '?' ? NULL : name[0] == 'o' ? &others : &terms;
}

void batch_setup(void) {
    terms = (struct pln_write_options){.strategy = PLN_WRITE_BEHIND,
                                       .batch = 4,
                                       .every_ms = 100,
                                       .attempts = 3,
                                       .backoff_ms = 10,
                                       .dead = 7};
    others = terms;
    last_id = n_calls = n_items = 0;
    now = 1000LL * MS;
    calls[0] = 0;
    is_away = loses_lead = is_mute = false;
    takes = 0;
    poison = bad = never = NULL;
    ck_assert_int_eq(pln_batches_new(terms_of, NULL, &batches), PLN_OK);
}

void batch_teardown(void) {
    pln_batches_free(batches);
}

int add_taken(const char *key, const char *value, unsigned n_taken) {
    struct pln_l2_entry entry = {.ms = ++last_id,
                                 .n_taken = n_taken,
                                 .is_removal = value == NULL,
                                 .key = pln_key(key),
                                 .value = pln_key(value != NULL ? value : "")};
    return pln_batches_add(batches, &entry, now);
}

void add(const char *key, const char *value) {
    ck_assert_int_eq(add_taken(key, value, 1), PLN_OK);
}

/* Lets time pass, and stores all that is due by then. */
void pass(pln_ms ms) {
    now += ms * MS;
    while (pln_batches_store(batches, &now, batch_store, NULL) == PLN_OK) {
    }
}

void expect_calls(const char *expected) {
    ck_assert_str_eq(calls, expected);
    calls[0] = 0;
    n_calls = 0;
}

/* The ids that are over, "1 2". */
void expect_over(const char *expected) {
    char text[256] = "";
    size_t n, len = 0;
    const struct pln_l2_entry *over = pln_batches_over(batches, &n);
    for (size_t i = 0; i < n; i++) {
        len += (size_t) snprintf(text + len, sizeof text - len, "%s%llu", i > 0 ? " " : "",
                                 (unsigned long long) over[i].ms);
    }
    ck_assert_str_eq(text, expected);
    pln_batches_ended(batches);
}

void expect_given_up(uint64_t id, size_t n_older, const char *error) {
    struct pln_given_up given_up;
    ck_assert(pln_batches_given_up(batches, &given_up));
    ck_assert_uint_eq(given_up.entry->ms, id);
    ck_assert_uint_eq(given_up.n_older, n_older);
    ck_assert_str_eq(given_up.error, error);
    ck_assert_uint_eq(given_up.dead, 7);
    for (size_t i = 0; i < n_older; i++) {
        ck_assert(pln_bytes_equal(given_up.older[i].key, given_up.entry->key));
    }
    pln_batches_buried(batches);
}

bool is_any_given_up(void) {
    struct pln_given_up given_up;
    return pln_batches_given_up(batches, &given_up);
}
