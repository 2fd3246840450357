/*
 * gate_inner: what the files of the gate's loop share: the gate, a flow, and who calls whom. The
 * way of a connection through them is told in flow.c.
 */
#pragma once

#include "base/err.h"
#include "egress/control.h"
#include "egress/link.h"
#include "egress/order.h"
#include "gate/bucket.h"
#include "gate/gate.h"
#include "gate/intercept.h"
#include "gate/names.h"
#include "gate/recent.h"
#include "net/dns.h"
#include "net/tcp.h"
#include "net/udp_flows.h"
#include "policy/policy.h"

/* What an event of epoll is about: the upper half of its number; the lower is an index plus one. */
enum gate_source { SOURCE_CARD = 1, SOURCE_VAULT, SOURCE_CONTROL, SOURCE_FLOW, SOURCE_UDP };

enum flow_kind {
	FLOW_FREE,
	FLOW_DNS,        /* of the guest's to port 53, whatever the address */
	FLOW_FIRST,      /* accepted; its first bytes say which name it is for */
	FLOW_ASKING,     /* the vault connects, and the SYN is not answered yet */
	FLOW_ASKING_MID, /* the vault connects, and the first bytes wait in the ring */
	FLOW_CALLING,    /* published: the guest is being connected to */
	FLOW_PASS,       /* bytes go between the guest and fd */
	FLOW_READ,       /* requests are read: intercept.h */
	FLOW_CLOSING,    /* all is said on both sides, or soon: what still comes is dropped */
};

enum flow_list {
	LIST_FIRST,
	LIST_ASKING,
	LIST_DNS,
	LIST_CLOSING,
	FLOW_LISTS,
	LIST_NONE = FLOW_LISTS,
};

/* One TCP connection of the guest. No buffer: what is under way lies in the endpoint's rings. */
struct flow {
	struct gate *gate;
	struct tcp_flow *tcp;
	struct intercept *reader; /* FLOW_READ */
	int fd;                   /* of the other side, or -1 */
	uint32_t number;          /* in records; that of its stream, if it has one */
	uint32_t stream;          /* of the vault's; 0: none */
	uint32_t generation;      /* of the policy that judged */
	uint8_t kind;             /* enum flow_kind */
	uint8_t list;             /* enum flow_list */
	uint8_t seen;             /* enum policy_seen */
	uint8_t needs;            /* enum policy_act, of a FLOW_FIRST */
	bool open;                /* the guest's side is established */
	bool peek;                /* nothing of the guest's went on yet: it may be a ClientHello */
	bool can_read, can_write; /* fd, as far as epoll has told */
	bool hung_up;             /* the other side sends no more: what is there ends with an end */
	bool up_done, down_done;  /* this direction has ended, and the other side was told */
	bool inspected, pin_only;
	bool queued;
	bool published;
	bool waits_link; /* its reader waits for room in the link to the vault */
	bool eof_told;   /* its reader knows that the guest sends no more */
	bool over_told;  /* and that the bytes granted are used up */
	uint8_t names_count;
	uint16_t rule;
	uint16_t name; /* what its first bytes named */
	uint16_t host; /* the name it counts for, in what is granted to one host */
	uint16_t names[POLICY_CANDIDATES_MAX];
	uint32_t queue_next;
	uint32_t asked;        /* FLOW_DNS: the question that waits, index plus one */
	uint32_t older, newer; /* in its list; or next of the free ones */
	uint64_t due_ms;
	uint64_t began_ms;
	uint64_t moved_ms; /* the last byte between us and fd */
	uint64_t bytes_up, bytes_down;
};

/* A datagram flow under a rule that lets it through. */
struct peer {
	struct udp_flow *udp;
	int fd; /* connected; -1: the vault is at it */
	uint32_t stream;
	uint32_t number;
	uint32_t generation;
	uint16_t rule;
	uint16_t name;
	uint8_t names_count;
	bool pin_only, can_read;
	uint16_t names[POLICY_CANDIDATES_MAX];
	uint32_t held; /* index plus one of its first datagram; 0: none */
	uint32_t next; /* of the free ones */
	uint64_t began_ms;
};

struct held {
	uint16_t len; /* 0: free */
	uint8_t at[GATE_UDP_HELD_BYTES];
};

