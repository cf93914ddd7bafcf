/* SPDX-License-Identifier: MIT
 *
 * instance.pml - what the models share: one instance's stripe, generation and L1, for one key, and
 * the steps of rules R2 to R4 on them. Each step that other threads may come between is a statement
 * of its own; what L1 does inside one step (rivals, eviction, memory) is proved by its own tests.
 *
 * A guard is what the protocol does to be right. Each has a number and a name, and is asked for by
 * HAS(name): the run gives the number of the one that is taken out as OUT (and AND_OUT, where one
 * guard stands behind another). So the text of the protocol stays in one piece.
 *
 *     code: core/inval.c (pln_stamp_take, pln_stamp_holds, forget_loads, pln_inval_key, step),
 *     l1/l1.c pln_l1_put, l1/rival.c pln_l1_store, pln_l1_kill_key, l1/table.c pln_l1_is_served
 */
#ifndef OUT
#define OUT 0
#endif
#ifndef AND_OUT
#define AND_OUT 0
#endif
#define HAS(guard) (guard != OUT && guard != AND_OUT)

#define EPOCH_CHECK 1  /* R3: a fill whose stripe was raised since its stamp is not kept */
#define SECOND_CHECK 2 /* R3: the stamp is looked at again after the entry was linked */
#define KILL_PENDING 3 /* R4: entries that are linked but not yet visible are ended too */
#define RIVALS_ENDED 4 /* R3: an entry that becomes visible ends those that were linked before it */

#ifndef FILLERS
#define FILLERS 1 /* threads that may put the key into L1 */
#endif
#ifndef MARKS_HOLD
#define MARKS_HOLD true /* tags.pml has its own */
#endif
#ifndef MARK_OF_STAMP
#define MARK_OF_STAMP 0
#endif

byte generation;      /* even while the link is live, odd while messages may be missing */
byte epoch;           /* of the key's stripe */
byte pending[FILLERS]; /* linked, not yet visible: in which order; 0: not */

/* The key's value in L1: the newest visible entry. */
bool is_visible;
byte entry_value;
byte entry_generation;
byte entry_mark;

#define is_odd(number) (number & 1)
/* What a hit returns: of the present generation, or, while that is odd, of the one before. */
#define IS_SERVED_OF(of) (of == generation || (is_odd(generation) && of == generation - 1))
#define IS_SERVED (is_visible && IS_SERVED_OF(entry_generation))
#define IS_FRESH (is_visible && entry_generation == generation && !is_odd(generation))

/* R2. To be used where stamp_generation and stamp_epoch are local variables. */
inline take_stamp() {
    stamp_generation = generation;
    stamp_epoch = epoch
}

#define STAMP_HOLDS                                                                                \
    ((!HAS(EPOCH_CHECK) || epoch == stamp_epoch) && generation == stamp_generation && MARKS_HOLD)

#define LATER(a, b) (a > b -> a : b)
#if FILLERS == 1
#define LAST_LINKED pending[0]
#elif FILLERS == 2
#define LAST_LINKED LATER(pending[0], pending[1])
#else
#define LAST_LINKED LATER(pending[0], LATER(pending[1], pending[2]))
#endif

/* Ends what was linked before. */
#define END_PENDING(i, order)                                                                      \
    if                                                                                             \
    :: pending[i] < order -> pending[i] = 0                                                        \
    :: else                                                                                        \
    fi
#if FILLERS == 1
#define END_ALL_PENDING(order) END_PENDING(0, order)
#elif FILLERS == 2
#define END_ALL_PENDING(order) END_PENDING(0, order); END_PENDING(1, order)
#else
#define END_ALL_PENDING(order)                                                                     \
    END_PENDING(0, order); END_PENDING(1, order); END_PENDING(2, order)
#endif

/* R3. Link, fence (the statements of a model are in one order anyway; fence.pml and
 * tests/core/test_litmus.c are about that), look again, show. Between look and show there is time
 * for anything, but a withdrawn entry is not shown. is_kept, local too, says how it went. */
inline install(filler, loaded) {
    is_kept = false;
    if
    :: STAMP_HOLDS ->
        pending[filler] = 1 + LAST_LINKED;
        if
        :: !HAS(SECOND_CHECK) || STAMP_HOLDS
        :: else -> pending[filler] = 0
        fi;
        atomic {
            if
            :: pending[filler] != 0 ->
                if
                :: HAS(RIVALS_ENDED) -> END_ALL_PENDING(pending[filler])
                :: else
                fi;
                pending[filler] = 0;
                is_kept = true;
                is_visible = true;
                entry_value = loaded;
                entry_generation = stamp_generation;
                entry_mark = MARK_OF_STAMP
            :: else
            fi
        }
    :: else
    fi
}

/* The second half of R4. */
inline end_entries() {
    d_step {
        is_visible = false;
        entry_value = 0;
        entry_generation = 0;
        entry_mark = 0;
        if
        :: HAS(KILL_PENDING) -> END_ALL_PENDING(255)
        :: else
        fi
    }
}

/* R4: first every fill with an older stamp is made to fail its check, then what passed it is
 * ended. */
inline forget_key() {
    epoch++;
    end_entries()
}
