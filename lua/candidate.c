/* SPDX-License-Identifier: MIT
 *
 * candidate.c - a policy file as the candidate of a shadow: it is loaded like any other, into the
 * shadow's own cache, before that is put beside the live one.
 */
#include "script.h"

int pln_shadow_begin(struct pln_cache *cache, const char *path,
                     const struct pln_shadow_options *options) {
    static const struct pln_shadow_options defaults = {0};
    struct pln_shadow *shadow;
    options = options != NULL ? options : &defaults;
    if (cache == NULL) {
        return pln_fail(PLN_EINVAL, "pln_shadow_begin: a cache is wanted");
    }
    int status = pln_shadow_new(cache, options->sample, &shadow);
    if (status < 0) {
        return status;
    }
    status = pln_load_policy(pln_shadow_candidate(shadow), path, options->flags);
    if (status < 0) {
        char text[PLN_ERROR_TEXT]; /* closing may fail in other words */
        memcpy(text, pln_error_text(), sizeof text);
        pln_shadow_free(shadow);
        return pln_fail(status, "%s", text);
    }
    pln_shadow_start_take(cache, shadow);
    return PLN_OK;
}
