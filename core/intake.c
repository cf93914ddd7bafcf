/* SPDX-License-Identifier: MIT
 *
 * intake.c - what is said with Redis to get events: from a channel, and from a stream.
 *
 * A channel is heard by every process, once, by those who listen just then. An entry of a stream
 * goes to one consumer of the group, and stays pending until that one acknowledges it:
 *
 *   - carried out: acknowledged;
 *   - Redis could not be told what is void: it stays pending, and is tried again, less and less
 *     often, with entries that came later not waiting for it;
 *   - it can never be carried out (no event, an unknown one, a field missing): copied to
 * STREAM:dead with the reason, then acknowledged;
 *   - its consumer died: after `idle` another one takes it over.
 *
 * So an event may be carried out twice, which makes void what is void already.
 *
 * A consumer has a name of its own, so that two never answer for each other. It is taken off the
 * group when its process closes the cache; those of processes that died are swept out once nothing
 * is pending for them.
 */
#include "feeder.h"

#include <stdio.h>

enum {
    TURN_MS = 1000,     /* waited for news at a time */
    PATIENCE_MS = 5000, /* a server that owes an answer for longer is given up */
    LEAST_CLAIM_MS = 100,
    MOST_CLAIM_MS = 30000,
    LEAST_SWEEP_MS = 60000,
    DEAD_HEAD = 10, /* words of XADD before an entry's own */
};

/* Why an event is not carried out; a bit each in feeder->told. */
enum fault { FAULT_UNREADABLE = 1, FAULT_UNKNOWN = 2, FAULT_UNFIT = 4, FAULT_PASSING = 8 };

/* An event on its way. */
struct parcel {
    struct pln_feeder *feeder;
    const struct pln_reply *id, *entry; /* NULL: it came over a channel */
    struct pln_notice notice;
};

/* ---- talking ---- */

/* Says a command and hears its answer. One that blocks is left when the source is to end. */
static int ask(struct pln_feeder *feeder, const struct pln_bytes *args, size_t n_args,
               bool is_blocking, struct pln_reply **reply) {
    pln_ns deadline = pln_deadline(PATIENCE_MS + (is_blocking ? TURN_MS : 0));
    int status = pln_l2_talk_say(feeder->talk, args, n_args);
    if (status == PLN_OK) {
        do {
            status = pln_l2_talk_hear(feeder->talk, deadline, reply);
        } while (status == PLN_MISS && pln_clock_precise() < deadline &&
                 !(is_blocking && pln_feeder_is_stopping(feeder)));
    }
    return status != PLN_MISS
               ? status
               : pln_fail(PLN_ETIMEOUT, "l2: redis at %s: no answer to %s",
                          pln_l2_talk_label(feeder->talk), (const char *) args[0].data);
}

static int refuse(struct pln_feeder *feeder, const char *what, const struct pln_reply *reply) {
    return pln_fail(PLN_EL2, "l2: redis at %s: %s: %s", pln_l2_talk_label(feeder->talk), what,
                    reply->kind == PLN_REPLY_ERROR ? (const char *) reply->bytes.data
                                                   : "an answer of an unexpected kind");
}

static bool begins(const struct pln_reply *reply, const char *word) {
    size_t len = strlen(word);
    return reply->bytes.len >= len && memcmp(reply->bytes.data, word, len) == 0;
}

/* ---- carrying out ---- */

/* Tells of the first event of each kind of fault; all are counted. */
static void tell(struct parcel *parcel, enum fault fault, const char *text) {
    struct pln_feeder *feeder = parcel->feeder;
    const char *fate = parcel->id == NULL       ? "lost"
                       : fault == FAULT_PASSING ? "kept, and tried again until it works"
                                                : "moved to the dead ones";
    if ((feeder->told & fault) == 0) {
        feeder->told |= fault;
        pln_logf(&feeder->cache->host, PLN_LOG_WARN,
                 "events: %s '%s'%s%s: %s; it is %s, as others of this kind will be, untold",
                 parcel->id != NULL ? "stream" : "channel", feeder->source.name,
                 parcel->id != NULL ? ", entry " : "",
                 parcel->id != NULL ? (const char *) parcel->id->bytes.data : "", text, fate);
    }
}

