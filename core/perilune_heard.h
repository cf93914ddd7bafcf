/* SPDX-License-Identifier: MIT
 *
 * perilune_heard.h - what a cache hears of the others, for programs that want to hear it, too; a
 * part of perilune.h, which includes it.
 */
#ifndef PERILUNE_HEARD_H
#define PERILUNE_HEARD_H

#include "perilune.h"

#ifdef __cplusplus
extern "C" {
#endif

enum pln_heard_kind {
    PLN_HEARD_KEY,     /* another instance wrote or deleted the key */
    PLN_HEARD_EXPIRE,  /* another one made it stale */
    PLN_HEARD_TAG,     /* all that carries the tag is void, likewise below */
    PLN_HEARD_PREFIX,  /* all that begins so */
    PLN_HEARD_PATTERN, /* all that fits it */
    PLN_HEARD_CLEAR,   /* everything */
    PLN_HEARD_DOWN,    /* the link to Redis is lost: messages may be missing from now on */
    PLN_HEARD_UP,      /* it is live again, and nothing was missed */
    PLN_HEARD_GAP,     /* it is live again, and all that L1 had is void */
};

struct pln_heard_event {
    uint8_t kind;   /* enum pln_heard_kind */
    bool is_cut;    /* the text was longer than its room */
    uint16_t len;   /* of the text: key, tag, prefix or pattern */
    uint64_t lost;  /* events before this one that found no room since the one before it */
    char text[256]; /* a zero follows it */
};

/* Keeps what is heard from now on, up to `most` events (1 to 65536; 296 bytes each); those that
 * find no room are counted and dropped. Once in a cache's life. Own writes are no events.
 * Returns: PLN_OK; PLN_EINVAL (the number, or it was called before), PLN_ENOMEM. Threads: any. */
PLN_API int pln_heard_keep(struct pln_cache *cache, size_t most);

/* The oldest event that is kept, which is taken out. Returns: PLN_OK, PLN_MISS (none, or nothing is
 * kept). Threads: any; does not wait. */
PLN_API int pln_heard_next(struct pln_cache *cache, struct pln_heard_event *event);

/* "key", "expire", "tag", "prefix", "pattern", "clear", "down", "up", "gap". */
PLN_API const char *pln_heard_name(int kind);

#ifdef __cplusplus
}
#endif

#endif
