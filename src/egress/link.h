/*
 * link: the socket between gate and vault: whole frames in and out, with the descriptors that some
 * of them carry. Never blocks; the caller's loop says when to read and write.
 *
 * Hostile   the peer: frames are judged by egress_parse_frame(), descriptors are counted, and the
 *           vault takes none at all
 * Memory    one buffer for a frame, EGRESS_IN_BYTES, and one for what waits, EGRESS_OUT_BYTES; made
 *           at the start
 * System calls  recvmsg, send, close; and sendmsg for a frame with a descriptor
 */
#pragma once

#include "base/err.h"
#include "egress/egress.h"

enum {
	EGRESS_IN_BYTES = EGRESS_FRAME_MAX + (64 << 10),
	EGRESS_OUT_BYTES = 1 << 20, /* beyond it a sender waits, whatever credit it has */
	EGRESS_FDS_MAX = 64,        /* received and not yet given out, or waiting to be sent */
};

struct egress_link;

/* Takes fd, a connected UNIX stream socket, unless it fails. -ENOMEM. */
_must_ int egress_link_new(int fd, enum egress_side self, struct egress_link **ret, struct err *e);
void egress_link_free(struct egress_link *l);
OWN_DEFINE(struct egress_link, egress_link_free)

int egress_link_fd(const struct egress_link *l); /* to wait on; stays the link's */

/*
 * Reads what is there and has room. 0, also if there is nothing; -EPIPE: the peer closed;
 * -EBADMSG: descriptors that may not be; or what recvmsg said.
 */
_must_ int egress_link_recv(struct egress_link *l, struct err *e);

/*
 * The next whole frame that was read. It is borrowed until the next egress_link_recv(). 0, -EAGAIN,
 * or -EBADMSG: no frame of the peer's, or a CONNECTED without its descriptor.
 *
 * ret_fd   -1, or the caller's from now on, also if it drops the frame
 */
_must_ int egress_link_next(struct egress_link *l, struct egress_frame *ret, int *ret_fd);

/* Where the next frame is written to, by one egress_put_*(); then egress_link_commit(). */
struct buf *egress_link_out(struct egress_link *l);

/*
 * fd   -1, or what goes with the frame; the link's from now on. False: there was no room, nothing
 *      is sent and fd stays the caller's. Try again after egress_link_flush().
 */
_must_ bool egress_link_commit(struct egress_link *l, int fd);

/* Bytes that may still be put, frame headers included. */
size_t egress_link_room(const struct egress_link *l);

/* Sends what the socket takes. 0, even if something is left (egress_link_waits()), or -errno. */
_must_ int egress_link_flush(struct egress_link *l, struct err *e);
bool egress_link_waits(const struct egress_link *l);
