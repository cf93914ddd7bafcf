/* SPDX-License-Identifier: MIT
 *
 * repair.pml - what an instance does about messages that it has missed. Messages have numbers, and
 * the server keeps the last ones in a log. Where the log reaches back to the last message heard in
 * an unbroken row (the position), the instance applies what it missed, and the generation goes back
 * to the even value it had: what was in L1 before the gap is valid again, and what was loaded in
 * the gap, under the odd value, is served again in the next gap. Where it does not, everything
 * drops: the next even value (or, with WALK, as in a ring of independent servers, all entries are
 * ended one by one and the generation goes back).
 *
 * A server may come back with an older state (RESTORES): then it has forgotten writes that it
 * acknowledged, and numbers them anew. Whoever knew of one of these is to notice when it is back.
 *
 * One key and another one beside it, whose messages count but do not matter. One instance with L1.
 * Loading under a lease is in fill.pml: here a read that finds nothing is one step.
 *
 *     code: l2/feed.c, l2/bus.c, l2/script.c, core/inval.c
 */
#ifndef READERS
#define READERS 1
#endif
#define FILLERS READERS
#include "instance.pml"

#define GENERATION_ON_LOSS 11 /* R6: odd in the gap, the next even one where it is not repaired */
#define SUBSCRIBED_FIRST 12   /* the log is read after the subscription is confirmed */
#define LOG_COVERS 13         /* no repair where the log does not reach back to the position */
#define SAME_HISTORY 14       /* the message at the position is still the same */
#define APPLIED_FIRST 15      /* the generation goes back when all that was missed is applied */
#define SKIP_NOTICED 16       /* a number that is skipped is a gap */
#define BEAT_COMPARED 17      /* a beat's number that was not reached is a gap */
#define CERTAIN_AS_ASKED 18   /* certain is what was done when the beat was asked for */
#define OWN_MOVE 19           /* own messages move the position */
#define BACKWARDS_NOTICED 20  /* a number lower than the position: the server has forgotten */
#define ANSWERS_REMEMBERED 21 /* nor may the number of an own write's answer be somebody else's */
#define EARLY_APPLIED 22      /* messages that come while the log is read are applied at once */
#define BACK_BY_ONE 23        /* the generation goes back by one, from where clears have put it */
#define UNSURE_IS_LOST 24     /* another run of the server, and a log that cannot tell: forgotten */
#define WALK_RAISES 25        /* who ends all entries one by one raises the stripes first */
#define LOSS_CLEARS 26        /* who notices that the server has forgotten clears what it holds */
#define NUMBERS_IN_ROW 27     /* positions move only in an unbroken row */
#define CERTAIN_LAST 28       /* certain moves when what is not certain has been dropped */

#ifndef READS
#define READS 2
#endif
#ifndef WRITES
#define WRITES 2
#endif
#ifndef OWN_WRITES
#define OWN_WRITES 0
#endif
#ifndef CUTS
#define CUTS 2
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef RESTORES
#define RESTORES 0
#endif
#ifndef BEATS
#define BEATS 1
#endif
#ifndef CLEARS
#define CLEARS 0
#endif
#ifndef OTHERS
#define OTHERS false
#endif
#ifndef WALK
#define WALK false
#endif
#ifndef TRIMS
#define TRIMS 0 /* times that the log loses all it has */
#endif
/* Messages that the log keeps. */
#define LOG 2

mtype = { of_key, of_other, of_all };

/* The server. A message's id is what it says and who said it: no two are the same. */
byte source = 1, value, number, boot;
byte log_id[LOG], last_id, log_from = 1;
mtype log_what[LOG];
byte saved_value, saved_number, saved_from, saved_id[LOG];
mtype saved_what[LOG];
bool is_saved;

/* The instance. */
byte position, position_id; /* of the last message in the row; id 0: not known */
byte position_boot;
byte answered, answered_id; /* the last number that an own write was answered with */
bool is_connected = true;
bool is_live = true;
bool is_applying;
byte gap_generation;        /* the even value before the gap */

