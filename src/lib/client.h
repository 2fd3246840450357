/*
 * client: one connection of a command to a supervisor, as frames.
 *
 * Hostile   nobody: the supervisor is ours. Frames are parsed and judged all the same, since what
 *           they carry comes from a guest, and the supervisor may be of another version
 * Shape     see wire.h; the epoch on this socket is always 1
 * Limits    CLIENT_IN_BYTES, CLIENT_OUT_BYTES; both are made once, at the start
 * Errors    -EPROTO (no frame of ours, or another version), -ENODATA (the peer closed), -EPIPE
 * Owns      the fd. It may stay blocking: every call here says MSG_DONTWAIT
 */
#pragma once

#include "wire/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CLIENT_EPOCH = 1,
	CLIENT_IN_BYTES = 256 << 10, /* 3 of the longest frames a supervisor may send */
	CLIENT_OUT_BYTES =
		WIRE_FRAME_MAX + WIRE_WINDOW_BYTES + (16 << 10), /* EXEC, stdin, control */
	CLIENT_FDS_MAX = 4, /* open files with one answer: of a snapshot (lib/snapshot.h) */
	CLIENT_ROOM_MIN = 2 * (WIRE_HEADER_BYTES + WIRE_DATA_MAX), /* kept free while sending */
	CLIENT_ANSWER_MS =
		10000, /* a supervisor answers from memory; only a stopped one is slower */
};

struct client {
	int fd;
	uint8_t *in; /* CLIENT_IN_BYTES */
	size_t in_from, in_to;
	struct buf out; /* what is queued; frames are appended with wire_put_*() */
	size_t out_sent;
	bool greeted;            /* its HELLO was read and is of our version */
	int fds[CLIENT_FDS_MAX]; /* that came with an answer, until they are taken */
	size_t fd_count;
	/* monotonic; no wait goes on beyond it. 0: each has its own timeout only */
	uint64_t until_ms;
};

/* Takes fd, also on failure. -ENOMEM. */
_must_ int client_new(int fd, struct client **ret_client, struct err *e);
void client_free(struct client *c);
OWN_DEFINE(struct client, client_free)

/*
 * Takes the open files that came with an answer, all or none: they are the caller's then. False:
 * not so many came.
 */
_must_ bool client_take_fds(struct client *c, int *ret_fds, size_t count);

/* Bytes of frames that may still be queued. */
size_t client_room(const struct client *c);

static inline bool client_pending(const struct client *c)
{
	return c->out_sent < c->out.len;
}

/* Sends what the socket takes now; the rest stays queued. -EPIPE when the supervisor is gone. */
_must_ int client_send(struct client *c, struct err *e);

/* One read of what is there, possibly nothing. -ENODATA when the supervisor closed. */
_must_ int client_receive(struct client *c, struct err *e);

/*
 * The next whole frame already received; its payload is valid until the next client_receive().
 * HELLO is read and checked here and never returned, as is REFUSE. -EAGAIN: none; -EPROTO.
 */
_must_ int client_next(struct client *c, struct wire_frame *ret, struct err *e);

/* Sends what is queued and waits for the next frame of any kind. -ETIMEDOUT; < 0: for ever. */
_must_ int client_wait(struct client *c, int timeout_ms, struct wire_frame *ret, struct err *e);

/* The same, passing over frames of other types. */
_must_ int client_expect(struct client *c, uint8_t type, int timeout_ms, struct wire_frame *ret,
                         struct err *e);
