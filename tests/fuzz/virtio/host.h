/*
 * host: what lies beyond a device's socket, played by the input: a loop that turns when told to,
 * and the socket calls, which move as much as the input allows, fail as it wants, and rewrite
 * guest memory while they run, as another CPU of the guest would.
 *
 * Replaces loop.c and, through the linker, sendmsg, recvmsg, recv and writev. One at a time.
 */
#pragma once

#include "virtio_fuzz.h"

enum { HOST_FD = 0 }; /* any open fd: no call reaches it */

struct host {
	struct vfuzz *v;      /* NULL until the device was made */
	size_t room;          /* bytes the far side still takes */
	size_t pending;       /* bytes it has for us */
	bool ended;           /* it has closed: after the pending bytes, 0 */
	bool gone;            /* the device has given it up: no call may follow */
	int fail;             /* errno of the next call; 0: none */
	struct span mischief; /* u16 address and u64 value each, played out during calls */
	struct span bytes;    /* what is received; zeros behind its end */
	void (*sent)(const uint8_t *at, size_t len); /* looks at what goes out; may be NULL */
	size_t calls;
};

extern struct host host;

/* Forgets everything, for a new socket. */
void host_reset(void);

/* Calls every watch with what is true: readable, writable, hung up. */
void host_turn(void);

/* One instruction of the input's. */
void host_play(struct vfuzz *v, struct span *in);

/* How many watches there are. */
unsigned host_watches(void);
