/* SPDX-License-Identifier: MIT
 *
 * keys.c - L1 as a whole, for the library's user: its budget, its keys, the hottest of them.
 */
#include "engine.h"

int pln_resize(struct pln_cache *cache, size_t max_bytes) {
    if (max_bytes < cache->max_item_bytes) {
        return pln_fail(PLN_EINVAL, "resize: %zu bytes are less than one value may have, %zu",
                        max_bytes, cache->max_item_bytes);
    }
    return pln_l1_resize(cache->l1, max_bytes);
}

struct each {
    pln_key_visit visit;
    void *arg;
};

static bool visit_key(void *arg, struct pln_bytes key, const struct pln_l1_hit *hit) {
    const struct each *each = arg;
    return hit->is_absent || each->visit(each->arg, key);
}

int pln_each(struct pln_cache *cache, struct pln_bytes prefix, pln_key_visit visit, void *arg) {
    struct each each = {visit, arg};
    return pln_l1_each(cache->l1, pln_now(&cache->host), prefix, visit_key, &each);
}

struct hottest {
    pln_hot_visit visit;
    void *arg;
};

static bool visit_hot(void *arg, struct pln_bytes key, const struct pln_l1_hot *hot) {
    const struct hottest *hottest = arg;
    return hottest->visit(hottest->arg, key, hot->requests, hot->share);
}

int pln_hottest(struct pln_cache *cache, size_t n, pln_hot_visit visit, void *arg) {
    struct hottest hottest = {visit, arg};
    return pln_l1_hottest(cache->l1, pln_now(&cache->host), n, visit_hot, &hottest);
}
