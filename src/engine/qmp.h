/*
 * qmp: the few commands QEMU is given over its control socket.
 *
 * Some are sent without awaiting their answers (qmp_greet, qmp_restore), and QEMU tells of events
 * unasked. So each awaited command carries an id, and whatever bears another or none is passed
 * over. Only whole lines are ever taken from the socket.
 *
 * Hostile   QEMU's answers, once a guest has run in it: lines are bounded, JSON is parsed strictly,
 *           every wait has a deadline.
 * Source    QEMU 7.2, QMP reference: qmp_capabilities, stop, cont, getfd, migrate, query-migrate,
 *           migrate_cancel, migrate-incoming, migrate-set-parameters
 */
#pragma once

#include "engine/engine.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	QMP_LINE_MAX = 64 << 10, /* the greeting and query-migrate are under 2 KiB */
	QMP_LINES_MAX = 4096,    /* events and old answers before the one awaited */
	QMP_POLLS_MAX = 100000,  /* of query-migrate, one a few ms */
	QMP_CANCEL_MS = 5000,    /* for a save that is given up to come to its end */
};

/* Enables commands; before any other. Nothing is awaited, so it may be sent before QEMU runs. */
_must_ int qmp_greet(int fd, struct err *e);

/* Stops the virtual CPUs; disks are idle and flushed then. Harmless when they are stopped. */
_must_ int qmp_stop(int fd, uint64_t deadline_ms, struct err *e);

/* Lets them run, also after a qmp_save(). */
_must_ int qmp_cont(int fd, uint64_t deadline_ms, struct err *e);

/*
 * Writes the device state to state_fd (QEMU takes a copy of the fd) and waits until it is complete.
 * RAM that is shared with its file is left out of it, and all other RAM goes into it. The guest is
 * stopped afterwards. On failure nothing is under way any more.
 */
_must_ int qmp_save(int fd, int state_fd, uint64_t deadline_ms, struct err *e);

/*
 * Tells a QEMU started with -incoming defer to restore from its fd `incoming_fd` and run.
 * Everything is written at once and no answer is awaited: the agent's IDENTITY_OK is the answer, or
 * QEMU's end. Keep fd open until then.
 */
_must_ int qmp_restore(int fd, int incoming_fd, struct err *e);

/*
 * Before qmp_restore() of a guest with a network card: QEMU is not to send frames of its own, which
 * say to a switch where the guest is now. Nothing is awaited.
 */
_must_ int qmp_announce_nothing(int fd, struct err *e);

/*
 * Reads what QEMU said unasked, which it would keep for us otherwise. Does not wait. False: there
 * was nothing whole to read. In ret_news is set what there was word of: that it stopped the guest
 * because a disk's file found no room (werror=enospc); that the gate's socket is closed.
 */
bool qmp_hush(int fd, struct engine_news *ret_news);
