/* SPDX-License-Identifier: MIT
 *
 * slots.c - the slot of a key in a cluster, and the map from slots to nodes.
 *
 * The map is read by every command, so it has no lock: an entry is replaced whole, and one that was
 * read a moment too early sends a command to a node that answers MOVED, as a map that is out of
 * date always does. Entries need no order between each other for the same reason. A reader's only
 * need is that the node behind a number is there once the number is, which is T1.
 */
#include "topology.h"

/* CRC16 as in XMODEM: the remainder by x^16 + x^12 + x^5 + 1, begun with 0, highest bit first.
 *
 * No table: the eight bits `high` that a step shifts out at the top stand for high * x^16, which
 * leaves the same remainder as high * (x^12 + x^5 + 1). The first of these three reaches over the
 * top again with its upper four bits, which are folded in beforehand. */
unsigned pln_crc16(unsigned crc, struct pln_bytes bytes) {
    const uint8_t *at = bytes.data;
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned high = crc >> 8 ^ at[i];
        high ^= high >> 4;
        crc = (crc << 8 ^ high << 12 ^ high << 5 ^ high) & 0xffff;
    }
    return crc;
}

unsigned pln_slot_of(struct pln_bytes name) {
    const char *begin = name.data;
    const char *open = name.len == 0 ? NULL : memchr(begin, '{', name.len);
    if (open != NULL) {
        const char *tag = open + 1;
        const char *close = memchr(tag, '}', (size_t) (begin + name.len - tag));
        if (close != NULL && close > tag) {
            name = pln_bytes_of(tag, (size_t) (close - tag));
        }
    }
    return pln_crc16(0, name) % PLN_N_SLOTS;
}

void pln_slot_map_init(struct pln_slot_map *map) {
    for (unsigned slot = 0; slot < PLN_N_SLOTS; slot++) {
        atomic_init(&map->nodes[slot], PLN_NO_NODE);
    }
}

void pln_slot_map_set(struct pln_slot_map *map, unsigned slot, unsigned node) {
    assert(slot < PLN_N_SLOTS && node <= PLN_NO_NODE);
    /* T1 release: the node's own data comes before its place */
    atomic_store_explicit(&map->nodes[slot], (uint16_t) node, memory_order_release);
}

void pln_slot_map_set_range(struct pln_slot_map *map, unsigned first, unsigned last,
                            unsigned node) {
    assert(first <= last && last < PLN_N_SLOTS);
    for (unsigned slot = first; slot <= last; slot++) {
        pln_slot_map_set(map, slot, node);
    }
}

unsigned pln_slot_map_covered(const struct pln_slot_map *map) {
    unsigned n_covered = 0;
    for (unsigned slot = 0; slot < PLN_N_SLOTS; slot++) {
        /* relaxed: nothing is read behind the number */
        n_covered += atomic_load_explicit(&map->nodes[slot], memory_order_relaxed) != PLN_NO_NODE;
    }
    return n_covered;
}
