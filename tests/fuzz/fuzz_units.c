/* SPDX-License-Identifier: MIT
 *
 * fuzz_units.c - any text is a duration, a size, a share, the value of an option within its bounds,
 * or is refused.
 *
 * The input is an option's name, a newline, and a text.
 */
#include "../../core/engine.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const pln_ms longest = 1000000000000000; /* some 30,000 years */

static void check_units(const char *text) {
    pln_ms duration = 0;
    size_t bytes = 0;
    double share = 0;
    if (pln_parse_duration(text, &duration)) {
        assert(duration == PLN_FOREVER || (duration >= 0 && duration <= longest));
    }
    assert(!pln_parse_size(text, &bytes) || bytes <= (size_t) longest);
    assert(!pln_parse_share(text, &share) || (isfinite(share) && share >= 0));
}

static void check_resolved(const struct pln_options *options) {
    struct pln_options resolved;
    if (pln_options_resolve(options, true, &resolved) != PLN_OK) {
        return;
    }
    const pln_ms durations[] = {
        resolved.connect_timeout_ms, resolved.timeout_ms, resolved.ping_ms,        resolved.ttl_ms,
        resolved.stale_ms,           resolved.lease_ms,   resolved.load_timeout_ms};
    for (size_t i = 0; i < PLN_ARRAY_LEN(durations); i++) {
        assert(durations[i] >= 0);
    }
    assert(resolved.jitter >= 0 && resolved.jitter <= 0.9);
    assert(resolved.refresh >= 0 && resolved.refresh <= 0.99);
    assert(resolved.max_bytes >= (size_t) 1 << 16);
    assert(resolved.max_item_bytes <= resolved.max_bytes);
    assert(pln_option_index(pln_evictions, resolved.eviction) >= 0);
    assert(resolved.name[0] != 0 && strlen(resolved.name) <= 64 && strlen(resolved.ns) <= 128);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *input = strndup((const char *) data, size);
    if (input == NULL) {
        return 0;
    }
    char *text = input;
    const char *given = strsep(&text, "\n"), *name;
    text = text == NULL ? input + strlen(input) : text;
    struct pln_options options = {0};
    check_units(text);
    if (pln_options_set(&options, given, text) == PLN_OK) {
        check_resolved(&options);
    }
    /* every option is given the text: what one takes may not fit with another's */
    for (size_t i = 0; (name = pln_option_name(i)) != NULL; i++) {
        struct pln_options alone = {0};
        if (pln_options_set(&alone, name, text) == PLN_OK) {
            check_resolved(&alone);
            pln_options_set(&options, name, text);
        }
    }
    check_resolved(&options);
    free(input);
    return 0;
}
