/* SPDX-License-Identifier: MIT
 * wire.c - see wire.h. One thread, which never waits for one peer: what a socket does not take is
 * kept, and as long as there is too much of it no more is read. */
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    LINKS = 64,
    PAIRS = 1024,
    PIECE = 65536,
    KEPT_MOST = 1 << 20, /* bytes of one flow on their way */
};

/* Bytes on their way. */
struct piece {
    struct piece *next;
    long long due; /* ms */
    size_t n, sent;
    char bytes[];
};

/* One direction of a connection. */
struct flow {
    struct piece *first, **last;
    size_t n_kept;
    bool has_ended; /* nothing more comes in */
};

struct pair {
    bool is_used, has_swallowed;
    bool is_subscribed; /* then what comes from the server is looked at reply by reply */
    unsigned link;
    int client, server; /* -1: none, a connection that leads nowhere */
    struct flow up, down;
    char *partial; /* the beginning of a reply */
    size_t n_partial;
};

struct wire {
    pthread_t thread;
    int wake_fd, listeners[LINKS];
    unsigned n_links;
    char folder[80], target[100];
    pthread_mutex_t lock; /* guards all below; held but while the thread waits */
    bool is_stopping;
    struct {
        enum wire_mode mode;
        int delay_ms;
    } links[LINKS];
    size_t n_pairs; /* beyond them none is used */
    struct pair pairs[PAIRS];
};

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "wire: %s: %s\n", what, strerror(errno));
    abort();
}

static void need(bool is_so, const char *what) {
    if (!is_so) {
        fail(what);
    }
}

static long long now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long) time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    need(strlen(path) < sizeof address.sun_path, "a path is too long");
    strcpy(address.sun_path, path);
    return address;
}

/* ---- replies ---- */

/* The length of the line that ends there, with its end; 0: not whole. */
static size_t line_length(const char *bytes, size_t n) {
    const char *end = memchr(bytes, '\n', n);
    return end == NULL ? 0 : (size_t) (end - bytes) + 1;
}

/* The length of the first reply of RESP2; 0 where it is not whole. */
static size_t reply_length(const char *bytes, size_t n) {
    size_t used = line_length(bytes, n);
    if (used == 0 || (*bytes != '$' && *bytes != '*')) {
        return used;
    }
    long count = strtol(bytes + 1, NULL, 10);
    if (*bytes == '$') {
        used += count < 0 ? 0 : (size_t) count + 2;
        return used <= n ? used : 0;
    }
    for (long i = 0; i < count; i++) {
        size_t part = used < n ? reply_length(bytes + used, n - used) : 0;
        if (part == 0) {
            return 0;
        }
        used += part;
    }
    return used;
}

static bool is_published(const char *bytes, size_t n) {
    static const char head[] = "*3\r\n$7\r\nmessage\r\n";
    return n >= sizeof head - 1 && memcmp(bytes, head, sizeof head - 1) == 0;
}

/* ---- flows ---- */

static void keep(struct flow *flow, const char *bytes, size_t n, long long due) {
    struct piece *piece = malloc(sizeof *piece + n);
    if (piece == NULL) {
        fail("no memory");
    }
    *piece = (struct piece){.due = due, .n = n};
    memcpy(piece->bytes, bytes, n);
    if (flow->first == NULL) {
        flow->last = &flow->first;
    }
    *flow->last = piece;
    flow->last = &piece->next;
    flow->n_kept += n;
}

static void drop_all(struct flow *flow) {
    while (flow->first != NULL) {
        struct piece *piece = flow->first;
        flow->first = piece->next;
        free(piece);
    }
    *flow = (struct flow){0};
}

