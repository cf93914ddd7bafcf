/* SPDX-License-Identifier: MIT
 *
 * tags.pml - tags and clears: one step in Redis makes void all that was read before it, found only
 * when it is looked at. The server counts them on the tag clock; a value carries the clock of when
 * its source was read, and is void once the time of a tag of its, or of a clear, is later. The
 * instance counts on a clock of its own: a mark for each tag, and each entry has the clock of its
 * stamp.
 *
 * One key with one tag. A writer commits to the source, then drops the tag, or clears.
 *
 *     code: core/inval.c pln_inval_tag, pln_inval_all, l1/entry.c (marks of an entry), core/fill.c,
 *     l2/script.c (clock, is_void, LEASE, COMMIT, DROP_TAG, CLEAR), l2/read.c pln_read_times
 */
#ifndef READERS
#define READERS 1
#endif
#define MARK_AT_STAMP 15 /* R3: a stamp whose tag was marked since does not hold */
#define FILLERS READERS
#define MARKS_HOLD (!HAS(MARK_AT_STAMP) || mark <= stamp_clock)
#define MARK_OF_STAMP stamp_clock
#include "instance.pml"

#define COMMIT_LOOKS 11      /* COMMIT stores nothing that is void already */
#define CLOCK_CARRIED 12     /* a value has the clock of its lease, not of its commit */
#define READ_LOOKS 13        /* who reads a value looks at the times of its tags */
#define MARK_AT_HIT 16       /* R1: nor does an entry */
#define CLOCK_RAISED 17      /* the mark is a time later than all stamps before it */
#define CLEAR_STEPS 18       /* R5: a clear takes the next generation of this kind */
#define CLOCK_FIRST 19       /* the lease's clock is read before the source */
#define OWN_MARK 20          /* R4 for tags at the reply, in the instance that dropped it */

#ifndef WRITES
#define WRITES 2
#endif
#ifndef OWN_WRITER
#define OWN_WRITER false
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef ENDS
#define ENDS 1
#endif

mtype = { dropped, cleared };

byte source = 1;
byte value, value_clock, lease;
byte clock, tag_time, clear_time; /* the server's: "#", "t:TAG", "*" */
byte mark_clock, mark;            /* the instance's */

bool is_connected = true;
bool is_live = true;
bool is_applying;
byte n_writing, n_cuts, n_ends, heard, returned;

chan inbox = [2] of { mtype, byte, bool };

#define IS_VOID(of) (of < tag_time || of < clear_time)
#define MAY_BE_HIT (is_visible && (!HAS(MARK_AT_HIT) || mark <= entry_mark))

inline publish(what, write, is_own) {
    if
    :: !is_connected
    :: is_connected && nfull(inbox) -> inbox!what, write, is_own
    :: is_connected && full(inbox) -> is_connected = false
    fi
}

/* R4 for a tag, or all. */
inline forget(what) {
    if
    :: what == cleared -> generation = generation + 2 * HAS(CLEAR_STEPS)
    :: what == dropped ->
        atomic { mark_clock = mark_clock + HAS(CLOCK_RAISED); marked = mark_clock };
        atomic {
            if
            :: marked > mark -> mark = marked
            :: else
            fi;
            marked = 0
        }
    fi
}

/* GET, then the times, as two commands. */
inline look() {
    atomic { got = value; got_clock = value_clock };
    atomic {
        if
        :: IS_VOID(got_clock) && HAS(READ_LOOKS) -> got = 0
        :: else
        fi;
        got_clock = 0
    }
}

inline take_whole_stamp() {
    stamp_clock = mark_clock;
    take_stamp()
}