static enum fault fault_of(int status, bool is_read) {
    return pln_event_may_pass(status) ? FAULT_PASSING
           : !is_read                 ? FAULT_UNREADABLE
           : status == PLN_MISS       ? FAULT_UNKNOWN
                                      : FAULT_UNFIT;
}

/* The entry's own words, where they are not too many. */
static size_t add_words(const struct pln_reply *entry, struct pln_bytes *words) {
    size_t bytes = 0, n = entry->kind == PLN_REPLY_ARRAY ? entry->n_elements / 2 * 2 : 0;
    for (size_t i = 0; i < n && i < (size_t) 2 * PLN_NOTICE_FIELDS; i++) {
        words[i] = entry->elements[i].bytes;
        bytes += words[i].len;
    }
    return n <= (size_t) 2 * PLN_NOTICE_FIELDS && bytes <= PLN_NOTICE_BYTES ? n : 0;
}

/* Copies an entry to the dead ones, with the reason. */
static int bury(struct parcel *parcel, const char *reason) {
    const struct pln_event_source *source = &parcel->feeder->source;
    struct pln_bytes words[DEAD_HEAD + 2 * PLN_NOTICE_FIELDS];
    struct pln_reply *reply = NULL;
    char most[24], *name;
    if (asprintf(&name, "%s:dead", source->name) < 0) {
        return pln_fail(PLN_ENOMEM, "events: no memory for a name");
    }
    snprintf(most, sizeof most, "%zu", source->dead);
    const struct pln_bytes head[DEAD_HEAD] = {
        pln_key("XADD"), pln_key(name), pln_key("MAXLEN"), pln_key("~"),      pln_key(most),
        pln_key("*"),    pln_key("of"), parcel->id->bytes, pln_key("reason"), pln_key(reason)};
    memcpy(words, head, sizeof head);
    size_t n = DEAD_HEAD + add_words(parcel->entry, words + DEAD_HEAD);
    int status = pln_remote_command(parcel->feeder->cache, &words[1], words, n, 0, &reply);
    if (status == PLN_OK) {
        pln_reply_free(reply);
    }
    free(name);
    return status;
}

/* Does what there is to do about one event; `status` says how it was read. Returns whether it is
 * done with. */
static bool deliver(struct parcel *parcel, int status) {
    struct pln_feeder *feeder = parcel->feeder;
    struct pln_counts *counts = feeder->cache->counts;
    const struct pln_notice *notice = &parcel->notice;
    char text[PLN_ERROR_TEXT];
    bool is_read = status == PLN_OK;
    if (is_read) {
        status = pln_raise(feeder->cache, notice->event, notice->fields, notice->n_fields);
    }
    if (status == PLN_MISS) {
        pln_fail(status, "no cache.on of the policy names the event '%.*s'",
                 notice->event.len > 64 ? 64 : (int) notice->event.len,
                 (const char *) notice->event.data);
    }
    pln_count(counts, PLN_COUNT_EVENTS_RECEIVED, 1);
    if (status == PLN_OK) {
        feeder->told &= ~(unsigned) FAULT_PASSING;
        pln_count(counts, PLN_COUNT_EVENTS_RAISED, 1);
        return true;
    }
    enum fault fault = fault_of(status, is_read);
    snprintf(text, sizeof text, "%s", pln_error_text());
    if (fault != FAULT_PASSING && parcel->id != NULL && (status = bury(parcel, text)) < 0) {
        fault = FAULT_PASSING;
        snprintf(text, sizeof text, "%s", pln_error_text());
    }
    tell(parcel, fault, text);
    pln_count(counts, fault == FAULT_PASSING ? PLN_COUNT_EVENTS_FAILED : PLN_COUNT_EVENTS_DEAD, 1);
    return fault != FAULT_PASSING;
}

/* ---- a channel ---- */

static int subscribe(struct pln_feeder *feeder) {
    struct pln_bytes args[] = {pln_key("SUBSCRIBE"), pln_key(feeder->source.name)};
    struct pln_reply *reply;
    int status = ask(feeder, args, PLN_ARRAY_LEN(args), false, &reply);
    if (status == PLN_OK) {
        status = reply->kind == PLN_REPLY_ARRAY ? PLN_OK : refuse(feeder, "SUBSCRIBE", reply);
        pln_reply_free(reply);
    }
    return status;
}

