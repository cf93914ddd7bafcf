/* SPDX-License-Identifier: MIT
 * proxy.c - see proxy.h. One thread looks at all sockets in turn, every few milliseconds where
 * nothing happens. */
#include "proxy.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { TURN_MS = 2, SLOW_BYTES = 8 };

static struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return address;
}

static int connect_to(const char *path) {
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *) &address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void close_end(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void send_all(int fd, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        bytes += sent;
        n -= (size_t) sent;
    }
}

static void accept_one(struct proxy *proxy) {
    int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
    proxy->n_accepted++;
    for (size_t i = 0; i < PROXY_PAIRS; i++) {
        struct proxy_pair *pair = &proxy->pairs[i];
        if (pair->client < 0 && pair->server < 0) {
            pair->client = client;
            pair->server = proxy->answer == NULL ? connect_to(proxy->target) : -1;
            pair->is_held = pair->is_link = false;
            pair->n_held = 0;
            if (proxy->answer != NULL) {
                send_all(client, proxy->answer, strlen(proxy->answer));
            } else if (pair->server < 0) {
                close_end(&pair->client);
            }
            return;
        }
    }
    close(client);
}

static void from_client(struct proxy_pair *pair) {
    ssize_t n = recv(pair->client, pair->held + pair->n_held, PROXY_HELD - pair->n_held,
                     MSG_DONTWAIT);
    if (n > 0) {
        pair->n_held += (size_t) n;
        pair->is_link = pair->is_link || memmem(pair->held, pair->n_held, "SUBSCRIBE", 9) != NULL;
    } else if (n == 0) {
        close_end(&pair->client); /* a network does not tell the server while packets are lost */
    }
    if (!pair->is_held) {
        send_all(pair->server, pair->held, pair->n_held);
        pair->n_held = 0;
        if (n == 0) {
            close_end(&pair->server);
        }
    }
}

/* Lets the signs of life through that are among what the server says. */
static void send_pongs(int fd, const char *bytes, size_t n) {
    static const char pong[] = "*2\r\n$4\r\npong\r\n$0\r\n\r\n";
    const char *end = bytes + n;
    const char *at;
    while ((at = memmem(bytes, (size_t) (end - bytes), pong, sizeof pong - 1)) != NULL) {
        send_all(fd, pong, sizeof pong - 1);
        bytes = at + 1;
    }
}

static void from_server(struct proxy *proxy, struct proxy_pair *pair) {
    char bytes[65536];
    enum proxy_hearing hearing = pair->is_link ? proxy->hearing : PROXY_HEARS;
    size_t most = proxy->is_dripping ? 1 : hearing == PROXY_SLOW ? SLOW_BYTES : sizeof bytes;
    ssize_t n = recv(pair->server, bytes, most, MSG_DONTWAIT);
    if (n > 0 && hearing == PROXY_DEAF) {
        send_pongs(pair->client, bytes, (size_t) n);
    } else if (n > 0 && hearing == PROXY_CUT) {
        return;
    } else if (n > 0 && pair->client >= 0) {
        send_all(pair->client, bytes, (size_t) n);
    } else if (n == 0) {
        close_end(&pair->server);
        close_end(&pair->client);
    }
}

static void *run(void *arg) {
    struct proxy *proxy = arg;
    bool is_stopping = false;
    while (!is_stopping) {
        struct pollfd polls[1 + 2 * PROXY_PAIRS];
        pthread_mutex_lock(&proxy->lock);
        polls[0] = (struct pollfd){.fd = proxy->listener, .events = POLLIN};
        for (size_t i = 0; i < PROXY_PAIRS; i++) {
            polls[1 + 2 * i] = (struct pollfd){.fd = proxy->pairs[i].client, .events = POLLIN};
            bool is_kept = proxy->is_mute && !proxy->pairs[i].is_link;
            polls[2 + 2 * i] = (struct pollfd){.fd = is_kept ? -1 : proxy->pairs[i].server,
                                               .events = POLLIN};
        }
        bool is_dripping = proxy->is_dripping || proxy->hearing == PROXY_SLOW;
        pthread_mutex_unlock(&proxy->lock);
        if (is_dripping) {
            poll(NULL, 0, TURN_MS);
        }
        poll(polls, sizeof polls / sizeof polls[0], TURN_MS);
        pthread_mutex_lock(&proxy->lock);
        for (size_t i = 0; i < PROXY_PAIRS; i++) {
            struct proxy_pair *pair = &proxy->pairs[i];
            if (polls[1 + 2 * i].revents != 0 && pair->client >= 0) {
                from_client(pair);
            }
            if (polls[2 + 2 * i].revents != 0 && pair->server >= 0) {
                from_server(proxy, pair);
            }
        }
        if (polls[0].revents != 0) {
            accept_one(proxy);
        }
        is_stopping = proxy->is_stopping;
        pthread_mutex_unlock(&proxy->lock);
    }
    return NULL;
}

