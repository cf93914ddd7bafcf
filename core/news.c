/* SPDX-License-Identifier: MIT
 *
 * news.c - one descriptor for all ops of a program, and what all ops have in common.
 *
 * A descriptor for each op would cost three system calls a miss, and event loops do not like
 * descriptors that come and go. So there is one: an eventfd, readable as long as an op has
 * something to tell that its owner has not looked at. Ops are told of by whoever moves them on,
 * under one lock; the system is called only where the first has come, or the last was seen.
 *
 * That lock comes after those of the flights (flight.c), under which ops are told. In a forked
 * child it may be held for ever, by a thread that is no more; so there nothing is done but to give
 * memory back.
 */
#include "news.h"
#include "flight.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct pln_news {
    struct pln_cache *cache;
    unsigned n_forks;     /* of the cache, when they were made */
    bool is_lost;         /* freed in a child of who made them */
    struct pln_op *ops;   /* the owner's */
    pthread_mutex_t lock; /* over: */
    int fd;               /* -1: none */
    size_t n;             /* ops that have news */
    size_t refs;          /* the owner's, and each op's */
};

int pln_news_new(struct pln_cache *cache, struct pln_news **news) {
    struct pln_news *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "news: no memory");
    }
    *created = (struct pln_news){.cache = cache, .n_forks = cache->n_forks, .fd = -1, .refs = 1};
    pthread_mutex_init(&created->lock, NULL);
    *news = created;
    return PLN_OK;
}

struct pln_cache *pln_news_cache(const struct pln_news *news) {
    return news->cache;
}

bool pln_news_has_no_threads(const struct pln_news *news) {
    pln_wake(news->cache); /* it is not known before */
    return pln_workers_has_caller(news->cache->workers);
}

/* Not where they are closed: the cache may be gone then. */
static bool is_of_parent(const struct pln_news *news) {
    return news->n_forks != news->cache->n_forks;
}

bool pln_news_are_lost(const struct pln_news *news) {
    return is_of_parent(news);
}

int pln_news_check(const struct pln_news *news) {
    return is_of_parent(news)
               ? pln_fail(PLN_ECLOSED, "news: this process was forked from the one that made them; "
                                       "they are to be made anew")
               : PLN_OK;
}

static void wake(int fd) {
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);
    (void) n; /* it was zero, so it takes one */
}

static void quiet(int fd) {
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);
    (void) n; /* it was one, and nobody else reads it */
}

