/* SPDX-License-Identifier: MIT
 *
 * refusal.c - errors of a server that mean something to us: what is done about each, and what its
 * operator can do. The server's own words are always told; the hint comes behind them.
 *
 * What passes was refused before anything of it was done, so it may be sent again. That is not so
 * of the same words out of the midst of a script, which say that they are.
 */
#include "internal.h"

#include <stdio.h>

/* Of several that fit the first holds. Nothing here is a command's own affair (WRONGTYPE), and
 * where a slot is (MOVED, ASK, CLUSTERDOWN) is route.c's. */
static const struct pln_refusal refusals[] = {
    {"READONLY", NULL,
     "it is a replica, or became one: writes go to the master, whom sentinels or a cluster know",
     .is_last = true},
    {"LOADING", NULL, "it reads its data from disk and answers when it has it", .is_passing = true,
     .is_last = true, .is_fatal = true},
    {"MASTERDOWN", NULL, "a replica that lost its master, told to serve nothing meanwhile",
     .is_passing = true, .is_last = true, .is_fatal = true},
    {"BUSY", NULL, "a script of somebody's runs for too long: SCRIPT KILL ends it",
     .is_passing = true},
    {"TRYAGAIN", NULL, "keys of one command are on their way between two servers",
     .is_passing = true},
    {"CLUSTERDOWN", NULL, "the cluster lacks a majority, or nobody has the slot: CLUSTER INFO"},
    {"OOM", NULL,
     "its maxmemory is reached: reads go on, what is written is not stored; raise maxmemory, or let "
     "maxmemory-policy evict (volatile-lru, which spares what waits to be stored)"},
    {"MISCONF", NULL,
     "it cannot save to its disk: reads go on, what is written is not stored; its log says why",
     .is_pong = true},
    {"NOREPLICAS", NULL,
     "fewer replicas than min-replicas-to-write: reads go on, what is written is not stored"},
    {"NOAUTH", NULL, "give a password, in the URL or as an option", .is_last = true,
     .is_fatal = true, .is_for_good = true},
    {"WRONGPASS", NULL, "the password or the user's name is wrong, or the user is off",
     .is_fatal = true, .is_for_good = true},
    {"NOPERM", "channel", "grant the user the channels: ACL SETUSER user &NAMESPACE:*",
     .is_for_good = true},
    {"NOPERM", " key", "grant the user the keys: ACL SETUSER user ~*NAMESPACE:*",
     .is_for_good = true},
    {"NOPERM", "command", "grant the user the command: ACL SETUSER user +", .is_for_good = true},
    {"DENIED", NULL, "its protected mode lets in the local machine alone", .is_fatal = true,
     .is_for_good = true},
    {"ERR", "max number of clients", "raise its maxclients, or lower `pool` of its clients",
     .is_fatal = true},
};

static bool begins_with(const char *text, const char *word) {
    size_t len = strlen(word);
    return strncmp(text, word, len) == 0 && (text[len] == ' ' || text[len] == 0);
}

const struct pln_refusal *pln_refusal_of(const struct pln_reply *reply) {
    if (reply->kind != PLN_REPLY_ERROR) {
        return NULL;
    }
    const char *text = pln_reply_text(reply);
    for (size_t i = 0; i < PLN_ARRAY_LEN(refusals); i++) {
        if (begins_with(text, refusals[i].name) &&
            (refusals[i].part == NULL || strstr(text, refusals[i].part) != NULL)) {
            return &refusals[i];
        }
    }
    return NULL;
}

bool pln_refusal_is_passing(const struct pln_reply *reply) {
    const struct pln_refusal *refusal = pln_refusal_of(reply);
    return refusal != NULL && refusal->is_passing &&
           strstr(pln_reply_text(reply), "script:") == NULL;
}

/* Whether a failure's text has a refusal's name in it, as a server says it. */
static bool has_word(const char *text, const char *word) {
    size_t len = strlen(word);
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) {
        /* out of the midst of a script old servers put a dash before it */
        if (at > text && (at[-1] == ' ' || at[-1] == '-') && (at[len] == ' ' || at[len] == 0)) {
            return true;
        }
    }
    return false;
}

bool pln_l2_may_pass(int status) {
    const char *text = pln_error_text();
    bool may_pass = status == PLN_EL2DOWN || status == PLN_ETIMEOUT;
    for (size_t i = 0; status == PLN_EL2 && i < PLN_ARRAY_LEN(refusals); i++) {
        if (has_word(text, refusals[i].name) &&
            (refusals[i].part == NULL || strstr(text, refusals[i].part) != NULL)) {
            return !refusals[i].is_for_good;
        }
    }
    return may_pass;
}

void pln_refusal_hint(const struct pln_reply *reply, char *hint, size_t size) {
    const struct pln_refusal *refusal = pln_refusal_of(reply);
    hint[0] = 0;
    if (refusal == NULL || refusal->hint == NULL) {
        return;
    }
    /* which command it is stands between quotes */
    const char *quoted = strchr(pln_reply_text(reply), '\'');
    int n = quoted != NULL && refusal->hint[strlen(refusal->hint) - 1] == '+'
                ? (int) strcspn(quoted + 1, "'")
                : 0;
    snprintf(hint, size, " (%s%.*s)", refusal->hint, n, n > 0 ? quoted + 1 : "");
}