void pln_test_proxy_start(struct proxy *proxy, const char *target) {
    memset(proxy, 0, sizeof *proxy);
    snprintf(proxy->folder, sizeof proxy->folder, "/tmp/pln-proxy-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(proxy->folder));
    snprintf(proxy->path, sizeof proxy->path, "%s/proxy", proxy->folder);
    snprintf(proxy->url, sizeof proxy->url, "unix:%s", proxy->path);
    snprintf(proxy->target, sizeof proxy->target, "%s", target);
    for (size_t i = 0; i < PROXY_PAIRS; i++) {
        proxy->pairs[i].client = proxy->pairs[i].server = -1;
    }
    struct sockaddr_un address = address_of(proxy->path);
    proxy->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(proxy->listener, (struct sockaddr *) &address, sizeof address), 0);
    ck_assert_int_eq(listen(proxy->listener, 64), 0);
    pthread_mutex_init(&proxy->lock, NULL);
    ck_assert_int_eq(pthread_create(&proxy->thread, NULL, run, proxy), 0);
}

void pln_test_proxy_stop(struct proxy *proxy) {
    pthread_mutex_lock(&proxy->lock);
    proxy->is_stopping = true;
    pthread_mutex_unlock(&proxy->lock);
    pthread_join(proxy->thread, NULL);
    for (size_t i = 0; i < PROXY_PAIRS; i++) {
        close_end(&proxy->pairs[i].client);
        close_end(&proxy->pairs[i].server);
    }
    close(proxy->listener);
    unlink(proxy->path);
    rmdir(proxy->folder);
    pthread_mutex_destroy(&proxy->lock);
}

void pln_test_proxy_hold(struct proxy *proxy) {
    pthread_mutex_lock(&proxy->lock);
    for (size_t i = 0; i < PROXY_PAIRS; i++) {
        proxy->pairs[i].is_held = proxy->pairs[i].client >= 0;
    }
    pthread_mutex_unlock(&proxy->lock);
}

/* Returns how many bytes. */
static size_t let_go(struct proxy *proxy, bool holds_on) {
    size_t n = 0;
    pthread_mutex_lock(&proxy->lock);
    for (size_t i = 0; i < PROXY_PAIRS; i++) {
        struct proxy_pair *pair = &proxy->pairs[i];
        if (pair->is_held && pair->server >= 0) {
            send_all(pair->server, pair->held, pair->n_held);
            n += pair->n_held;
        }
        pair->is_held = pair->is_held && holds_on;
        pair->n_held = 0;
    }
    pthread_mutex_unlock(&proxy->lock);
    return n;
}

void pln_test_proxy_release(struct proxy *proxy) {
    let_go(proxy, false);
}

void pln_test_proxy_pass(struct proxy *proxy) {
    while (let_go(proxy, true) == 0) { /* the test's own time limit bounds it */
        poll(NULL, 0, 1);
    }
}

void pln_test_proxy_mute(struct proxy *proxy, bool is_mute) {
    pthread_mutex_lock(&proxy->lock);
    proxy->is_mute = is_mute;
    pthread_mutex_unlock(&proxy->lock);
}

void pln_test_proxy_drip(struct proxy *proxy, bool is_dripping) {
    pthread_mutex_lock(&proxy->lock);
    proxy->is_dripping = is_dripping;
    pthread_mutex_unlock(&proxy->lock);
}

void pln_test_proxy_link(struct proxy *proxy, enum proxy_hearing hearing) {
    pthread_mutex_lock(&proxy->lock);
    proxy->hearing = hearing;
    pthread_mutex_unlock(&proxy->lock);
}

void pln_test_proxy_lead_to(struct proxy *proxy, const char *target) {
    pthread_mutex_lock(&proxy->lock);
    snprintf(proxy->target, sizeof proxy->target, "%s", target);
    pthread_mutex_unlock(&proxy->lock);
}

void pln_test_proxy_answer(struct proxy *proxy, const char *answer) {
    pthread_mutex_lock(&proxy->lock);
    proxy->answer = answer;
    pthread_mutex_unlock(&proxy->lock);
}

void pln_test_proxy_say(struct proxy *proxy, const char *text) {
    pthread_mutex_lock(&proxy->lock);
    for (size_t i = 0; i < PROXY_PAIRS; i++) {
        if (proxy->pairs[i].client >= 0) {
            send_all(proxy->pairs[i].client, text, strlen(text));
        }
    }
    pthread_mutex_unlock(&proxy->lock);
}

void pln_test_proxy_await_closed(struct proxy *proxy) {
    size_t n = 1;
    while (n > 0) { /* the test's own time limit bounds it */
        n = 0;
        pthread_mutex_lock(&proxy->lock);
        for (size_t i = 0; i < PROXY_PAIRS; i++) {
            n += proxy->pairs[i].client >= 0 && !proxy->pairs[i].is_link;
        }
        pthread_mutex_unlock(&proxy->lock);
        poll(NULL, 0, 1);
    }
}

size_t pln_test_proxy_accepted(struct proxy *proxy) {
    pthread_mutex_lock(&proxy->lock);
    size_t n = proxy->n_accepted;
    pthread_mutex_unlock(&proxy->lock);
    return n;
}
