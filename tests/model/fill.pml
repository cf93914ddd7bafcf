/* SPDX-License-Identifier: MIT
 *
 * fill.pml - a source beside Redis: readers that load under a lease (R2, R3, R7), writers that
 * commit to the source and then invalidate (R8), and a link that may be lost (R4, R6).
 *
 * One key. The instance that is looked at has L1, readers, and (OWN_WRITER) a writer; the other
 * writer is foreign. The source counts up with each commit, so that a value's number is its age.
 * A lease may end by itself, Redis may evict, a reader may find L2 away (ENDS of these together).
 *
 *     code: core/fill.c, core/write.c pln_delete, core/inval.c, l2/script.c (LEASE, COMMIT,
 *     REMOVE), l2/bus.c take_message, run
 */
#ifndef READERS
#define READERS 1
#endif
#define FILLERS READERS
#include "instance.pml"

#define GENERATION_ON_LOSS 11 /* R6: a lost link makes the generation odd, the next one is even */
#define UP_AFTER_CONFIRMED 12 /* R6: not before the subscription is confirmed */
#define LEASE_COMPARED 13     /* R7: the commit compares the token */
#define DELETE_ENDS_LEASE 14  /* R8: the script that deletes the value deletes the lease */
#define KEEP_IF_COMMITTED 15  /* R7: what was not committed is not kept */
#define OWN_R4 16             /* R8: the writer's own instance forgets the key at the reply */
#define FOREIGN_APPLIED 17    /* R4 for messages of others */
#define NO_TRUST_IN_TRACKING 18 /* without a lease nothing is kept where deletes may be silent */
#define STAMP_FIRST 19        /* R2: the stamp is taken before L2, or the source, is asked */

#ifndef WRITES
#define WRITES 2
#endif
#ifndef TRACKED
#define TRACKED false /* the server tells of keys it saw change; DEL of a missing key is silent */
#endif
#ifndef OWN_WRITER
#define OWN_WRITER false
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef ENDS
#define ENDS 1 /* leases that end by themselves, values that are evicted, looks at an L2 away */
#endif

byte source = 1;   /* what the source holds */
byte value;        /* V: what Redis holds, 0: nothing */
byte lease;        /* L: whose token, 0: nobody's */
bool broke_lease;  /* a lease that was void changed something */

bool is_connected = true; /* the server sends to this instance */
bool is_live = true;      /* the instance takes its link for live */
bool is_applying;         /* between taking a message and its end */
byte n_ends, n_cuts;      /* misfortunes so far */
byte n_writing;           /* writers between their commit and their return */
byte heard;               /* the newest write whose message was applied */
byte returned;            /* the newest write of this instance whose call has returned */

chan inbox = [2] of { byte, bool }; /* the write, and whether it is an own message */

/* The server's. What does not fit ends the connection, as an output buffer's limit does. */
inline publish(write, is_own) {
    if
    :: !is_connected
    :: is_connected && nfull(inbox) -> inbox!write, is_own
    :: is_connected && full(inbox) -> is_connected = false
    fi
}

proctype Reader(byte me) {
    byte stamp_generation, stamp_epoch;
    byte got, version;
    bool may_keep, has_lease, is_kept;

    if
    :: HAS(STAMP_FIRST) -> take_stamp(); got = value
    :: else -> got = value; take_stamp()
    fi;
    may_keep = true;
    if
    :: got != 0 -> goto keep
    :: got == 0
    fi;
    if
    :: atomic { lease == 0 -> lease = me + 1; has_lease = true }
    :: lease != 0 -> goto done /* another loads; its value is somebody else's to keep */
    :: atomic { n_ends < ENDS -> n_ends++ } /* L2 is away: no lease */
    fi;
    take_stamp(); /* again: what is read from here on may be kept */
    if
    :: has_lease -> got = value /* again: the last holder may just have stored it */
    :: else
    fi;
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
    :: HAS(STAMP_FIRST)
    :: else -> take_stamp()
    fi;
    if
    :: has_lease ->
        atomic { /* the script COMMIT */
            may_keep = (lease == me + 1);
            if
            :: may_keep || !HAS(LEASE_COMPARED) ->
                broke_lease = broke_lease || !may_keep;
                may_keep = true;
                value = got;
                lease = 0;
                if
                :: TRACKED -> publish(0, false)
                :: else
                fi
            :: else
            fi
        };
        may_keep = may_keep || !HAS(KEEP_IF_COMMITTED)
    :: else -> may_keep = !TRACKED || !HAS(NO_TRUST_IN_TRACKING)
    fi;
keep:
    if
    :: may_keep -> install(me, got)
    :: else
    fi;
done:
    is_kept = false /* one end state */
}

