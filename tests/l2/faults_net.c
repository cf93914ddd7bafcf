/* SPDX-License-Identifier: MIT
 * faults_net.c - a network that loses everything, a peer that is gone without a word, a name that
 * means another machine: on two network namespaces of this process's own, joined by a pair of
 * virtual Ethernet devices. All of it goes with the process.
 *
 * Needs the right to make namespaces (root, or users who may make theirs) and iproute2; skipped
 * aloud where that is missing. */
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server.h"

static const char url[] = "redis://10.77.0.2:6379";
static const char named_url[] = "redis://cache.perilune.invalid:6379";

static struct server server;
static struct client a;
static struct load load;
static int near_ns, far_ns;
static pid_t far;
static char files[64], hosts[96], resolv[96];

/* ---- namespaces ---- */

static bool write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    return file != NULL && fputs(text, file) >= 0 && fclose(file) == 0;
}

/* Goes into namespaces of its own: as root, or as a user who is root in them. */
static bool leave_the_host(void) {
    char map[64];
    int uid = (int) getuid(), gid = (int) getgid();
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) != 0) {
            return false;
        }
        snprintf(map, sizeof map, "0 %d 1", uid);
        bool is_mapped = write_file("/proc/self/setgroups", "deny") &&
                         write_file("/proc/self/uid_map", map);
        snprintf(map, sizeof map, "0 %d 1", gid);
        if (!is_mapped || !write_file("/proc/self/gid_map", map)) {
            return false;
        }
    }
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* A process that does nothing but hold the other network. */
static pid_t hold_network(void) {
    int ready[2];
    char byte;
    if (pipe(ready) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (unshare(CLONE_NEWNET) == 0 && write(ready[1], "r", 1) == 1) {
            pause(); /* until it is killed */
        }
        _exit(1);
    }
    close(ready[1]);
    bool is_ready = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    return is_ready ? pid : -1;
}

static bool run(int ns, const char *line) {
    char quiet[300];
    snprintf(quiet, sizeof quiet, "%s >/dev/null 2>&1", line);
    bool is_well = setns(ns, CLONE_NEWNET) == 0 && system(quiet) == 0;
    return setns(near_ns, CLONE_NEWNET) == 0 && is_well;
}

static bool make_networks(void) {
    static const char *const near_lines[] = {
        "ip link set near0 address 02:00:00:00:00:01",
        "ip addr add 10.77.0.1/24 dev near0",
        "ip link set lo up",
        "ip link set near0 up",
        "ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:02 dev near0 nud permanent",
        "ip neigh replace 10.77.0.3 lladdr 02:00:00:00:00:02 dev near0 nud permanent"};
    static const char *const far_lines[] = {
        "ip link set far0 address 02:00:00:00:00:02", "ip addr add 10.77.0.2/24 dev far0",
        "ip addr add 10.77.0.3/24 dev far0", "ip link set lo up", "ip link set far0 up"};
    char line[200];
    far = hold_network();
    snprintf(line, sizeof line, "/proc/%d/ns/net", (int) far);
    near_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    far_ns = open(line, O_RDONLY | O_CLOEXEC);
    snprintf(line, sizeof line, "ip link add near0 type veth peer name far0 netns %d", (int) far);
    bool is_well = far > 0 && run(near_ns, line);
    for (size_t i = 0; is_well && i < PLN_ARRAY_LEN(far_lines); i++) {
        is_well = run(far_ns, far_lines[i]);
    }
    for (size_t i = 0; is_well && i < PLN_ARRAY_LEN(near_lines); i++) {
        is_well = run(near_ns, near_lines[i]);
    }
    return is_well;
}

