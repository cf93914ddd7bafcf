/* SPDX-License-Identifier: MIT
 *
 * fork.c - a child takes up the table that its parent's threads were at.
 *
 * They do not come along, and each may have stopped between any two of its stores (the child has
 * all of a thread's stores up to one of them, and none that depends on what it has not). Nothing
 * they left misleads others, as nothing a stopped thread leaves does; but here they never go on:
 *
 *   in a section        their records are given back, or nothing would be freed any more.
 *   storing, moving     an entry not yet shown would keep its slot, and an old table, for good; one
 *                       that is moved may stand in both tables. Their records tell which it is: it
 *                       is withdrawn, or moved to the end.
 *   freeing             what waits stands in limbos alone; all of it is freed, for nobody sees it.
 *   giving slabs up     places are given back, closed slabs found.
 *   replacing the table what was begun is begun anew.
 *
 * What they had in their hands is lost: an entry each that was unlinked and not yet in a limbo, or
 * taken out of it and not yet freed; seldom a slab that was being given up. So the sums cannot be
 * right. They are made anew from what is certain, the cells that are not free: what
 * is lost counts as if it were linked, and the budget stays honest.
 *
 * Values that were lent to them are never given back, and nobody can tell them from those lent to
 * this thread: they count, but they are not waited for, neither by puts nor at the end.
 */
#include "internal.h"

/* Puts the sums right. The number of entries stays too large by what is lost. */
static void recount(struct pln_l1 *l1, size_t bytes) {
    /* relaxed each: the child has one thread */
    for (struct thread_record *record = atomic_load_explicit(&l1->records, memory_order_relaxed);
         record != NULL; record = record->next) {
        int64_t n = atomic_exchange_explicit(&record->entries, 0, memory_order_relaxed);
        atomic_fetch_add_explicit(&l1->entries, (size_t) n, memory_order_relaxed);
        atomic_store_explicit(&record->live_bytes, 0, memory_order_relaxed);
    }
    /* relaxed: as above */
    atomic_store_explicit(&l1->live_bytes, bytes - pln_l1_lent_bytes(l1), memory_order_relaxed);
}

void pln_l1_after_fork(struct pln_l1 *l1) {
    l1->is_child = true;
    /* relaxed: the child has one thread */
    atomic_store_explicit(&l1->walkers, 0, memory_order_relaxed);
    pln_l1_epoch_after_fork(l1);
    recount(l1, pln_l1_slabs_after_fork(l1));
    pln_l1_stage_after_fork(l1);
}
