/* SPDX-License-Identifier: MIT
 *
 * fields.c - the plain fields of classes and rules: name, kind, place, range. Reading, inheriting
 * and explaining all go by this one table, so a field is added by adding a line.
 */
#include "script.h"

#include <inttypes.h>
#include <stdio.h>

static bool is_positive(double ms) {
    return ms > 0 && (ms <= (double) PLN_TEN_YEARS_MS || ms >= (double) PLN_FOREVER);
}

static bool is_any_length(double ms) {
    return ms >= 0 && (ms <= (double) PLN_TEN_YEARS_MS || ms >= (double) PLN_FOREVER);
}

static bool is_short(double ms) {
    return ms > 0 && ms <= 3600e3;
}

static bool is_short_or_none(double ms) {
    return ms >= 0 && ms <= 3600e3;
}

static bool is_jitter(double share) {
    return share >= 0 && share <= 0.9;
}

static bool is_refresh(double share) {
    return share == 0 || (share >= 0.1 && share <= 0.99);
}

static bool is_early(double factor) {
    return factor >= 0 && factor <= 10;
}

static bool is_weight(double number) {
    return number >= 0 && number <= UINT8_MAX;
}

static bool is_priority(double number) {
    return number >= INT8_MIN && number <= INT8_MAX;
}

static bool is_built_in(double compression) {
    return pln_has_compression((int) compression);
}

#define POSITIVE "more than 0 and at most 10 years, or \"forever\""
#define ANY_LENGTH "between 0 and 10 years, or \"forever\""
#define SHORT "more than 0 and at most 1 hour"
#define AT(member) offsetof(struct pln_terms, member)

const struct pln_policy_field pln_policy_fields[] = {
    {"ttl", PLN_FIELD_DURATION, AT(ttl_ms), is_positive, POSITIVE},
    {"l1_ttl", PLN_FIELD_DURATION, AT(l1_ttl_ms), is_positive, POSITIVE},
    {"jitter", PLN_FIELD_SHARE, AT(jitter), is_jitter, "between 0 and 0.9"},
    {"refresh", PLN_FIELD_SHARE, AT(refresh), is_refresh, "0, or between 0.1 and 0.99"},
    {"stale", PLN_FIELD_DURATION, AT(stale_ms), is_any_length, ANY_LENGTH},
    {"stale_if_error", PLN_FIELD_DURATION, AT(stale_if_error_ms), is_any_length, ANY_LENGTH},
    {"negative", PLN_FIELD_DURATION, AT(negative_ms), is_any_length, ANY_LENGTH},
    {"lease", PLN_FIELD_DURATION, AT(lease_ms), is_short, SHORT},
    {"load_timeout", PLN_FIELD_DURATION, AT(load_timeout_ms), is_short, SHORT},
    {"max_bytes", PLN_FIELD_SIZE, AT(max_bytes), NULL, NULL},
    {"l1", PLN_FIELD_BOOLEAN, AT(use_l1), NULL, NULL},
    {"l2", PLN_FIELD_BOOLEAN, AT(use_l2), NULL, NULL},
    {"local_writes", PLN_FIELD_BOOLEAN, AT(local_writes), NULL, NULL},
    {"hash_l1", PLN_FIELD_BOOLEAN, AT(hash_l1), NULL, NULL},
    {"read", PLN_FIELD_READ, AT(read), NULL, NULL},
    {"replica_ttl", PLN_FIELD_DURATION, AT(replica_ttl_ms), is_positive, POSITIVE},
    {"max_staleness", PLN_FIELD_DURATION, AT(max_staleness_ms), is_positive, POSITIVE},
    {"weight", PLN_FIELD_NUMBER, AT(weight), is_weight, "a whole number between 0 and 255"},
    {"priority", PLN_FIELD_NUMBER, AT(priority), is_priority,
     "a whole number between -128 and 127"},
    {"soft_timeout", PLN_FIELD_DURATION, AT(soft_timeout_ms), is_short_or_none,
     "between 0 and 1 hour"},
    {"min_uses", PLN_FIELD_NUMBER, AT(min_uses), is_weight, "a whole number between 0 and 255"},
    {"deny", PLN_FIELD_BOOLEAN, AT(is_denied), NULL, NULL},
    {"l2_ttl", PLN_FIELD_DURATION, AT(l2_ttl_ms), is_positive, POSITIVE},
    {"max_age", PLN_FIELD_DURATION, AT(max_age_ms), is_positive, POSITIVE},
    {"retry", PLN_FIELD_DURATION, AT(retry_ms), is_short_or_none, "between 0 and 1 hour"},
    {"early", PLN_FIELD_FACTOR, AT(early), is_early, "from 0 to 10"},
    {"sliding", PLN_FIELD_BOOLEAN, AT(sliding), NULL, NULL},
    {"keep_hot", PLN_FIELD_DURATION, AT(keep_hot_ms), is_any_length, ANY_LENGTH},
    {"compress", PLN_FIELD_SIZE, AT(compress_bytes), NULL, NULL},
    {"compression", PLN_FIELD_COMPRESSION, AT(compression), is_built_in, "one that is built in"},
    {"codec", PLN_FIELD_CODEC, AT(codec), NULL, NULL},
    {"plain", PLN_FIELD_BOOLEAN, AT(is_plain), NULL, NULL},
    {"write", PLN_FIELD_WRITE, AT(write), NULL, NULL},
};