static int take_message(struct pln_feeder *feeder, const struct pln_reply *reply) {
    struct parcel parcel = {.feeder = feeder};
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements < 2) {
        return refuse(feeder, "a message", reply);
    }
    if (reply->n_elements == 3 && begins(&reply->elements[0], "message")) {
        int status = pln_notice_read_message(reply->elements[2].bytes, &parcel.notice);
        deliver(&parcel, status);
        pln_notice_fini(&parcel.notice);
    }
    return PLN_OK; /* else it is a pong */
}

/* Where nothing is said for a while, a ping brings an answer, or shows that the line is dead. */
static int take_messages(struct pln_feeder *feeder) {
    struct pln_bytes ping = pln_key("PING");
    struct pln_reply *reply;
    int status = pln_l2_talk_hear(feeder->talk, pln_deadline(TURN_MS), &reply);
    if (status == PLN_MISS && !pln_feeder_is_stopping(feeder)) {
        status = ask(feeder, &ping, 1, true, &reply);
    }
    if (status == PLN_OK) {
        status = take_message(feeder, reply);
        pln_reply_free(reply);
    }
    return status == PLN_MISS ? PLN_OK : status;
}

/* ---- a stream's entries ---- */

static struct pln_bytes group_of(const struct pln_feeder *feeder) {
    return pln_key(feeder->source.group != NULL ? feeder->source.group : feeder->cache->ns);
}

/* Makes stream and group where they are not there. From the stream's beginning: what was added
 * before anybody listened is late, but not lost. */
static int make_group(struct pln_feeder *feeder) {
    struct pln_bytes args[] = {pln_key("XGROUP"), pln_key("CREATE"), pln_key(feeder->source.name),
                               group_of(feeder),  pln_key("0"),      pln_key("MKSTREAM")};
    struct pln_reply *reply;
    int status = ask(feeder, args, PLN_ARRAY_LEN(args), false, &reply);
    if (status == PLN_OK) {
        bool is_error = reply->kind == PLN_REPLY_ERROR && !begins(reply, "BUSYGROUP");
        status = is_error ? refuse(feeder, "XGROUP CREATE", reply) : PLN_OK;
        pln_reply_free(reply);
    }
    return status;
}

static int acknowledge(struct pln_feeder *feeder, struct pln_bytes *args, size_t n_ids) {
    struct pln_reply *reply;
    args[0] = pln_key("XACK");
    args[1] = pln_key(feeder->source.name);
    args[2] = group_of(feeder);
    int status = n_ids == 0 ? PLN_MISS : ask(feeder, args, 3 + n_ids, false, &reply);
    if (status == PLN_OK) {
        status = reply->kind == PLN_REPLY_INTEGER ? PLN_OK : refuse(feeder, "XACK", reply);
        pln_reply_free(reply);
    }
    return status == PLN_MISS ? PLN_OK : status;
}

static bool is_entry(const struct pln_reply *reply) {
    return reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 2 &&
           reply->elements[0].kind == PLN_REPLY_STRING;
}

/* Carries out a list of entries, and acknowledges those that are done with. The others are looked
 * at again after a pause. */
static int take_entries(struct pln_feeder *feeder, const struct pln_reply *entries) {
    struct pln_bytes *args = calloc(3 + entries->n_elements, sizeof *args);
    size_t n_done = 0;
    bool has_failed = false;
    if (args == NULL) {
        return pln_fail(PLN_ENOMEM, "events: no memory for %zu entries", entries->n_elements);
    }
    for (size_t i = 0; i < entries->n_elements && !pln_feeder_is_stopping(feeder); i++) {
        const struct pln_reply *entry = &entries->elements[i];
        if (is_entry(entry)) { /* else it was trimmed away, as servers before 7 tell it */
            struct parcel parcel = {
                feeder, &entry->elements[0], &entry->elements[1], {.n_fields = 0}};
            int status = pln_notice_read_entry(parcel.entry, &parcel.notice);
            bool is_done = deliver(&parcel, status);
            pln_notice_fini(&parcel.notice);
            args[3 + n_done] = parcel.id->bytes;
            n_done += is_done;
            has_failed = has_failed || !is_done;
        }
    }
    if (has_failed && feeder->retry_at == PLN_FOREVER) {
        feeder->retry_at = pln_clock_precise() + pln_feeder_pause(&feeder->retry_backoff);
    }
    int status = acknowledge(feeder, args, n_done);
    free(args);
    return status;
}