/* Of the invariants. */
byte n_writing, n_cuts, n_losses, n_restores, n_trims, n_beats, n_reads;
byte executed;     /* the newest write whose script has run */
byte certain;      /* the newest write that must be known: the last beat, or repair, said so */
byte heard, returned;
byte lost_number;  /* of the message that was lost on a live link */
bool has_forgotten; /* the server lacks what it had acknowledged, and nobody has cleared it */
bool has_known;    /* the instance knew of some of it */
bool is_missing;   /* some message did not arrive */
bool false_alarm;  /* the link was taken down though none was missing */
bool is_own_open;  /* an own write is between its commit and its return */

chan inbox = [2] of { mtype, byte, byte, byte, bool }; /* what, number, id, write, is it own */

#define AT(place) place % LOG
#define IS_LOGGED(place) (place + LOG > number && place >= log_from)
#define LATEST_KNOWN (answered > position -> answered : position)

/* In a script: numbers a message, logs it and sends it. */
inline tell(what, write, is_own) {
    number++;
    last_id++;
    log_id[AT(number)] = last_id;
    log_what[AT(number)] = what;
    if
    :: !is_connected -> is_missing = true
    :: is_connected && n_losses < LOSSES -> n_losses++; lost_number = number; is_missing = true
    :: is_connected && nfull(inbox) -> inbox!what, number, last_id, write, is_own
    :: is_connected && full(inbox) -> is_connected = false; is_missing = true
    fi
}

inline remove(write, is_own) {
    value = 0;
    tell(of_key, write, is_own);
    executed = (write > executed -> write : executed)
}

proctype Reader(byte me) {
    byte stamp_generation, stamp_epoch, got;
    bool is_kept;
    do
    :: atomic { n_reads < READS -> n_reads++ };
        take_stamp();
        atomic {
            if
            :: value == 0 -> value = source
            :: else
            fi;
            got = value
        };
        install(me, got);
        got = 0;
        is_kept = false
    :: n_reads == READS -> break
    od
}

proctype Writer() {
    byte mine, n;
    do
    :: n < WRITES -> /* the key */
        n++;
        atomic { n_writing++; source++; mine = source };
        atomic { remove(mine, false); n_writing--; mine = 0 }
    :: OTHERS && n < WRITES -> atomic { n++; tell(of_other, 0, false) }
    :: n >= WRITES -> break
    od
}

proctype OwnWriter() {
    byte mine, n;
    do
    :: n < OWN_WRITES ->
        n++;
        atomic { n_writing++; is_own_open = true; source++; mine = source };
        forget_key();
        atomic {
            remove(mine, true);
            if
            :: number >= answered -> answered = number; answered_id = last_id
            :: else
            fi
        };
        forget_key();
        atomic {
            n_writing--;
            is_own_open = false;
            returned = (mine > returned -> mine : returned);
            mine = 0
        }
    :: else -> break
    od
}

proctype Clearer() {
    atomic { n_writing++; source++ };
    atomic { value = 0; tell(of_all, source, false); executed = source; n_writing-- }
}

inline apply(what) {
    if
    :: what == of_key -> forget_key()
    :: what == of_all -> generation = generation + 2
    :: else
    fi
}

inline go_down() {
    atomic {
        is_live = false;
        gap_generation = generation;
        generation = generation + HAS(GENERATION_ON_LOSS)
    }
}

/* One message, in or out of a gap; `row_end` and `row_id` are the position, or where the log that
 * is being read ends. */
inline take(row_end, row_id) {
    if
    :: is_own && !HAS(OWN_MOVE)
    :: else ->
        atomic {
            if
            :: numbered == row_end + 1 || (numbered > row_end && !HAS(SKIP_NOTICED)) ->
                row_end = numbered;
                row_id = id
            :: numbered > row_end + 1 && HAS(SKIP_NOTICED) && is_live ->
                false_alarm = !is_missing;
                go_down();
                if
                :: HAS(NUMBERS_IN_ROW)
                :: else -> row_end = numbered; row_id = id
                fi
            :: else /* doubled, late, or in a gap */
            fi
        }
    fi;
    if
    :: is_own
    :: else ->
        apply(what);
        atomic { heard = (write > heard -> write : heard) }
    fi
}

