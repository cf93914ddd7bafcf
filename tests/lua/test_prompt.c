/* SPDX-License-Identifier: MIT
 *
 * test_prompt.c - the prompt of the program, on a terminal of the test's own: what is typed goes in
 * as keys, and what is asserted is what stands on the screen, of which a small vt100 is kept here.
 */
#include <check.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 40, COLUMNS = 100, PATIENCE_MS = 20000 };

struct terminal {
    int fd;
    pid_t pid;
    int row, column;
    char screen[ROWS][COLUMNS + 1];
    char escape[32]; /* a sequence under way */
    size_t n_escape;
};

static char state_folder[] = "/tmp/perilune-prompt.XXXXXX";

/* ---- the screen ---- */

static void blank(struct terminal *terminal, int row, int from) {
    memset(terminal->screen[row] + from, ' ', (size_t) (COLUMNS - from));
    terminal->screen[row][COLUMNS] = 0;
}

static void next_row(struct terminal *terminal) {
    if (terminal->row < ROWS - 1) {
        terminal->row++;
        return;
    }
    memmove(terminal->screen[0], terminal->screen[1], sizeof terminal->screen[0] * (ROWS - 1));
    blank(terminal, ROWS - 1, 0);
}

/* What a sequence does to the cursor and the screen; those about looks do nothing. */
static void obey(struct terminal *terminal) {
    char last = terminal->escape[terminal->n_escape - 1];
    int n = terminal->n_escape > 2 ? atoi(terminal->escape + 1) : 0;
    int by = n > 0 ? n : 1;
    if (last == 'A') {
        terminal->row = terminal->row > by ? terminal->row - by : 0;
    } else if (last == 'B') {
        terminal->row = terminal->row + by < ROWS ? terminal->row + by : ROWS - 1;
    } else if (last == 'C') {
        terminal->column = terminal->column + by < COLUMNS ? terminal->column + by : COLUMNS - 1;
    } else if (last == 'D') {
        terminal->column = terminal->column > by ? terminal->column - by : 0;
    } else if (last == 'K' || last == 'J') {
        blank(terminal, terminal->row, terminal->column);
        for (int row = terminal->row + 1; last == 'J' && row < ROWS; row++) {
            blank(terminal, row, 0);
        }
    }
}

static void take_byte(struct terminal *terminal, char byte) {
    if (terminal->n_escape > 0 || byte == 27) {
        if (byte != 27) {
            terminal->escape[terminal->n_escape - 1] = byte;
        }
        terminal->n_escape++;
        ck_assert_uint_lt(terminal->n_escape, sizeof terminal->escape);
        bool is_over = byte != 27 && byte != '[' && (byte >= '@' || terminal->escape[0] != '[') &&
                       byte != '(' && byte != '?';
        if (is_over) {
            terminal->n_escape--;
            obey(terminal);
            memset(terminal->escape, 0, sizeof terminal->escape);
            terminal->n_escape = 0;
        }
    } else if (byte == '\r') {
        terminal->column = 0;
    } else if (byte == '\n') {
        next_row(terminal);
    } else if (byte == '\t') {
        terminal->column = (terminal->column / 8 + 1) * 8;
    } else if (byte == '\b') {
        terminal->column -= terminal->column > 0;
    } else if ((unsigned char) byte >= ' ') {
        if (terminal->column == COLUMNS) {
            terminal->column = 0;
            next_row(terminal);
        }
        terminal->screen[terminal->row][terminal->column++] = byte;
    }
}

static void show(const struct terminal *terminal, FILE *to) {
    for (int row = 0; row < ROWS; row++) {
        int end = COLUMNS;
        while (end > 0 && terminal->screen[row][end - 1] == ' ') {
            end--;
        }
        fprintf(to, "%.*s\n", end, terminal->screen[row]);
    }
}

