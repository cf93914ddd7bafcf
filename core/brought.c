/* SPDX-License-Identifier: MIT
 *
 * brought.c - what is brought of many missing keys at once: by what waits to be stored, which is
 * newer than any source, and else by one call of each loader; then it is stored in one round trip.
 */
#include "bulk.h"

#include "nested.h"
#include "store.h"

int pln_bulk_call(const struct bulk_read *read, const struct pln_request *request,
                  const struct pln_bulk *bulk) {
    struct pln_bulk_call call = {.loader = read->loader,
                                 .arg = read->arg,
                                 .loads_as = read->loads_as,
                                 .request = request,
                                 .bulk = bulk};
    return pln_bulk_load(&call);
}

static void end_load(struct part *part) {
    pln_fill_end(&part->fill, part->loaded, &part->outcome);
    pln_load_fini(&part->load);
    part->state = ENDED;
}

/* Where what was brought is to be stored, it is so with the others'. */
static void keep(struct part *part, int status) {
    part->outcome = (struct pln_outcome){0};
    part->fill.later = part->request.key.is_plain ? NULL : &part->item;
    part->fill.has_later = false;
    part->loaded = pln_fill_store(&part->fill, &part->load, status, &part->outcome);
    part->fill.later = NULL;
    part->state = LOADED;
    if (part->loaded < 0) { /* while its text is there */
        end_load(part);
    }
}

/* What its loader brought. */
static void take(struct part *part, int status, const char *text, pln_ms began) {
    part->fill.load_began = began;
    part->fill.has_old = part->fill.fallback.value != NULL;
    if (status < 0) {
        pln_fail(status, "%s", text);
    }
    keep(part, pln_fill_check(part->request.options, &part->load, status));
}

static bool is_later(const struct part *part) {
    return part->state == LOADED && part->fill.has_later;
}

/* Stores all that was brought, in one round trip. */
static void store(struct bulk_read *read) {
    size_t n = 0;
    for (size_t i = 0; i < read->n_parts; i++) {
        struct part *part = &read->parts[i];
        if (is_later(part)) {
            read->hashed[n] = part->request.key;
            read->leases[n] = part->fill.lease;
            read->items[n] = pln_fill_packed(&part->fill, &part->item, &read->packed[n]);
            n++;
        }
    }
    if (n > 0) {
        pln_l2_commit_many(pln_cache_l2(read->cache), read->hashed, read->leases, read->items, n,
                           pln_cache_l2_deadline(read->cache, PLN_FOREVER), read->loaded);
    }
    for (size_t i = 0, j = 0; i < read->n_parts; i++) {
        struct part *part = &read->parts[i];
        if (is_later(part)) {
            pln_fill_committed(&part->fill, &part->item, read->loaded[j], &part->outcome.life);
            free(read->packed[j++]);
        }
    }
}

/* What waits to be stored is newer than what the loader would bring. */
static void take_queued(struct bulk_read *read) {
    bool has_asked = false;
    for (size_t i = 0; i < read->n_parts; i++) {
        struct part *part = &read->parts[i];
        if (part->state != LOADS || part->request.terms->write <= PLN_WRITE_ASIDE) {
            continue;
        }
        if (!has_asked && pln_queued_is_empty(read->cache)) {
            return; /* as most of the time */
        }
        has_asked = true;
        int status = pln_fill_find_queued(&part->fill, &part->load);
        if (status != PLN_MISS) {
            keep(part, status);
        }
    }
}

/* Whether a part is left to the loader that the parts of a rule have. */
static bool is_of(const struct bulk_read *read, const struct part *part,
                  const struct pln_rule *rule) {
    return part->state == LOADS && (read->loader != NULL || part->request.match.rule == rule);
}

/* Has the loader of a part's bring all keys that are left to it. */
static void load_with(struct bulk_read *read, struct part *first) {
    char text[PLN_ERROR_TEXT];
    struct pln_bulk bulk = {0, read->keys, read->which, read->loads, read->loaded};
    const struct part *end = read->parts + read->n_parts;
    const struct pln_rule *rule = first->request.match.rule;
    for (struct part *part = first; part < end; part++) {
        if (is_of(read, part, rule)) {
            read->keys[bulk.n] = part->request.key.key;
            read->which[bulk.n] = part->at;
            read->loads[bulk.n] = &part->load;
            read->loaded[bulk.n++] = PLN_ABSENT;
        }
    }
    pln_ms began = pln_now(&read->cache->host);
    int status = pln_bulk_call(read, &first->request, &bulk);
    memcpy(text, pln_error_text(), sizeof text);
    for (struct part *part = first; part < end; part++) {
        if (is_of(read, part, rule)) {
            take(part, status < 0 ? status : *bulk.statuses++, text, began);
        }
    }
}

void pln_bulk_bring(struct bulk_read *read) {
    take_queued(read);
    for (size_t i = 0; i < read->n_parts; i++) {
        if (read->parts[i].state == LOADS) {
            load_with(read, &read->parts[i]);
        }
    }
    store(read);
    for (size_t i = 0; i < read->n_parts; i++) {
        if (read->parts[i].state == LOADED) {
            end_load(&read->parts[i]);
        }
    }
}