/* Reads entries from an id on: "0" and the like are the consumer's own that are pending, ">" is
 * what nobody has had. Returns: PLN_OK; PLN_MISS where there are none. */
static int read_group(struct pln_feeder *feeder, const char *from, pln_ms block_ms,
                      struct pln_reply **reply) {
    char most[24], block[24];
    snprintf(most, sizeof most, "%u", feeder->source.most);
    snprintf(block, sizeof block, "%lld", (long long) block_ms);
    struct pln_bytes args[] = {pln_key("XREADGROUP"), pln_key("GROUP"),
                               group_of(feeder),      pln_key(feeder->consumer),
                               pln_key("COUNT"),      pln_key(most),
                               pln_key("BLOCK"),      pln_key(block),
                               pln_key("STREAMS"),    pln_key(feeder->source.name),
                               pln_key(from)};
    int status = ask(feeder, args, PLN_ARRAY_LEN(args), true, reply);
    if (status != PLN_OK) {
        return status;
    }
    const struct pln_reply *got = *reply;
    bool is_list = got->kind == PLN_REPLY_ARRAY && got->n_elements == 1 &&
                   got->elements[0].kind == PLN_REPLY_ARRAY && got->elements[0].n_elements == 2 &&
                   got->elements[0].elements[1].kind == PLN_REPLY_ARRAY;
    if (is_list) {
        return PLN_OK;
    }
    if (got->kind == PLN_REPLY_NIL) {
        status = PLN_MISS;
    } else if (begins(got, "NOGROUP") || begins(got, "UNBLOCKED")) {
        status = make_group(feeder); /* FLUSHALL, or somebody has deleted it */
        status = status == PLN_OK ? PLN_MISS : status;
    } else {
        status = refuse(feeder, "XREADGROUP", got);
    }
    pln_reply_free(*reply);
    return status;
}

/* Tries again what could not be carried out, or not be acknowledged. */
static int take_own(struct pln_feeder *feeder) {
    char from[64] = "0";
    struct pln_reply *reply;
    int status = PLN_OK;
    size_t n = 1;
    feeder->retry_at = PLN_FOREVER;
    while (status == PLN_OK && n > 0 && !pln_feeder_is_stopping(feeder)) {
        status = read_group(feeder, from, 1, &reply);
        if (status == PLN_OK) {
            const struct pln_reply *entries = &reply->elements[0].elements[1];
            n = entries->n_elements;
            status = take_entries(feeder, entries);
            if (n > 0 && is_entry(&entries->elements[n - 1])) {
                snprintf(from, sizeof from, "%s",
                         (const char *) entries->elements[n - 1].elements[0].bytes.data);
            }
            pln_reply_free(reply);
        }
    }
    if (status == PLN_OK && feeder->retry_at == PLN_FOREVER) {
        feeder->retry_backoff = 0;
    }
    return status == PLN_MISS ? PLN_OK : status;
}

/* ---- the entries of the dead ---- */

/* Takes consumers off the group for which nothing is pending: one by its name, or those silent for
 * so long. */
static const struct pln_remote_script sweep_script = {
    "sweep", "for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do\n"
             "  local c = {}\n"
             "  for i = 1, #row, 2 do c[row[i]] = row[i + 1] end\n"
             "  if c.pending == 0 and (c.name == ARGV[3] or c.idle > tonumber(ARGV[2])) then\n"
             "    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], c.name)\n"
             "  end\n"
             "end\n"
             "return 1\n"};

