/*
 * tcp: the far end of each of the guest's TCP connections.
 *
 * The gate is every remote host: the guest connects (tcp_accept(), or tcp_abort() to refuse), or
 * the gate connects to a port of the guest (tcp_connect()). A table is a pure state machine: it is
 * given parsed segments, the application's calls and the time, and it emits frames and events. It
 * opens no socket, reads no clock and allocates nothing after tcp_table_new().
 *
 * Hostile   every segment: numbers, flags, windows, order, timing
 * Owns      flows, and blocks of TCP_BLOCK_BYTES or TCP_WIDE_BYTES for their rings. A flow that has
 *           nothing to send and nothing unread holds no block
 * Errors    none on the data path; a flow ends with a reason (enum tcp_end)
 * Source    RFC 9293; 6298 (time-outs), 7323, 2 (window scale), 5961 (resets), 6528 (first numbers)
 *
 * Calls and events. Events come only out of tcp_input(), tcp_tick() and tcp_resume(); no other call
 * calls back. Within an event all others are legal, on that flow and on any. A flow's pointer is
 * valid until TCP_EV_ENDED returned, or until the application called tcp_abort(). The time is
 * milliseconds of any clock that does not go back; a gate whose guest is paused stops it, so that
 * the guest's silence is not held against it.
 */
#pragma once

#include "base/err.h"
#include "net/link.h"
#include "net/siphash.h"

struct tcp_table;
struct tcp_flow;

enum tcp_event {
	TCP_EV_SYN = 1,      /* the guest asks: tcp_accept() or tcp_abort(), now or later */
	TCP_EV_OPEN = 2,     /* established, whoever began */
	TCP_EV_READABLE = 4, /* more to read: see tcp_readable() */
	TCP_EV_WRITABLE = 8, /* tcp_room() answered 0 before, and has room now */
	TCP_EV_EOF = 16,     /* the guest sends no more than is readable now */
	TCP_EV_ENDED = 32,   /* the last event; tcp_flow_end() says why */
};

enum tcp_end {
	TCP_END_NONE = 0,
	TCP_END_CLOSED,  /* both sides said all, and it arrived */
	TCP_END_RESET,   /* by the guest */
	TCP_END_REFUSED, /* tcp_connect(): no such port in the guest */
	TCP_END_TIMEOUT, /* the guest does not answer, or nobody accepted in TCP_ASKED_MS */
};

struct tcp_config {
	uint32_t flows_max;     /* 1 to TCP_FLOWS_MAX */
	uint32_t half_open_max; /* 1 to TCP_HALF_OPEN_MAX */
	uint32_t blocks;        /* rings in use at once: 2 to TCP_BLOCKS_MAX; touched as needed */
	uint32_t wide;          /* of them so many of TCP_WIDE_BYTES, for who sends first */
	struct siphash_key hash_key;
	struct siphash_key iss_key; /* fresh for each start: numbers are not to be foretold */
	const struct net_link
		*link; /* borrowed for the table's life; for the addresses of frames */
	struct net_out out;
	void (*event)(void *ctx, struct tcp_flow *f, unsigned events, uint64_t now_ms);
	void *ctx;
};

struct tcp_stats {
	uint32_t flows; /* now; with those in TIME_WAIT */
	uint32_t half_open;
	uint32_t blocks_used;
	uint64_t accepted;
	uint64_t connected;
	uint64_t refused_half_open; /* SYNs beyond half_open_max, answered with RST */
	uint64_t refused_table;     /* SYNs beyond flows_max, likewise */
	uint64_t resets_sent;
	uint64_t resets_got;
	uint64_t timeouts;
	uint64_t retransmits;
	uint64_t out_of_order; /* segments dropped for it */
	uint64_t overlaps;     /* segments whose front was cut off: those bytes had come before */
	uint64_t no_block;     /* segments dropped in part, no ring being free to keep them */
	uint64_t challenges;   /* segments answered with a bare ACK for what they were (RFC 5961) */
	uint64_t strays;       /* segments of no flow, answered with RST */
	uint64_t segments_in;
	uint64_t segments_out;
	uint64_t bytes_in;
	uint64_t bytes_out;
};

