/*
 * tcp_internal: what the parts of tcp share. Only tcp*.c include it.
 *
 * tcp_table.c  flows, hash, lists, timers, blocks
 * tcp_in.c     a segment comes in
 * tcp_out.c    segments go out
 * tcp.c        the application's calls, the clock
 */
#pragma once

#include "net/head.h"
#include "net/tcp.h"

/*
 * RFC 9293's states, with what comes after ESTABLISHED told by flags: FIN_WAIT, CLOSING, LAST_ACK
 * and CLOSE_WAIT are the ways in which "our FIN is out", "it is acknowledged" and "theirs came" can
 * be combined.
 */
enum tcp_state {
	ST_FREE = 0,
	ST_ASKED, /* a SYN came; the application has not said */
	ST_SYN_SENT,
	ST_SYN_RCVD, /* our SYN, with ACK, is out */
	ST_OPEN,
	ST_TIME_WAIT,
};

#define TCP_NEVER UINT64_MAX

/* A ring over one block; at is NULL while there is nothing in it. */
struct tcp_ring {
	uint8_t *at;
	uint32_t head; /* where the first byte is */
	uint32_t len;
	uint32_t size;
};

/* Blocks of one size, handed out from a stack. */
struct tcp_pool {
	uint8_t *at;
	uint32_t *free;
	uint32_t free_count;
	uint32_t bytes; /* of one */
};

enum tcp_width { TCP_NARROW, TCP_WIDE, TCP_WIDTHS };

/* Membership in a list of flows; indices plus one. */
struct tcp_link {
	uint32_t prev, next;
	bool in;
};

struct tcp_list {
	uint32_t first, last, count;
};

struct tcp_flow {
	struct net_tuple tuple;
	struct net_head head;
	void *app;

	uint8_t state;
	uint8_t end;
	uint8_t snd_scale, rcv_scale;
	bool in_event : 1;
	bool dead : 1;       /* aborted within its own event */
	bool fin_wanted : 1; /* the application will write no more */
	bool fin_first : 1;  /* ours went out before theirs came: TIME_WAIT is ours */
	bool fin_rcvd : 1;
	bool want_room : 1; /* TCP_EV_WRITABLE is owed */
	bool ack_now : 1;
	bool probe_now : 1;
	bool force : 1; /* send what fits, however little */
	bool timing : 1;
	bool has_scale : 1;
	uint8_t tries;   /* time-outs in a row without a word of the guest */
	uint8_t backoff; /* time-outs in a row without progress */
	uint8_t keep_tries;
	uint8_t segments_unacked;
	uint16_t mss;

	uint32_t iss, irs;
	uint32_t snd_una, snd_nxt, snd_max; /* max: the highest ever sent, plus one */
	uint32_t snd_end;                   /* behind the last byte committed; FIN's number */
	uint32_t snd_wnd, snd_wnd_max, snd_wl1, snd_wl2;
	uint32_t burst;            /* what may be in flight after a loss */
	uint32_t rcv_nxt, rcv_adv; /* adv: the right edge told to the guest */
	uint32_t rtt_seq;
	uint32_t srtt_8, rttvar_4; /* milliseconds, times 8 and 4 */
	uint32_t rto_ms;
	uint64_t rtt_ms;

	struct tcp_ring snd, rcv;
	struct span held; /* the segment at hand, within its event */

	uint64_t began_ms, heard_ms, acked_ms, challenge_ms;
	uint64_t bytes_in, bytes_out;

	uint64_t retry_ms, ack_ms, life_ms; /* the timers; TCP_NEVER: off */
	uint64_t due_ms, heap_ms;           /* when something is due; the heap may know it sooner */
	uint32_t heap_at;                   /* plus one */
	uint32_t hash_next;
	struct tcp_link waiting; /* for a block; or in TIME_WAIT */
	struct tcp_link blocked; /* on the guest's socket */
};

_Static_assert(sizeof(struct tcp_flow) <= TCP_FLOW_BYTES_MAX, "a flow outgrew what is stated");

struct tcp_table {
	struct tcp_config config;
	struct tcp_stats stats;
	struct tcp_flow *flows;
	uint32_t *buckets;
	uint32_t *heap; /* flows by heap_ms; indices plus one */
	uint32_t mask;
	uint32_t heap_count;
	uint32_t flows_used; /* those behind were never touched */
	uint32_t free;       /* of those before, linked by hash_next */
	uint8_t *blocks;     /* the narrow ones, then the wide ones */
	uint32_t *free_blocks;
	struct tcp_pool pools[TCP_WIDTHS];
	struct tcp_list waiters;
	struct tcp_list time_waits;
	struct tcp_list blocked;
};

static inline int32_t seq_diff(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b);
}

/* tcp_table.c */
struct tcp_flow *tcp_find(struct tcp_table *t, const struct net_tuple *tuple);
struct tcp_flow *tcp_take(struct tcp_table *t, const struct net_tuple *tuple, uint64_t now_ms);
void tcp_unhash(struct tcp_table *t, struct tcp_flow *f);
void tcp_release(struct tcp_table *t, struct tcp_flow *f); /* lists, timers, rings, slot */
void tcp_list_add(struct tcp_table *t, struct tcp_list *list, struct tcp_flow *f);
void tcp_list_drop(struct tcp_table *t, struct tcp_list *list, struct tcp_flow *f);
void tcp_rearm(struct tcp_table *t, struct tcp_flow *f); /* after any timer was set */
struct tcp_flow *tcp_due(struct tcp_table *t, uint64_t now_ms);
bool tcp_ring_is_free(const struct tcp_table *t);
/* A block of that width; of the other one where there is none. False: there is neither. */
bool tcp_ring_take(struct tcp_table *t, struct tcp_ring *r, enum tcp_width width);
void tcp_ring_drop(struct tcp_table *t, struct tcp_ring *r); /* where it is empty */
unsigned tcp_ring_data(const struct tcp_ring *r, uint32_t skip, uint32_t len, struct iovec iov[2]);
unsigned tcp_ring_space(const struct tcp_ring *r, struct iovec iov[2]);
void tcp_ring_put(struct tcp_ring *r, struct span data); /* it fits */
void tcp_ring_cut(struct tcp_ring *r, uint32_t len);     /* off the front */
void tcp_set_state(struct tcp_table *t, struct tcp_flow *f, enum tcp_state state);

/* tcp_out.c */
void tcp_output(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms);
void tcp_send_reset(struct tcp_table *t, struct tcp_flow *f);
void tcp_refuse_segment(struct tcp_table *t, const struct net_packet *p);
bool tcp_fin_acked(const struct tcp_flow *f);
uint32_t tcp_iss(struct tcp_table *t, const struct net_tuple *tuple, uint64_t now_ms);

/* tcp_in.c */
bool tcp_tell(struct tcp_table *t, struct tcp_flow *f, unsigned events, uint64_t now_ms);
void tcp_finish(struct tcp_table *t, struct tcp_flow *f, enum tcp_end why, uint64_t now_ms);
bool tcp_is_done(const struct tcp_flow *f);
void tcp_wake(struct tcp_table *t, uint64_t now_ms); /* those who wait for blocks */
