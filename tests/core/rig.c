/* SPDX-License-Identifier: MIT
 *
 * rig.c - see rig.h.
 */
#include "rig.h"

#include <sched.h>
#include <stdio.h>

static pln_ms rig_clock(void *arg) {
    struct rig *rig = arg;
    return atomic_load(&rig->now);
}

static int make_mem(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2) {
    struct rig *rig = arg;
    return pln_l2_mem_new(options, rig->server, l2);
}

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_log(void *arg, int level, const char *line) {
    struct rig *rig = arg;
    (void) level;
    pthread_mutex_lock(&log_lock);
    snprintf(rig->last_log, sizeof rig->last_log, "%s", line);
    pthread_mutex_unlock(&log_lock);
    atomic_fetch_add(&rig->n_logs, 1);
}

void rig_open(struct rig *rig, size_t n, bool has_l2, const struct pln_options *options) {
    memset(rig, 0, sizeof *rig);
    atomic_store(&rig->now, 1000000);
    pthread_mutex_init(&rig->gate, NULL);
    if (has_l2) {
        ck_assert_int_eq(pln_l2_mem_server_new(&rig->server), PLN_OK);
    }
    for (size_t i = 0; i < n; i++) {
        struct pln_options own = options != NULL ? *options : (struct pln_options){0};
        own.clock = rig_clock;
        own.clock_arg = rig;
        own.log = keep_log;
        own.log_arg = rig;
        ck_assert_msg(pln_open_over(&own, has_l2 ? make_mem : NULL, rig, &rig->caches[i]) == PLN_OK,
                      "%s", pln_error_text());
        if (has_l2) { /* all hear of each other from the beginning */
            pln_wake(rig->caches[i]);
        }
    }
}

void rig_close(struct rig *rig) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(rig->caches); i++) {
        pln_close(rig->caches[i]);
    }
    pln_l2_mem_server_free(rig->server);
    pthread_mutex_destroy(&rig->gate);
}

static int load(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                struct pln_load *load) {
    struct rig *rig = arg;
    char text[64];
    (void) worker;
    (void) key;
    int number = atomic_fetch_add(&rig->n_loads, 1) + 1;
    pthread_mutex_lock(&rig->gate);
    pthread_mutex_unlock(&rig->gate);
    int status = atomic_load(&rig->load_status);
    if (status < 0) {
        return pln_fail(status, "the source is out of order");
    }
    uint8_t format;
    if (status == PLN_OK && rig->is_unchanged && pln_load_old(load, &format).data != NULL) {
        status = pln_load_same(load);
    } else if (status == PLN_OK) {
        int len = snprintf(text, sizeof text, "loaded %d", number);
        pln_load_value(load, pln_bytes_of(text, (size_t) len), 0);
        if ((match->rule->hooks & PLN_RULE_RELATED) != 0) {
            pln_load_related(load, pln_key("related"));
        }
    }
    return status;
}

static int shape(void *arg, unsigned worker, const struct pln_match *match, struct pln_bytes key,
                 struct pln_bytes value, uint8_t format, struct pln_load *load) {
    struct rig *rig = arg;
    atomic_fetch_add(&rig->n_shapes, 1);
    pthread_mutex_lock(&rig->gate);
    pthread_mutex_unlock(&rig->gate);
    (void) worker;
    (void) match;
    (void) key;
    (void) format;
    pln_load_ttl(load, (pln_ms) value.len * 1000);
    return pln_load_tag(load, pln_key("shaped"));
}

struct pln_rule rig_rule(const char *pattern, const struct pln_terms *terms, uint32_t hooks) {
    struct pln_rule rule = {.terms = *terms, .hooks = hooks, .line = 1};
    ck_assert_int_eq(pln_template_new(pattern, NULL, &rule.pattern), PLN_OK);
    rule.class_name = strdup("");
    rule.file = strdup("test");
    rule.origins = strdup("");
    return rule;
}

void rig_policy(struct rig *rig, struct pln_cache *cache, struct pln_rule rule) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    ruleset->rules = malloc(sizeof rule);
    ruleset->rules[0] = rule;
    ruleset->n_rules = 1;
    ruleset->hooks = (struct pln_hooks){.load = load, .shape = shape};
    ruleset->hooks_arg = rig;
    pln_cache_set_policy_take(cache, ruleset);
}

void rig_set(struct pln_cache *cache, const char *key, const char *value) {
    ck_assert_msg(pln_set(cache, pln_key(key), pln_key(value), NULL) == PLN_OK, "%s",
                  pln_error_text());
}

void rig_expect(struct pln_cache *cache, const char *key, const char *value, const char *source) {
    struct pln_result result;
    int status = pln_get(cache, pln_key(key), NULL, &result);
    ck_assert_msg(status >= 0, "%s: %s", key, pln_error_text());
    ck_assert_str_eq(pln_source_name(result.source), source);
    ck_assert_int_eq(status, value != NULL                 ? PLN_OK
                             : strcmp(source, "miss") == 0 ? PLN_MISS
                                                           : PLN_ABSENT);
    if (value != NULL) {
        ck_assert_uint_eq(result.len, strlen(value));
        ck_assert_mem_eq(pln_value_data(result.value), value, result.len);
    }
    pln_release(cache, result.value);
}

uint64_t rig_stat(struct pln_cache *cache, const char *name) {
    struct pln_stat stats[128];
    size_t n = pln_stats(cache, stats, PLN_ARRAY_LEN(stats));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(stats[i].name, name) == 0) {
            return stats[i].value;
        }
    }
    ck_abort_msg("no statistic '%s'", name);
    return 0;
}

void rig_await(struct pln_cache *cache, const char *name, uint64_t at_least) {
    pln_ns deadline = pln_deadline(10000);
    while (rig_stat(cache, name) < at_least) {
        ck_assert_msg(pln_clock_precise() < deadline, "%s stays at %llu, not %llu", name,
                      (unsigned long long) rig_stat(cache, name), (unsigned long long) at_least);
        sched_yield();
    }
}

int rig_run(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
