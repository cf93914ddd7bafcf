/* SPDX-License-Identifier: MIT
 *
 * perilune_memory.h - a server in memory in the place of Redis, for programs' own tests; a part of
 * perilune.h, which includes it.
 */
#ifndef PERILUNE_MEMORY_H
#define PERILUNE_MEMORY_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- memory in the place of Redis, for tests ---- */

/* What Redis is to the caches of this process whose `redis` option is "memory:NAME": caches of one
 * `ns` see each other's values, leases, tags and messages. It is made by the first that names it
 * and gone with the last cache or handle. A forked child has a copy of its own.
 *
 * It does what it should until it is told what to get wrong. Where a cache is asked for below, NULL
 * means all that use the memory, and those to come. Waiting is done in real time, whatever the
 * cache's clock. The circuit breaker that guards a Redis is not modelled. */
struct pln_memory; /* opaque */

/* What goes wrong. Zero: nothing does. Which command or message meets a fault follows from the
 * seed, the order in which the caches were opened, and what each of them was doing. */
struct pln_memory_faults {
    uint64_t seed;
    /* commands */
    pln_ms delay_ms;        /* each waits so long; past its deadline, it ends in PLN_ETIMEOUT */
    pln_ms delay_random_ms; /* and at random up to so long more */
    double carried_out;     /* share of the writes that end so and take place all the same */
    bool out_of_memory;     /* all but deletes are refused with OOM: PLN_EL2 */
    bool read_only;         /* deletes too */
    /* messages to a cache of what others did */
    pln_ms message_delay_ms, message_random_ms; /* likewise; the order is kept */
    bool hold;                                  /* they wait for pln_memory_deliver() */
    unsigned reorder; /* one may be passed by so many that were sent after it, if those come
                         within 10 ms */
    double duplicate; /* share that comes twice */
    double lose;      /* share that is lost and not missed. On a live link Redis loses none: only
                         a bus between servers may. What L1 holds is then stale until its l1_ttl
                         ends, and perilune does not promise more. See pln_memory_link() for what
                         is lost with the link, and noticed */
};

enum pln_memory_cut {
    PLN_MEMORY_UNCUT, /* commands run, and the link is live */
    PLN_MEMORY_FAILS, /* commands fail at once: PLN_EL2DOWN; the link is lost */
    PLN_MEMORY_HANGS, /* they wait to be healed, or end in PLN_ETIMEOUT; the link is lost */
};

struct pln_memory_stats {
    uint64_t commands, late, carried_out, refused; /* late: timed out, by a delay */
    uint64_t messages, lost, duplicated;           /* counted once for each cache they are for */
    size_t clients, values, waiting;               /* now; waiting: messages not yet heard */
};

/* Gives a handle on the memory of that name (1 to 64 letters, digits, '.', '_' or '-'), which also
 * keeps what is stored while no cache is open. Returns: PLN_OK; PLN_EINVAL, PLN_ENOMEM.
 * Owns: the caller closes it. Threads: any, for all below. */
PLN_API int pln_memory_open(const char *name, struct pln_memory **memory);
/* NULL is allowed. Caches that use the memory go on, with the faults last set. */
PLN_API void pln_memory_close(struct pln_memory *memory);

/* Sets what goes wrong from now on, in the place of what was set before; NULL: nothing. The dice
 * begin anew. Returns: PLN_OK; PLN_EINVAL (which field, or a cache that does not use it). */
PLN_API int pln_memory_faults(struct pln_memory *memory, struct pln_cache *cache,
                              const struct pln_memory_faults *faults);
/* Loses the link, with all messages on their way, and brings it back. Commands run meanwhile. */
PLN_API int pln_memory_link(struct pln_memory *memory, struct pln_cache *cache, bool is_up);
/* Cuts off, or heals: commands and link. */
PLN_API int pln_memory_cut(struct pln_memory *memory, struct pln_cache *cache,
                           enum pln_memory_cut cut);
/* Delivers at most n messages to each cache now, whatever holds them up; *delivered (NULL allowed)
 * is how many in all. */
PLN_API int pln_memory_deliver(struct pln_memory *memory, struct pln_cache *cache, size_t n,
                               size_t *delivered);
/* A restart that forgets: the links are lost, values, leases and tags are gone, the links come
 * back. */
PLN_API void pln_memory_forget(struct pln_memory *memory);
/* Evicts this share of the values, as a full Redis does: nobody is told. */
PLN_API int pln_memory_evict(struct pln_memory *memory, double share, size_t *evicted);
PLN_API void pln_memory_stats(struct pln_memory *memory, struct pln_memory_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
