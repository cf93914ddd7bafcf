/* SPDX-License-Identifier: MIT
 *
 * base_rig.c - see base_rig.h.
 */
#include "base_rig.h"

#include <stdio.h>

struct rig rig;
struct base base;

/* ---- the rows ---- */

static struct row *row_locked(struct pln_bytes key) {
    for (size_t i = 0; i < base.n_rows; i++) {
        if (pln_bytes_equal(pln_key(base.rows[i].key), key)) {
            return &base.rows[i];
        }
    }
    ck_assert_uint_lt(base.n_rows, MOST_ROWS);
    struct row *row = &base.rows[base.n_rows++];
    snprintf(row->key, sizeof row->key, "%.*s", (int) key.len, (const char *) key.data);
    return row;
}

static void put_row(struct pln_bytes key, struct pln_bytes value, bool is_there) {
    pthread_mutex_lock(&base.lock);
    struct row *row = row_locked(key);
    row->is_there = is_there;
    snprintf(row->value, sizeof row->value, "%.*s", (int) value.len,
             value.len > 0 ? (const char *) value.data : "");
    pthread_mutex_unlock(&base.lock);
}

void base_put(const char *key, const char *value) {
    put_row(pln_key(key), pln_key(value != NULL ? value : ""), value != NULL);
}

static bool read_row(struct pln_bytes key, char value[32]) {
    pthread_mutex_lock(&base.lock);
    const struct row *row = row_locked(key);
    bool is_there = row->is_there;
    memcpy(value, row->value, sizeof row->value);
    pthread_mutex_unlock(&base.lock);
    return is_there;
}

const char *base_get(const char *key) {
    static char value[32];
    return read_row(pln_key(key), value) ? value : NULL;
}

/* ---- store and loader ---- */

static void once(void (**hook)(void)) {
    pthread_mutex_lock(&base.lock);
    void (*run)(void) = *hook;
    *hook = NULL;
    pthread_mutex_unlock(&base.lock);
    if (run != NULL) {
        run();
    }
}

int base_store(void *arg, struct pln_store_item *items, size_t n) {
    (void) arg;
    atomic_fetch_add(&base.n_calls, 1);
    atomic_fetch_add(&base.n_items, (int) n);
    pthread_mutex_lock(&base.lock);
    base.last = items[0];
    pthread_mutex_unlock(&base.lock);
    once(&base.before);
    int status = atomic_load(&base.status);
    for (size_t i = 0; i < n; i++) {
        if (base.fails != NULL && pln_bytes_equal(items[i].key, pln_key(base.fails))) {
            pln_store_fail(&items[i], PLN_ESTORE, "this row does not fit");
        } else if (status == PLN_OK || atomic_load(&base.is_late)) {
            put_row(items[i].key, items[i].value,
                    items[i].op == PLN_STORE_SET && !items[i].is_absent);
        }
    }
    once(&base.after);
    if (status < 0) {
        pln_store_fail(&items[0], status, "the base is out of order");
    }
    return status;
}

static int load(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                struct pln_load *load) {
    char value[32];
    (void) arg, (void) worker, (void) match;
    atomic_fetch_add(&base.n_loads, 1);
    bool is_there = read_row(key, value);
    once(&base.after_read);
    return is_there ? pln_load_value(load, pln_key(value), 0) : PLN_ABSENT;
}

/* ---- caches ---- */

static struct pln_rule make_rule(struct pln_cache *cache, const char *pattern, uint8_t strategy,
                                 void (*change)(struct pln_terms *terms)) {
    struct pln_terms terms = *pln_cache_terms(cache);
    terms.write = strategy;
    if (change != NULL) {
        change(&terms);
    }
    struct pln_rule rule = rig_rule(pattern, &terms, PLN_RULE_LOAD);
    rule.store = strategy == PLN_WRITE_ASIDE ? NULL : strdup("base");
    return rule;
}

void base_policy(struct pln_cache *cache, uint8_t strategy,
                 void (*change)(struct pln_terms *terms)) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = calloc(3, sizeof *ruleset->rules);
    ruleset->rules[0] = make_rule(cache, "k:{id}", strategy, change);
    ruleset->rules[1] = make_rule(cache, "j:{id}", strategy, change);
    ruleset->rules[2] = make_rule(cache, "*", PLN_WRITE_ASIDE, NULL);
    ruleset->n_rules = 3;
    ruleset->hooks = (struct pln_hooks){.load = load};
    pln_cache_set_policy_take(cache, ruleset);
}

void base_begin(void) {
    memset(&base, 0, sizeof base);
    pthread_mutex_init(&base.lock, NULL);
}

void base_join(struct pln_cache *cache, uint8_t strategy) {
    ck_assert_int_eq(pln_register_store(cache, "base", base_store, NULL), PLN_OK);
    base_policy(cache, strategy, NULL);
}

void base_open(size_t n, bool has_l2, uint8_t strategy) {
    struct pln_options options = {.ttl_ms = 600000, .timeout_ms = 50, .lease_ms = 100000};
    base_begin();
    rig_open(&rig, n, has_l2, &options);
    for (size_t i = 0; i < n; i++) {
        base_join(rig.caches[i], strategy);
    }
}

void base_close(void) {
    rig_close(&rig);
    pthread_mutex_destroy(&base.lock);
}

void base_expect(struct pln_cache *cache, const char *key) {
    for (int i = 0; i < 2; i++) {
        struct pln_result result;
        const char *value = base_get(key);
        int status = pln_get(cache, pln_key(key), NULL, &result);
        ck_assert_msg(status == (value != NULL ? PLN_OK : PLN_ABSENT), "%s: %s", key,
                      status < 0 ? pln_error_text() : pln_status_name(status));
        ck_assert_msg(value == NULL ||
                          pln_bytes_equal(pln_key(value),
                                          pln_bytes_of(pln_value_data(result.value), result.len)),
                      "%s is '%s' in the base, not '%.*s' (%s)", key, value, (int) result.len,
                      (const char *) pln_value_data(result.value), pln_source_name(result.source));
        pln_release(cache, result.value);
    }
}