/* Takes what the program writes within `ms`; false where that is nothing. */
static bool take(struct terminal *terminal, int ms) {
    char bytes[4096];
    struct pollfd wait = {terminal->fd, POLLIN, 0};
    if (poll(&wait, 1, ms) != 1) {
        return false;
    }
    ssize_t n = read(terminal->fd, bytes, sizeof bytes);
    for (ssize_t i = 0; i < n; i++) {
        take_byte(terminal, bytes[i]);
    }
    return n > 0;
}

/* ---- the program ---- */

static void begin(struct terminal *terminal, const char *argument, const char *value) {
    struct winsize size = {.ws_row = ROWS, .ws_col = COLUMNS};
    memset(terminal, 0, sizeof *terminal);
    for (int row = 0; row < ROWS; row++) {
        blank(terminal, row, 0);
    }
    terminal->pid = forkpty(&terminal->fd, NULL, NULL, &size);
    ck_assert_int_ge(terminal->pid, 0);
    if (terminal->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* it may be in a loop that has no end */
        setenv("TERM", "vt100", 1);
        setenv("XDG_STATE_HOME", state_folder, 1);
        setenv("HOME", state_folder, 1);
        unsetenv("LUA_INIT");
        unsetenv("LUA_PATH");
        unsetenv("LUA_CPATH");
        execl(getenv("PERILUNE"), "perilune", argument, value, NULL);
        _exit(127);
    }
}

static void press(const struct terminal *terminal, const char *keys) {
    ck_assert_int_eq(write(terminal->fd, keys, strlen(keys)), (ssize_t) strlen(keys));
}

/* Whether a row reads so, from its beginning to its end. */
static bool has_row(const struct terminal *terminal, const char *text) {
    size_t len = strlen(text);
    for (int row = 0; row < ROWS; row++) {
        const char *at = terminal->screen[row];
        if (memcmp(at, text, len) == 0 && strspn(at + len, " ") == COLUMNS - len) {
            return true;
        }
    }
    return false;
}

static bool has_text(const struct terminal *terminal, const char *text) {
    for (int row = 0; row < ROWS; row++) {
        if (strstr(terminal->screen[row], text) != NULL) {
            return true;
        }
    }
    return false;
}

/* The row that the cursor is in. */
static bool is_at(const struct terminal *terminal, const char *text) {
    const char *at = terminal->screen[terminal->row];
    size_t len = strlen(text);
    return memcmp(at, text, len) == 0 && strspn(at + len, " ") == COLUMNS - len;
}

static void wait_for(struct terminal *terminal,
                     bool (*holds)(const struct terminal *, const char *), const char *text) {
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do {
        if (holds(terminal, text)) {
            return;
        }
        take(terminal, 100);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begun.tv_sec) * 1000 < PATIENCE_MS);
    fprintf(stderr, "# waited for '%s', and the screen is\n", text);
    show(terminal, stderr);
    ck_abort_msg("not on the screen: '%s'", text);
}

/* The program asks with this, and takes each key as it comes: the prompt is there a moment before
 * that, while the terminal still shows what is typed by itself. */
static bool is_asking(const struct terminal *terminal, const char *text) {
    struct termios modes;
    return is_at(terminal, text) && tcgetattr(terminal->fd, &modes) == 0 &&
           (modes.c_lflag & ECHO) == 0;
}

static bool is_elsewhere(const struct terminal *terminal, const char *text) {
    return !is_at(terminal, text);
}

/* A line, once the program asks for one; until it has taken it, so that the prompt that is waited
 * for next is the next one. */
static void enter(struct terminal *terminal, const char *line) {
    char typed[COLUMNS];
    snprintf(typed, sizeof typed, "> %s", line);
    wait_for(terminal, is_asking, "> ");
    press(terminal, line);
    wait_for(terminal, is_at, typed);
    press(terminal, "\r");
    wait_for(terminal, is_elsewhere, typed);
}

static void expect_row(struct terminal *terminal, const char *text) {
    wait_for(terminal, has_row, text);
    wait_for(terminal, is_asking, "> ");
}

