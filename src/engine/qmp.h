/*
 * qmp: the few commands a template build gives QEMU over its control socket.
 *
 * Hostile   QEMU's answers, once a guest has run in it: lines are bounded, JSON is parsed strictly,
 *           every wait has a deadline.
 * Source    QEMU 7.2, QMP reference: qmp_capabilities, stop, getfd, migrate, query-migrate, quit
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

enum {
	QMP_LINE_MAX = 64 << 10, /* the greeting and query-migrate are under 2 KiB */
	QMP_LINES_MAX = 256,     /* events between a command and its answer */
	QMP_POLLS_MAX = 20000,   /* of query-migrate, one a few ms */
};

/* Reads the greeting and enables commands. */
_must_ int qmp_open(int fd, uint64_t deadline_ms, struct err *e);

/*
 * Writes the device state to state_fd (QEMU takes a copy of the fd) and waits until it is complete.
 * RAM that is shared with its file is left out of it. QEMU stops the guest at the end and leaves it
 * stopped; a guest stopped by us beforehand would also wake up stopped.
 */
_must_ int qmp_save(int fd, int state_fd, uint64_t deadline_ms, struct err *e);

/*
 * Tells a QEMU started with -incoming defer to restore from its fd `incoming_fd` and run.
 * Everything is written at once and no answer is awaited: the agent's IDENTITY_OK is the answer, or
 * QEMU's end. Keep fd open until then.
 */
_must_ int qmp_restore(int fd, int incoming_fd, struct err *e);
