/* SPDX-License-Identifier: MIT
 *
 * proxy.h - a network between a client and a server that a test can rule: it holds back what the
 * client says, lets answers through one byte at a time, leads new connections elsewhere, makes
 * subscribers deaf, or answers by itself.
 */
#ifndef PLN_TEST_PROXY_H
#define PLN_TEST_PROXY_H

#include <pthread.h>
#include <stdbool.h>

enum { PROXY_PAIRS = 64, PROXY_HELD = 65536 };

/* What those hear who have subscribed, now and later. */
enum proxy_hearing {
    PROXY_HEARS,
    PROXY_SLOW, /* everything, a few bytes at a time */
    PROXY_DEAF, /* signs of life alone, no messages */
    PROXY_CUT,  /* nothing, and nobody is told */
};

struct proxy_pair {
    int client, server; /* -1: none */
    bool is_held;
    bool is_link; /* it has subscribed */
    size_t n_held;
    char held[PROXY_HELD]; /* from the client */
};

struct proxy {
    char folder[64], path[96], url[112];
    int listener;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all below */
    bool is_stopping, is_dripping, is_mute;
    enum proxy_hearing hearing;
    char target[96];
    const char *answer; /* of the proxy's own; NULL: the server's */
    size_t n_accepted;
    struct proxy_pair pairs[PROXY_PAIRS];
};

void pln_test_proxy_start(struct proxy *proxy, const char *target);
void pln_test_proxy_stop(struct proxy *proxy);
/* Holds what comes from the clients connected now. Later connections are not concerned. */
void pln_test_proxy_hold(struct proxy *proxy);
/* Lets go what was held, even where the client has closed meanwhile. */
void pln_test_proxy_release(struct proxy *proxy);
/* Lets go what is held, waits for it where nothing is yet, and holds what comes after it. */
void pln_test_proxy_pass(struct proxy *proxy);
/* Keeps answers back, but for what subscribers hear. */
void pln_test_proxy_mute(struct proxy *proxy, bool is_mute);
void pln_test_proxy_drip(struct proxy *proxy, bool is_dripping);
void pln_test_proxy_link(struct proxy *proxy, enum proxy_hearing hearing);
void pln_test_proxy_lead_to(struct proxy *proxy, const char *target);
void pln_test_proxy_answer(struct proxy *proxy, const char *answer);
/* Says something unasked to all clients that are connected now. */
void pln_test_proxy_say(struct proxy *proxy, const char *text);
/* Waits until all connections but those that have subscribed are closed towards the clients, too.
 */
void pln_test_proxy_await_closed(struct proxy *proxy);
size_t pln_test_proxy_accepted(struct proxy *proxy);

#endif
