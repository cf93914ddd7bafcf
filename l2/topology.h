/* SPDX-License-Identifier: MIT
 *
 * topology.h - where a key lies when there is more than one server: in a cluster, on a ring of
 * independent servers, or behind sentinels. For this folder and its tests.
 *
 * All of it is reckoning without sockets: what a server said goes in, a place comes out. What
 * servers say is not trusted: it is taken whole or refused, and bounded.
 *
 * A place is an endpoint where it comes from a server, and a small number once it is known: the
 * index of a node in a table that its user keeps.
 */
#ifndef PLN_L2_TOPOLOGY_H
#define PLN_L2_TOPOLOGY_H

#include "l2.h"

struct pln_batch;

/* ---- address.c: host and port ---- */

enum { PLN_HOST_SIZE = 256 }; /* a DNS name has at most 253 bytes; with its zero */

struct pln_address {
    char host[PLN_HOST_SIZE]; /* "": the host that was asked. IPv6 addresses without brackets */
    uint16_t port;            /* never 0 */
};

/* Reads decimal digits alone. Returns false where there are others, none, or it is past `last`. */
bool pln_address_number(struct pln_bytes text, int last, int *number);
/* Returns false where the host is too long or holds what no host has (blanks, controls, bytes
 * beyond ASCII), or the port is none. An empty host is well. */
bool pln_address_set(struct pln_address *endpoint, struct pln_bytes host, int64_t port);
/* Reads "host:port", split at the last colon, also "[::1]:6379", "::1:6379" and ":6379". */
bool pln_address_read(struct pln_bytes text, struct pln_address *endpoint);
bool pln_address_equal(const struct pln_address *a, const struct pln_address *b);
/* Whether a reply has bytes: a string, or a status. */
bool pln_reply_has_bytes(const struct pln_reply *reply);

/* ---- slots.c: the slots of a cluster, and a map of them ---- */

enum {
    PLN_N_SLOTS = 16384,
    PLN_NO_NODE = 0xffff, /* nobody has the slot, or nobody knows who */
};

/* The slot of a key as it is in Redis, with the namespace: of what stands between the first { and
 * the next } where that is not empty, else of the whole. */
unsigned pln_slot_of(struct pln_bytes name);
/* The checksum behind it, of a name in pieces: 0, then what the piece before gave. */
unsigned pln_crc16(unsigned crc, struct pln_bytes bytes);

/* Which node has each slot. Threads: any may look up while one changes it (callers see to the one).
 * An entry that is out of date only leads to a server that answers MOVED. */
struct pln_slot_map {
    _Atomic uint16_t nodes[PLN_N_SLOTS];
};

void pln_slot_map_init(struct pln_slot_map *map); /* no slot has a node */
static inline unsigned pln_slot_map_find(const struct pln_slot_map *map, unsigned slot) {
    assert(slot < PLN_N_SLOTS);
    /* T1 acquire: what its user wrote of a node before its place was in the map can be read */
    return atomic_load_explicit(&map->nodes[slot], memory_order_acquire);
}
/* One slot, as after MOVED; a range, both ends included. */
void pln_slot_map_set(struct pln_slot_map *map, unsigned slot, unsigned node);
void pln_slot_map_set_range(struct pln_slot_map *map, unsigned first, unsigned last, unsigned node);
/* How many of PLN_N_SLOTS have a node; exact only while nobody changes the map. */
unsigned pln_slot_map_covered(const struct pln_slot_map *map);

/* ---- shards.c: what a cluster says of itself ---- */

enum {
    PLN_MOST_CLUSTER_NODES = 1024,
    PLN_MOST_RANGE_NODES = 16, /* of one range: a primary and its replicas */
};

struct pln_redirect {
    bool is_ask; /* for this command alone; else MOVED: from now on */
    unsigned slot;
    struct pln_address to;
};

/* Reads the text of an error reply. Returns false where it is no MOVED or ASK, a damaged one, or
 * one that leads to "?": a host that the server does not know. */
bool pln_moved_read(struct pln_bytes error_text, struct pln_redirect *redirect);

struct pln_slot_range {
    uint16_t first, last; /* both included */
    uint16_t n_nodes;     /* at least 1 */
    /* places in pln_shards.nodes: the primary (PLN_NO_NODE where the server does not know its
     * host), then replicas, without those nobody knows */
    uint16_t nodes[PLN_MOST_RANGE_NODES];
};