static void sweep(struct pln_feeder *feeder, const char *leaver) {
    char silent[24];
    struct pln_bytes name = pln_key(feeder->source.name);
    pln_ms longest = pln_after(0, feeder->source.idle * 10);
    struct pln_reply *reply;
    snprintf(silent, sizeof silent, "%lld",
             (long long) (longest < LEAST_SWEEP_MS ? LEAST_SWEEP_MS : longest));
    struct pln_bytes args[] = {group_of(feeder), pln_key(silent), pln_key(leaver)};
    if (pln_remote_run(feeder->cache, &sweep_script, &name, 1, args, PLN_ARRAY_LEN(args), 0,
                       &reply) == PLN_OK) {
        pln_reply_free(reply); /* else the names stay, and are only a nuisance */
    }
}

/* Takes over what consumers leave pending that are silent. */
static int take_over(struct pln_feeder *feeder) {
    char idle[24], most[24], from[64] = "0-0";
    struct pln_reply *reply;
    int status = PLN_OK;
    bool is_through = false;
    snprintf(idle, sizeof idle, "%lld", (long long) feeder->source.idle);
    snprintf(most, sizeof most, "%u", feeder->source.most);
    while (status == PLN_OK && !is_through && !pln_feeder_is_stopping(feeder)) {
        struct pln_bytes args[] = {pln_key("XAUTOCLAIM"), pln_key(feeder->source.name),
                                   group_of(feeder),      pln_key(feeder->consumer),
                                   pln_key(idle),         pln_key(from),
                                   pln_key("COUNT"),      pln_key(most)};
        status = ask(feeder, args, PLN_ARRAY_LEN(args), false, &reply);
        if (status != PLN_OK) {
            return status;
        }
        if (reply->kind == PLN_REPLY_ARRAY && reply->n_elements >= 2 &&
            reply->elements[0].kind == PLN_REPLY_STRING &&
            reply->elements[1].kind == PLN_REPLY_ARRAY) {
            snprintf(from, sizeof from, "%s", (const char *) reply->elements[0].bytes.data);
            is_through = strcmp(from, "0-0") == 0;
            status = take_entries(feeder, &reply->elements[1]);
        } else {
            status = begins(reply, "NOGROUP") ? make_group(feeder)
                                              : refuse(feeder, "XAUTOCLAIM", reply);
            is_through = true;
        }
        pln_reply_free(reply);
    }
    return status;
}

/* ---- a stream ---- */

static int take_from_stream(struct pln_feeder *feeder) {
    pln_ns now = pln_clock_precise();
    struct pln_reply *reply;
    int status = PLN_OK;
    if (now >= feeder->claim_at) {
        pln_ms pause = feeder->source.idle / 2;
        pause = pause < LEAST_CLAIM_MS  ? LEAST_CLAIM_MS
                : pause > MOST_CLAIM_MS ? MOST_CLAIM_MS
                                        : pause;
        status = take_over(feeder);
        sweep(feeder, "");
        feeder->claim_at = pln_deadline(pause);
    }
    if (status == PLN_OK && now >= feeder->retry_at) {
        status = take_own(feeder);
    }
    if (status != PLN_OK || pln_feeder_is_stopping(feeder)) {
        return status;
    }
    pln_ns until = feeder->retry_at < feeder->claim_at ? feeder->retry_at : feeder->claim_at;
    pln_ms block = (until - pln_clock_precise()) / 1000000;
    block = block < 1 ? 1 : block > TURN_MS ? TURN_MS : block; /* 0 is without end */
    status = read_group(feeder, ">", block, &reply);
    if (status == PLN_OK) {
        status = take_entries(feeder, &reply->elements[0].elements[1]);
        pln_reply_free(reply);
    }
    return status == PLN_MISS ? PLN_OK : status;
}

/* ---- both ---- */

int pln_intake_begin(struct pln_feeder *feeder) {
    if (feeder->source.kind == PLN_EVENT_CHANNEL) {
        return subscribe(feeder);
    }
    feeder->retry_at = feeder->claim_at = 0; /* what a lost connection has left */
    return make_group(feeder);
}

int pln_intake_take(struct pln_feeder *feeder) {
    return feeder->source.kind == PLN_EVENT_CHANNEL ? take_messages(feeder)
                                                    : take_from_stream(feeder);
}

void pln_intake_end(struct pln_feeder *feeder) {
    if (feeder->source.kind == PLN_EVENT_STREAM) {
        sweep(feeder, feeder->consumer);
    }
}