static bool is_permitted(void) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        bool is_well = leave_the_host() && make_networks();
        if (far > 0) {
            kill(far, SIGKILL);
        }
        _exit(is_well ? 0 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

/* Packets in either direction go nowhere, and nobody is told. */
static void cut(void) {
    ck_assert(run(far_ns, "ip link set far0 down"));
}

static void mend(void) {
    ck_assert(run(far_ns, "ip link set far0 up"));
}

/* ---- set up ---- */

static void start_server(struct server *at, const char *address) {
    const char *options[] = {"--port", "6379", "--bind", address, "--protected-mode", "no", NULL};
    ck_assert_int_eq(setns(far_ns, CLONE_NEWNET), 0);
    pln_test_redis_start(at, options);
    ck_assert_int_eq(setns(near_ns, CLONE_NEWNET), 0);
}

static void restart_server(void) {
    ck_assert_int_eq(setns(far_ns, CLONE_NEWNET), 0);
    pln_test_redis_restart(&server);
    ck_assert_int_eq(setns(near_ns, CLONE_NEWNET), 0);
}

/* Names are looked up in a file of ours, and nowhere else. */
static void make_names(void) {
    snprintf(files, sizeof files, "/tmp/pln-names-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(files));
    snprintf(hosts, sizeof hosts, "%s/hosts", files);
    snprintf(resolv, sizeof resolv, "%s/resolv.conf", files);
    ck_assert(write_file(hosts, "10.77.0.2 cache.perilune.invalid\n"));
    ck_assert(write_file(resolv, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"));
    ck_assert_int_eq(mount(hosts, "/etc/hosts", NULL, MS_BIND, NULL), 0);
    ck_assert_int_eq(mount(resolv, "/etc/resolv.conf", NULL, MS_BIND, NULL), 0);
}

static void set_up(void) {
    ck_assert(leave_the_host());
    ck_assert(make_networks());
    make_names();
    start_server(&server, "10.77.0.2");
}

static void tear_down(void) {
    pln_test_redis_stop(&server);
    kill(far, SIGKILL);
    waitpid(far, NULL, 0);
    unlink(hosts);
    unlink(resolv);
    rmdir(files);
}

static void begin(const char *where) {
    faults_open(&a, where, 2);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert_msg(client_hears(&a, "+"), "%s", a.log);
    load = (struct load){.l2 = a.l2, .patience_ms = 200, .n_threads = 3};
    load_start(&load);
    load_await_ok(&load, 200);
}

static void end_well(void) {
    load_await_ok(&load, 200);
    load_stop(&load);
    load_check(&load);
    faults_recover(&a);
    client_fini(&a);
}

/* ---- tests ---- */

/* What was sent and not answered still lies in the kernel, which goes on sending it when the
 * network is back: writes whose callers have long given up. */
START_TEST(a_network_that_drops_everything_costs_deadlines_and_loses_nothing) {
    begin(url);
    for (size_t i = 0; i < 2; i++) {
        cut();
        load_await(&load, PLN_ETIMEOUT, 3);
        load_await(&load, PLN_EL2DOWN, 50);
        faults_await_downs(&a, i + 1); /* by its ping: not a byte says so */
        mend();
        load_await_ok(&load, 200);
        faults_await_ups(&a, i + 2);
    }
    end_well();
}
END_TEST

START_TEST(a_peer_that_is_gone_without_a_word_is_found_by_ping) {
    begin(url);
    load_let_lose(&load);
    cut();
    pln_test_redis_kill(&server); /* its last words go nowhere */
    load_await(&load, PLN_ETIMEOUT, 3);
    faults_await_downs(&a, 1);
    restart_server();
    mend();
    load_await_ok(&load, 200);
    faults_await_ups(&a, 2);
    end_well();
}
END_TEST

START_TEST(an_idle_client_finds_a_lost_network_by_its_ping_too) {
    struct pln_l2_health health;
    faults_open(&a, url, 1);
    ck_assert_int_eq(pln_l2_start(a.l2), PLN_OK);
    ck_assert(client_hears(&a, "+"));
    cut();
    faults_await_downs(&a, 1);
    ck_assert(client_logs(&a, "no sign of life")); /* and not the kernel's own, later timeout */
    pln_l2_health(a.l2, &health);
    ck_assert(!health.bus_ok);
    mend();
    faults_await_ups(&a, 2);
    client_fini(&a);
}
END_TEST

START_TEST(an_address_that_does_not_answer_costs_the_deadline) {
    cut();
    faults_open(&a, url, 1);
    int result = faults_get(&a, "a", faults_in(100), NULL);
    ck_assert_msg(result == PLN_ETIMEOUT || result == PLN_EL2DOWN, "%d", result);
    ck_assert_msg(strstr(pln_error_text(), "10.77.0.2") != NULL, "%s", pln_error_text());
    mend();
    faults_recover(&a);
    client_fini(&a);
}
END_TEST

START_TEST(unacknowledged_bytes_end_each_connection) {
    size_t n = 0;
    begin(url);
    for (int fd = 0; fd < 256; fd++) {
        unsigned timeout = 0;
        struct sockaddr_in peer = {0};
        socklen_t len = sizeof peer;
        if (getpeername(fd, (struct sockaddr *) &peer, &len) == 0 && peer.sin_family == AF_INET) {
            len = sizeof timeout;
            ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, &len), 0);
            ck_assert_uint_gt(timeout, 0);
            n++;
        }
    }
    ck_assert_uint_ge(n, 3); /* two for data, and the link */
    end_well();
}
END_TEST

START_TEST(a_name_that_means_another_machine_is_followed) {
    struct server other;
    begin(named_url);
    load_let_lose(&load);
    start_server(&other, "10.77.0.3");
    ck_assert(write_file(hosts, "10.77.0.3 cache.perilune.invalid\n"));
    load_await_ok(&load, 200); /* who is connected stays so */
    char *size = pln_test_redis_command(&other, "DBSIZE");
    ck_assert_str_eq(size, "0");
    free(size);
    pln_test_redis_kill(&server);
    load_await_ok(&load, 200);
    faults_await_ups(&a, 2);
    size = pln_test_redis_command(&other, "DBSIZE");
    ck_assert_str_ne(size, "0");
    free(size);
    end_well();
    pln_test_redis_stop(&other);
}
END_TEST

START_TEST(a_name_that_is_gone_is_said_and_waited_for) {
    begin(named_url);
    load_let_lose(&load);
    ck_assert(write_file(hosts, "\n"));
    pln_test_redis_kill(&server);
    load_await(&load, PLN_EL2DOWN, 100);
    int result = faults_get(&a, "a", soon(), NULL);
    ck_assert_int_eq(result, PLN_EL2DOWN);
    ck_assert_msg(strstr(pln_error_text(), "cache.perilune.invalid") != NULL, "%s",
                  pln_error_text());
    restart_server();
    ck_assert(write_file(hosts, "10.77.0.2 cache.perilune.invalid\n"));
    load_await_ok(&load, 200);
    end_well();
}
END_TEST

/* Someone takes the questions and never answers. Nobody waits for that longer than he wants to. */
START_TEST(a_name_server_that_is_silent_costs_the_deadline) {
    struct sockaddr_in here = {
        .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *) &here, sizeof here), 0);
    ck_assert(write_file(resolv, "nameserver 127.0.0.1\noptions timeout:20 attempts:2\n"));
    ck_assert(write_file(hosts, "\n"));
    faults_open(&a, named_url, 1);
    for (int i = 0; i < 3; i++) {
        pln_ns deadline = faults_in(100);
        ck_assert_int_lt(faults_get(&a, "a", deadline, NULL), 0);
        ck_assert_msg(strstr(pln_error_text(), "cache.perilune.invalid") != NULL, "%s",
                      pln_error_text());
        ck_assert_int_lt(pln_clock_precise(), deadline + 2000000000);
    }
    ck_assert(write_file(hosts, "10.77.0.2 cache.perilune.invalid\n"));
    faults_recover(&a);
    client_fini(&a);
    close(fd);
}
END_TEST

int main(void) {
    if (!is_permitted()) {
        fprintf(stderr, "SKIPPED: lost packets, half-open connections and changing names are NOT "
                        "tested: no network namespaces for this user, or no ip (iproute2)\n");
        puts("1..0 # SKIP no network namespaces for this user, or no ip (iproute2)");
        return 0;
    }
    Suite *suite = suite_create("net");
    TCase *tests = faults_case(suite, set_up, tear_down);
    tcase_add_test(tests, a_network_that_drops_everything_costs_deadlines_and_loses_nothing);
    tcase_add_test(tests, a_peer_that_is_gone_without_a_word_is_found_by_ping);
    tcase_add_test(tests, an_idle_client_finds_a_lost_network_by_its_ping_too);
    tcase_add_test(tests, an_address_that_does_not_answer_costs_the_deadline);
    tcase_add_test(tests, unacknowledged_bytes_end_each_connection);
    tcase_add_test(tests, a_name_that_means_another_machine_is_followed);
    tcase_add_test(tests, a_name_that_is_gone_is_said_and_waited_for);
    tcase_add_test(tests, a_name_server_that_is_silent_costs_the_deadline);
    return faults_run(suite);
}