proctype Writer(bool is_own) {
    byte mine, n = 0;
    do
    :: n < (is_own -> 1 : WRITES) ->
        n++;
        atomic { n_writing++; source++; mine = source };
        if
        :: is_own && HAS(OWN_R4) -> forget_key()
        :: else
        fi;
        atomic { /* the script REMOVE */
            if
            :: TRACKED && value == 0 /* silent */
            :: else -> publish(mine, is_own)
            fi;
            value = 0;
            if
            :: HAS(DELETE_ENDS_LEASE) -> lease = 0
            :: else
            fi
        };
        if
        :: is_own && HAS(OWN_R4) -> forget_key()
        :: else
        fi;
        atomic {
            n_writing--;
            if
            :: is_own && mine > returned -> returned = mine
            :: else
            fi;
            mine = 0
        }
    :: else -> break
    od
}

/* The link's thread. Tracking does not say whose a write was, so all are taken for foreign. */
active proctype Link() {
    byte write;
    bool is_own;
end:
    do
    :: atomic { inbox?write, is_own -> is_applying = true };
        if
        :: (is_own && !TRACKED) || !HAS(FOREIGN_APPLIED)
        :: else -> forget_key()
        fi;
        atomic {
            if
            :: (!is_own || TRACKED) && write > heard -> heard = write
            :: else
            fi;
            is_applying = false;
            write = 0;
            is_own = false
        }
    :: atomic { !is_connected && len(inbox) == 0 -> is_applying = true; is_live = false };
        if
        :: HAS(GENERATION_ON_LOSS) -> generation++
        :: else
        fi;
        if
        :: !HAS(UP_AFTER_CONFIRMED) ->
            generation = generation + HAS(GENERATION_ON_LOSS);
            is_live = true;
            is_connected = true
        :: else ->
            is_connected = true; /* SUBSCRIBE is executed */
            atomic {             /* and its answer heard */
                generation = generation + HAS(GENERATION_ON_LOSS);
                is_live = true
            }
        fi;
        is_applying = false
    od
}

active proctype Misfortune() {
    byte write;
    bool is_own;
end:
    do
    :: atomic { n_ends < ENDS && lease != 0 -> n_ends++; lease = 0 }
    :: atomic {
            n_ends < ENDS && value != 0 -> n_ends++; value = 0;
            if
            :: TRACKED -> publish(0, false)
            :: else
            fi
        }
    :: atomic { /* what is on its way may arrive yet, or not */
            n_cuts < CUTS && is_connected -> n_cuts++; is_connected = false;
            do
            :: inbox?write, is_own
            :: break
            od;
            write = 0;
            is_own = false
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

#define L2_SOUND (n_writing == 0 -> (value == 0 || value == source))
#define AT_REST                                                                                    \
    (n_writing == 0 && is_live && is_connected && len(inbox) == 0 && !is_applying)
#define L1_SOUND (AT_REST -> (!IS_FRESH || entry_value == source))
#define NOT_RESURRECTED (!is_visible || entry_value >= heard)
#define LEASE_SOUND (!broke_lease)
#define OWN_READ (!is_visible || entry_value >= returned)

ltl I1 { [] L2_SOUND }
ltl I2 { [] L1_SOUND }
ltl I3 { [] NOT_RESURRECTED }
ltl I5 { [] LEASE_SOUND }
ltl I6 { [] OWN_READ }
ltl ALL { [] (L2_SOUND && L1_SOUND && NOT_RESURRECTED && LEASE_SOUND && OWN_READ) }
