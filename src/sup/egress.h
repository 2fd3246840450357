/*
 * sup_egress: the part of a supervisor that is its guest's network: the gate, the vault, the policy
 * they judge by, the names of the secrets, published ports, records.
 *
 * Theory of operation
 *
 * net.c      starts both beside the engine, and tells the vault what the start brought; the
 *                guest waits until all of it was taken. Then it watches them: each one's end is the
 *                sandbox's.
 * egress.c   what they say: answers, counters, records.
 * ports.c    what commands ask for (lib/egress_ask.h), one request at a time, and connections
 *                to published ports.
 *
 * A value is only ever an open file on its way: from a command, or from the vault of a fork's
 * parent, to our vault. Nothing here reads one. What the supervisor has of a secret is its name and
 * the placeholder, which every command that starts gets as a variable.
 *
 * One request is with the vault at a time. Meanwhile nothing is read from those who ask: what they
 * want lies in their sockets.
 */
#pragma once

#include "lib/companion.h"
#include "lib/egress_log.h"
#include "lib/egress_plan.h"
#include "policy/policy.h"

#include <uv.h>

enum {
	SUP_ASKERS_MAX = 8,
	SUP_PACKETS_AT_ONCE = 64, /* of one companion, before others have their turn */
	SUP_CONNECTIONS_AT_ONCE = 16,
	SUP_LAST_PACKETS_MAX = 4096, /* at the end, of each: more than a socket holds */
	SUP_LAST_RECORDS_MS = 2000,  /* for them, on a busy machine; under a ms as a rule */
	SUP_REST_AGAIN_MS = 50,      /* between tries to say that the guest rests, or goes on */
	SUP_REST_TRIES = 200,        /* 10 s: who takes no packet for so long is broken */
	SUP_SERIAL_ROOTS = 1 << 16,  /* beyond those of the secrets at the start */
	SUP_SERIAL_IMPORT,
	SUP_SERIAL_FIRST, /* of requests */
	/*
	 * Beside the guest's memory in its cgroup: what gate and vault may hold by their own limits
	 * (docs/internals/gate.md adds it up), so that those are what a guest meets.
	 */
	SUP_EGRESS_BYTES = 640 << 20,
	SUP_EGRESS_PIDS = 16,
};

struct sup;

/* Of the last STATS_OK. */
struct sup_counters {
	bool known;
	uint16_t count;
	struct {
		char name[CONTROL_STAT_NAME_MAX + 1];
		uint64_t value;
	} item[CONTROL_STATS_MAX];
};

struct sup_companion {
	struct companion c;
	struct sup *sup;
	const char *name;       /* "gate" */
	enum control_side side; /* as whom it speaks */
	uint8_t reason;         /* with which the sandbox ends when it does */
	bool ready;
	struct sup_counters counters;
	uint32_t stats_serial; /* asked, and not answered yet; 0: none */
	bool rests;            /* the guest's machine, by what it was told last */
	uv_poll_t end_poll, log_poll, control_poll;
	bool polls_open;
};

struct sup_secret {
	char name[CONTROL_SECRET_NAME_MAX + 1];
	char placeholder[CONTROL_PLACEHOLDER_MAX + 1]; /* "": the vault has not said it yet */
};

struct sup_port {
	struct sup *sup;
	struct control_accepted at;
	int fd;
	uv_poll_t poll;
};

struct sup_asker {
	bool used;
	struct sup *sup;
	int fd;
	uint64_t heard_ms;
	uv_poll_t poll;
};

/* What the vault was asked for; kind 0: nothing. */
struct sup_asking {
	uint8_t kind;    /* CONTROL_POLICY, ... */
	uint32_t number; /* serial, or generation */
	char name[CONTROL_SECRET_NAME_MAX + 1];
	struct sup_asker *asker; /* NULL: it went away */
	struct policy *policy;
	uint8_t *tlv; /* what policy was made of */
	size_t tlv_len;
};

struct sup_egress {
	struct sup_companion gate, vault;
	bool rests;          /* the guest's machine: both are to know */
	unsigned rest_tries; /* to tell them, in vain */
	int link_fd;         /* the gate's end of the card's socket, until there is a gate */
	bool has_trust;
	uint32_t trust_hash;
	size_t pem_len;
	uint8_t pem[WIRE_CERT_MAX]; /* the gate's certificate */
	unsigned answers_due;       /* of the vault, before the guest may run */
	bool import_due;
	struct policy *policy; /* in force */
	struct policy *before; /* it: what began under it is still being recorded */
	uint32_t generation, generation_last;
	uint32_t serial_last;
	unsigned secret_count;
	struct sup_secret secrets[CONTROL_SECRETS_MAX];
	unsigned port_count;
	struct sup_port ports[EGRESS_PORTS_MAX];
	struct sup_asking asking;
	struct sup_asker askers[SUP_ASKERS_MAX];
	int listen_fd;
	uv_poll_t listen_poll;
	bool polls_open; /* listen_poll and those of the ports */
	struct egress_log log;
	uint64_t records_lost; /* by the companions' word */
	uint8_t line[EGRESS_LINE_MAX];
};

/* net.c; all but the first are harmless without a network */
void sup_egress_init(struct sup *s);
_must_ int sup_open_network(struct sup *s, struct err *e);  /* before the engine: its socket */
_must_ int sup_start_network(struct sup *s, struct err *e); /* once the engine's process runs */
_must_ int sup_brief_network(struct sup *s, struct err *e); /* into the cgroup; what they serve */
_must_ int sup_await_gate(struct sup *s, struct err *e);    /* before the guest's identity */
_must_ int sup_await_network(struct sup *s, struct err *e); /* before any of its commands */
void sup_put_network(const struct sup *s, struct wire_identity *id);
_must_ bool sup_take_trusted(struct sup *s, struct span payload); /* false: the agent lies */
/* To the EXEC in the agent's buffer: the certificate's variables and the placeholders. */
void sup_add_env(struct sup *s, size_t start);
_must_ int sup_watch_network(struct sup *s); /* libuv's error */
void sup_close_network(struct sup *s);       /* what the loop has of it */
void sup_end_network(struct sup *s);         /* the processes and the files */
void sup_gate_lost(struct sup *s); /* the engine says that its card's socket is of no use */

/* egress.c */
/* What a companion said. -EPROTO, or before the guest runs what its answer was. */
_must_ int sup_egress_packet(struct sup *s, struct sup_companion *from, struct span packet,
                             struct err *e);
/*
 * The guest's machine is about to stop, or goes on. One that cannot take the word now gets it again
 * and again; one that never does has clocks that stand still, or run on, so the sandbox ends.
 */
void sup_say_rest(struct sup *s, bool rests);
void sup_ask_counters(struct sup *s);
bool sup_counters_due(const struct sup *s);
void sup_forget_counters(struct sup *s);                 /* they did not come */
void sup_put_egress(struct buf *b, const struct sup *s); /* an object of INFO, or null */
_must_ int sup_write_policy(struct sup *s, struct span tlv, struct err *e);

/* ports.c */
_must_ int sup_read_plan(struct sup *s, struct err *e); /* and tells the vault */
_must_ int sup_watch_ports(struct sup *s);              /* libuv's error */
void sup_close_ports(struct sup *s);
/* The vault's answer to what was asked is passed on, and the next is heard. */
void sup_asked(struct sup *s, struct span answer);
void sup_stop_accept(struct sup *s); /* for a while: there was no fd */
void sup_accept_again(struct sup *s);