const unsigned pln_n_policy_fields = PLN_ARRAY_LEN(pln_policy_fields);
_Static_assert(PLN_ARRAY_LEN(pln_policy_fields) <= PLN_MOST_POLICY_FIELDS,
               "a bit for each in what a rule says itself");

static void *place_of(const struct pln_policy_field *field, struct pln_terms *terms) {
    return (char *) terms + field->offset;
}

/* A number that is none of a kind's is out of every range, unless it is no number. */
static enum pln_read_result wrong_number(lua_State *L, int index) {
    lua_Number number = lua_tonumber(L, index);
    bool is_number = lua_type(L, index) == LUA_TNUMBER && number == number;
    return is_number ? PLN_READ_WRONG_RANGE : PLN_READ_WRONG_KIND;
}

static enum pln_read_result read_duration(const struct pln_policy_field *field, lua_State *L,
                                          int index, pln_ms *duration) {
    pln_ms ms;
    if (!pln_lua_to_duration(L, index, &ms)) {
        return wrong_number(L, index);
    }
    if (!field->is_valid((double) ms)) {
        return PLN_READ_WRONG_RANGE;
    }
    *duration = ms;
    return PLN_READ_OK;
}

static enum pln_read_result read_share(const struct pln_policy_field *field, lua_State *L,
                                       int index, double *share) {
    double number;
    if (!pln_lua_to_share(L, index, &number)) {
        return wrong_number(L, index);
    }
    if (!field->is_valid(number)) {
        return PLN_READ_WRONG_RANGE;
    }
    *share = number;
    return PLN_READ_OK;
}

static enum pln_read_result read_factor(const struct pln_policy_field *field, lua_State *L,
                                        int index, double *factor) {
    if (lua_type(L, index) != LUA_TNUMBER) {
        return PLN_READ_WRONG_KIND;
    }
    if (!field->is_valid(lua_tonumber(L, index))) {
        return PLN_READ_WRONG_RANGE;
    }
    *factor = lua_tonumber(L, index);
    return PLN_READ_OK;
}

/* One byte, signed or not: the same bits. */
static enum pln_read_result read_number(const struct pln_policy_field *field, lua_State *L,
                                        int index, uint8_t *number) {
    int is_integer = 0;
    lua_Integer value = lua_tointegerx(L, index, &is_integer);
    if (!is_integer || lua_type(L, index) != LUA_TNUMBER) {
        return PLN_READ_WRONG_KIND;
    }
    if (!field->is_valid((double) value)) {
        return PLN_READ_WRONG_RANGE;
    }
    *number = (uint8_t) value;
    return PLN_READ_OK;
}

/* The i-th name, from 1 on, of a kind that has names. */
static const char *name_of(enum pln_field_kind kind, int i) {
    return kind == PLN_FIELD_READ          ? pln_read_name(i)
           : kind == PLN_FIELD_COMPRESSION ? pln_compression_name(i)
           : kind == PLN_FIELD_WRITE       ? pln_write_name(i)
                                           : pln_codec_name(i);
}

static enum pln_read_result read_name(const struct pln_policy_field *field, lua_State *L, int index,
                                      uint8_t *number) {
    enum pln_field_kind kind = field->kind;
    const char *name = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : "";
    for (int i = 1; name_of(kind, i) != NULL; i++) {
        if (strcmp(name_of(kind, i), name) == 0) {
            *number = (uint8_t) i;
            return field->is_valid == NULL || field->is_valid(i) ? PLN_READ_OK
                                                                 : PLN_READ_WRONG_RANGE;
        }
    }
    return PLN_READ_WRONG_KIND;
}

enum pln_read_result pln_policy_field_read(const struct pln_policy_field *field, lua_State *L,
                                           int index, struct pln_terms *terms) {
    void *place = place_of(field, terms);
    switch (field->kind) {
    case PLN_FIELD_DURATION:
        return read_duration(field, L, index, place);
    case PLN_FIELD_SHARE:
        return read_share(field, L, index, place);
    case PLN_FIELD_SIZE:
        return pln_lua_to_size(L, index, place) ? PLN_READ_OK : PLN_READ_WRONG_KIND;
    case PLN_FIELD_NUMBER:
        return read_number(field, L, index, place);
    case PLN_FIELD_READ:
    case PLN_FIELD_COMPRESSION:
    case PLN_FIELD_CODEC:
        return read_name(field, L, index, place);
    case PLN_FIELD_WRITE:
        return pln_writing_strategy(L, index, place) ? PLN_READ_OK
                                                     : read_name(field, L, index, place);
    case PLN_FIELD_FACTOR:
        return read_factor(field, L, index, place);
    default:
        if (!lua_isboolean(L, index)) {
            return PLN_READ_WRONG_KIND;
        }
        *(bool *) place = lua_toboolean(L, index);
        return PLN_READ_OK;
    }
}

