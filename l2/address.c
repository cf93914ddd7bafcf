/* SPDX-License-Identifier: MIT
 *
 * address.c - hosts and ports as servers tell them.
 *
 * What goes into an endpoint is fit to be connected to and to be shown in a log: bytes from '!' to
 * '~' only, so that a server's text can forge nothing.
 */
#include "topology.h"

enum { LAST_PORT = 65535 };

bool pln_address_number(struct pln_bytes text, int last, int *number) {
    const char *at = text.data;
    int64_t read = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return false;
        }
        read = read * 10 + (at[i] - '0');
        if (read > last) {
            return false;
        }
    }
    if (text.len == 0) {
        return false;
    }
    *number = (int) read;
    return true;
}

bool pln_address_set(struct pln_address *endpoint, struct pln_bytes host, int64_t port) {
    const char *at = host.data;
    if (host.len >= PLN_HOST_SIZE || port < 1 || port > LAST_PORT) {
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        if (at[i] < '!' || at[i] > '~') {
            return false;
        }
    }
    *endpoint = (struct pln_address){.port = (uint16_t) port};
    if (host.len > 0) {
        memcpy(endpoint->host, at, host.len);
    }
    return true;
}

bool pln_address_read(struct pln_bytes text, struct pln_address *endpoint) {
    const char *begin = text.data;
    const char *colon = text.len == 0 ? NULL : memrchr(begin, ':', text.len);
    int port;
    if (colon == NULL) {
        return false;
    }
    const char *host = begin, *end = colon;
    if (!pln_address_number(pln_bytes_of(colon + 1, (size_t) (begin + text.len - colon - 1)),
                            LAST_PORT, &port)) {
        return false;
    }
    if (host < end && *host == '[') {
        if (end - host < 3 || end[-1] != ']') {
            return false;
        }
        host++;
        end--;
    }
    return pln_address_set(endpoint, pln_bytes_of(host, (size_t) (end - host)), port);
}

bool pln_address_equal(const struct pln_address *a, const struct pln_address *b) {
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

bool pln_reply_has_bytes(const struct pln_reply *reply) {
    return reply->kind == PLN_REPLY_STRING || reply->kind == PLN_REPLY_STATUS;
}