/* Sends what is due. */
static void let_go(struct flow *flow, int to, long long now) {
    while (flow->first != NULL && flow->first->due <= now) {
        struct piece *piece = flow->first;
        ssize_t n = send(to, piece->bytes + piece->sent, piece->n - piece->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        piece->sent += n < 0 ? piece->n - piece->sent : (size_t) n; /* nobody there: lost */
        if (piece->sent == piece->n) {
            flow->n_kept -= piece->n;
            flow->first = piece->next;
            free(piece);
        }
    }
}

static void close_pair(struct pair *pair) {
    close(pair->client);
    if (pair->server >= 0) {
        close(pair->server);
    }
    drop_all(&pair->up);
    drop_all(&pair->down);
    free(pair->partial);
    *pair = (struct pair){0};
}

/* Passes on the whole replies of a subscriber, but for what was published, where it is deaf. */
static void pass_replies(struct pair *pair, const char *bytes, size_t n, bool is_deaf,
                         long long due) {
    size_t used = 0, length;
    pair->partial = realloc(pair->partial, pair->n_partial + n);
    need(pair->partial != NULL, "no memory");
    memcpy(pair->partial + pair->n_partial, bytes, n);
    pair->n_partial += n;
    while (used < pair->n_partial &&
           (length = reply_length(pair->partial + used, pair->n_partial - used)) > 0) {
        if (!is_deaf || !is_published(pair->partial + used, length)) {
            keep(&pair->down, pair->partial + used, length, due);
        }
        used += length;
    }
    pair->n_partial -= used;
    memmove(pair->partial, pair->partial + used, pair->n_partial);
}

/* Reads from one end what there is. */
static void take(struct wire *wire, struct pair *pair, bool is_up, long long now) {
    char bytes[PIECE];
    struct flow *flow = is_up ? &pair->up : &pair->down;
    enum wire_mode mode = wire->links[pair->link].mode;
    ssize_t n = recv(is_up ? pair->client : pair->server, bytes, sizeof bytes, MSG_DONTWAIT);
    long long due = now + (mode == WIRE_DELAY ? wire->links[pair->link].delay_ms : 0);
    if (n <= 0) {
        flow->has_ended = n == 0 || (errno != EAGAIN && errno != EINTR);
        pair->has_swallowed = pair->has_swallowed || mode == WIRE_SWALLOW;
    } else if (mode == WIRE_SWALLOW || pair->server < 0) {
        pair->has_swallowed = true;
    } else if (is_up) {
        pair->is_subscribed = pair->is_subscribed ||
                              memmem(bytes, (size_t) n, "SUBSCRIBE", 9) != NULL;
        keep(flow, bytes, (size_t) n, due);
    } else if (pair->is_subscribed) {
        pass_replies(pair, bytes, (size_t) n, mode == WIRE_DEAF, due);
    } else {
        keep(flow, bytes, (size_t) n, due);
    }
}

/* ---- connections ---- */

static void accept_one(struct wire *wire, unsigned link) {
    int client = accept4(wire->listeners[link], NULL, NULL, SOCK_CLOEXEC);
    struct sockaddr_un address = address_of(wire->target);
    size_t i = 0;
    while (i < PAIRS && wire->pairs[i].is_used) {
        i++;
    }
    if (client < 0) {
        return;
    }
    if (i == PAIRS) {
        close(client);
        return;
    }
    int server = -1;
    if (wire->links[link].mode != WIRE_SWALLOW) {
        server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(server, (struct sockaddr *) &address, sizeof address) != 0) {
            close(server);
            close(client);
            return;
        }
    }
    wire->n_pairs = i >= wire->n_pairs ? i + 1 : wire->n_pairs;
    wire->pairs[i] = (struct pair){
        .is_used = true, .link = link, .client = client, .server = server};
}

/* What to wait for at one end: bytes, unless too many are kept, and room for those that are due. */
static struct pollfd poll_of(int fd, const struct flow *in, const struct flow *out, long long now) {
    short events = 0;
    if (!in->has_ended && in->n_kept < KEPT_MOST) {
        events |= POLLIN;
    }
    if (out->first != NULL && out->first->due <= now) {
        events |= POLLOUT;
    }
    return (struct pollfd){.fd = events == 0 ? -1 : fd, .events = events};
}

static bool is_over(const struct wire *wire, const struct pair *pair) {
    bool is_dead = wire->links[pair->link].mode == WIRE_SWALLOW;
    return !is_dead && ((pair->up.has_ended && pair->up.first == NULL) ||
                        (pair->down.has_ended && pair->down.first == NULL));
}

static void turn(struct wire *wire, const struct pollfd *polls) {
    long long now = now_ms();
    for (size_t i = 0; i < 2 * wire->n_pairs; i++) {
        /* subscribers first: the answer to a writer should not come before what others are told,
         * because this thread had to wait for its turn in between */
        bool is_first_round = i < wire->n_pairs;
        size_t place = is_first_round ? i : i - wire->n_pairs;
        struct pair *pair = &wire->pairs[place];
        const struct pollfd *at = &polls[1 + LINKS + 2 * place];
        if (!pair->is_used || pair->is_subscribed != is_first_round) {
            continue;
        }
        if ((at[0].revents & ~POLLOUT) != 0) {
            take(wire, pair, true, now);
        }
        if ((at[1].revents & ~POLLOUT) != 0) {
            take(wire, pair, false, now);
        }
        if (wire->links[pair->link].mode != WIRE_SWALLOW) {
            let_go(&pair->up, pair->server, now);
            let_go(&pair->down, pair->client, now);
        }
        if (is_over(wire, pair)) {
            close_pair(pair);
        }
    }
    for (unsigned i = 0; i < wire->n_links; i++) {
        if (polls[1 + i].revents != 0) {
            accept_one(wire, i);
        }
    }
}