/* Waits for the end; returns the exit code. */
static int end(struct terminal *terminal) {
    int status;
    while (take(terminal, PATIENCE_MS)) {
    }
    ck_assert_int_eq(waitpid(terminal->pid, &status, 0), terminal->pid);
    close(terminal->fd);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- tests ---- */

START_TEST(expressions_are_printed_and_statements_go_on) {
    struct terminal terminal;
    begin(&terminal, NULL, NULL);
    wait_for(&terminal, has_text, "Lua 5.4");
    wait_for(&terminal, has_row, ".help for help");
    enter(&terminal, "6 * 7, 'x'");
    expect_row(&terminal, "42      x");
    enter(&terminal, "= 7 + 1");
    expect_row(&terminal, "8");
    enter(&terminal, "for i = 1, 2 do");
    wait_for(&terminal, is_asking, ">> ");
    press(&terminal, "print('row ' .. i)\r");
    wait_for(&terminal, has_row, ">> print('row ' .. i)");
    press(&terminal, "end\r");
    expect_row(&terminal, "row 2");
    enter(&terminal, "error 'oh'");
    wait_for(&terminal, has_row, "perilune: stdin:1: oh");
    enter(&terminal, "x = = 1");
    expect_row(&terminal, "perilune: stdin:1: unexpected symbol near '='");
    enter(&terminal, "type(perilune.open)");
    expect_row(&terminal, "function");
    press(&terminal, "\4");
    ck_assert_int_eq(end(&terminal), 0);
}
END_TEST

START_TEST(names_are_completed) {
    struct terminal terminal;
    begin(&terminal, "--ttl", "1m");
    wait_for(&terminal, is_asking, "> ");
    press(&terminal, "cac\t");
    wait_for(&terminal, is_at, "> cache");
    press(&terminal, ":inv\t");
    wait_for(&terminal, is_at, "> cache:invalidate_");
    press(&terminal, "\t");
    wait_for(&terminal, has_text, "invalidate_pattern  invalidate_prefix");
    wait_for(&terminal, is_at, "> cache:invalidate_");
    press(&terminal, "t\t'none'");
    wait_for(&terminal, is_at, "> cache:invalidate_tag'none'");
    press(&terminal, "\r");
    expect_row(&terminal, "true");
    press(&terminal, "perilune.not_m\t == nil\r");
    expect_row(&terminal, "false");
    press(&terminal, ".st\t l1_hits\r");
    expect_row(&terminal, "l1_hits                0");
    enter(&terminal, ".quit");
    ck_assert_int_eq(end(&terminal), 0);
}
END_TEST

#ifndef __SANITIZE_THREAD__ /* which holds signals back until libc is called */
START_TEST(ctrl_c_stops_what_runs_and_throws_a_line_away) {
    struct terminal terminal;
    begin(&terminal, NULL, NULL);
    enter(&terminal, "io.write('begun', '\\n') while true do end");
    wait_for(&terminal, has_row, "begun");
    press(&terminal, "\3");
    wait_for(&terminal, has_text, "interrupted!");
    wait_for(&terminal, is_asking, "> ");
    press(&terminal, "half a line");
    wait_for(&terminal, is_at, "> half a line");
    press(&terminal, "\3");
    enter(&terminal, "if true then");
    wait_for(&terminal, is_asking, ">> ");
    press(&terminal, "\3");
    enter(&terminal, "'still ' .. 'here'");
    expect_row(&terminal, "still here");
    for (int i = 0; i < 2; i++) {
        press(&terminal, "x");
        wait_for(&terminal, is_at, "> x");
        press(&terminal, "\3");
        wait_for(&terminal, is_asking, "> ");
    }
    press(&terminal, "\4");
    ck_assert_int_eq(end(&terminal), 0);
}
END_TEST
#endif

static const char *history_path(void) {
    static char path[200];
    snprintf(path, sizeof path, "%s/perilune/history", state_folder);
    return path;
}

static bool history_has(const char *text) {
    char bytes[8192];
    FILE *file = fopen(history_path(), "r");
    ck_assert_ptr_nonnull(file);
    size_t n = fread(bytes, 1, sizeof bytes - 1, file);
    fclose(file);
    bytes[n] = 0;
    return strstr(bytes, text) != NULL;
}

START_TEST(lines_are_remembered_but_for_secrets) {
    struct terminal terminal;
    struct stat info;
    begin(&terminal, NULL, NULL);
    enter(&terminal, "remembered = 1");
    enter(&terminal, ".open redis://:hunter2@localhost:1");
    wait_for(&terminal, has_text, "(open)");
    enter(&terminal, " unsaid = 2");
    enter(&terminal, "os.exit(3)"); /* which ends it too */
    ck_assert_int_eq(end(&terminal), 3);
    ck_assert(history_has("remembered"));
    ck_assert(!history_has("hunter2"));
    ck_assert(!history_has("unsaid"));
    ck_assert_int_eq(stat(history_path(), &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0600);
    begin(&terminal, NULL, NULL);
    wait_for(&terminal, is_asking, "> ");
    press(&terminal, "\20\20"); /* up, twice: os.exit, and what was before it */
    wait_for(&terminal, is_at, "> remembered = 1");
    press(&terminal, "00\rremembered\r");
    expect_row(&terminal, "100");
    press(&terminal, "\4");
    ck_assert_int_eq(end(&terminal), 0);
}
END_TEST

START_TEST(a_history_that_cannot_be_kept_is_none) {
    struct terminal terminal;
    char kept[sizeof state_folder];
    memcpy(kept, state_folder, sizeof kept);
    snprintf(state_folder, sizeof state_folder, "/proc/nowhere");
    begin(&terminal, NULL, NULL);
    memcpy(state_folder, kept, sizeof kept);
    enter(&terminal, "1 + 1");
    expect_row(&terminal, "2");
    press(&terminal, "\4");
    ck_assert_int_eq(end(&terminal), 0);
}
END_TEST

START_TEST(its_own_commands_help_open_and_show) {
    struct terminal terminal;
    begin(&terminal, NULL, NULL);
    enter(&terminal, ".stats");
    expect_row(&terminal, "there is no open cache in the global 'cache'; .open makes one");
    enter(&terminal, ".open name=shown ttl=1m");
    expect_row(&terminal, "perilune.cache: shown (open)");
    enter(&terminal, "cache:set('k', 'v'), cache:get 'k'");
    expect_row(&terminal, "true    v       nil     l1");
    enter(&terminal, ".stats l1_hits");
    expect_row(&terminal, "l1_hits                1");
    enter(&terminal, ".open ttl=soon");
    wait_for(&terminal, has_text, "ttl");
    enter(&terminal, ".help get_many");
    expect_row(&terminal, "cache:get_many(keys, [options]) -> values, hows, by the keys' places");
    enter(&terminal, ".nonsense");
    expect_row(&terminal, "there is no '.nonsense'; .help tells what there is");
    enter(&terminal, ".help");
    wait_for(&terminal, has_text, "Ctrl-D leaves");
    enter(&terminal, ".quit");
    ck_assert_int_eq(end(&terminal), 0);
}
END_TEST

int main(void) {
    if (mkdtemp(state_folder) == NULL) {
        return EXIT_FAILURE;
    }
    Suite *suite = suite_create("prompt");
    TCase *tests = tcase_create("prompt");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, expressions_are_printed_and_statements_go_on);
    tcase_add_test(tests, names_are_completed);
#ifndef __SANITIZE_THREAD__
    tcase_add_test(tests, ctrl_c_stops_what_runs_and_throws_a_line_away);
#endif
    tcase_add_test(tests, lines_are_remembered_but_for_secrets);
    tcase_add_test(tests, a_history_that_cannot_be_kept_is_none);
    tcase_add_test(tests, its_own_commands_help_open_and_show);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", state_folder);
    return system(command) == 0 && n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
