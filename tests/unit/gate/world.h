/*
 * world: a gate with everything around it played by the test: a guest whose frames come out of the
 * same endpoint turned round, a vault with a table of names, upstreams that are socket pairs, and a
 * supervisor that keeps the records. Real sockets, the gate's real loop; only the clock is a
 * number.
 */
#pragma once

#include "egress/control.h"
#include "egress/link.h"
#include "egress/order.h"
#include "gate/gate.h"
#include "net/dns.h"
#include "net/tcp.h"
#include "policy/policy.h"
#include "test.h"

enum {
	WORLD_RECORDS = 4096,
	WORLD_NAMES = 64,
	WORLD_UPSTREAMS = 12500,
	WORLD_ADDRS = 40,
	WORLD_SLOTS = 2 * EGRESS_STREAMS_MAX,
};

/* A connection as the guest has it. */
struct gconn {
	struct tcp_flow *f;
	uint8_t *got; /* all that came */
	size_t got_len, got_size;
	struct span out; /* still to write */
	bool shut;       /* to be shut when out is empty */
	bool open, eof, ended, lazy;
	enum tcp_end end;
};

struct world_name {
	char name[256];
	uint8_t fail;
	uint32_t ttl_s;
	unsigned count;
	struct egress_addr addr[WORLD_ADDRS];
};

struct upstream {
	int fd; /* the far end of what the gate got */
	uint32_t stream;
	struct egress_connect asked;
	char name[256];
	uint8_t ended; /* how the gate ended its half: EGRESS_END, EGRESS_RESET */
};

struct record {
	struct egress_record r;
	char host[256];
};

struct datagram {
	struct net_tuple tuple;
	uint8_t at[DNS_REPLY_MAX];
	size_t len;
	bool unreachable; /* ICMP came instead */
};

struct world {
	struct gate *gate;
	struct ca *ca;
	struct err fault; /* of the gate's turn */
	int ended;

	int card, card_near; /* the near one is the gate's: only to make it narrow */
	struct net_link link;
	struct tcp_table *tcp;
	uint8_t *in;
	size_t in_len;
	uint16_t port_next;
	struct datagram last; /* the last that came to the guest */
	unsigned datagrams, unreachables;
	struct gconn *accepted; /* the last that was connected to the guest */

	struct egress_link *vault;
	struct egress_order order;
	struct egress_stream *slots;
	struct world_name names[WORLD_NAMES];
	unsigned names_count;
	unsigned resolves, connects;
	uint8_t connect_fail;          /* of the next CONNECTs */
	bool hold;                     /* do not answer RESOLVE and CONNECT */
	int shared;                    /* not -1: every upstream is this socket */
	bool wild;                     /* the vault was taken over: nobody judges what it is told */
	uint32_t held_stream;          /* the last RESOLVE or CONNECT, */
	uint32_t request_stream;       /* and REQUEST */
	uint8_t held[EGRESS_TEXT_MAX]; /* the payload of a CONNECT */
	size_t held_len;
	struct upstream *upstreams;
	unsigned upstreams_count;
	uint32_t policy_ok;
	struct buf *frame_out; /* where the vault puts its next frame */

	int control;
	bool asleep;        /* the guest's machine is paused */
	bool deaf;          /* the supervisor does not read */
	bool quiet_records; /* it keeps none */
	bool ready;
	struct record *records;
	unsigned records_count;
	struct control_stats stats;
	uint8_t stats_room[CONTROL_PACKET_MAX];
	unsigned stats_answers;
};

/* A gate that has begun and judges by the rules (the lines of network: rules:); NULL: no policy. */
struct world *world_new(const char *rules);

/* A bare SYN from that port of the guest's, whose answer nobody awaits. */
void world_syn(struct world *w, const char *addr, uint16_t port, uint16_t from);

void world_free(struct world *w);

/* Everybody does what there is to do, until nobody has anything. */
void world_run(struct world *w);
/* The clock goes on, in steps, with everybody running. */
void world_wait(struct world *w, uint64_t ms);
uint64_t world_ms(void);

/* A whole file as policy; false: the gate did not take it. */
void world_policy(struct world *w, uint32_t generation, const char *yaml);
void world_rules(struct world *w, uint32_t generation, const char *rules);

/* What the vault knows: addresses in text, blank between them; "": NODATA. */
void world_name(struct world *w, const char *name, const char *addrs, uint32_t ttl_s);
void world_name_fails(struct world *w, const char *name, enum egress_fail fail);

/* Answers the one RESOLVE that was held back. */
void world_answer_held(struct world *w, const char *addr);
/* And the one CONNECT. */
void world_connect_held(struct world *w, enum egress_fail fail);
size_t world_question(uint8_t *at, uint16_t id, const char *name, uint16_t type);

/* A question over UDP, to `server`; its answer's code, or -1: none came. */
int world_ask(struct world *w, const char *server, const char *name, uint16_t type);
/* The first address in the last answer's text; "" if there is none. */
const char *world_answer(const struct world *w);
/* Asks for A and wants that address. */
void world_pin(struct world *w, const char *name, const char *addr);

struct net_addr world_addr(const char *text);
/* Opens a connection; nothing runs yet. */
struct gconn *world_dial(struct world *w, const char *addr, uint16_t port);
void gconn_free(struct gconn *c);
void gconn_say(struct world *w, struct gconn *c, const void *data, size_t len);

/* A datagram of the guest's; runs. */
void world_send(struct world *w, const char *addr, uint16_t port, uint16_t from, struct span data);

/* What the supervisor says. */
void world_control(struct world *w, const struct buf *packet, int fd);
void world_ask_stats(struct world *w, uint32_t serial);
uint64_t world_stat(struct world *w, const char *name);

/* The vault ends a stream of its own. */
void world_revoke(struct world *w, uint32_t stream, uint32_t generation);

/*
 * All that the last REQUEST gets, so that one turn of the gate finds it: a head, a body in two
 * frames, and that no more comes, which is a RESET or (by the policy) a REVOKED.
 */
void world_cut_answer(struct world *w, const char *body, enum egress_fail why);

/* Records of that event and reason; the last of them. */
unsigned world_said(const struct world *w, enum egress_event event, enum policy_reason why);
const struct record *world_last(const struct world *w);

/* A ClientHello, whole; sni NULL: none. Returns its bytes. */
size_t world_hello(uint8_t *at, const char *sni);