int pln_news_fd(struct pln_news *news) {
    int status = pln_news_check(news);
    if (status < 0) {
        return status;
    }
    pthread_mutex_lock(&news->lock);
    if (news->fd < 0) {
        news->fd = eventfd(news->n > 0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    int fd = news->fd;
    pthread_mutex_unlock(&news->lock);
    return fd >= 0 ? fd : pln_fail(PLN_ESYSTEM, "news: no eventfd: %s", strerror(errno));
}

static void unref(struct pln_news *news) {
    pthread_mutex_lock(&news->lock);
    bool is_last = --news->refs == 0;
    pthread_mutex_unlock(&news->lock);
    if (is_last) {
        assert(news->ops == NULL && news->n == 0 && news->fd < 0);
        pthread_mutex_destroy(&news->lock);
        free(news);
    }
}

/* ---- what is told ---- */

static void tell_locked(struct pln_op *op) {
    struct pln_news *news = op->news;
    if (!op->has_news && !op->has_ended) {
        op->has_news = true;
        if (news->n++ == 0 && news->fd >= 0) {
            wake(news->fd);
        }
    }
}

void pln_op_tell(struct pln_op *op) {
    pthread_mutex_lock(&op->news->lock);
    tell_locked(op);
    pthread_mutex_unlock(&op->news->lock);
}

static void see_locked(struct pln_op *op) {
    struct pln_news *news = op->news;
    if (op->has_news) {
        op->has_news = false;
        if (--news->n == 0 && news->fd >= 0) {
            quiet(news->fd);
        }
    }
}

/* ---- an op's life ---- */

void pln_op_begin(struct pln_op *op, struct pln_news *news, const struct pln_op_kind *kind) {
    op->kind = kind;
    op->news = news;
    op->next = news->ops;
    op->at = &news->ops;
    if (op->next != NULL) {
        op->next->at = &op->next;
    }
    news->ops = op;
    pthread_mutex_lock(&news->lock);
    news->refs++;
    pthread_mutex_unlock(&news->lock);
}

void pln_op_ready(struct pln_op *op, int status) {
    op->is_ready = true;
    op->status = status;
    op->text = status < 0 ? strdup(pln_error_text()) : NULL;
}

static void unlist(struct pln_op *op) {
    assert(op->at != NULL);
    *op->at = op->next;
    if (op->next != NULL) {
        op->next->at = op->at;
    }
    op->next = NULL;
    op->at = NULL;
}

static void give_memory_back(struct pln_op *op) {
    struct pln_news *news = op->news;
    free(op->text);
    free(op);
    unref(news);
}

/* The worker's part is over where one is at it; else the owner ends it. */
static void end(struct pln_op *op) {
    pthread_mutex_lock(&op->news->lock);
    see_locked(op);
    op->has_ended = true;
    bool is_held = op->is_held;
    pthread_mutex_unlock(&op->news->lock);
    unlist(op);
    if (!is_held) {
        op->kind->end(op);
    }
}

void pln_op_hold(struct pln_op *op) {
    op->is_held = true; /* no worker knows it yet */
}

void pln_op_let_go(struct pln_op *op) {
    struct pln_news *news = op->news;
    pthread_mutex_lock(&news->lock);
    bool has_ended = op->has_ended;
    if (!has_ended) {
        op->is_held = false;
        tell_locked(op);
    }
    pthread_mutex_unlock(&news->lock);
    if (!has_ended) {
        return;
    }
    op->kind->end(op); /* the owner has left that to us */
    pthread_mutex_lock(&news->lock);
    op->is_held = false;
    bool is_freed = op->is_freed;
    pthread_mutex_unlock(&news->lock);
    if (is_freed) {
        give_memory_back(op);
    }
}

bool pln_op_is_held(struct pln_op *op) {
    pthread_mutex_lock(&op->news->lock);
    bool is_held = op->is_held;
    pthread_mutex_unlock(&op->news->lock);
    return is_held;
}

void pln_op_free(struct pln_op *op) {
    if (op == NULL) {
        return;
    }
    if (op->news->is_lost || (op->at != NULL && is_of_parent(op->news))) {
        if (op->at != NULL) {
            unlist(op);
        }
        free(op->text); /* the rest of it is the parent's */
        free(op);
        return;
    }
    if (op->at != NULL) {
        end(op);
    }
    pthread_mutex_lock(&op->news->lock);
    bool is_held = op->is_held;
    op->is_freed = true;
    pthread_mutex_unlock(&op->news->lock);
    if (!is_held) {
        give_memory_back(op);
    }
}

void pln_news_free(struct pln_news *news) {
    if (news == NULL) {
        return;
    }
    if (is_of_parent(news)) { /* the lock may be held; of all this the descriptor alone is ours */
        news->is_lost = true;
        while (news->ops != NULL) {
            unlist(news->ops);
        }
        if (news->fd >= 0) {
            close(news->fd);
        }
        return;
    }
    while (news->ops != NULL) {
        end(news->ops);
    }
    pthread_mutex_lock(&news->lock);
    int fd = news->fd;
    news->fd = -1;
    pthread_mutex_unlock(&news->lock);
    if (fd >= 0) {
        close(fd);
    }
    unref(news);
}

/* ---- what an owner asks ---- */

static bool is_dead(const struct pln_op *op) {
    return op->at == NULL || is_of_parent(op->news);
}

enum pln_op_state pln_op_look(struct pln_op *op) {
    if (is_dead(op)) {
        return PLN_OP_READY;
    }
    pthread_mutex_lock(&op->news->lock);
    see_locked(op);
    pthread_mutex_unlock(&op->news->lock);
    return op->is_ready ? PLN_OP_READY : op->kind->look(op);
}

pln_ms pln_op_timeout(struct pln_op *op) {
    if (is_dead(op) || op->is_ready) {
        return 0;
    }
    pthread_mutex_lock(&op->news->lock);
    bool has_news = op->has_news;
    pthread_mutex_unlock(&op->news->lock);
    if (has_news || op->until == PLN_FOREVER) {
        return has_news ? 0 : PLN_FOREVER;
    }
    pln_ns left = op->until - pln_clock_precise();
    return left > 0 ? (left + 999999) / 1000000 : 0;
}

int pln_op_ended(struct pln_op *op) {
    if (is_dead(op)) {
        bool is_lost = op->news->is_lost || op->at != NULL;
        return pln_fail(PLN_ECLOSED, "op: %s",
                        is_lost ? "this process was forked from the one that began it"
                                : "the cache was closed");
    }
    if (!op->is_ready) {
        return PLN_PENDING;
    }
    if (op->status < 0) {
        pln_fail(op->status, "%s", op->text != NULL ? op->text : pln_strerror(op->status));
    }
    return PLN_OK;
}

int pln_op_result(struct pln_op *op, struct pln_result *result) {
    int status = pln_op_ended(op);
    if (status != PLN_OK) {
        *result = (struct pln_result){.source = PLN_FROM_MISS};
        return status;
    }
    *result = op->result;
    op->result.value = NULL;
    return op->status;
}
