/* SPDX-License-Identifier: MIT
 *
 * named.c - what locks, counters, limits and sessions share: their names in Redis, and reading the
 * short answers of their scripts.
 *
 * For a namespace N: N:k:{NAME} a lock and N:k:{NAME}:f its fence, N:c:NAME a counter, N:rf:NAME,
 * N:rs:NAME, N:rl:NAME and N:rb:NAME a limit by its kind, N:s:ID a session, N:su:USER the sessions
 * of a user. None of them is a key of the cache, so clear() and tags do not touch them.
 */
#include "named.h"

#include <stdio.h>

int pln_named_make(const struct pln_cache *cache, const char *before, struct pln_bytes name,
                   const char *after, struct pln_named *made) {
    size_t ns = strlen(cache->ns), n_before = strlen(before), n_after = strlen(after);
    if (name.len == 0 || name.len > PLN_NAMED_MAX || name.data == NULL) {
        return pln_fail(PLN_EINVAL, "name: %zu bytes, must be 1 to %d", name.len, PLN_NAMED_MAX);
    }
    if (ns + n_before + name.len + n_after > sizeof made->text) {
        return pln_fail(PLN_EINVAL, "ns: a namespace of %zu bytes is too long for names", ns);
    }
    char *at = mempcpy(made->text, cache->ns, ns);
    at = mempcpy(at, before, n_before);
    at = mempcpy(at, name.data, name.len);
    at = mempcpy(at, after, n_after);
    made->len = (size_t) (at - made->text);
    return PLN_OK;
}

struct pln_bytes pln_named_number(int64_t number, char text[PLN_NAMED_NUMBER]) {
    return pln_bytes_of(text,
                        (size_t) snprintf(text, PLN_NAMED_NUMBER, "%lld", (long long) number));
}

int pln_named_integers(const struct pln_reply *reply, const char *what, int64_t *numbers,
                       size_t n) {
    bool is_good = reply->kind == PLN_REPLY_ARRAY && reply->n_elements == n;
    for (size_t i = 0; is_good && i < n; i++) {
        is_good = reply->elements[i].kind == PLN_REPLY_INTEGER;
    }
    if (!is_good) {
        return pln_fail(PLN_EL2, "%s: redis: an answer of an unexpected kind", what);
    }
    for (size_t i = 0; i < n; i++) {
        numbers[i] = reply->elements[i].integer;
    }
    return PLN_OK;
}