/* A question that waits for the vault's answer. */
struct asked {
	bool taken;
	uint8_t family; /* enum names_family */
	uint16_t name;  /* whose answer it waits for */
	uint32_t flow;  /* index plus one of a FLOW_DNS; 0: it came in a datagram */
	uint32_t next;  /* of the same answer, or of the free ones */
	struct net_tuple tuple;
	struct dns_query query; /* its question points into room */
	uint8_t room[DNS_NAME_WIRE_MAX + 4];
};

struct run_queue {
	uint32_t first, last, count;
};

struct flow_ends {
	uint32_t oldest, newest;
};

struct card {
	int fd;
	bool can_write;
	bool wakes; /* for room */
	uint8_t *in;
	size_t in_len;
	size_t rest_at, rest_len; /* of a frame that the socket took a part of */
	uint8_t rest[NET_PREFIX_BYTES + NET_FRAME_MAX];
};

struct gate_stats {
	uint64_t flows_allowed, flows_refused, flows_ended;
	uint64_t dns_questions, dns_local, dns_refused, dns_lookups, dns_limited, dns_failed;
	uint64_t udp_allowed, udp_refused, udp_no_room;
	uint64_t published, published_refused;
	uint64_t revoked;
	uint64_t bytes_up, bytes_down;
	uint64_t records, records_lost;
	uint64_t refused; /* records of refusals, those lost as well */
	uint64_t rests;   /* of the guest */
};

struct gate {
	struct gate_config config;
	int epoll_fd;
	uint64_t now_ms;   /* of the guest: it stands still while the guest does */
	uint64_t stood_ms; /* that of the guest's machine, in all */
	bool resting;
	bool ended; /* the supervisor, or the engine */
	struct err fault;
	struct card card;
	struct net_link link;
	struct tcp_table *tcp;
	uint8_t *scratch; /* GATE_SCRATCH_BYTES; nobody keeps anything in it */

	/* the vault */
	struct egress_link *vault;
	struct egress_order order;
	struct egress_stream *slots;
	uint32_t last_number;
	bool vault_wakes;      /* for room */
	struct buf *frame_out; /* where a frame is being put, */
	size_t frame_at;       /* and where it begins */

	/* what is judged by */
	struct policy *policy; /* NULL before the first */
	uint32_t generation;
	struct names *names;
	struct bucket connect_bucket, dns_bucket, lookup_bucket, up_bucket, down_bucket;
	const struct host_name *ask_names[POLICY_CANDIDATES_MAX];

	/* connections */
	struct flow *flows;
	uint32_t flows_max, flows_used, flows_free, flows_count, flows_dns, flows_first;
	uint32_t flows_published; /* of flows_count */
	uint32_t fds_max;
	struct run_queue queue;
	struct flow_ends lists[FLOW_LISTS];
	bool throttled;
	uint64_t sweep_ms, second_ms;
	struct intercepts *intercepts;
	uint32_t link_waiters;
	uint16_t port_next; /* of our own, for published connections */

	/* datagrams */
	struct udp_flows *udp;
	struct peer *peers;
	uint32_t peers_used, peers_free, peers_count;
	struct held *held;

	/* questions */
	struct asked *asked;
	uint32_t asked_used, asked_free, asked_count;
	uint32_t *asked_first; /* for each name and family: who waits */

	/* records */
	struct recent recent;
	struct bucket record_bucket;
	uint32_t records_lost;   /* not yet said */
	struct span record_host; /* the name a refusal is about, if it is none the flow holds */
	bool control_wakes;
	bool stats_due; /* an answer that waits for room */
	uint32_t stats_serial;
	struct gate_stats stats;
};

/* -- gate.c ------------------------------------------------------------------------------------ */

/* The gate cannot go on; the first reason stays. */
void gate_fail(struct gate *g, int code, const char *fmt, ...) _printf_(3, 4);

/* The guest stands still, or goes on. */
void gate_rest(struct gate *g, bool rests);

/* fd of a flow or peer becomes an event source, told of at its edges. False: no room for it. */
_must_ bool gate_watch(struct gate *g, int fd, enum gate_source source, uint32_t index);

/* The same once more: what is there to read is told in the next turn, as if it had just come. */
void gate_watch_again(struct gate *g, int fd, enum gate_source source, uint32_t index);

/*
 * Closes it, if it is one, and takes it out before: the vault's duplicate would keep it in, and its
 * events would be told to whoever has the index next.
 */
void gate_forget(struct gate *g, int *fd);

