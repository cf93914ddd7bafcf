/* SPDX-License-Identifier: MIT
 *
 * fence.pml - the one place where the order of two threads' steps is not that of the text: a store
 * and a load after it, in both. A put links its entry and then looks at the stripe; an invalidation
 * raises the stripe and then looks for entries. What a thread has stored may reach the others later
 * than what it loads next is read, unless a fence is between (C2). Then each could miss the other,
 * and the entry would stay.
 *
 * Here a store goes to its thread's buffer, and to memory at any time after; a fence waits until it
 * is there. The entry's own state is one word that is changed by exchanges, which have one order.
 *
 *     code: l1/rival.c pln_l1_store, core/inval.c forget_loads, l1/l1.c pln_l1_remove;
 *     on a machine: tests/core/test_litmus.c
 */
#ifndef OUT
#define OUT 0
#endif
#ifndef AND_OUT
#define AND_OUT 0
#endif
#define HAS(guard) (guard != OUT && guard != AND_OUT)

#define PUT_FENCE 1    /* R3: between the link and the look at the stripe */
#define RAISE_FENCE 2  /* R4: between the raise and the look for entries, in core/inval.c */
#define REMOVE_FENCE 3 /* the same once more in pln_l1_remove, which others may call */

bool is_linked, is_raised;         /* in memory */
bool link_waits, raise_waits;      /* in the buffers */
bool is_shown, is_dead, put_ended, invalidation_ended;

active proctype Put() {
    link_waits = true;
    if
    :: HAS(PUT_FENCE) -> !link_waits
    :: else
    fi;
    if
    :: is_raised -> is_dead = true
    :: else -> is_shown = true
    fi;
    put_ended = true
}

active proctype Invalidation() {
    raise_waits = true;
    if
    :: HAS(RAISE_FENCE) -> !raise_waits
    :: else
    fi;
    if
    :: HAS(REMOVE_FENCE) -> !raise_waits
    :: else
    fi;
    if
    :: is_linked -> is_dead = true
    :: else
    fi;
    invalidation_ended = true
}

active proctype Memory() {
end:
    do
    :: atomic { link_waits -> link_waits = false; is_linked = true }
    :: atomic { raise_waits -> raise_waits = false; is_raised = true }
    od
}

ltl C2 { [] !(put_ended && invalidation_ended && is_shown && !is_dead) }
ltl ALL { [] !(put_ended && invalidation_ended && is_shown && !is_dead) }
