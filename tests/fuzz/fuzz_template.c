/* SPDX-License-Identifier: MIT
 *
 * fuzz_template.c - patterns and templates out of any text, against any key: a text is refused or
 * compiled, and what a compiled one captures lies inside the key.
 *
 * The input is a pattern, a template and a key, with a newline after each of the first two.
 */
#include "../../core/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The text up to a newline as a C string, and the rest of the input; NULL where memory is out. */
static char *take_line(const uint8_t **data, size_t *size) {
    const uint8_t *end = *size == 0 ? NULL : memchr(*data, '\n', *size);
    size_t len = end == NULL ? *size : (size_t) (end - *data);
    char *line = strndup((const char *) *data, len);
    size_t used = end == NULL ? len : len + 1;
    *data += used;
    *size -= used;
    return line;
}

static void match(const struct pln_template *pattern, const struct pln_template *filled,
                  struct pln_bytes key) {
    struct pln_bytes captures[PLN_MAX_CAPTURES];
    unsigned n_captures = 0;
    char buffer[256];
    if (!pln_template_match(pattern, key, captures, &n_captures)) {
        return;
    }
    const char *begin = key.data;
    assert(n_captures <= PLN_MAX_CAPTURES);
    for (unsigned i = 0; i < n_captures; i++) {
        const char *at = captures[i].data;
        assert(captures[i].len == 0 || (at >= begin && at + captures[i].len <= begin + key.len));
    }
    if (filled != NULL) {
        size_t len = pln_template_fill(filled, captures, buffer, sizeof buffer);
        assert(len == SIZE_MAX || len <= sizeof buffer);
    }
    /* a key's own pattern filled from its captures is the key again */
    size_t len = pln_template_fill(pattern, captures, buffer, sizeof buffer);
    assert(len == SIZE_MAX || pln_bytes_equal(pln_bytes_of(buffer, len), key));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct pln_template *pattern = NULL, *filled = NULL;
    char *pattern_text = take_line(&data, &size);
    char *filled_text = take_line(&data, &size);
    if (pattern_text == NULL || filled_text == NULL ||
        pln_template_new(pattern_text, NULL, &pattern) != PLN_OK) {
        goto out;
    }
    assert(pln_template_covers(pattern, pattern));
    if (pln_template_new(filled_text, pattern, &filled) != PLN_OK) {
        filled = NULL;
    }
    match(pattern, filled, pln_bytes_of(data, size));
out:
    pln_template_free(filled);
    pln_template_free(pattern);
    free(pattern_text);
    free(filled_text);
    return 0;
}
