/*
 * link: one end of a wire connection, without blocking and without growing.
 *
 * Used by the supervisor towards the guest's agent and towards each command, and by the template
 * builder.
 * Hostile   what arrives: judged by wire_parse_frame() for the side given to link_new()
 * Limits    LINK_IN_BYTES and the out_bytes given; a frame that does not fit is refused, never
 *           dropped silently
 * Owns      fd
 */
#pragma once

#include "wire/wire.h"

enum {
	LINK_IN_BYTES = 2 * WIRE_FRAME_MAX, /* a whole frame of any kind, and the next one coming */
	LINK_OUT_BYTES = 2 * WIRE_FRAME_MAX + WIRE_WINDOW_BYTES,
};

struct link {
	int fd;
	enum wire_side peer;
	size_t in_at, in_len; /* unread bytes are in[in_at .. in_len) */
	struct buf out;       /* unsent bytes are out[out_at .. out.len) */
	size_t out_at;
	/* the last DATA frame in out, while more may be added to it; data_end 0: there is none */
	size_t data_at, data_end;
	uint32_t data_stream;
	uint8_t data_channel;
	uint8_t *in; /* LINK_IN_BYTES */
};

/* Takes fd (made non-blocking). `peer` is who writes what we read. -ENOMEM. */
_must_ int link_new(int fd, enum wire_side peer, struct link **ret, struct err *e);
void link_free(struct link *l);
OWN_DEFINE(struct link, link_free)

/*
 * Reads once what fits. 0 (something came), -EAGAIN, -ENOBUFS (take frames first), -EPIPE (the
 * end), -errno.
 */
_must_ int link_read(struct link *l);

/* The next whole frame; its payload is good until the next link_read(). 0, -EAGAIN or -EBADMSG. */
_must_ int link_next(struct link *l, struct wire_frame *ret);

/* Bytes that wire_put_*() may still add to l->out. Compacts. */
size_t link_room(struct link *l);

/*
 * Adds DATA: to the frame before it where that is of the same stream and channel, still unsent and
 * not full. So a writer of single bytes does not cost 17 times its window. It fits if a frame of
 * its own would.
 */
void link_put_data(struct link *l, uint8_t channel, uint32_t stream, uint32_t epoch,
                   struct span data);

/* Sends what it can. 0 (all is gone), -EAGAIN (some is left), -EPIPE. */
_must_ int link_flush(struct link *l);

static inline bool link_pending(const struct link *l)
{
	return l->out_at < l->out.len;
}
