/*
 * console: what else the owner of a console (devices.h) may ask of it. All on the loop's thread, or
 * before the loop runs.
 *
 * Restore   A template is saved at a rendezvous: no frame is under way, and console_new() with a
 *           new socket goes on as if nothing had happened, the guest never notices. A machine
 *           saved at any other moment may be in the middle of a frame, in both directions. Make
 *           its console without agent_fd (-1), load, then console_set_agent(): the guest is told
 *           that the host is gone (its program reads 0 bytes), all it had written is dropped, and
 *           it is told that the host is back once it has closed its port and opened it again. So
 *           both sides begin with a whole frame. The same happens by itself if a chain was sent in
 *           part when it was saved.
 * SIGPIPE   must be ignored in the process: the log is a pipe
 */
#pragma once

#include "virtio/devices.h"

struct console_counts {
	uint64_t log_written, log_dropped; /* bytes */
	uint64_t agent_sent, agent_received;
	uint64_t agent_dropped;   /* sent while nobody was there */
	uint64_t control_refused; /* messages from the guest that mean nothing */
};

/*
 * Gives the agent's port another socket, or none (-1). The old one is not touched any more when
 * this returns, whatever it returns. fd is borrowed. Errors: as loop_watch(); then there is none.
 */
_must_ int console_set_agent(struct virtio_dev *dev, int agent_fd, struct err *e);

/* Is there a host at the agent's port? Not any more once its socket has failed or ended. */
_must_ bool console_has_agent(const struct virtio_dev *dev);

void console_get_counts(const struct virtio_dev *dev, struct console_counts *ret);
