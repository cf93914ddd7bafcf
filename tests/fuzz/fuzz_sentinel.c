/* SPDX-License-Identifier: MIT
 *
 * fuzz_sentinel.c - whatever sentinels and servers say of their roles is read without harm: it is
 * refused, or it gives places that can be connected to.
 *
 * The input is taken for a message of +switch-master, and for an answer in RESP to each command.
 */
#include "../../l2/topology.h"
#include "../l2/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A host that is there, and plain, and a port. */
static void check_endpoint(const struct pln_address *endpoint) {
    size_t len = strnlen(endpoint->host, PLN_HOST_SIZE);
    assert(len > 0 && len < PLN_HOST_SIZE && endpoint->port != 0);
    for (size_t i = 0; i < len; i++) {
        assert(endpoint->host[i] > ' ' && endpoint->host[i] < 0x7f);
    }
}

static void fuzz_switch(struct pln_bytes payload) {
    struct pln_switch change;
    if (pln_sentinel_read_switch(payload, &change)) {
        const char *begin = payload.data, *service = change.service.data;
        assert(change.service.len > 0 && service >= begin &&
               service + change.service.len <= begin + payload.len);
        check_endpoint(&change.from);
        check_endpoint(&change.to);
    }
}

static void fuzz_answers(const struct pln_reply *reply) {
    struct pln_address master, peers[4];
    struct pln_role role;
    size_t n_peers;
    if (pln_sentinel_read_master(reply, &master) == PLN_OK) {
        check_endpoint(&master);
    }
    if (pln_sentinel_read_peers(reply, peers, PLN_ARRAY_LEN(peers), &n_peers) == PLN_OK) {
        assert(n_peers <= PLN_ARRAY_LEN(peers));
        for (size_t i = 0; i < n_peers; i++) {
            check_endpoint(&peers[i]);
        }
    }
    if (pln_role_read(reply, &role) == PLN_OK) {
        assert(role.offset >= -1);
        if (role.kind == PLN_ROLE_REPLICA) {
            check_endpoint(&role.master);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_switch(pln_bytes_of(data, size));
    struct pln_reply *reply = test_reply_read(data, size);
    if (reply != NULL) {
        fuzz_answers(reply);
        test_reply_free(reply);
    }
    return 0;
}
