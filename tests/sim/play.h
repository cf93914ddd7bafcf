/* SPDX-License-Identifier: MIT
 *
 * play.h - one run: a fleet, what its threads do, what goes wrong meanwhile, and the end, at which
 * all is well again and every node must have the truth. All of it follows from the seed.
 *
 * The code that is played is the library's own: the engine, L1 and the server in memory, as linked
 * into any program, but for the seams below.
 *
 *   tasks.c    threads that are none, chance, the clock
 *   threads.c  the system's threads, locks, waits and times, answered by these
 *   play.c     the plan of a run, and its end
 *   fleet.c    nodes; acts.c what their threads do; trouble.c what goes wrong
 *   history.c  what happened, and what a read may therefore return
 *   server.c   the seam between engine and server; engine.c points inside the engine; kept.c what
 *              failed and is carried out later; all three with the mutants of seams.h
 *   runs.c     many runs, in processes of their own
 *   sim.c      the program of ./dev sim; test_sim.c the tests
 */
#ifndef PLN_SIM_PLAY_H
#define PLN_SIM_PLAY_H

#include <stdint.h>

/* Plays a run; does not return where it finds a fault (sim_fail). Returns what sim_end() does. */
uint64_t sim_play(uint64_t seed);

#endif
