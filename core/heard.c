/* SPDX-License-Identifier: MIT
 *
 * heard.c - see perilune_heard.h: a ring of a fixed size, with what the link's thread hears at one
 * end and the program at the other. Nothing waits for the program: what finds no room is counted.
 */
#include "heard.h"

enum { MOST = 65536 };

struct pln_heard {
    pthread_mutex_t lock; /* over: */
    struct pln_heard_event *ring;
    size_t most, first, n;
    uint64_t lost;
};

int pln_heard_new(struct pln_heard **heard) {
    struct pln_heard *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for what is heard");
    }
    pthread_mutex_init(&created->lock, NULL);
    *heard = created;
    return PLN_OK;
}

void pln_heard_free(struct pln_heard *heard) {
    if (heard != NULL) {
        pthread_mutex_destroy(&heard->lock);
        free(heard->ring);
        free(heard);
    }
}

static void write_event(struct pln_heard_event *event, enum pln_heard_kind kind,
                        struct pln_bytes text, uint64_t lost) {
    size_t room = sizeof event->text - 1;
    event->kind = (uint8_t) kind;
    event->is_cut = text.len > room;
    event->len = (uint16_t) (event->is_cut ? room : text.len);
    event->lost = lost;
    if (event->len > 0) {
        memcpy(event->text, text.data, event->len);
    }
    event->text[event->len] = 0;
}

void pln_heard_note(struct pln_heard *heard, enum pln_heard_kind kind, struct pln_bytes text) {
    pthread_mutex_lock(&heard->lock);
    if (heard->n < heard->most) {
        write_event(&heard->ring[(heard->first + heard->n) % heard->most], kind, text, heard->lost);
        heard->n++;
        heard->lost = 0;
    } else if (heard->most > 0) {
        heard->lost++;
    }
    pthread_mutex_unlock(&heard->lock);
}

int pln_heard_keep(struct pln_cache *cache, size_t most) {
    struct pln_heard *heard = cache->heard;
    if (most < 1 || most > MOST) {
        return pln_fail(PLN_EINVAL, "events: %zu, must be from 1 to %d", most, MOST);
    }
    struct pln_heard_event *ring = malloc(most * sizeof *ring);
    if (ring == NULL) {
        return pln_fail(PLN_ENOMEM, "events: no memory for %zu", most);
    }
    pln_wake(cache); /* asleep it would hear nothing */
    pthread_mutex_lock(&heard->lock);
    bool is_first = heard->ring == NULL;
    if (is_first) {
        heard->ring = ring;
        heard->most = most;
        ring = NULL;
    }
    pthread_mutex_unlock(&heard->lock);
    free(ring);
    return is_first ? PLN_OK : pln_fail(PLN_EINVAL, "events: they are kept already");
}

int pln_heard_next(struct pln_cache *cache, struct pln_heard_event *event) {
    struct pln_heard *heard = cache->heard;
    pthread_mutex_lock(&heard->lock);
    bool is_there = heard->n > 0;
    if (is_there) {
        *event = heard->ring[heard->first];
        heard->first = (heard->first + 1) % heard->most;
        heard->n--;
    }
    pthread_mutex_unlock(&heard->lock);
    return is_there ? PLN_OK : PLN_MISS;
}

const char *pln_heard_name(int kind) {
    static const char *const names[] = {"key",   "expire", "tag", "prefix", "pattern",
                                        "clear", "down",   "up",  "gap"};
    return kind >= 0 && (size_t) kind < PLN_ARRAY_LEN(names) ? names[kind] : "unknown";
}

void pln_heard_freeze(struct pln_heard *heard) {
    pthread_mutex_lock(&heard->lock);
}

void pln_heard_thaw(struct pln_heard *heard) {
    pthread_mutex_unlock(&heard->lock);
}
