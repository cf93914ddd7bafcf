/* SPDX-License-Identifier: MIT
 *
 * systemd.c - messages to the service manager: one datagram to the socket that it names in the
 * environment, by a path or, after '@', in the abstract name space.
 */
#include "warm.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int pln_notify(const char *message) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = path != NULL ? strlen(path) : 0;
    if (len == 0) {
        return PLN_MISS;
    }
    if (len >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@')) {
        return pln_fail(PLN_ESYSTEM, "notify: NOTIFY_SOCKET is '%s', which names no socket", path);
    }
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') {
        address.sun_path[0] = 0;
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return pln_fail(PLN_ESYSTEM, "notify: %s", strerror(errno));
    }
    socklen_t size = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len);
    ssize_t sent = sendto(fd, message, strlen(message), MSG_NOSIGNAL,
                          (const struct sockaddr *) &address, size);
    int status = sent >= 0 ? PLN_OK
                           : pln_fail(PLN_ESYSTEM, "notify: %s: %s", path, strerror(errno));
    close(fd);
    return status;
}
