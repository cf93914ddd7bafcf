/* SPDX-License-Identifier: MIT
 *
 * play.h - one run: a fleet, what its threads do, what goes wrong meanwhile, and the end, at which
 * all is well again and every node must have the truth. All of it follows from the seed.
 */
#ifndef PLN_SIM_PLAY_H
#define PLN_SIM_PLAY_H

#include <stdint.h>

/* Plays a run; does not return where it finds a fault (sim_fail). Returns what sim_end() does. */
uint64_t sim_play(uint64_t seed);

#endif
