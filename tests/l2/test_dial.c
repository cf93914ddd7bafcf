/* SPDX-License-Identifier: MIT
 * test_dial.c - l2/dial.c and l2/lookup.c: every address is tried, and nothing outlasts its
 * deadline. getaddrinfo() is the test's own, so that a name may have any addresses, or none, or
 * keep its asker waiting. */
#include <arpa/inet.h>
#include <check.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../l2/internal.h"

/* ---- names ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_released; /* slow.test is answered */
static unsigned n_answered;

typedef int (*look_up)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static void wait_for_release(void) {
    pthread_mutex_lock(&lock);
    while (!is_released) {
        pthread_cond_wait(&changed, &lock);
    }
    n_answered++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void release(void) {
    pthread_mutex_lock(&lock);
    is_released = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* The addresses, ended by NULL, as one list. */
static int answer(look_up real, const char *const *addresses, const char *port,
                  struct addrinfo **found) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    for (; *addresses != NULL; addresses++) {
        ck_assert_int_eq(real(*addresses, port, &hints, found), 0);
        found = &(*found)->ai_next;
    }
    return 0;
}

int getaddrinfo(const char *restrict host, const char *restrict port,
                const struct addrinfo *restrict hints, struct addrinfo **restrict found) {
    static const char *const two[] = {"::1", "127.0.0.1", NULL};
    static const char *const many[] = {"127.0.0.2", "127.0.0.3", "::1", "127.0.0.1", NULL};
    look_up real;
    *(void **) &real = dlsym(RTLD_NEXT, "getaddrinfo");
    if ((hints->ai_flags & AI_NUMERICHOST) != 0) {
        return real(host, port, hints, found);
    }
    if (strcmp(host, "slow.test") == 0) {
        wait_for_release();
    }
    if (strcmp(host, "gone.test") == 0) {
        return EAI_NONAME;
    }
    return answer(real, strcmp(host, "many.test") == 0 ? many : two, port, found);
}

/* ---- servers and endpoints ---- */

/* A port of 127.0.0.1, with somebody who listens, or nobody. */
static int listen_at(bool is_listening, int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &address, &len), 0);
    ck_assert(!is_listening || listen(fd, 0) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static struct pln_endpoint endpoint_of(const char *host, int port) {
    static char name[64], label[96];
    snprintf(name, sizeof name, "%s", host);
    snprintf(label, sizeof label, "%s:%d", host, port);
    return (struct pln_endpoint){.host = name, .port = port, .weight = 1, .label = label};
}

static pln_ns in_ms(int ms) {
    return pln_clock_precise() + ms * 1000000LL;
}

static void expect_failure(int result, int expected, const char *text) {
    ck_assert_msg(result == expected && strstr(pln_error_text(), text) != NULL,
                  "got %d (%s), expected %d (...%s...)", result, pln_error_text(), expected, text);
}

/* ---- tests ---- */

START_TEST(who_refuses_is_named_with_the_reason) {
    int port, fd;
    int holder = listen_at(false, &port);
    struct pln_endpoint endpoint = endpoint_of("127.0.0.1", port);
    char text[128];
    snprintf(text, sizeof text, "l2: redis at 127.0.0.1:%d: Connection refused", port);
    expect_failure(pln_dial(&endpoint, in_ms(5000), &fd), PLN_EL2DOWN, text);
    close(holder);
}
END_TEST

START_TEST(a_socket_that_is_not_there_is_refused_at_once) {
    char path[] = "/nowhere/redis";
    int fd;
    struct pln_endpoint endpoint = {.path = path, .label = path};
    expect_failure(pln_dial(&endpoint, in_ms(5000), &fd), PLN_EL2DOWN,
                   "l2: redis at /nowhere/redis: No such file");
}
END_TEST

START_TEST(all_addresses_of_a_name_are_tried) {
    int port, fd;
    int server = listen_at(true, &port);
    const char *const names[] = {"two.test", "many.test"};
    struct pln_endpoint endpoint = endpoint_of(names[_i], port);
    ck_assert_msg(pln_dial(&endpoint, in_ms(5000), &fd) == PLN_OK, "%s", pln_error_text());
    close(fd);
    close(server);
    expect_failure(pln_dial(&endpoint, in_ms(5000), &fd), PLN_EL2DOWN,
                   _i == 0 ? "(the last of 2 addresses)" : "(the last of 4 addresses)");
}
END_TEST

START_TEST(a_connected_socket_is_quick_and_looked_after) {
    static const struct {
        int level, option, expected;
    } options[] = {{IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
                   {IPPROTO_TCP, TCP_KEEPIDLE, 15}, {IPPROTO_TCP, TCP_KEEPINTVL, 5},
                   {IPPROTO_TCP, TCP_KEEPCNT, 3},   {IPPROTO_TCP, TCP_USER_TIMEOUT, 5000}};
    int port, fd;
    int server = listen_at(true, &port);
    struct pln_endpoint endpoint = endpoint_of("127.0.0.1", port);
    ck_assert_int_eq(pln_dial(&endpoint, in_ms(5000), &fd), PLN_OK);
    for (size_t i = 0; i < PLN_ARRAY_LEN(options); i++) {
        int value = -1;
        socklen_t len = sizeof value;
        ck_assert_int_eq(getsockopt(fd, options[i].level, options[i].option, &value, &len), 0);
        ck_assert_int_eq(value, options[i].expected);
    }
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0); /* a receive may sleep */
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    close(fd);
    close(server);
}
END_TEST

/* Dials until the server's queue is full: who comes then is not answered. Returns how many got in.
 */
static size_t fill_queue(const struct pln_endpoint *endpoint, int *fds, size_t most, int *result) {
    size_t n = 0;
    while (n < most && (*result = pln_dial(endpoint, in_ms(300), &fds[n])) == PLN_OK) {
        n++;
    }
    return n;
}

START_TEST(a_server_that_does_not_answer_costs_the_deadline_and_no_more) {
    int port, result, fds[64];
    int server = listen_at(true, &port);
    struct pln_endpoint endpoint = endpoint_of("127.0.0.1", port);
    size_t n = fill_queue(&endpoint, fds, PLN_ARRAY_LEN(fds), &result);
    ck_assert_uint_gt(n, 0);
    expect_failure(result, PLN_ETIMEOUT, "no connection before the deadline");
    while (n > 0) {
        close(fds[--n]);
    }
    close(server);
}
END_TEST

START_TEST(so_does_a_unix_socket_whose_queue_is_full) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[] = "/tmp/pln-test-XXXXXX";
    int result, fds[64];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(server, (struct sockaddr *) &address, sizeof address), 0);
    ck_assert_int_eq(listen(server, 0), 0);
    struct pln_endpoint endpoint = {.path = address.sun_path, .label = address.sun_path};
    size_t n = fill_queue(&endpoint, fds, PLN_ARRAY_LEN(fds), &result);
    ck_assert_uint_gt(n, 0);
    expect_failure(result, PLN_ETIMEOUT, "no connection before the deadline");
    while (n > 0) {
        close(fds[--n]);
    }
    close(server);
    unlink(address.sun_path);
    rmdir(folder);
}
END_TEST

