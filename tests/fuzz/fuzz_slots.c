/* SPDX-License-Identifier: MIT
 *
 * fuzz_slots.c - whatever a server says of its cluster is read without harm: an error text leads to
 * an endpoint or nowhere, an answer to CLUSTER SLOTS is refused, or gives ranges that can be put
 * into a map.
 *
 * The input is taken for an error's text, for a key, and for an answer in RESP.
 */
#include "../../l2/topology.h"
#include "../l2/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A plain host and a port, whatever the text was. */
static void check_endpoint(const struct pln_address *endpoint) {
    size_t len = strnlen(endpoint->host, PLN_HOST_SIZE);
    assert(len < PLN_HOST_SIZE && endpoint->port != 0);
    for (size_t i = 0; i < len; i++) {
        assert(endpoint->host[i] > ' ' && endpoint->host[i] < 0x7f);
    }
}

static void fuzz_text(struct pln_bytes text) {
    struct pln_redirect redirect;
    if (pln_moved_read(text, &redirect)) {
        check_endpoint(&redirect.to);
        assert(redirect.slot < PLN_N_SLOTS);
    }
    assert(pln_slot_of(text) < PLN_N_SLOTS);
}

static void fuzz_shards(const struct pln_reply *reply) {
    static const uint16_t places[PLN_MOST_CLUSTER_NODES] = {0};
    struct pln_shards shards;
    if (pln_shards_read(reply, &shards) != PLN_OK) {
        return;
    }
    unsigned n_known = 0;
    for (size_t i = 0; i < shards.n_nodes; i++) {
        check_endpoint(&shards.nodes[i]);
    }
    for (size_t i = 0; i < shards.n_ranges; i++) {
        const struct pln_slot_range *range = &shards.ranges[i];
        assert(range->n_nodes >= 1 && range->n_nodes <= PLN_MOST_RANGE_NODES);
        assert(range->first <= range->last && range->last < PLN_N_SLOTS);
        for (size_t j = 0; j < range->n_nodes; j++) {
            assert(range->nodes[j] < shards.n_nodes || (j == 0 && range->nodes[j] == PLN_NO_NODE));
        }
        n_known += range->nodes[0] == PLN_NO_NODE ? 0 : range->last - range->first + 1u;
    }
    static struct pln_slot_map map;
    pln_shards_apply(&shards, places, &map);
    assert(pln_slot_map_covered(&map) == n_known);
    pln_shards_fini(&shards);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_text(pln_bytes_of(data, size));
    struct pln_reply *reply = test_reply_read(data, size);
    if (reply != NULL) {
        fuzz_shards(reply);
        test_reply_free(reply);
    }
    return 0;
}