/* An answer to CLUSTER SLOTS: each node once, in the order of the answer. */
struct pln_shards {
    struct pln_address *nodes;
    size_t n_nodes;
    struct pln_slot_range *ranges;
    size_t n_ranges;
};

/* Reads the answer. It may leave slots out, and be empty. Returns: PLN_OK (the caller's to fini);
 * PLN_EL2 (the server's error, or what is wrong and where), PLN_ENOMEM. */
int pln_shards_read(const struct pln_reply *reply, struct pln_shards *shards);
void pln_shards_fini(struct pln_shards *shards);
/* Puts the primaries into a map; slots that the answer leaves out lose their node. `places` has,
 * for each of the shards' nodes, the number that the map is to hold. No reader sees a slot without
 * a node that has one before and after. */
void pln_shards_apply(const struct pln_shards *shards, const uint16_t *places,
                      struct pln_slot_map *map);

/* ---- ring.c: independent servers that share the keys ---- */

enum {
    PLN_RING_POINTS = 1024,      /* of a node of weight 1; see ring.c for the choice */
    PLN_RING_MOST_WEIGHT = 1024, /* of all nodes together: 16 MiB of points */
};

struct pln_ring;

/* The ring depends on the nodes' labels and weights alone: not on their order, the process, or the
 * machine. A label is what a node is known by for good ("10.0.0.1:6379", or better a name that
 * outlives its address). `weights` may be NULL: 1 each; 0 takes no keys. Returns: PLN_OK;
 * PLN_EINVAL (no nodes, no weight or too much, a label twice), PLN_ENOMEM. */
int pln_ring_new(const char *const *labels, const unsigned *weights, size_t n,
                 struct pln_ring **ring);
void pln_ring_free(struct pln_ring *ring);
/* The node's place among the labels. Threads: any, wait-free. */
size_t pln_ring_find(const struct pln_ring *ring, struct pln_bytes key);

/* ---- sentinel.c: who is the master, and how it is learnt ---- */

/* Commands, one each: which address a service has; who else watches it; its replicas; news of
 * another master; and to a server, what it is. */
void pln_sentinel_ask_master(struct pln_batch *batch, const char *service);
void pln_sentinel_ask_sentinels(struct pln_batch *batch, const char *service);
void pln_sentinel_ask_replicas(struct pln_batch *batch, const char *service);
void pln_sentinel_subscribe(struct pln_batch *batch);
void pln_sentinel_ask_role(struct pln_batch *batch);

/* Returns: PLN_OK; PLN_MISS (the sentinel does not know the service), PLN_EL2 (the server's error,
 * or no answer of that kind). */
int pln_sentinel_read_master(const struct pln_reply *reply, struct pln_address *master);
/* Those of the sentinels or replicas that the sentinel finds well, at most `size`; the rest are
 * passed over. Returns as above. */
int pln_sentinel_read_peers(const struct pln_reply *reply, struct pln_address *peers, size_t size,
                            size_t *n_peers);

struct pln_switch {
    struct pln_bytes service; /* in the payload */
    struct pln_address from, to;
};

/* Reads a message of +switch-master. Returns false where it is none. */
bool pln_sentinel_read_switch(struct pln_bytes payload, struct pln_switch *change);

enum pln_role_kind { PLN_ROLE_MASTER, PLN_ROLE_REPLICA, PLN_ROLE_SENTINEL };

struct pln_role {
    enum pln_role_kind kind;
    int64_t offset;            /* of replication; -1: a replica that has none yet, a sentinel */
    struct pln_address master; /* of a replica */
    bool is_linked;            /* a replica that hears its master */
};

/* The replicas that a master names in its answer to ROLE, at most `size`. Returns: PLN_OK; PLN_EL2
 * (the server's error, or no such answer). */
int pln_role_read_replicas(const struct pln_reply *reply, struct pln_address *replicas, size_t size,
                           size_t *n_replicas);
/* Reads the answer to ROLE. Returns: PLN_OK; PLN_EL2 (the server's error, or no such answer). */
int pln_role_read(const struct pln_reply *reply, struct pln_role *role);

#endif
