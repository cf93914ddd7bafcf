/* SPDX-License-Identifier: MIT
 *
 * units.c - durations, sizes and shares as people write them, and the nearest of some names to a
 * misspelt one.
 */
#include "base.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>

struct unit {
    const char *name;
    double factor;
};

/* A number with one of some units (the first stands for none), nothing before or after it. */
static bool parse(const char *text, const struct unit *units, size_t n_units, double *result) {
    char *end;
    if (!isdigit((unsigned char) text[0]) && text[0] != '.') {
        return false; /* strtod would take blanks, signs, "inf" and "nan" */
    }
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        return false;
    }
    errno = 0;
    double number = strtod(text, &end);
    if (errno != 0 || end == text) {
        return false;
    }
    for (size_t i = 0; i < n_units; i++) {
        if (strcasecmp(end, units[i].name) == 0) {
            *result = number * units[i].factor;
            return isfinite(*result);
        }
    }
    return false;
}

bool pln_parse_duration(const char *text, pln_ms *duration) {
    static const struct unit units[] = {
        {"", 1e3},     {"ms", 1},     {"s", 1e3},     {"m", 60e3},
        {"min", 60e3}, {"h", 3600e3}, {"d", 86400e3}, {"w", 7 * 86400e3},
    };
    double ms;
    if (strcmp(text, "forever") == 0) {
        *duration = PLN_FOREVER;
        return true;
    }
    if (!parse(text, units, PLN_ARRAY_LEN(units), &ms) || ms > 1e15) {
        return false;
    }
    *duration = (pln_ms) llround(ms);
    return true;
}

bool pln_parse_size(const char *text, size_t *size) {
    static const struct unit units[] = {
        {"", 1},          {"b", 1},          {"k", 1024},       {"kb", 1024},
        {"m", 1048576.0}, {"mb", 1048576.0}, {"g", 1073741824}, {"gb", 1073741824},
    };
    double bytes;
    if (!parse(text, units, PLN_ARRAY_LEN(units), &bytes) || bytes > 1e15) {
        return false;
    }
    *size = (size_t) llround(bytes);
    return true;
}

bool pln_parse_share(const char *text, double *share) {
    static const struct unit units[] = {{"", 1}, {"%", 0.01}};
    return parse(text, units, PLN_ARRAY_LEN(units), share);
}

/* Edit distance by Wagner and Fischer, with one row; names are short. */
static size_t distance(const char *a, const char *b) {
    enum { LONGEST = 32 };
    size_t row[LONGEST + 1];
    size_t len_b = strlen(b);
    if (strlen(a) > LONGEST || len_b > LONGEST) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= len_b; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != 0; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < len_b; j++) {
            bool is_same = tolower((unsigned char) a[i]) == tolower((unsigned char) b[j]);
            size_t least = diagonal + !is_same;
            diagonal = row[j + 1];
            if (row[j] + 1 < least) {
                least = row[j] + 1;
            }
            if (row[j + 1] + 1 < least) {
                least = row[j + 1] + 1;
            }
            row[j + 1] = least;
        }
    }
    return row[len_b];
}

const char *pln_nearest(const char *const *names, const char *name) {
    const char *nearest = NULL;
    size_t least = 3; /* two edits are a slip, three another word */
    for (; *names != NULL; names++) {
        size_t edits = distance(*names, name);
        if (edits < least) {
            least = edits;
            nearest = *names;
        }
    }
    return nearest;
}
