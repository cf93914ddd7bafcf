/* SPDX-License-Identifier: MIT
 *
 * bulk.h - private to core: many missing keys on their way: bulk.c (from the first look to what
 * comes of it) and brought.c (what is brought of them).
 */
#ifndef PLN_BULK_H
#define PLN_BULK_H

#include "way.h"

enum part_state {
    FOLLOWS, /* another thread leads, or it has not begun */
    LOADS,   /* the loader is to bring it */
    LOADED,  /* it has been brought, and may have to be stored */
    WAITS,   /* another process loads it */
    ENDED,   /* its flight has */
};

/* A key that is missing. */
struct part {
    size_t at; /* in the caller's arrays */
    enum part_state state;
    struct pln_request request;
    struct pln_flight *flight; /* NULL: it failed before there was one */
    struct fill fill;
    struct pln_load load;
    struct pln_outcome outcome; /* of the load */
    int loaded;                 /* its status */
    struct pln_l2_item item;    /* to be stored: its bytes are the outcome's, its tags the load's */
};

struct bulk_read {
    struct pln_cache *cache;
    const struct pln_get_options *options;
    pln_bulk_loader loader; /* NULL: the rules' */
    void *arg;
    unsigned loads_as; /* of these: as in a request */
    struct pln_result *results;
    int *statuses;
    struct part *parts;
    size_t n_parts;
    /* what the loader is given, with room for all parts */
    struct pln_bytes *keys;
    size_t *which;
    struct pln_load **loads;
    int *loaded;
    struct pln_hashed *hashed;
    pln_ms *lengths;
    struct pln_l2_lease *leases;
    struct pln_l2_value *values;
    struct pln_l2_item *items;
    void **packed;
};

/* Calls the loader that a request's rule has, or the program's. */
int pln_bulk_call(const struct bulk_read *read, const struct pln_request *request,
                  const struct pln_bulk *bulk);
/* Brings all that is to be loaded, and stores it. */
void pln_bulk_bring(struct bulk_read *read);

#endif
