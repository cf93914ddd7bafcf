/* SPDX-License-Identifier: MIT
 *
 * schema.c - the form of keys: "env:service:version:entity:id" names the parts that a key has
 * between its colons; in "prod:shop:v2:{entity}:{id}" those in braces are names, and the others
 * stand in every key as they are. A name that ends in three dots, the last one, takes the rest of
 * the key, with its colons: "shop:{entity}:{id...}".
 *
 * Hits in L1 are not checked: a key that does not fit was never stored.
 */
#include "schema.h"

enum { MOST_PARTS = 16 };

struct part {
    struct pln_bytes text; /* the name, or what must stand there */
    bool is_fixed, takes_rest;
};

struct pln_schema {
    size_t n;
    struct part parts[MOST_PARTS];
    char text[]; /* as given */
};

/* The bytes up to the next colon, and whether there is one. */
static bool cut(struct pln_bytes *rest, struct pln_bytes *piece) {
    const char *colon = rest->len > 0 ? memchr(rest->data, ':', rest->len) : NULL;
    *piece = *rest;
    if (colon == NULL) {
        return false;
    }
    piece->len = (size_t) (colon - (const char *) rest->data);
    *rest = pln_bytes_of(colon + 1, rest->len - piece->len - 1);
    return true;
}

/* ---- reading one ---- */

static int refuse(const char *text, const char *why) {
    return pln_fail(PLN_EINVAL, "key_schema: '%.200s': %s", text, why);
}

/* A name without its braces and dots. */
static bool read_name(struct part *part, bool has_braces) {
    const char *bytes = part->text.data;
    size_t len = part->text.len;
    if (has_braces) {
        bytes++;
        len -= 2;
    }
    part->takes_rest = len > 3 && memcmp(bytes + len - 3, "...", 3) == 0;
    len -= part->takes_rest ? 3 : 0;
    part->text = pln_bytes_of(bytes, len);
    return len > 0 && memchr(bytes, '{', len) == NULL && memchr(bytes, '}', len) == NULL;
}

static int read_part(struct pln_schema *schema, struct pln_bytes piece, bool has_names,
                     bool is_last) {
    struct part *part = &schema->parts[schema->n++];
    const char *bytes = piece.data;
    bool is_braced = piece.len > 2 && bytes[0] == '{' && bytes[piece.len - 1] == '}';
    *part = (struct part){.text = piece, .is_fixed = has_names && !is_braced};
    if (piece.len == 0) {
        return refuse(schema->text, "a part is empty");
    }
    if (part->is_fixed &&
        (memchr(bytes, '{', piece.len) != NULL || memchr(bytes, '}', piece.len) != NULL)) {
        return refuse(schema->text, "a name in braces is a part of its own");
    }
    if (!part->is_fixed && !read_name(part, is_braced)) {
        return refuse(schema->text, "a name is empty, or has a brace in it");
    }
    return part->takes_rest && !is_last
               ? refuse(schema->text, "what ends in three dots takes the rest, and so is the last")
               : PLN_OK;
}

int pln_schema_new(const char *text, struct pln_schema **schema) {
    *schema = NULL;
    if (text == NULL) {
        return PLN_OK;
    }
    size_t size = strlen(text) + 1;
    struct pln_schema *created = malloc(sizeof *created + size);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for key_schema");
    }
    created->n = 0;
    memcpy(created->text, text, size);
    struct pln_bytes rest = pln_key(created->text), piece;
    bool has_names = strchr(text, '{') != NULL, is_last = false;
    int status = PLN_OK;
    while (status == PLN_OK && !is_last) {
        is_last = !cut(&rest, &piece);
        status = created->n == MOST_PARTS ? refuse(text, "it has over 16 parts")
                                          : read_part(created, piece, has_names, is_last);
    }
    if (status < 0) {
        free(created);
        return status;
    }
    *schema = created;
    return PLN_OK;
}

void pln_schema_free(struct pln_schema *schema) {
    free(schema);
}

/* ---- keys ---- */

static int misfit(const struct pln_schema *schema, size_t i, struct pln_bytes key,
                  const char *why) {
    const struct part *part = &schema->parts[i];
    return pln_fail(PLN_EINVAL, "key '%.*s' is not as '%.100s' says: part %zu, '%.*s', %s",
                    key.len > 100 ? 100 : (int) key.len, (const char *) key.data, schema->text,
                    i + 1, part->text.len > 50 ? 50 : (int) part->text.len,
                    (const char *) part->text.data, why);
}

int pln_schema_check(const struct pln_schema *schema, struct pln_bytes key) {
    struct pln_bytes rest = key, piece;
    bool goes_on = true;
    if (schema == NULL) {
        return PLN_OK;
    }
    for (size_t i = 0; i < schema->n; i++) {
        const struct part *part = &schema->parts[i];
        if (!goes_on) {
            return misfit(schema, i, key, "is missing");
        }
        if (part->takes_rest) {
            piece = rest;
            goes_on = false;
        } else {
            goes_on = cut(&rest, &piece);
        }
        if (piece.len == 0) {
            return misfit(schema, i, key, "is empty");
        }
        if (part->is_fixed && !pln_bytes_equal(part->text, piece)) {
            return misfit(schema, i, key, "stands there in every key");
        }
    }
    return goes_on ? misfit(schema, schema->n - 1, key, "is the last") : PLN_OK;
}

int pln_schema_key(const struct pln_cache *cache, struct pln_bytes key, struct pln_hashed *hashed) {
    int status = pln_cache_key(cache, key, hashed);
    return status == PLN_OK ? pln_schema_check(cache->schema, key) : status;
}