/* Fills in what to wait for; returns for how long at most, -1 without end. */
static int prepare(struct wire *wire, struct pollfd *polls) {
    long long now = now_ms(), due = -1;
    while (wire->n_pairs > 0 && !wire->pairs[wire->n_pairs - 1].is_used) {
        wire->n_pairs--;
    }
    polls[0] = (struct pollfd){.fd = wire->wake_fd, .events = POLLIN};
    for (unsigned i = 0; i < LINKS; i++) {
        polls[1 + i] = (struct pollfd){.fd = i < wire->n_links ? wire->listeners[i] : -1,
                                       .events = POLLIN};
    }
    for (size_t i = 0; i < wire->n_pairs; i++) {
        struct pair *pair = &wire->pairs[i];
        struct pollfd *at = &polls[1 + LINKS + 2 * i];
        at[0] = at[1] = (struct pollfd){.fd = -1};
        if (!pair->is_used) {
            continue;
        }
        at[0] = poll_of(pair->client, &pair->up, &pair->down, now);
        at[1] = poll_of(pair->server, &pair->down, &pair->up, now);
        const struct piece *waiting[] = {pair->up.first, pair->down.first};
        for (int j = 0; j < 2; j++) {
            if (waiting[j] != NULL && waiting[j]->due > now && (due < 0 || waiting[j]->due < due)) {
                due = waiting[j]->due;
            }
        }
    }
    return due < 0 ? -1 : (int) (due - now);
}

static void *run(void *arg) {
    struct wire *wire = arg;
    struct pollfd *polls = calloc(1 + LINKS + 2 * PAIRS, sizeof *polls);
    eventfd_t count;
    need(polls != NULL, "no memory");
    pthread_mutex_lock(&wire->lock);
    while (!wire->is_stopping) {
        int timeout = prepare(wire, polls);
        nfds_t n_polls = 1 + LINKS + 2 * wire->n_pairs;
        pthread_mutex_unlock(&wire->lock);
        int n = poll(polls, n_polls, timeout);
        need(n >= 0 || errno == EINTR, "poll");
        if (n > 0 && polls[0].revents != 0) {
            eventfd_read(wire->wake_fd, &count);
        }
        pthread_mutex_lock(&wire->lock);
        turn(wire, polls);
    }
    pthread_mutex_unlock(&wire->lock);
    free(polls);
    return NULL;
}

/* ---- from outside ---- */

static void path_of(const struct wire *wire, unsigned link, char path[100]) {
    snprintf(path, 100, "%s/link%u", wire->folder, link);
}

struct wire *wire_start(const char *folder, unsigned n_links, const char *target) {
    struct wire *wire = calloc(1, sizeof *wire);
    need(wire != NULL && n_links <= LINKS, "too much");
    snprintf(wire->folder, sizeof wire->folder, "%s", folder);
    snprintf(wire->target, sizeof wire->target, "%s", target);
    wire->n_links = n_links;
    wire->wake_fd = eventfd(0, EFD_CLOEXEC);
    for (unsigned i = 0; i < n_links; i++) {
        char path[100];
        path_of(wire, i, path);
        struct sockaddr_un address = address_of(path);
        wire->listeners[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        need(bind(wire->listeners[i], (struct sockaddr *) &address, sizeof address) == 0, path);
        need(listen(wire->listeners[i], 128) == 0, path);
    }
    pthread_mutex_init(&wire->lock, NULL);
    need(pthread_create(&wire->thread, NULL, run, wire) == 0, "no thread");
    return wire;
}

void wire_stop(struct wire *wire) {
    char path[100];
    pthread_mutex_lock(&wire->lock);
    wire->is_stopping = true;
    pthread_mutex_unlock(&wire->lock);
    eventfd_write(wire->wake_fd, 1);
    pthread_join(wire->thread, NULL);
    for (size_t i = 0; i < PAIRS; i++) {
        if (wire->pairs[i].is_used) {
            close_pair(&wire->pairs[i]);
        }
    }
    for (unsigned i = 0; i < wire->n_links; i++) {
        close(wire->listeners[i]);
        path_of(wire, i, path);
        unlink(path);
    }
    close(wire->wake_fd);
    pthread_mutex_destroy(&wire->lock);
    free(wire);
}

void wire_set(struct wire *wire, int link, enum wire_mode mode, int delay_ms) {
    pthread_mutex_lock(&wire->lock);
    for (unsigned i = 0; i < wire->n_links; i++) {
        if (link == WIRE_ALL || link == (int) i) {
            wire->links[i].mode = mode;
            wire->links[i].delay_ms = delay_ms;
        }
    }
    pthread_mutex_unlock(&wire->lock);
    eventfd_write(wire->wake_fd, 1);
}

void wire_heal(struct wire *wire, int link) {
    pthread_mutex_lock(&wire->lock);
    for (size_t i = 0; i < PAIRS; i++) {
        struct pair *pair = &wire->pairs[i];
        bool leads_nowhere = pair->has_swallowed || pair->server < 0;
        if (pair->is_used && leads_nowhere && (link == WIRE_ALL || link == (int) pair->link)) {
            close_pair(pair);
        }
    }
    pthread_mutex_unlock(&wire->lock);
    wire_set(wire, link, WIRE_PASS, 0);
}
