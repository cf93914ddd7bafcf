/* SPDX-License-Identifier: MIT
 *
 * load.c - what a loader hands back: a value, its ttl, its tags, and keys that will be wanted next.
 */
#include "engine.h"

enum {
    MAX_RELATED = 1024, /* keys one value may ask for ahead */
};

void pln_load_fini(struct pln_load *load) {
    if (load->value != NULL) {
        pln_value_drop(load->value);
    }
    for (size_t i = 0; i < load->n_tags; i++) {
        free((void *) load->tags[i].data);
    }
    for (size_t i = 0; i < load->n_related; i++) {
        free((void *) load->related[i].data);
    }
    free(load->related);
    memset(load, 0, sizeof *load);
}

int pln_load_value(struct pln_load *load, struct pln_bytes bytes, uint8_t format) {
    if (bytes.len > UINT32_MAX) {
        return pln_fail(PLN_ETOOBIG, "load: a value of %zu bytes, at most 4 GiB", bytes.len);
    }
    struct pln_value *value = pln_value_new(bytes, format);
    if (value == NULL) {
        return pln_fail(PLN_ENOMEM, "load: no memory for a value of %zu bytes", bytes.len);
    }
    if (load->value != NULL) {
        pln_value_drop(load->value);
    }
    load->value = value;
    load->is_same = false;
    return PLN_OK;
}

struct pln_bytes pln_load_old(const struct pln_load *load, uint8_t *format) {
    *format = load->old == NULL ? 0 : load->old->format;
    return load->old == NULL ? pln_bytes_of(NULL, 0)
                             : pln_bytes_of(pln_value_data(load->old), pln_value_len(load->old));
}

int pln_load_same(struct pln_load *load) {
    uint8_t format;
    struct pln_bytes old = pln_load_old(load, &format);
    if (load->old == NULL) {
        return pln_fail(PLN_EINVAL, "load: not modified, but there is no old value");
    }
    /* a copy: the old one may lie in L1, and its new life is another entry's */
    int status = pln_load_value(load, old, format);
    load->is_same = status == PLN_OK;
    return status;
}

int pln_load_error(struct pln_load *load, const char *text) {
    (void) load;
    return pln_fail(PLN_ELOADER, "%s", text);
}

void pln_load_ttl(struct pln_load *load, pln_ms ttl_ms) {
    load->ttl_ms = ttl_ms;
}

void pln_load_stale(struct pln_load *load, pln_ms stale_ms) {
    load->stale_ms = stale_ms < 0 ? 0 : stale_ms;
    load->has_stale = true;
}

static void *copy_bytes(struct pln_bytes bytes) {
    char *copy = malloc(bytes.len + 1);
    if (copy != NULL) {
        if (bytes.len > 0) {
            memcpy(copy, bytes.data, bytes.len);
        }
        copy[bytes.len] = 0;
    }
    return copy;
}

int pln_load_tag(struct pln_load *load, struct pln_bytes tag) {
    if (tag.len == 0 || tag.len > PLN_MAX_TAG) {
        return pln_fail(PLN_EINVAL, "tag: %zu bytes, must be 1 to %d", tag.len, PLN_MAX_TAG);
    }
    for (size_t i = 0; i < load->n_tags; i++) {
        if (pln_bytes_equal(load->tags[i], tag)) {
            return PLN_OK;
        }
    }
    if (load->n_tags == PLN_MAX_TAGS) {
        return pln_fail(PLN_EINVAL, "tag: a value has at most %d tags", PLN_MAX_TAGS);
    }
    void *copy = copy_bytes(tag);
    if (copy == NULL) {
        return pln_fail(PLN_ENOMEM, "tag: no memory");
    }
    load->tags[load->n_tags++] = pln_bytes_of(copy, tag.len);
    return PLN_OK;
}

int pln_load_related(struct pln_load *load, struct pln_bytes key) {
    if (key.len == 0 || key.len > PLN_MAX_KEY) {
        return pln_fail(PLN_EINVAL, "related key: %zu bytes, must be 1 to %d", key.len,
                        PLN_MAX_KEY);
    }
    if (load->n_related == MAX_RELATED) {
        return pln_fail(PLN_EINVAL, "related keys: at most %d of one value", MAX_RELATED);
    }
    void *copy = copy_bytes(key);
    struct pln_bytes *grown = realloc(load->related, (load->n_related + 1) * sizeof *load->related);
    if (grown != NULL) {
        load->related = grown;
    }
    if (copy == NULL || grown == NULL) {
        free(copy);
        return pln_fail(PLN_ENOMEM, "related key: no memory");
    }
    load->related[load->n_related++] = pln_bytes_of(copy, key.len);
    return PLN_OK;
}

struct pln_bytes pln_load_peek(const struct pln_load *load, uint8_t *format) {
    *format = load->value == NULL ? 0 : load->value->format;
    return pln_bytes_of(pln_value_data(load->value), pln_value_len(load->value));
}

int pln_load_rule_tags(struct pln_load *load, const struct pln_match *match) {
    char tag[PLN_MAX_TAG];
    for (size_t i = 0; match->rule != NULL && i < match->rule->n_tags; i++) {
        size_t len = pln_template_fill(match->rule->tags[i], match->captures, tag, sizeof tag);
        if (len == SIZE_MAX) {
            return pln_fail(PLN_EINVAL, "%s:%d: tag '%s' is over %d bytes for this key",
                            match->rule->file, match->rule->line,
                            pln_template_text(match->rule->tags[i]), PLN_MAX_TAG);
        }
        int status = pln_load_tag(load, pln_bytes_of(tag, len));
        if (status < 0) {
            return status;
        }
    }
    return PLN_OK;
}