/*
 * The sockets to card, vault and supervisor are told of as long as there is something to read, and
 * of room only while that is waited for: a UNIX socket tells of it whenever its peer reads.
 */
void gate_watch_room(struct gate *g, int fd, enum gate_source source, bool wanted, bool *now);

static inline struct policy_addr gate_policy_addr(const struct net_addr *a)
{
	return a->family == 6 ? addr_of_v6(a->at) : addr_of_v4(a->at);
}

/* A number nobody had: of a flow, a request, a stream. */
static inline uint32_t gate_number(struct gate *g)
{
	return ++g->last_number;
}

/* -- card.c: the guest's card ------------------------------------------------------------------ */

_must_ int card_init(struct card *c, int fd, struct err *e);
void card_fini(struct card *c);
bool card_emit(void *gate, const struct iovec *iov, unsigned count, size_t bytes); /* net_out */
void card_readable(struct gate *g);
void card_writable(struct gate *g);

/*
 * -- uplink.c: the link to the vault ------------------------------------------------------------
 */

_must_ int uplink_init(struct gate *g, struct err *e);
void uplink_begin(struct gate *g);
void uplink_readable(struct gate *g);
void uplink_flush(struct gate *g);

/* A frame: where it is put (NULL: no room), and sent. user: of a stream it opens, else 0. */
struct buf *uplink_frame(struct gate *g, size_t bytes);
int uplink_send(struct gate *g, uint32_t user);

/* Opens a stream; its number, or 0: not now. */
uint32_t uplink_resolve(struct gate *g, uint16_t name, enum names_family family);
uint32_t uplink_connect(struct gate *g, const struct policy_ask *a, uint16_t rule,
                        enum egress_protocol proto, uint16_t name, uint32_t user);

/* Ends our half of a CONNECT: the flow is over, or given up. *stream becomes 0. */
void uplink_end(struct gate *g, uint32_t *stream, bool given_up);

enum policy_reason uplink_reason(uint8_t fail); /* enum egress_fail */

/* Whom a CONNECT stream is for: an index plus one of flows, or of peers with this bit set. */
#define USER_PEER UINT32_C(0x80000000)

/* -- policy.c: what is judged by --------------------------------------------------------------- */

/* A POLICY of the vault's: from now on it holds, and what it would not allow ends. */
void gate_reload(struct gate *g, uint32_t generation, struct span tlv);

/* The pins of ret's address into it; ids: the numbers of the names. Returns their count. */
unsigned gate_pin_names(struct gate *g, struct policy_ask *ret, const struct net_addr *addr,
                        uint16_t ids[POLICY_CANDIDATES_MAX]);

/* The names of those numbers into ask; good until the next call. */
void gate_put_names(struct gate *g, struct policy_ask *ask, const uint16_t *ids, unsigned count);

/* The first of those names that is allowed by itself; NAMES_NONE: an address rule it is. */
uint16_t gate_pick_name(struct gate *g, const struct policy_ask *a, const uint16_t *ids);

/* What the policy's limits of connections count: those of the guest's own that go out. */
static inline uint32_t gate_flows_guests(const struct gate *g)
{
	return g->flows_count - g->flows_dns - g->flows_published;
}

/* Did the bytes of this direction use up what the policy grants in all? */
bool gate_bytes_over(const struct gate *g);

/* -- flow.c: the way of a connection ----------------------------------------------------------- */

_must_ int flows_init(struct gate *g, struct err *e);
void flows_fini(struct gate *g);
void flow_event(void *gate, struct tcp_flow *tcp, unsigned events, uint64_t now_ms);

/* A free one, or NULL. tcp may be NULL for now. */
struct flow *flow_take(struct gate *g, struct tcp_flow *tcp);
static inline uint32_t flow_index(const struct gate *g, const struct flow *f)
{
	return (uint32_t)(f - g->flows) + 1;
}
/*
 * Lets go of all a flow has; the guest's side is gone already, or will be dealt with by the
 * caller.
 */
void flow_free(struct gate *g, struct flow *f);

/* RST to the guest, and the flow is gone. */
void flow_abort(struct gate *g, struct flow *f);
/* The same, with a record of why. */
void flow_refuse(struct gate *g, struct flow *f, enum egress_layer layer,
                 const struct policy_verdict *v);
void flow_refuse_why(struct gate *g, struct flow *f, enum egress_layer layer,
                     enum policy_reason why);
