/* SPDX-License-Identifier: MIT
 *
 * fuzz_matcher.c - any set of patterns against any key: the search finds the rule that trying one
 * after the other finds.
 *
 * The input is patterns, a line each, of which those that are none are left out; then an empty
 * line, and the key.
 */
#include "../../core/policy.h"

enum { MOST_RULES = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Makes rules of the lines up to an empty one; returns how many bytes these take. */
static size_t read_rules(const uint8_t *data, size_t size, struct pln_rule *rules, size_t *n) {
    size_t at = 0;
    while (at < size && data[at] != '\n') {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t len = end == NULL ? size - at : (size_t) (end - data) - at;
        char *line = strndup((const char *) data + at, len);
        if (line != NULL && *n < MOST_RULES &&
            pln_template_new(line, NULL, &rules[*n].pattern) == PLN_OK) {
            ++*n;
        }
        free(line);
        at += end == NULL ? len : len + 1;
    }
    return at < size ? at + 1 : at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct pln_rule rules[MOST_RULES] = {{.line = 0}};
    struct pln_bytes captures[PLN_MAX_CAPTURES];
    struct pln_matcher *matcher = NULL;
    unsigned n_captures;
    size_t n = 0, first = 0;
    size_t used = read_rules(data, size, rules, &n);
    struct pln_bytes key = pln_bytes_of(data + used, size - used);
    if (n > 0 && pln_matcher_new(rules, n, &matcher) == PLN_OK) {
        while (first < n && !pln_template_match(rules[first].pattern, key, captures, &n_captures)) {
            first++;
        }
        size_t found = pln_matcher_find(matcher, key);
        assert(found == (first < n ? first : SIZE_MAX));
        (void) found;
    }
    pln_matcher_free(matcher);
    for (size_t i = 0; i < n; i++) {
        pln_template_free(rules[i].pattern);
    }
    return 0;
}
