/* SPDX-License-Identifier: MIT
 *
 * task.c - ops that a worker carries out as a whole: a get of many keys, past L1, calls, and the
 * tries of who wants a lock.
 *
 * A worker holds the op meanwhile. An owner who ends it in between leaves what it has to the
 * worker. When the cache closes, calls that no worker has begun are carried out by who closes it:
 * what was begun is not lost.
 */
#include "named.h"
#include "news.h"
#include "way.h"

/* What a worker leaves; read by the owner once it has let go. */
struct said {
    int status;
    char *text; /* NULL: there was no memory for it, or none */
};

static void say(struct said *said, int status) {
    free(said->text);
    said->status = status;
    said->text = status < 0 ? strdup(pln_error_text()) : NULL;
}

static void take_said(struct pln_op *op, struct said *said) {
    if (said->status < 0) {
        pln_fail(said->status, "%s", said->text != NULL ? said->text : pln_strerror(said->status));
    }
    pln_op_ready(op, said->status);
}

/* ---- many keys ---- */

struct many_op {
    struct pln_op op;
    struct pln_job job;
    struct pln_get_options options;
    struct pln_many many; /* its arrays and keys are in `memory` */
    bool is_asked;
    bool is_given; /* the values are the caller's */
    struct said said;
    void *memory;
};

static void run_many(struct pln_job *job, unsigned worker) {
    struct many_op *many = PLN_CONTAINER_OF(job, struct many_op, job);
    (void) worker;
    pln_many_ask(&many->many);
    pln_op_let_go(&many->op);
}

static void drop_many(struct pln_job *job) {
    struct many_op *many = PLN_CONTAINER_OF(job, struct many_op, job);
    say(&many->said, pln_fail(PLN_ECLOSED, "get_many: the cache is being closed"));
    pln_op_let_go(&many->op);
}

static enum pln_op_state look_at_many(struct pln_op *op) {
    struct many_op *many = PLN_CONTAINER_OF(op, struct many_op, op);
    if (!many->is_asked) {
        many->is_asked = true;
        pln_many_ask(&many->many);
    }
    if (pln_op_is_held(op)) {
        return PLN_OP_UNDER_WAY;
    }
    take_said(op, &many->said);
    return PLN_OP_READY;
}

static void end_many(struct pln_op *op) {
    struct many_op *many = PLN_CONTAINER_OF(op, struct many_op, op);
    for (size_t i = 0; !many->is_given && i < many->many.n; i++) {
        pln_release(many->many.cache, many->many.results[i].value);
    }
    pln_many_end(&many->many);
    free(many->said.text);
    free(many->memory);
    many->memory = NULL;
}

static const struct pln_op_kind many_kind = {.look = look_at_many, .end = end_many};

/* One block for results, statuses, keys, and the keys' bytes. */
static int take_keys(struct many_op *many, const struct pln_bytes *keys, size_t n) {
    size_t size = n * (sizeof(struct pln_result) + sizeof(struct pln_bytes) + sizeof(int));
    for (size_t i = 0; i < n; i++) {
        size += keys[i].len;
    }
    char *block = calloc(1, size + 1);
    if (block == NULL) {
        return pln_fail(PLN_ENOMEM, "get_many: no memory for %zu keys", n);
    }
    many->memory = block;
    many->many.results = (void *) block;
    struct pln_bytes *copies = (void *) (many->many.results + n);
    many->many.statuses = (void *) (copies + n);
    many->many.keys = copies;
    many->many.n = n;
    char *at = (void *) (many->many.statuses + n);
    for (size_t i = 0; i < n; i++) {
        copies[i] = pln_bytes_of(at, keys[i].len);
        if (keys[i].len > 0) {
            memcpy(at, keys[i].data, keys[i].len);
        }
        at += keys[i].len;
    }
    return PLN_OK;
}

/* Asks for what L1 lacks: at once where nobody has to be waited for, or of a worker. */
static int begin_rest(struct many_op *many) {
    struct pln_cache *cache = many->many.cache;
    bool asks_l2 = cache->has_l2 && (many->options.flags & PLN_GET_NO_L2) == 0;
    if (many->many.rest.n > 0 && (asks_l2 || pln_many_may_load(&many->many))) {
        if (pln_news_has_no_threads(many->op.news)) {
            pln_op_tell(&many->op);
            return PLN_OK;
        }
        many->is_asked = true;
        pln_op_hold(&many->op);
        many->job = (struct pln_job){.run = run_many, .drop = drop_many};
        int status = pln_workers_submit(cache->workers, &many->job, true);
        if (status < 0) {
            say(&many->said, status);
            pln_op_let_go(&many->op);
        }
        return status;
    }
    many->is_asked = true;
    pln_many_ask(&many->many);
    return PLN_OK;
}

