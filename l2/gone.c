/* SPDX-License-Identifier: MIT
 *
 * gone.c - what stands in the place of a client where none could be made: a forked child needs one
 * of its own, and memory may be out at that moment. Every command is refused.
 */
#include "internal.h"

static int refuse(void) {
    return pln_fail(PLN_EL2DOWN, "l2: this process was forked, and has no connections of its own "
                                 "yet: there was no memory for them");
}

static void leave(struct pln_l2 *l2) {
    (void) l2;
}

static int start(struct pln_l2 *l2) {
    (void) l2;
    return refuse();
}

static int on_key(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    (void) l2;
    (void) key;
    (void) deadline;
    return refuse();
}

static int get(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
               struct pln_l2_value *value) {
    (void) value;
    return on_key(l2, key, deadline);
}

static int get_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n, pln_ns deadline,
                    struct pln_l2_value *values, int *statuses) {
    (void) values;
    for (size_t i = 0; i < n; i++) {
        statuses[i] = PLN_EL2DOWN;
    }
    return on_key(l2, keys, deadline);
}

static int remove_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n,
                       pln_ns deadline) {
    (void) n;
    return on_key(l2, keys, deadline);
}

static int get_async(struct pln_l2 *l2, struct pln_l2_get *begun) {
    return on_key(l2, &begun->key, begun->deadline);
}

static int set(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_item *item,
               uint32_t set_flags, pln_ns deadline) {
    (void) item;
    (void) set_flags;
    return on_key(l2, key, deadline);
}

static int redo(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_redo *what,
                pln_ns deadline) {
    (void) what;
    return on_key(l2, key, deadline);
}

static int touch(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms fresh, pln_ms life,
                 pln_ms least, pln_ns deadline) {
    (void) fresh;
    (void) life;
    (void) least;
    return on_key(l2, key, deadline);
}

static int swap(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_swap *what,
                pln_ns deadline, struct pln_l2_value *value) {
    (void) what;
    (void) value;
    return on_key(l2, key, deadline);
}

static int write(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_write *what,
                 pln_ns deadline, struct pln_l2_value *value) {
    (void) what;
    (void) value;
    return on_key(l2, key, deadline);
}

static int through(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_item *item,
                   pln_ns began, pln_ns deadline) {
    (void) item;
    (void) began;
    return on_key(l2, key, deadline);
}

static int lease(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms length, pln_ns deadline,
                 struct pln_l2_lease *granted) {
    (void) length;
    (void) granted;
    return on_key(l2, key, deadline);
}

static int commit(struct pln_l2 *l2, const struct pln_hashed *key,
                  const struct pln_l2_lease *granted, const struct pln_l2_item *item,
                  pln_ns deadline) {
    (void) granted;
    (void) item;
    return on_key(l2, key, deadline);
}

static int release(struct pln_l2 *l2, const struct pln_hashed *key,
                   const struct pln_l2_lease *granted, pln_ns deadline) {
    (void) granted;
    return on_key(l2, key, deadline);
}

static int drop_tag(struct pln_l2 *l2, struct pln_bytes tag, pln_ns deadline) {
    (void) tag;
    return on_key(l2, NULL, deadline);
}

static int drop_match(struct pln_l2 *l2, const struct pln_mask *mask, pln_ns deadline) {
    (void) mask;
    return on_key(l2, NULL, deadline);
}

static int clear(struct pln_l2 *l2, pln_ns deadline) {
    return on_key(l2, NULL, deadline);
}

static int command(struct pln_l2 *l2, const struct pln_bytes *key, const struct pln_bytes *args,
                   size_t n_args, pln_ns deadline, struct pln_reply **reply) {
    (void) key;
    (void) args;
    (void) n_args;
    (void) reply;
    return on_key(l2, NULL, deadline);
}

static void health(struct pln_l2 *l2, struct pln_l2_health *health) {
    (void) l2;
    *health = (struct pln_l2_health){.breaker_open = true};
}

struct pln_l2 *pln_l2_gone(void) {
    static const struct pln_l2_ops ops = {
        .close = leave,
        .start = start,
        .get = get,
        .get_many = get_many,
        .get_async = get_async,
        .set = set,
        .remove = on_key,
        .remove_many = remove_many,
        .expire = on_key,
        .touch = touch,
        .swap = swap,
        .redo = redo,
        .write = write,
        .through = through,
        .lease = lease,
        .commit = commit,
        .release = release,
        .drop_tag = drop_tag,
        .drop_match = drop_match,
        .clear = clear,
        .command = command,
        .health = health,
    };
    static struct pln_l2 gone = {&ops};
    return &gone;
}
