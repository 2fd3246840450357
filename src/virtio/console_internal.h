/*
 * console_internal: the console's state, shared by console.c (control messages, open and closed,
 * saving), and console_data.c (moving bytes).
 */
#pragma once

#include "virtio/batch.h"
#include "virtio/console.h"

enum {
	LOG = 0, /* the ports */
	AGENT = 1,
	PORTS = 2,

	/* Section 5.3.2: the second port's queues come behind the control queues. */
	QUEUE_LOG_RX = 0,
	QUEUE_LOG_TX = 1,
	QUEUE_CONTROL_RX = 2,
	QUEUE_CONTROL_TX = 3,
	QUEUE_AGENT_RX = 4,
	QUEUE_AGENT_TX = 5,
	QUEUES = 6,

	ROUNDS_MAX = 16,   /* system calls a turn and queue, of some 200 KiB each */
	RX_AHEAD_MIN = 4,  /* buffers shown to a read: a frame of a few KiB */
	RX_AHEAD_MAX = 64, /* 256 KiB: more than a socket holds */
};

/* How a round of moving bytes ended. */
enum step {
	STEP_MORE,
	STEP_DONE, /* nothing to move, or nowhere: something else will wake us */
	STEP_BROKEN,
};

struct port {
	bool ready;      /* the driver knows it */
	bool guest_open; /* a program has it open */
	uint8_t to_say;
};

struct console {
	struct virtio_dev *dev; /* NULL: not active */
	struct loop *loop;
	const struct guest_mem *mem;
	int log_fd;
	int agent_fd;   /* -1: nobody */
	unsigned watch; /* of agent_fd; 0: none */
	bool paused;

	struct port ports[PORTS];
	bool told_open;   /* the far side of the agent's port */
	bool must_reopen; /* the guest; see above */

	bool emptying;    /* what is in the queue was for a host that went: to be dropped */
	bool full;        /* the socket: waiting for EPOLLOUT */
	bool starved;     /* no buffers to receive into: waiting for a kick */
	uint64_t tx_done; /* bytes sent of the first chain in the agent's queue */
	unsigned rx_ahead;

	struct console_counts counts;
	struct batch batch;
};

static inline struct virtqueue *console_queue(struct console *c, unsigned index)
{
	return &c->dev->queues[index];
}

/* May queues be looked at? */
static inline bool console_works(const struct console *c)
{
	return c->dev && !c->dev->broken && !c->paused;
}

/* May the agent's socket be read? */
static inline bool console_may_read(const struct console *c)
{
	return console_works(c) && c->agent_fd >= 0 && c->told_open && c->ports[AGENT].guest_open &&
	       !c->starved;
}

/* console.c: the far side of the agent's port is not there any more. */
void console_detach(struct console *c);

/* console_data.c: one turn each. */
void console_send(struct console *c);
void console_receive(struct console *c);
void console_log(struct console *c);

/* All that is in the agent's queue now, and a little more at most, is given back unsent. */
void console_drop(struct console *c);
