/* SPDX-License-Identifier: MIT
 * data_rig.c - see data_rig.h. */
#include "data_rig.h"

#include <stdio.h>

struct server server;
static struct rig rig; /* for its rules */
struct pln_cache *a, *b;

static void no_log(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    (void) line;
}

struct pln_cache *data_open(pln_ms ping_ms) {
    struct pln_cache *cache;
    struct pln_options options = {.ns = "t",
                                  .redis = server.url,
                                  .timeout_ms = 20000,
                                  .ping_ms = ping_ms,
                                  .ttl_ms = 600000,
                                  .log = no_log};
    ck_assert_msg(pln_open(&options, &cache) == PLN_OK, "%s", pln_error_text());
    rig_await(cache, "generation", 2);
    return cache;
}

void data_setup(void) {
    pln_test_redis_start(&server, NULL);
    memset(&rig, 0, sizeof rig);
    pthread_mutex_init(&rig.gate, NULL);
    a = data_open(100);
    b = data_open(100);
}

void data_teardown(void) {
    pln_close(a);
    pln_close(b);
    pln_test_redis_stop(&server);
}

size_t data_words(const char *text, char *copy, struct pln_bytes *words) {
    size_t n = 0;
    char *rest = copy;
    strcpy(copy, text);
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        ck_assert_uint_lt(n, DATA_WORDS);
        words[n++] = pln_key(word);
    }
    return n;
}

int data_call(struct pln_cache *cache, const char *name, const char *text, pln_ms ttl,
              struct pln_answer **answer) {
    char copy[512];
    struct pln_bytes words[DATA_WORDS];
    struct pln_data_options options = {.ttl_ms = ttl};
    size_t n = data_words(text, copy, words);
    return pln_data(cache, pln_key(name), words, n, &options, answer);
}

void data_expect(struct pln_cache *cache, const char *name, const char *text, pln_ms ttl,
                 int64_t wanted) {
    struct pln_answer *answer;
    ck_assert_msg(data_call(cache, name, text, ttl, &answer) == PLN_OK, "%s: %s", text,
                  pln_error_text());
    ck_assert_int_eq(pln_answer_kind(answer), PLN_ANSWER_INTEGER);
    ck_assert_int_eq(pln_answer_integer(answer), wanted);
    pln_answer_free(answer);
}

void data_keep_hashes(struct pln_cache *cache) {
    struct pln_terms terms = *pln_cache_terms(cache);
    terms.hash_l1 = true;
    terms.ttl_ms = 60000;
    rig_policy(&rig, cache, rig_rule("cart:{id}", &terms, 0));
}