/* Returns 0, -EINVAL, -ENOMEM. */
_must_ int tcp_table_new(const struct tcp_config *config, struct tcp_table **ret, struct err *e);
void tcp_table_free(struct tcp_table *t); /* says nothing to the guest and has no events */
OWN_DEFINE(struct tcp_table, tcp_table_free)

const struct tcp_stats *tcp_table_stats(const struct tcp_table *t);

/* -- what drives it ---------------------------------------------------------------------------- */

/* A segment of the guest, from net_link_input(). */
void tcp_input(struct tcp_table *t, const struct net_packet *p, uint64_t now_ms);

/* Runs what is due. */
void tcp_tick(struct tcp_table *t, uint64_t now_ms);

/* When tcp_tick() is to be called next, or sooner than anything is due. UINT64_MAX: never. */
uint64_t tcp_next_ms(const struct tcp_table *t);

/* Is there something that the guest's socket had no room for? Then tcp_resume() once it has. */
bool tcp_blocked(const struct tcp_table *t);
void tcp_resume(struct tcp_table *t, uint64_t now_ms);

/* -- what the application does ----------------------------------------------------------------- */

/* Answers the SYN of TCP_EV_SYN. Nothing may be written before TCP_EV_OPEN. */
void tcp_accept(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms);

/*
 * Connects to t's guest side from its remote side, which the caller picks and nobody else uses.
 * Returns 0; -EEXIST: there is such a flow; -ENOSPC: the table, or its half-open part, is full
 */
_must_ int tcp_connect(struct tcp_table *t, const struct net_tuple *tuple, void *app,
                       uint64_t now_ms, struct tcp_flow **ret);

/*
 * What is there to read, in place: the flow's ring, then the segment at hand. Valid until the next
 * call on this flow, and within an event until it returns; what was not consumed by then is kept.
 * Returns the number of pieces, 0 to TCP_READ_IOVS.
 */
unsigned tcp_readable(const struct tcp_flow *f, struct iovec iov[TCP_READ_IOVS]);
size_t tcp_readable_bytes(const struct tcp_flow *f);

/* The first `bytes` of it are done with; the window opens by as much. */
void tcp_consume(struct tcp_table *t, struct tcp_flow *f, size_t bytes, uint64_t now_ms);

/* The guest has closed, and everything was consumed. */
bool tcp_at_eof(const struct tcp_flow *f);

/*
 * Free space of the send ring, to read(2) into; then tcp_commit() what was read. Valid until the
 * next call on this flow.
 * Returns the number of pieces, 0 to TCP_WRITE_IOVS; 0: no room now, TCP_EV_WRITABLE will come
 */
unsigned tcp_room(struct tcp_table *t, struct tcp_flow *f, struct iovec iov[TCP_WRITE_IOVS]);

/* `bytes` of that space hold data to send; 0 gives the space back. */
void tcp_commit(struct tcp_table *t, struct tcp_flow *f, size_t bytes, uint64_t now_ms);

/* The two in one, with a copy. Returns how much of data was taken. */
size_t tcp_write(struct tcp_table *t, struct tcp_flow *f, struct span data, uint64_t now_ms);

/* No more will be written: FIN, behind what was. Reading goes on. Not before TCP_EV_OPEN. */
void tcp_shutdown(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms);

/* Ends it now, with RST; also refuses a SYN. f is gone, and there is no event. */
void tcp_abort(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms);

/* -- what is asked about a flow ---------------------------------------------------------------- */

const struct net_tuple *tcp_flow_tuple(const struct tcp_flow *f);
void *tcp_flow_app(const struct tcp_flow *f);
void tcp_flow_set_app(struct tcp_flow *f, void *app);
enum tcp_end tcp_flow_end(const struct tcp_flow *f);

struct tcp_flow_info {
	uint64_t began_ms;
	uint64_t heard_ms; /* the last segment of the guest */
	uint64_t acked_ms; /* the guest's last progress in taking what we send */
	uint64_t bytes_in;
	uint64_t bytes_out; /* acknowledged */
	uint32_t unsent;    /* committed and not acknowledged */
	uint32_t unread;
};

void tcp_flow_info(const struct tcp_flow *f, struct tcp_flow_info *ret);