/* What the log says, as one answer: from, to, and what was missed. */
inline read_log() {
    log_end = number;
    log_end_id = (number > 0 -> log_id[AT(number)] : 0);
    log_boot = boot;
    log_certain = executed;
    is_covered = IS_LOGGED(position) || (position == 0 && number <= LOG && log_from == 1);
    /* what is not covered cannot be compared */
    is_same = (position == 0 || position > number || !is_covered || position_id == 0 ||
               log_id[AT(position)] == position_id);
    if /* the answer to an own write that was never heard of must be in the log */
    :: answered > position && answered <= number && IS_LOGGED(answered) ->
        is_same = is_same && (log_id[AT(answered)] == answered_id || !HAS(ANSWERS_REMEMBERED))
    :: else
    fi;
    is_lost = (HAS(BACKWARDS_NOTICED) && number < LATEST_KNOWN) ||
              (HAS(SAME_HISTORY) && !is_same) ||
              (HAS(UNSURE_IS_LOST) && boot != position_boot && LATEST_KNOWN > 0 &&
               (!IS_LOGGED(LATEST_KNOWN) || (position > 0 && position_id == 0)));
    missed[0] = log_what[0];
    missed[1] = log_what[1]
}

inline start_anew() {
    atomic {
        position = log_end;
        position_id = log_end_id;
        position_boot = log_boot;
        answered = (answered > position -> 0 : answered);
        certain = (HAS(CERTAIN_LAST) || is_lost -> certain : log_certain)
    };
    if
    :: WALK ->
        if
        :: HAS(WALK_RAISES) -> epoch++
        :: else
        fi;
        end_entries();
        atomic { generation = generation - HAS(GENERATION_ON_LOSS); is_live = true }
    :: else -> atomic { generation = generation + HAS(GENERATION_ON_LOSS); is_live = true }
    fi;
    certain = (is_lost || log_certain < certain -> certain : log_certain)
}

inline repair() {
    next = position + 1;
    if
    :: HAS(APPLIED_FIRST)
    :: else -> generation = (HAS(BACK_BY_ONE) -> generation - 1 : gap_generation)
    fi;
    do
    :: next <= log_end && next <= number_read ->
        apply(missed[AT(next)]);
        next++
    :: else -> break
    od;
    atomic {
        if
        :: !HAS(APPLIED_FIRST)
        :: else ->
            generation =
                (HAS(BACK_BY_ONE) -> generation - HAS(GENERATION_ON_LOSS) : gap_generation)
        fi;
        is_live = true
    };
    atomic {
        position = log_end;
        position_id = log_end_id;
        position_boot = log_boot;
        certain = (log_certain > certain -> log_certain : certain);
        next = 0
    }
}

active proctype Link() {
    mtype what, missed[LOG];
    byte numbered, id, write, next;
    byte log_end, log_end_id, log_boot, log_certain, number_read;
    byte asked, asked_certain;
    bool is_own, is_covered, is_same, is_lost, is_asked;
end:
    do
    :: is_live ->
        if
        :: atomic { inbox?what, numbered, id, write, is_own -> is_applying = true };
            take(position, position_id);
            atomic {
                is_applying = false;
                what = 0; numbered = 0; id = 0; write = 0; is_own = false
            }
        :: atomic { !is_connected && empty(inbox) -> go_down() }
        :: atomic { n_beats < BEATS && !is_asked && n_restores == 0 ->
                n_beats++; is_asked = true; asked = number; asked_certain = executed
            }
        :: atomic { /* what was on its way when it was asked for has been taken */
                is_asked && empty(inbox) ->
                is_asked = false;
                if
                :: position < asked && HAS(BEAT_COMPARED) ->
                    false_alarm = !is_missing;
                    go_down()
                :: else ->
                    if
                    :: HAS(CERTAIN_AS_ASKED)
                    :: else -> asked_certain = executed
                    fi;
                    certain = (asked_certain > certain -> asked_certain : certain)
                fi;
                asked = 0;
                asked_certain = 0
            }
        fi
    :: !is_live ->
        is_applying = true;
        is_asked = false;
        if
        :: HAS(SUBSCRIBED_FIRST) -> is_connected = true
        :: else
        fi;
        atomic { read_log(); number_read = log_end };
        if
        :: is_lost ->
            if
            :: HAS(LOSS_CLEARS) ->
                atomic { value = 0; tell(of_all, 0, true); has_forgotten = false };
                generation = generation + 2
            :: else
            fi;
            is_covered = false;
            atomic { read_log(); is_lost = true }
        :: else
        fi;
        do /* messages that come while the answer is on its way */
        :: atomic { inbox?what, numbered, id, write, is_own };
            if
            :: HAS(EARLY_APPLIED) -> take(log_end, log_end_id)
            :: else -> log_end = (numbered == log_end + 1 -> numbered : log_end)
            fi;
            atomic { what = 0; numbered = 0; id = 0; write = 0; is_own = false }
        :: break
        od;
        if
        :: !is_lost && (is_covered || !HAS(LOG_COVERS)) -> repair()
        :: else -> start_anew()
        fi;
        if
        :: HAS(SUBSCRIBED_FIRST)
        :: else -> is_connected = true
        fi;
        atomic {
            log_end = 0; log_end_id = 0; log_boot = 0; log_certain = 0; number_read = 0;
            missed[0] = 0; missed[1] = 0;
            is_covered = false; is_same = false; is_lost = false;
            is_applying = false
        }
    od
}

