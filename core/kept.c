/* SPDX-License-Identifier: MIT
 *
 * kept.c - operations that failed, each a copy with all it needs, and the tables in which they wait
 * in the order in which they came. Whoever has the tables guards them: recover.c.
 */
#include "recover.h"

void pln_kept_free(struct pln_kept *kept) {
    if (kept != NULL) {
        free(kept->memory);
        free(kept);
    }
}

void pln_kept_forget_value(struct pln_kept *kept) {
    free(kept->memory);
    kept->memory = NULL;
    kept->memory_bytes = 0;
    kept->item = (struct pln_l2_item){0};
    kept->kind = PLN_ATTEMPT_REMOVE;
}

static bool copy_item(struct pln_kept *kept, const struct pln_l2_item *item) {
    size_t bytes = item->n_tags * sizeof(struct pln_bytes) + item->value.len;
    for (size_t i = 0; i < item->n_tags; i++) {
        bytes += item->tags[i].len;
    }
    struct pln_bytes *tags = malloc(bytes + 1);
    if (tags == NULL) {
        return false;
    }
    char *at = (char *) (tags + item->n_tags);
    kept->item = *item;
    for (size_t i = 0; i < item->n_tags; i++) {
        memcpy(at, item->tags[i].data, item->tags[i].len);
        tags[i] = pln_bytes_of(at, item->tags[i].len);
        at += item->tags[i].len;
    }
    if (item->value.len > 0) {
        memcpy(at, item->value.data, item->value.len);
    }
    kept->item.value = pln_bytes_of(at, item->value.len);
    kept->item.tags = tags;
    kept->memory = tags;
    kept->memory_bytes = bytes;
    return true;
}

struct pln_kept *pln_kept_new(const struct pln_attempt *attempt) {
    struct pln_kept *kept = calloc(1, sizeof *kept + attempt->key.key.len);
    if (kept == NULL) {
        return NULL;
    }
    memcpy(kept->bytes, attempt->key.key.data, attempt->key.key.len);
    kept->key = (struct pln_hashed){pln_bytes_of(kept->bytes, attempt->key.key.len),
                                    attempt->key.hash};
    kept->kind = attempt->kind;
    kept->ticket = attempt->ticket;
    kept->at = attempt->at;
    if (kept->kind == PLN_ATTEMPT_SET && !copy_item(kept, attempt->item)) {
        kept->kind = PLN_ATTEMPT_REMOVE;
    }
    return kept;
}

size_t pln_kept_bytes(const struct pln_kept *kept) {
    return sizeof *kept + kept->key.key.len + kept->memory_bytes;
}

bool pln_kept_has_tag(const struct pln_kept *kept, struct pln_bytes tag) {
    for (size_t i = 0; i < kept->item.n_tags; i++) {
        if (pln_bytes_equal(kept->item.tags[i], tag)) {
            return true;
        }
    }
    return false;
}

/* ---- the tables ---- */

static struct pln_kept **table_of(struct pln_backlog *backlog, enum pln_attempt_kind kind) {
    return kind == PLN_ATTEMPT_TAG ? &backlog->by_tag : &backlog->by_key;
}

struct pln_kept *pln_backlog_find(struct pln_backlog *backlog, enum pln_attempt_kind kind,
                                  struct pln_bytes key) {
    struct pln_kept *found;
    HASH_FIND(hh, *table_of(backlog, kind), key.data, key.len, found);
    return found;
}

bool pln_backlog_add(struct pln_backlog *backlog, struct pln_kept *kept) {
    struct pln_kept **table = table_of(backlog, kept->kind);
    HASH_ADD_KEYPTR(hh, *table, kept->bytes, kept->key.key.len, kept);
    if (kept->hh.tbl == NULL) {
        return false;
    }
    backlog->bytes += pln_kept_bytes(kept);
    return true;
}

void pln_backlog_remove(struct pln_backlog *backlog, struct pln_kept *kept) {
    struct pln_kept **table = table_of(backlog, kept->kind);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it cannot follow uthash */
    HASH_DEL(*table, kept);
    backlog->bytes -= pln_kept_bytes(kept);
}

struct pln_kept *pln_backlog_first(struct pln_backlog *backlog) {
    return backlog->by_tag != NULL ? backlog->by_tag : backlog->by_key;
}

size_t pln_backlog_count(const struct pln_backlog *backlog) {
    return HASH_COUNT(backlog->by_key) + HASH_COUNT(backlog->by_tag);
}

void pln_backlog_each(struct pln_backlog *backlog, void (*visit)(void *, struct pln_kept *),
                      void *arg) {
    struct pln_kept *const tables[] = {backlog->by_key, backlog->by_tag};
    struct pln_kept *kept, *next;
    for (size_t i = 0; i < PLN_ARRAY_LEN(tables); i++) {
        for (kept = tables[i]; kept != NULL; kept = next) {
            next = kept->hh.next;
            visit(arg, kept);
        }
    }
}
