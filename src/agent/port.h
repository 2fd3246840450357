/*
 * port: the agent's end of the console port, with one buffer each way.
 *
 * Bounded   PORT_IN_BYTES holds the longest frame twice. DATA is taken from a pipe only while less
 *           than PORT_DATA_PENDING_MAX is pending, so answers always find room; and no frame is
 *           read while there is none for its answer (port_has_room).
 * Host      may be absent: at boot, and around a snapshot. A read of 0 bytes says so. What was half
 *           way then is dropped in both directions, as the next host starts with a whole frame.
 * Source    drivers/char/virtio_console.c: a write takes at most 32 KiB, a read at most a page
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "wire/wire.h"

enum {
	PORT_IN_BYTES = 2 * WIRE_FRAME_MAX,
	PORT_OUT_BYTES = 512 << 10,
	PORT_DATA_PENDING_MAX = 192 << 10, /* three full DATA frames */
	PORT_REPLY_BYTES_MAX = 8 << 10,    /* the longest answer to one frame, many times over */
	PORT_SPLICE_MIN = 16 << 10,        /* below this a copy costs less than a frame's pages */
	PORT_PIPE_BYTES = 512 << 10, /* 128 pages or parts of one: the longest chain a port takes */
	PORT_WAIT_MS = 5000,         /* for the port to appear after boot */
};

struct port {
	int fd;
	bool connected; /* a host was seen since the last reset */
	bool readable, writable;
	bool urgent; /* something pending should not wait */
	bool shut;   /* no frame may be begun (hold.h); what is pending is still sent */
	uint8_t *in;
	size_t in_at, in_end;
	struct buf out;
	size_t out_at;             /* sent so far */
	int pipe[2];               /* payload that goes to the port as pages, not as bytes */
	size_t pipe_at, pipe_left; /* its place in `out`, and its bytes; 0: there is none */
	bool pipe_broken;          /* zeros are sent instead */
};

/* Allocates the buffers; the fd comes from port_find(). */
_must_ int port_init(struct port *p, struct err *e);

/* Waits for the port named `name` (in /sys/class/virtio-ports) and opens its /dev node. */
_must_ int port_find(const char *name, int *ret_fd, struct err *e);

/* Bytes not yet written. */
size_t port_pending(const struct port *p);

/* Is there room for the answer to one more frame? A port that is shut has none. */
bool port_has_room(const struct port *p);
/* The same for what opens it again. */
bool port_has_bytes(const struct port *p);

/* The next frame: 0, -EAGAIN (nothing whole has arrived) or -EBADMSG. Borrowed until the next call.
 */
_must_ int port_next(struct port *p, struct wire_frame *ret);

/* Room for the payload of one DATA frame of at most `want` bytes, or NULL while too much is
 * pending. port_data_end() makes the frame of the first `len` bytes written there. */
uint8_t *port_data_begin(struct port *p, size_t want);
void port_data_end(struct port *p, uint8_t channel, uint32_t stream, uint32_t epoch, size_t len);

/*
 * The payload of one DATA frame moved from the pipe `fd` without copying it: up to `want` bytes, of
 * which at least PORT_SPLICE_MIN are there. Returns how many; 0 if there are fewer or it is not a
 * pipe, then port_data_begin() is the way; or -EAGAIN while another such frame is pending.
 */
ssize_t port_splice(struct port *p, int fd, uint8_t channel, uint32_t stream, uint32_t epoch,
                    size_t want);

/*
 * Where answers are appended; call port_has_room() first. What goes to port_out_lazy() may wait a
 * little for company: each write to the port costs the host a wake-up, and EXEC_OK, two EOFs and
 * EXIT of a short command make one.
 */
struct buf *port_out(struct port *p);
struct buf *port_out_lazy(struct port *p);

/* Writes what the port takes. True if nothing is pending afterwards. */
bool port_flush(struct port *p);

/* Writes all of it, waiting at most wait_ms for the host to take it. */
void port_drain(struct port *p, uint64_t wait_ms);