int pln_begin_get_many(struct pln_news *news, const struct pln_bytes *keys, size_t n,
                       const struct pln_get_options *options, struct pln_op **op) {
    int status = pln_news_check(news);
    if (status < 0) {
        return status;
    }
    struct many_op *many = calloc(1, sizeof *many);
    if (many == NULL) {
        return pln_fail(PLN_ENOMEM, "get_many: no memory");
    }
    pln_op_begin(&many->op, news, &many_kind);
    many->op.until = PLN_FOREVER;
    many->options = options != NULL ? *options : (struct pln_get_options){0};
    many->options.tags = NULL; /* which are for a loader's value */
    many->options.n_tags = 0;
    many->many.cache = pln_news_cache(news);
    many->many.options = &many->options;
    status = take_keys(many, keys, n);
    if (status == PLN_OK && n > 0) {
        status = pln_many_look(&many->many);
    }
    if (status == PLN_OK) {
        status = begin_rest(many);
    }
    if (status < 0) {
        char text[PLN_ERROR_TEXT];
        memcpy(text, pln_error_text(), sizeof text);
        pln_op_free(&many->op);
        return pln_fail(status, "%s", text);
    }
    *op = &many->op;
    return PLN_OK;
}

int pln_op_results(struct pln_op *op, size_t *n, struct pln_result **results, int **statuses) {
    struct many_op *many = PLN_CONTAINER_OF(op, struct many_op, op);
    int status = op->kind == &many_kind ? pln_op_ended(op)
                                        : pln_fail(PLN_EINVAL, "results: the op is of one key");
    if (status == PLN_OK && op->status == PLN_OK) {
        *n = many->many.n;
        *results = many->many.results;
        *statuses = many->many.statuses;
        many->is_given = true;
    }
    return status == PLN_OK ? op->status : status;
}

/* ---- calls ---- */

struct call_op {
    struct pln_op op;
    struct pln_job job;
    int (*run)(struct pln_cache *cache, void *arg);
    void (*end)(void *arg);
    void *arg;
    struct said said;
};

static void run_call(struct pln_job *job, unsigned worker) {
    struct call_op *call = PLN_CONTAINER_OF(job, struct call_op, job);
    (void) worker;
    say(&call->said, call->run(pln_news_cache(call->op.news), call->arg));
    if (call->end != NULL) {
        call->end(call->arg);
    }
    pln_op_let_go(&call->op);
}

static void drop_call(struct pln_job *job) {
    run_call(job, 0);
}

static enum pln_op_state look_at_call(struct pln_op *op) {
    struct call_op *call = PLN_CONTAINER_OF(op, struct call_op, op);
    if (pln_op_is_held(op)) {
        return PLN_OP_UNDER_WAY;
    }
    take_said(op, &call->said);
    return PLN_OP_READY;
}

static void end_call(struct pln_op *op) {
    free(PLN_CONTAINER_OF(op, struct call_op, op)->said.text);
}

static int refuse(void (*end)(void *arg), void *arg, int status) {
    if (end != NULL) {
        end(arg);
    }
    return status;
}

int pln_begin_call(struct pln_news *news, int (*run)(struct pln_cache *cache, void *arg),
                   void (*end)(void *arg), void *arg, struct pln_op **op) {
    static const struct pln_op_kind kind = {.look = look_at_call, .end = end_call};
    int status = pln_news_check(news);
    if (status < 0) {
        return refuse(end, arg, status);
    }
    struct call_op *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return refuse(end, arg, pln_fail(PLN_ENOMEM, "call: no memory"));
    }
    pln_op_begin(&call->op, news, &kind);
    call->op.until = PLN_FOREVER;
    call->job = (struct pln_job){.run = run_call, .drop = drop_call};
    call->run = run;
    call->end = end;
    call->arg = arg;
    pln_op_hold(&call->op);
    status = pln_workers_submit(pln_news_cache(news)->workers, &call->job, true);
    if (status < 0) {
        pln_op_let_go(&call->op);
        pln_op_free(&call->op);
        return refuse(end, arg, status);
    }
    *op = &call->op;
    return PLN_OK;
}

/* ---- locks ---- */

/* A lock that is being taken. It outlives its op where it has to be given back. */
struct taken {
    struct pln_job job;
    struct pln_lock *lock;
    bool is_held;
};

struct lock_op {
    struct pln_op op;
    struct pln_job job;
    struct taken *taken; /* NULL: the caller has it */
    struct pln_lock_tries tries;
    bool is_resting; /* until op.until, between two tries */
    pln_ms left;     /* for which others have it at most */
    struct said said;
};