START_TEST(a_name_without_an_address_is_named) {
    int fd;
    struct pln_endpoint endpoint = endpoint_of("gone.test", 6379);
    expect_failure(pln_dial(&endpoint, in_ms(5000), &fd), PLN_EL2DOWN,
                   "l2: no address for gone.test: Name or service not known");
}
END_TEST

START_TEST(a_deadline_that_has_passed_begins_nothing) {
    int fd;
    struct pln_endpoint endpoint = endpoint_of("slow.test", 6379);
    expect_failure(pln_dial(&endpoint, pln_clock_precise(), &fd), PLN_ETIMEOUT,
                   "the deadline passed before a connection was made");
}
END_TEST

/* Asks for slow.test until so many look-ups are left alone that no more may begin. */
static void leave_many(struct pln_endpoint *endpoint) {
    int fd;
    for (int i = 0; i < 32; i++) {
        expect_failure(pln_dial(endpoint, in_ms(5), &fd), PLN_ETIMEOUT,
                       "l2: no address for slow.test: the name server did not answer");
    }
    expect_failure(pln_dial(endpoint, in_ms(5000), &fd), PLN_EL2DOWN, "many earlier questions");
}

START_TEST(a_name_server_that_is_away_costs_the_deadline_and_a_bounded_number_of_threads) {
    int port, fd, result = PLN_EL2DOWN;
    int server = listen_at(true, &port);
    struct pln_endpoint endpoint = endpoint_of("slow.test", port);
    leave_many(&endpoint);
    release();
    for (int tries = 0; result != PLN_OK && tries < 5000; tries++) {
        result = pln_dial(&endpoint, in_ms(5000), &fd);
        usleep(result == PLN_OK ? 0 : 1000);
    }
    ck_assert_int_eq(result, PLN_OK);
    close(fd);
    close(server);
}
END_TEST

#ifndef __SANITIZE_THREAD__
START_TEST(a_forked_child_can_look_up_whatever_its_parent_left) {
    int port, fd, status;
    int server = listen_at(true, &port);
    struct pln_endpoint endpoint = endpoint_of("slow.test", port);
    leave_many(&endpoint);
    pid_t child = fork();
    if (child == 0) {
        struct pln_endpoint two = endpoint_of("two.test", port);
        _exit(pln_dial(&two, in_ms(5000), &fd) == PLN_OK ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    release();
    pthread_mutex_lock(&lock);
    while (n_answered < 32) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
    close(server);
}
END_TEST
#endif

int main(void) {
    Suite *suite = suite_create("dial");
    TCase *tests = tcase_create("dial");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, who_refuses_is_named_with_the_reason);
    tcase_add_test(tests, a_socket_that_is_not_there_is_refused_at_once);
    tcase_add_loop_test(tests, all_addresses_of_a_name_are_tried, 0, 2);
    tcase_add_test(tests, a_connected_socket_is_quick_and_looked_after);
    tcase_add_test(tests, a_server_that_does_not_answer_costs_the_deadline_and_no_more);
    tcase_add_test(tests, so_does_a_unix_socket_whose_queue_is_full);
    tcase_add_test(tests, a_name_without_an_address_is_named);
    tcase_add_test(tests, a_deadline_that_has_passed_begins_nothing);
    tcase_add_test(tests,
                   a_name_server_that_is_away_costs_the_deadline_and_a_bounded_number_of_threads);
#ifndef __SANITIZE_THREAD__ /* which ends a forked child that starts a thread */
    tcase_add_test(tests, a_forked_child_can_look_up_whatever_its_parent_left);
#endif
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