const char *pln_policy_field_wanted(const struct pln_policy_field *field) {
    static const char *const wanted[] = {
        [PLN_FIELD_DURATION] = "a duration such as \"15m\" or seconds",
        [PLN_FIELD_SIZE] = "a size such as \"64k\" or bytes",
        [PLN_FIELD_SHARE] = "a share such as \"10%\" or 0.1",
        [PLN_FIELD_BOOLEAN] = "true or false",
        [PLN_FIELD_READ] = "\"primary\", \"replica\" or \"nearest\"",
        [PLN_FIELD_FACTOR] = "a number",
        [PLN_FIELD_COMPRESSION] = "\"lz4\" or \"zstd\"",
        [PLN_FIELD_CODEC] = "\"msgpack\" or \"json\"",
        [PLN_FIELD_WRITE] = "\"aside\", \"through\", \"behind\" or \"around\"",
    };
    return field->kind == PLN_FIELD_NUMBER ? field->range : wanted[field->kind];
}

void pln_policy_field_copy(const struct pln_policy_field *field, struct pln_terms *to,
                           const struct pln_terms *from) {
    static const size_t sizes[] = {
        [PLN_FIELD_DURATION] = sizeof(pln_ms), [PLN_FIELD_SIZE] = sizeof(size_t),
        [PLN_FIELD_SHARE] = sizeof(double),    [PLN_FIELD_BOOLEAN] = sizeof(bool),
        [PLN_FIELD_NUMBER] = sizeof(uint8_t),  [PLN_FIELD_READ] = sizeof(uint8_t),
        [PLN_FIELD_FACTOR] = sizeof(double),   [PLN_FIELD_COMPRESSION] = sizeof(uint8_t),
        [PLN_FIELD_CODEC] = sizeof(uint8_t),   [PLN_FIELD_WRITE] = sizeof(uint8_t),
    };
    memcpy(place_of(field, to), (const char *) from + field->offset, sizes[field->kind]);
}

struct unit {
    const char *name;
    int64_t factor;
};

/* The number in the largest unit that leaves it whole; the last unit is 1. */
static void format_units(int64_t number, const struct unit *units, char *text, size_t size) {
    while (units->factor > 1 && (number == 0 || number % units->factor != 0)) {
        units++;
    }
    snprintf(text, size, "%" PRId64 "%s", number / units->factor, units->name);
}

void pln_policy_format_time(pln_ms time, char *text, size_t size) {
    static const struct unit times[] = {
        {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    if (time == PLN_FOREVER) {
        snprintf(text, size, "forever");
    } else {
        format_units(time, times, text, size);
    }
}

void pln_policy_field_format(const struct pln_policy_field *field, const struct pln_terms *terms,
                             char *text, size_t size) {
    static const struct unit sizes[] = {{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {"", 1}};
    const void *place = (const char *) terms + field->offset;
    switch (field->kind) {
    case PLN_FIELD_DURATION:
        pln_policy_format_time(*(const pln_ms *) place, text, size);
        break;
    case PLN_FIELD_SIZE:
        format_units((int64_t) * (const size_t *) place, sizes, text, size);
        break;
    case PLN_FIELD_SHARE:
    case PLN_FIELD_FACTOR:
        snprintf(text, size, "%g", *(const double *) place);
        break;
    case PLN_FIELD_READ:
    case PLN_FIELD_COMPRESSION:
    case PLN_FIELD_CODEC:
    case PLN_FIELD_WRITE: {
        const char *name = name_of(field->kind, *(const uint8_t *) place);
        const char *otherwise = field->kind == PLN_FIELD_WRITE ? "aside" : "default";
        snprintf(text, size, "%s", name == NULL ? otherwise : name);
        break;
    }
    case PLN_FIELD_NUMBER:
        snprintf(text, size, "%d",
                 field->is_valid(-1) ? *(const int8_t *) place : *(const uint8_t *) place);
        break;
    default:
        snprintf(text, size, "%s", *(const bool *) place ? "true" : "false");
    }
}

size_t pln_policy_describe(const struct pln_terms *terms, char *buffer, size_t size) {
    size_t len = 0;
    for (unsigned i = 0; i < pln_n_policy_fields; i++) {
        char value[32];
        pln_policy_field_format(&pln_policy_fields[i], terms, value, sizeof value);
        len += (size_t) snprintf(len < size ? buffer + len : NULL, len < size ? size - len : 0,
                                 "%s %s\n", pln_policy_fields[i].name, value);
    }
    return len;
}