static void run_back(struct pln_job *job, unsigned worker) {
    struct taken *taken = PLN_CONTAINER_OF(job, struct taken, job);
    (void) worker;
    pln_unlock(taken->lock); /* where that fails, its ttl ends it */
    free(taken);
}

static void drop_back(struct pln_job *job) {
    run_back(job, 0);
}

static void run_try(struct pln_job *job, unsigned worker) {
    struct lock_op *lock = PLN_CONTAINER_OF(job, struct lock_op, job);
    (void) worker;
    say(&lock->said, pln_lock_grant(lock->taken->lock, &lock->left));
    lock->taken->is_held = lock->said.status == PLN_OK;
    pln_op_let_go(&lock->op);
}

static void drop_try(struct pln_job *job) {
    struct lock_op *lock = PLN_CONTAINER_OF(job, struct lock_op, job);
    say(&lock->said, pln_fail(PLN_ECLOSED, "lock: the cache is being closed"));
    pln_op_let_go(&lock->op);
}

static void try_lock(struct lock_op *lock) {
    lock->op.until = PLN_FOREVER;
    lock->is_resting = false;
    lock->job = (struct pln_job){.run = run_try, .drop = drop_try};
    pln_op_hold(&lock->op);
    int status = pln_workers_submit(pln_news_cache(lock->op.news)->workers, &lock->job, true);
    if (status < 0) {
        say(&lock->said, status);
        pln_op_let_go(&lock->op);
    }
}

static enum pln_op_state look_at_lock(struct pln_op *op) {
    struct lock_op *lock = PLN_CONTAINER_OF(op, struct lock_op, op);
    while (!pln_op_is_held(op)) {
        if (!lock->is_resting &&
            !pln_lock_tries_again(&lock->tries, lock->said.status, lock->left, &op->until)) {
            take_said(op, &lock->said);
            return PLN_OP_READY;
        }
        lock->is_resting = true;
        if (pln_clock_precise() < op->until) {
            break;
        }
        try_lock(lock);
    }
    return PLN_OP_UNDER_WAY;
}

/* What was granted, and nobody took, is given back: by a worker, unless too much waits for them. */
static void end_lock(struct pln_op *op) {
    struct lock_op *lock = PLN_CONTAINER_OF(op, struct lock_op, op);
    struct taken *taken = lock->taken;
    free(lock->said.text);
    if (taken == NULL) {
        return;
    }
    lock->taken = NULL;
    taken->job = (struct pln_job){.run = run_back, .drop = drop_back};
    if (!taken->is_held) {
        pln_lock_free(taken->lock);
        free(taken);
    } else if (pln_workers_submit(pln_news_cache(op->news)->workers, &taken->job, true) < 0) {
        run_back(&taken->job, 0);
    }
}

int pln_begin_lock(struct pln_news *news, struct pln_bytes name,
                   const struct pln_lock_options *options, struct pln_op **op) {
    static const struct pln_op_kind kind = {.look = look_at_lock, .end = end_lock};
    struct pln_lock *made = NULL;
    int status = pln_news_check(news);
    if (status == PLN_OK) {
        status = pln_lock_make(pln_news_cache(news), name, options, &made);
    }
    if (status < 0) {
        return status;
    }
    struct lock_op *lock = calloc(1, sizeof *lock);
    struct taken *taken = calloc(1, sizeof *taken);
    if (lock == NULL || taken == NULL) {
        free(lock);
        free(taken);
        pln_lock_free(made);
        return pln_fail(PLN_ENOMEM, "lock: no memory");
    }
    taken->lock = made;
    lock->taken = taken;
    lock->tries = pln_lock_tries_of(options);
    pln_op_begin(&lock->op, news, &kind);
    try_lock(lock);
    *op = &lock->op;
    return PLN_OK;
}

int pln_op_lock(struct pln_op *op, pln_ms *held_ms, struct pln_lock **lock) {
    struct lock_op *self = PLN_CONTAINER_OF(op, struct lock_op, op);
    int status = op->kind->end == end_lock ? pln_op_ended(op) : PLN_PENDING;
    if (status < 0) {
        return status;
    }
    if (status == PLN_PENDING || (op->status == PLN_OK && self->taken == NULL)) {
        return pln_fail(PLN_EINVAL, "lock: the op is not ready, or none of a lock's");
    }
    if (op->status == PLN_OK) {
        *lock = self->taken->lock;
        free(self->taken);
        self->taken = NULL;
    } else if (op->status == PLN_PENDING && held_ms != NULL) {
        *held_ms = self->left;
    }
    return op->status;
}