/* The flow ends; says ENDED with what it carried, and why if it was not by itself. */
void flow_ended(struct gate *g, struct flow *f, enum policy_reason why);

void flow_ask(struct gate *g, const struct flow *f, struct policy_ask *ret);
void flow_hold_names(struct gate *g, struct flow *f, const uint16_t *ids, unsigned count);
void flow_set_name(struct gate *g, struct flow *f, uint16_t name);
void flow_enlist(struct gate *g, struct flow *f, enum flow_list list, uint64_t due_ms);
void flow_delist(struct gate *g, struct flow *f);
void flow_become(struct gate *g, struct flow *f, enum flow_kind kind);
void flow_queue(struct gate *g, struct flow *f);
struct flow *flow_dequeue(struct gate *g);
/* Has a connection to this name, or to this address, reached what the policy grants a host? */
bool flow_host_full(const struct gate *g, uint16_t name, const struct net_addr *addr);

/* CONNECTED, with its descriptor, or REVOKED, RESET, END. */
void flow_connected(struct gate *g, struct flow *f, uint8_t fail, int fd);
void flow_cut(struct gate *g, struct flow *f, enum policy_reason why);

void flows_due(struct gate *g);
void flows_sweep(struct gate *g);
void flows_second(struct gate *g);

/* -- first.c: first flights -------------------------------------------------------------------- */

/* There is more of it, or it ended (no more will come). */
void first_read(struct gate *g, struct flow *f);
/* Its time is over. */
void first_late(struct gate *g, struct flow *f);
/* A raw flow's first bytes: true: they may go on (or f is gone: then *ret_gone). */
bool first_peek(struct gate *g, struct flow *f, bool *ret_gone);

/* -- pass.c: bytes between the guest and a socket ---------------------------------------------- */

/* Both directions, as far as they go. f may be gone afterwards. */
void pass_run(struct gate *g, struct flow *f);

/* How much may go now by the policy's bandwidth, at most max. 0: later; the flow is queued. */
size_t pass_granted(struct gate *g, struct flow *f, bool up, size_t max);
/* So much went. False: that was the last the policy grants in all. */
_must_ bool pass_moved(struct gate *g, struct flow *f, bool up, size_t n);

/* -- read.c: connections whose requests are read ----------------------------------------------- */

_must_ int readers_init(struct gate *g, struct err *e);
/* The flow's verdict says inspect. f may be gone afterwards. */
void reader_start(struct gate *g, struct flow *f, bool tls);
void reader_run(struct gate *g, struct flow *f);
void reader_frame(struct gate *g, struct flow *f, const struct egress_frame *frame);
void reader_second(struct gate *g, struct flow *f);
void readers_room(struct gate *g); /* the link to the vault has room again */
void reader_reload(struct gate *g, struct flow *f);

/* -- resolve.c: name service ------------------------------------------------------------------- */

_must_ int dns_init(struct gate *g, struct err *e);
void dns_datagram(struct gate *g, const struct net_packet *p);
void dns_stream(struct gate *g, struct flow *f); /* f may be gone afterwards */
void dns_flow_gone(struct gate *g, const struct flow *f);
void dns_resolved(struct gate *g, uint32_t user, const struct egress_resolved *r);

/* -- udp.c: datagrams under a rule ------------------------------------------------------------- */

_must_ int udp_init(struct gate *g, struct err *e);
void udp_fini(struct gate *g);
void udp_datagram(struct gate *g, const struct net_packet *p);
void udp_connected(struct gate *g, uint32_t index, uint8_t fail, int fd);
void udp_cut(struct gate *g, uint32_t index, enum policy_reason why);
void udp_readable(struct gate *g, uint32_t index);
void udp_idle(struct gate *g);
void udp_reload(struct gate *g, const struct policy *old);

/* -- publish.c: connections from outside ------------------------------------------------------- */

void publish_accepted(struct gate *g, const struct control_accepted *a, int fd);

/* -- record.c, control.c: words to the supervisor ---------------------------------------------- */

/* generation is filled in where it is 0. */
void gate_record(struct gate *g, const struct egress_record *r);
void gate_record_lost(struct gate *g); /* there may be room again */
void record_flow(struct gate *g, const struct flow *f, enum egress_event event,
                 enum egress_layer layer, enum policy_reason why);
void record_address(struct egress_record *r, const struct net_addr *a);
void control_begin(struct gate *g);
void control_readable(struct gate *g);
void control_writable(struct gate *g);
