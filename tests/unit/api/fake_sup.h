/*
 * fake_sup: a supervisor without a machine, for the tests of libberm.
 *
 * A test program is its own supervisor: in a prefix of the test's own, berm-supervisor is a link to
 * it, and its main() calls fake_supervisor() when that is its name. It speaks the real protocol
 * through the real sup/link.h, many connections at once, each with one "command" that it plays:
 *
 *	echo WORDS...     prints them, with a newline, and exits with 0
 *	env NAME          prints NAME=VALUE of its environment, or nothing
 *	cat               gives back its stdin, and exits with 0 at its end
 *	yes BYTES         writes so many bytes of a pattern (fake_pattern()), then exits with 0
 *	exit N            exits with N
 *	hang              does nothing until it is signalled, and then dies of it
 *	missing           cannot be started: there is no such command
 *	die               the supervisor is gone, without a word
 *	lie               the supervisor sends what is no frame
 *
 * The sandbox's name plays a part, too: "slow-start" says PROGRESS and starts when it is told STOP
 * with a grace of 77 ms, "no-start" ends before it started, "old-version" refuses to PAUSE, RESUME
 * and SNAPSHOT. A snapshot "old" is there already, one named "never" is never done; at "end" the
 * sandbox ends, at "die" the supervisor does, and at "cut" the connection is closed.
 *
 * It can be forked, and a copy plays its main command anew. The N-th copy of `hang N` ends before
 * it started, and no copy of `hang never` ever starts. Snapshots of a name are the test's to make.
 */
#pragma once

#include "base/err.h"

#include <berm.h>
#include <stdint.h>

#define FAKE_IMAGE_ID "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

enum { FAKE_SLOW_GRACE_MS = 77 };

int fake_supervisor(int argc, char **argv);

/* The byte at place i of what `yes` writes. */
uint8_t fake_pattern(uint64_t i);

/*
 * Makes a prefix with this program as supervisor, and a state directory with an image "default" of
 * the variables A=image and B=image and the command "echo image"; below test_tmpdir().
 */
void fake_install(void);
const char *fake_prefix(void);
const char *fake_state(void);

/* What is left in sandboxes/. */
unsigned fake_left(void);

/* A struct berm over it. */
struct berm *fake_berm(void);
