/* SPDX-License-Identifier: MIT
 *
 * dial.c - a connected socket, before a deadline.
 *
 * A name may have several addresses, of which some may lead nowhere: they are tried in turn, the
 * families by turns, and each has its share of the time that is left, but not less than a quarter
 * of a second while there is so much.
 */
#include "internal.h"
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    USER_TIMEOUT_MS = 5000, /* unacknowledged bytes end a TCP connection after that */
    KEEP_IDLE_S = 15,       /* a silent connection is looked at after that, */
    KEEP_INTERVAL_S = 5,    /* so often, */
    KEEP_COUNT = 3,         /* so many times */
    MOST_ADDRESSES = 64,
};

static const pln_ns least_share = 250 * 1000000LL;
static const pln_ns full_queue_nap = 1000000;

static void set(int fd, int level, int option, int value) {
    setsockopt(fd, level, option, &value, sizeof value); /* it works without, if less well */
}

static int new_socket(int family) {
    int fd = pln_descriptor_socket(family);
    if (fd >= 0 && family != AF_UNIX) {
        set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
        set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S);
        set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S);
        set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT);
        set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    }
    return fd;
}

static pln_ns nap(struct pollfd *poll, pln_ns left) {
    struct timespec timeout = pln_timespec(left);
    return ppoll(poll, poll != NULL, &timeout, NULL);
}

/* A client's port is chosen from a range in which the server's may lie: then, while nobody listens
 * there, a socket may be connected to itself, and keep the server from its port. */
static bool is_own_echo(int fd) {
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_len = sizeof here, there_len = sizeof there;
    return getsockname(fd, (struct sockaddr *) &here, &here_len) == 0 &&
           getpeername(fd, (struct sockaddr *) &there, &there_len) == 0 && here_len == there_len &&
           (here.ss_family == AF_INET || here.ss_family == AF_INET6) &&
           memcmp(&here, &there, here_len) == 0;
}

/* Waits for the end of a connect that has begun. Returns 0 or an errno. */
static int await(int fd, pln_ns until) {
    struct pollfd poll = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof error;
    pln_ns left;
    while ((left = until - pln_clock_precise()) > 0) {
        if (nap(&poll, left) > 0) {
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
            return error;
        }
    }
    return ETIMEDOUT;
}

/* Returns 0 or an errno. */
static int connect_until(int fd, const struct sockaddr *address, socklen_t len, pln_ns until) {
    while (connect(fd, address, len) != 0) {
        if (errno == EINPROGRESS || errno == EINTR) {
            return await(fd, until);
        }
        if (errno != EAGAIN) {
            return errno;
        }
        /* a unix socket whose queue is full says so, but not when it no longer is */
        if (pln_clock_precise() >= until) {
            return ETIMEDOUT;
        }
        nap(NULL, full_queue_nap);
    }
    return 0;
}

/* One address. Returns 0 with a socket, or an errno. */
static int try(const struct sockaddr *address, socklen_t len, pln_ns until, int *connected) {
    int fd = new_socket(address->sa_family);
    int error = fd < 0 ? errno : connect_until(fd, address, len, until);
    if (error == 0 && is_own_echo(fd)) {
        error = ECONNREFUSED;
    }
    if (error != 0 && fd >= 0) {
        pln_descriptor_close(fd);
    } else if (error == 0) {
        fcntl(fd, F_SETFL, 0); /* it may sleep in recv(); who must not says MSG_DONTWAIT */
        *connected = fd;
    }
    return error;
}

static int refuse(const struct pln_endpoint *endpoint, int error, size_t n_addresses) {
    char among[48] = "";
    if (n_addresses > 1) {
        snprintf(among, sizeof among, " (the last of %zu addresses)", n_addresses);
    }
    if (error == ETIMEDOUT) {
        return pln_fail(PLN_ETIMEOUT, "l2: redis at %s: no connection before the deadline%s",
                        endpoint->label, among);
    }
    return pln_fail(error == ENOMEM ? PLN_ENOMEM : PLN_EL2DOWN, "l2: redis at %s: %s%s",
                    endpoint->label, strerror(error), among);
}

static int dial_unix(const struct pln_endpoint *endpoint, pln_ns deadline, int *fd) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", endpoint->path);
    int error = try((const struct sockaddr *) &address, sizeof address, deadline, fd);
    return error == 0 ? PLN_OK : refuse(endpoint, error, 1);
}

/* The addresses in the order in which they are tried: as the system has put them, but the families
 * by turns, beginning with that of the first. */
static size_t arrange(const struct addrinfo *list, const struct addrinfo *order[MOST_ADDRESSES]) {
    const struct addrinfo *of[2] = {list, list}; /* the next of the first's family, of another */
    size_t n = 0;
    for (size_t turn = 0; n < MOST_ADDRESSES && (of[0] != NULL || of[1] != NULL); turn ^= 1) {
        const struct addrinfo **next = &of[turn];
        while (*next != NULL && ((*next)->ai_family != list->ai_family) != (turn == 1)) {
            *next = (*next)->ai_next;
        }
        if (*next != NULL) {
            order[n++] = *next;
            *next = (*next)->ai_next;
        }
    }
    return n;
}

static int dial_tcp(const struct pln_endpoint *endpoint, pln_ns deadline, int *fd) {
    const struct addrinfo *order[MOST_ADDRESSES];
    struct addrinfo *list;
    int result = pln_lookup(endpoint->host, endpoint->port, deadline, &list);
    if (result != PLN_OK) {
        return result;
    }
    size_t n = arrange(list, order);
    int error = ETIMEDOUT;
    for (size_t i = 0; i < n && error != 0; i++) {
        pln_ns now = pln_clock_precise();
        pln_ns share = (deadline - now) / (pln_ns) (n - i);
        pln_ns until = now + (share < least_share ? least_share : share);
        if (now >= deadline) {
            break;
        }
        error = try(order[i]->ai_addr, order[i]->ai_addrlen, until < deadline ? until : deadline,
                    fd);
    }
    freeaddrinfo(list);
    return error == 0 ? PLN_OK : refuse(endpoint, error, n);
}

int pln_dial(const struct pln_endpoint *endpoint, pln_ns deadline, int *fd) {
    if (deadline <= pln_clock_precise()) {
        return pln_fail(PLN_ETIMEOUT,
                        "l2: redis at %s: the deadline passed before a connection was made",
                        endpoint->label);
    }
    return endpoint->path != NULL ? dial_unix(endpoint, deadline, fd)
                                  : dial_tcp(endpoint, deadline, fd);
}