active proctype Misfortune() {
end:
    do
    :: atomic { n_cuts < CUTS && is_connected -> n_cuts++; is_connected = false }
    :: atomic { n_cuts < CUTS && is_connected && nempty(inbox) ->
            n_cuts++; is_connected = false; is_missing = true;
            inbox?_, _, _, _, _
        }
    :: atomic { n_trims < TRIMS -> 
            n_trims++; log_from = number + 1;
            log_id[0] = 0; log_id[1] = 0; log_what[0] = 0; log_what[1] = 0
        }
    :: atomic { n_restores < RESTORES && !is_saved && n_writing == 0 ->
            is_saved = true;
            saved_value = value; saved_number = number; saved_from = log_from;
            saved_id[0] = log_id[0]; saved_id[1] = log_id[1];
            saved_what[0] = log_what[0]; saved_what[1] = log_what[1]
        }
    :: atomic { n_restores < RESTORES && is_saved && number > saved_number && n_writing == 0 ->
            n_restores++;
            has_forgotten = true;
            has_known = LATEST_KNOWN > saved_number;
            value = saved_value; number = saved_number; log_from = saved_from; boot++;
            log_id[0] = saved_id[0]; log_id[1] = saved_id[1];
            log_what[0] = saved_what[0]; log_what[1] = saved_what[1];
            is_connected = false
        }
    od
}

init {
    atomic {
        run Reader(0);
#if READERS > 1
        run Reader(1);
#endif
        run Writer();
        if
        :: OWN_WRITES > 0 -> run OwnWriter()
        :: else
        fi;
        if
        :: CLEARS > 0 -> run Clearer()
        :: else
        fi
    }
}

#define L2_SOUND ((n_writing == 0 && !has_forgotten) -> (value == 0 || value == source))
#define AT_REST                                                                                    \
    (n_writing == 0 && is_live && is_connected && len(inbox) == 0 && !is_applying &&               \
     !has_forgotten && lost_number <= position)
#define L1_SOUND (AT_REST -> (!IS_FRESH || entry_value == source))
#define NOT_RESURRECTED (!IS_SERVED || n_restores > 0 || entry_value >= heard)
/* Also of what is served in a gap, and of that above all. An own write counts from its return. */
#define NOT_OLD (!IS_SERVED || n_restores > 0 || is_own_open || entry_value >= certain)
#define DOUBTED_IN_GAP (is_live || !IS_FRESH)
#define BOUNDED (NOT_OLD && DOUBTED_IN_GAP)
#define OWN_READ (!IS_SERVED || n_restores > 0 || entry_value >= returned)
#define LOSS_NOTICED (!(has_known && has_forgotten && is_live && is_connected))

ltl I1 { [] L2_SOUND }
ltl I2 { [] L1_SOUND }
ltl I3 { [] NOT_RESURRECTED }
ltl I4 { [] BOUNDED }
ltl I6 { [] OWN_READ }
ltl N1 { [] LOSS_NOTICED }
ltl N2 { [] !false_alarm }
ltl ALL { [] (L2_SOUND && L1_SOUND && NOT_RESURRECTED && BOUNDED && OWN_READ && LOSS_NOTICED &&
              !false_alarm) }
