/* SPDX-License-Identifier: MIT
 *
 * shaping.c - what the functions of a rule say of a value that a caller brought: they run on a
 * worker, where the policy's states are, and the caller waits, for its beginning no longer than for
 * a load.
 */
#include "flight.h"
#include "hosts.h"

struct shaping {
    const struct pln_ruleset *ruleset;
    const struct pln_match *match;
    struct pln_bytes key, value;
    uint8_t format;
    struct pln_load *load;
};

static int shape(void *arg, unsigned worker) {
    const struct shaping *shaping = arg;
    const struct pln_ruleset *ruleset = shaping->ruleset;
    int status = ruleset->hooks.shape(ruleset->hooks_arg, worker, shaping->match, shaping->key,
                                      shaping->value, shaping->format, shaping->load);
    return status > 0 ? PLN_OK : status;
}

int pln_shape_by_rule(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                      const struct pln_match *match, struct pln_bytes key, struct pln_bytes value,
                      uint8_t format, struct pln_load *load) {
    struct shaping shaping = {ruleset, match, key, value, format, load};
    return pln_ask_worker(cache, shape, &shaping, match->rule->terms.load_timeout_ms, "shape",
                          PLN_ETIMEOUT);
}