proctype Reader(byte me) {
    byte stamp_generation, stamp_epoch, stamp_clock;
    byte got, got_clock, lease_clock;
    bool may_keep, is_kept;

    take_whole_stamp();
    look();
    may_keep = true;
    if
    :: got != 0 -> goto keep
    :: got == 0
    fi;
    if
    :: atomic { lease == 0 -> lease = me + 1; lease_clock = clock }
    :: lease != 0 -> goto done
    fi;
    take_whole_stamp();
    look();
    if
    :: got != 0 ->
        atomic {
            if
            :: lease == me + 1 -> lease = 0
            :: else
            fi
        };
        goto keep
    :: got == 0
    fi;
    got = source;
    if
    :: HAS(CLOCK_FIRST)
    :: else -> lease_clock = clock
    fi;
    atomic { /* the script COMMIT */
        may_keep = lease == me + 1;
        if
        :: may_keep ->
            lease = 0;
            may_keep = !(HAS(COMMIT_LOOKS) && IS_VOID(lease_clock));
            if
            :: may_keep ->
                value = got;
                value_clock = (HAS(CLOCK_CARRIED) -> lease_clock : clock)
            :: else
            fi
        :: else
        fi
    };
keep:
    if
    :: may_keep -> install(me, got)
    :: else
    fi;
done:
    is_kept = false;
    got = 0;
    stamp_clock = 0;
    lease_clock = 0
}

proctype Writer(bool is_own) {
    byte mine, n, marked;
    mtype what;
    do
    :: n < (is_own -> 1 : WRITES) ->
        n++;
        atomic { n_writing++; source++; mine = source };
        if
        :: what = dropped
        :: what = cleared
        fi;
        if
        :: is_own && HAS(OWN_MARK) -> forget(what)
        :: else
        fi;
        atomic { /* the scripts DROP_TAG and CLEAR; they leave the lease alone */
            clock++;
            if
            :: what == dropped -> tag_time = clock
            :: what == cleared -> clear_time = clock
            fi;
            publish(what, mine, is_own)
        };
        if
        :: is_own && HAS(OWN_MARK) -> forget(what)
        :: else
        fi;
        atomic {
            n_writing--;
            if
            :: is_own && mine > returned -> returned = mine
            :: else
            fi;
            mine = 0;
            what = 0
        }
    :: else -> break
    od
}

active proctype Link() {
    mtype what;
    byte write, marked;
    bool is_own;
end:
    do
    :: atomic { inbox?what, write, is_own -> is_applying = true };
        if
        :: is_own
        :: else -> forget(what)
        fi;
        atomic {
            if
            :: !is_own && write > heard -> heard = write
            :: else
            fi;
            is_applying = false;
            what = 0;
            write = 0;
            is_own = false
        }
    :: atomic { !is_connected && empty(inbox) -> is_applying = true; is_live = false };
        generation++;
        is_connected = true;
        atomic { generation++; is_live = true; is_applying = false }
    od
}

active proctype Misfortune() {
end:
    do
    :: atomic { n_ends < ENDS && lease != 0 -> n_ends++; lease = 0 }
    :: atomic { n_ends < ENDS && value != 0 -> n_ends++; value = 0; value_clock = 0 }
    :: atomic { n_cuts < CUTS && is_connected -> n_cuts++; is_connected = false }
    :: atomic { n_cuts < CUTS && is_connected && nempty(inbox) ->
            n_cuts++; is_connected = false;
            inbox?_, _, _
        }
    od
}

init {
    atomic {
        run Reader(0);
#if READERS > 1
        run Reader(1);
#endif
        run Writer(false);
        if
        :: OWN_WRITER -> run Writer(true)
        :: else
        fi
    }
}

/* A hit of an older generation is none; the tag's messages end what is of any. */
#define L2_SOUND (n_writing == 0 -> (value == 0 || IS_VOID(value_clock) || value == source))
#define AT_REST                                                                                    \
    (n_writing == 0 && is_live && is_connected && len(inbox) == 0 && !is_applying)
#define L1_SOUND (AT_REST -> (!(IS_FRESH && MAY_BE_HIT) || entry_value == source))
#define NOT_RESURRECTED (!(IS_SERVED && MAY_BE_HIT) || entry_value >= heard)
#define OWN_READ (!(IS_SERVED && MAY_BE_HIT) || entry_value >= returned)

ltl I1 { [] L2_SOUND }
ltl I2 { [] L1_SOUND }
ltl I3 { [] NOT_RESURRECTED }
ltl I6 { [] OWN_READ }
ltl ALL { [] (L2_SOUND && L1_SOUND && NOT_RESURRECTED && OWN_READ) }
