/* SPDX-License-Identifier: MIT
 *
 * fuzz_feed.c - whatever a server says, loses, repeats, forgets and says anew, the row of messages
 * is called unbroken only where all that the server now knows has been heard.
 *
 * Beside the machine stands what is true: the server's history, where each number belongs to one
 * life of one server, and what of it was heard. The bytes are what happens, one after the other.
 */
#include "../../l2/internal.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 512, BASE = 1000 };

struct world {
    struct pln_feed feed;
    uint16_t history[MOST + 1]; /* in which life each number was given */
    bool is_ours[MOST + 1];
    bool is_heard[MOST + 1]; /* as it is in this history */
    size_t number;           /* of the server's last message */
    size_t first;            /* the log begins here */
    size_t begun;            /* where the listener began */
    uint16_t life;
    bool is_up;
};

static struct pln_bytes message_of(const struct world *world, size_t number) {
    static char text[32];
    int len = snprintf(text, sizeof text, "%zu of %u", number, world->history[number]);
    return pln_bytes_of(text, (size_t) len);
}

static struct pln_feed_state ask(const struct world *world) {
    struct pln_feed_state state = {.base = BASE,
                                   .number = BASE + world->number,
                                   .known = pln_feed_known(&world->feed),
                                   .at = (pln_ms) world->number};
    snprintf(state.run_id, sizeof state.run_id, "%u", world->life);
    return state;
}

/* All that the listener vouches for is what the server says it was. */
static void check(const struct world *world) {
    size_t last = (size_t) (world->feed.last - BASE);
    assert(world->feed.last >= BASE && last <= world->number);
    for (size_t i = world->begun + 1; i <= last; i++) {
        assert(world->is_heard[i]);
    }
}

static void hear(struct world *world, size_t number) {
    if (number == 0 || number > world->number) {
        return;
    }
    world->is_heard[number] = true;
    if (world->is_up) { /* else it is heard, and not counted: hear.c */
        pln_feed_take(&world->feed, BASE + number, message_of(world, number));
        world->is_up = !pln_feed_is_broken(&world->feed);
        check(world);
    }
}

static void say(struct world *world, bool is_lost, bool is_ours) {
    if (world->number == MOST) {
        return;
    }
    world->number++;
    world->history[world->number] = world->life;
    world->is_heard[world->number] = false;
    world->is_ours[world->number] = is_ours;
    if (is_ours) {
        pln_feed_ack(&world->feed, BASE + world->number);
    }
    if (!is_lost) {
        hear(world, world->number);
    }
}

/* Another server takes over, and does not know the last ones. */
static void fail_over(struct world *world, size_t n_lost) {
    n_lost = n_lost < world->number ? n_lost : world->number;
    world->number -= n_lost;
    world->life++;
    world->is_up = false;
    world->first = world->first < world->number ? world->first : world->number;
}

static void beat(struct world *world) {
    struct pln_feed_state state = ask(world);
    if (!world->is_up) {
        return;
    }
    if (!pln_feed_beat(&world->feed, &state)) {
        world->is_up = false;
    } else if (!pln_feed_confirm(&world->feed)) {
        assert(world->feed.last < state.number);
        world->is_up = false;
    } else {
        assert(world->feed.last >= state.number && world->feed.certain_at == state.at);
        check(world);
    }
}

static bool hear_log(struct world *world, const struct pln_feed_state *state, bool *is_other) {
    size_t from = (size_t) (world->feed.last - BASE);
    from = from > world->first ? from : world->first;
    for (size_t i = from == 0 ? 1 : from; i <= world->number; i++) {
        uint64_t last = world->feed.last;
        if (!pln_feed_take_logged(&world->feed, state, BASE + i, message_of(world, i),
                                  world->is_ours[i], is_other)) {
            return false;
        }
        world->is_heard[i] = world->is_heard[i] || BASE + i > last;
    }
    return pln_feed_has_all(&world->feed, state);
}

static void sync(struct world *world) {
    struct pln_feed_state state = ask(world);
    bool is_other = false, is_whole = false;
    switch (pln_feed_sync(&world->feed, &state)) {
    case PLN_FEED_SAME:
        is_whole = hear_log(world, &state, &is_other);
        assert(is_whole); /* another history is another server's here */
        break;
    case PLN_FEED_READ:
        is_whole = hear_log(world, &state, &is_other);
        break;
    case PLN_FEED_NEW:
        assert(false); /* there is one row */
        break;
    case PLN_FEED_LOST:
        assert(state.number < state.known);
        break;
    }
    if (!is_whole) {
        pln_feed_begin(&world->feed, &state);
        world->begun = world->number;
        memset(world->is_heard, 0, sizeof world->is_heard);
        if (world->number > world->first) {
            pln_feed_note(&world->feed, state.number, message_of(world, world->number));
        }
    }
    world->is_up = true;
    assert(world->feed.last == state.number);
    check(world);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct world world = {.is_up = true};
    pln_feed_init(&world.feed);
    struct pln_feed_state state = ask(&world);
    pln_feed_begin(&world.feed, &state);
    for (size_t i = 0; i < size; i++) {
        unsigned n = data[i] >> 3;
        switch (data[i] & 7) {
        case 0:
            say(&world, false, n % 2 == 1);
            break;
        case 1:
            say(&world, true, n % 2 == 1);
            break;
        case 2:
            hear(&world, world.number - n);
            break;
        case 3:
            world.first = world.number > n ? world.number - n : 0;
            break;
        case 4:
            beat(&world);
            break;
        case 5:
            world.is_up = false;
            break;
        case 6:
            fail_over(&world, n);
            break;
        default:
            sync(&world);
            break;
        }
    }
    return 0;
}
