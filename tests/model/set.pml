/* SPDX-License-Identifier: MIT
 *
 * set.pml - Redis as the store of record: a set writes the value and tells of it in one script, and
 * is kept in the writer's own L1 at the reply, if nothing was heard of the key in between (R9).
 *
 * One key, one instance with L1, OWN_WRITERS threads of it that set, FOREIGN sets of another
 * instance, readers that fill from Redis. The server numbers the values in the order in which it
 * took them. An own message is left alone if it came over a connection that the instance still has;
 * a set whose connection is given up may still be executed, later, and is then a foreign one.
 *
 *     code: core/write.c set_l2, core/inval.c pln_stamp_advance, l2/bus.c is_own, l2/script.c (SET)
 */
#ifndef OWN_WRITERS
#define OWN_WRITERS 1
#endif
#ifndef READERS
#define READERS 1
#endif
#define FILLERS (OWN_WRITERS + READERS)
#include "instance.pml"

#define REPLY_RAISES 11       /* R9: the reply raises the stripe */
#define REPLY_CHECKS 12       /* R9: and the value is kept only if it was the first to do so */
#define ECHO_BY_CONNECTION 13 /* R9: an own message counts as own while its connection lives */
#define FAILURE_FORGETS 14    /* R4: a set whose outcome is unknown ends what is in L1 */
#define LOSER_FORGETS 15      /* R9: who was not the first ends what is in L1 */
#define FOREIGN_APPLIED 16    /* R4 for messages of others */
#define GENERATION_ON_LOSS 17 /* R6 */
#define KEPT_OR_FORGOTTEN 18  /* R9: what L1 did not take ends what L1 has: it is older */

#ifndef FOREIGN
#define FOREIGN 1
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef FAILURES
#define FAILURES 1 /* sets whose connection is given up before the reply */
#endif

byte value = 1;    /* V, numbered in the order of the sets */
byte connection;   /* which one the instance has to the server for its commands */
bool is_connected = true;
bool is_live = true;
bool is_applying;
byte n_setting;    /* own sets between the script and the return of the call */
byte n_cuts, n_failures;
byte heard, returned;

chan inbox = [2] of { byte, bool, byte }; /* the value's number, whose it was, its connection */

inline publish(number, is_own, over) {
    if
    :: !is_connected
    :: is_connected && nfull(inbox) -> inbox!number, is_own, over
    :: is_connected && full(inbox) -> is_connected = false
    fi
}

proctype Reader(byte me) {
    byte stamp_generation, stamp_epoch, got;
    bool is_kept;
    take_stamp();
    got = value;
    install(me, got)
}

proctype ForeignWriter() {
    byte n = 0;
    do
    :: n < FOREIGN -> atomic { n++; value++; publish(value, false, 0) }
    :: else -> break
    od
}

proctype OwnWriter(byte me) {
    byte stamp_generation, stamp_epoch, mine, over;
    bool is_kept;
    take_stamp();
    over = connection;
    if
    :: atomic { value++; n_setting++; mine = value; publish(value, true, over) };
       atomic { n_failures < FAILURES && connection == over -> n_failures++; connection++ };
       mine = 0 /* executed, but the reply is lost */
    :: atomic { value++; n_setting++; mine = value; publish(value, true, over) }
    :: atomic { n_failures < FAILURES && connection == over -> n_failures++; connection++ };
       if
       :: HAS(FAILURE_FORGETS) -> forget_key()
       :: else
       fi;
       /* the call has failed; the server finds the command in its buffer yet */
       atomic { value++; publish(value, true, over) };
       goto done
    fi;
    if
    :: mine == 0 ->
        if
        :: HAS(FAILURE_FORGETS) -> forget_key()
        :: else
        fi;
        atomic { n_setting--; goto done }
    :: else
    fi;
    if
    :: atomic {
            epoch == stamp_epoch || !HAS(REPLY_CHECKS) ->
            epoch = epoch + HAS(REPLY_RAISES);
            stamp_epoch = epoch
        };
        install(me, mine);
        if
        :: !is_kept && HAS(KEPT_OR_FORGOTTEN) -> forget_key()
        :: else
        fi
    :: atomic { epoch != stamp_epoch && HAS(REPLY_CHECKS) -> epoch = epoch + HAS(REPLY_RAISES) };
        if
        :: HAS(LOSER_FORGETS) -> end_entries()
        :: else
        fi
    fi;
    atomic {
        n_setting--;
        if
        :: mine > returned -> returned = mine
        :: else
        fi
    };
done:
    skip
}

active proctype Link() {
    byte number, over;
    bool is_own;
end:
    do
    :: atomic { inbox?number, is_own, over -> is_applying = true };
        if
        :: is_own && (over == connection || !HAS(ECHO_BY_CONNECTION))
        :: else ->
            if
            :: HAS(FOREIGN_APPLIED) -> forget_key()
            :: else
            fi;
            atomic {
                if
                :: number > heard -> heard = number
                :: else
                fi
            }
        fi;
        atomic { is_applying = false; number = 0; is_own = false; over = 0 }
    :: atomic { !is_connected && empty(inbox) -> is_applying = true; is_live = false };
        generation = generation + HAS(GENERATION_ON_LOSS);
        is_connected = true;
        atomic {
            generation = generation + HAS(GENERATION_ON_LOSS);
            is_live = true;
            is_applying = false
        }
    od
}

active proctype Misfortune() {
end:
    do
    :: atomic { n_cuts < CUTS && is_connected -> n_cuts++; is_connected = false }
    :: atomic { n_cuts < CUTS && is_connected && nempty(inbox) ->
            n_cuts++; is_connected = false;
            inbox?_, _, _
        }
    od
}

init {
    atomic {
        run OwnWriter(0);
#if OWN_WRITERS > 1
        run OwnWriter(1);
#endif
        run Reader(OWN_WRITERS);
#if READERS > 1
        run Reader(OWN_WRITERS + 1);
#endif
        run ForeignWriter()
    }
}

#define AT_REST                                                                                    \
    (n_setting == 0 && is_live && is_connected && len(inbox) == 0 && !is_applying)
#define L1_SOUND (AT_REST -> (!IS_FRESH || entry_value == value))
#define NOT_RESURRECTED (!is_visible || entry_value >= heard)
#define OWN_READ (!is_visible || entry_value >= returned)

ltl I2 { [] L1_SOUND }
ltl I3 { [] NOT_RESURRECTED }
ltl I6 { [] OWN_READ }
ltl ALL { [] (L1_SOUND && NOT_RESURRECTED && OWN_READ) }
