/*
 * gate_rig: an intercepted connection between a guest and a vault that the test plays. The guest is
 * a real client: OpenSSL over memory, and src/http's client or plain text. The vault keeps what it
 * is told, and every frame of both goes through egress_parse_frame() and egress_order_step().
 */
#pragma once

#include "egress/control.h"
#include "egress/order.h"
#include "gate/intercept.h"
#include "http/conn.h"

#include <openssl/ssl.h>

enum {
	RIG_REQUESTS_MAX = 900,
	RIG_CALM_BYTES = 128 << 10, /* what a connection counts at most while nothing waits */
	RIG_RECORDS_MAX = 2000,
	RIG_TEXT_MAX = 16 << 10,
	RIG_SLOTS = 2048,
	RIG_TEXT_SENT_MAX = 1 << 20,
};

/* What the vault was told of a request. */
struct rig_request {
	uint32_t number, generation, rule, flags;
	uint8_t framing, scheme;
	uint64_t length;
	char host[256], method[HTTP_METHOD_MAX + 1], path[512], query[256];
	char fields[2048]; /* "name: value\n" */
	uint64_t body_bytes, hash;
	char body[256]; /* its beginning */
	unsigned trailers;
	bool ended, reset;
	enum egress_fail fail;
	uint64_t granted; /* credit the gate gave for the answer */
};

struct rig_record {
	uint8_t event, layer, reason, flags;
	uint16_t status, port, rule;
	uint64_t flow, up, down;
	char host[256], method[33], path[512];
};

/* What the guest got on a stream. */
struct rig_answer {
	uint32_t id;
	uint16_t status, infos;
	uint8_t framing;
	uint32_t flags;
	uint64_t length, body_bytes, hash;
	char fields[2048];
	char body[4096];
	size_t body_len;
	unsigned trailers;
	bool ended, reset, refused;
};

struct rig {
	struct ca *ca;
	struct intercepts *all;
	struct intercept *c;
	struct policy *policy;
	struct host_name pin;
	const struct host_name *pins[1];
	struct policy_addr addr;
	uint16_t port;
	bool tls;
	uint64_t now_ms, real_s;
	/* the vault */
	struct egress_order order;
	struct egress_stream slots[RIG_SLOTS];
	struct buf frame;
	uint8_t frame_bytes[EGRESS_HEADER_BYTES + EGRESS_HEAD_MAX + EGRESS_BODY_MAX];
	size_t link_room; /* for frames over INTERCEPT_SMALL */
	uint32_t next;
	bool hold; /* grants no credit for bodies */
	bool down; /* send() fails */
	bool over; /* no bytes are left */
	uint32_t requests_count;
	struct rig_request requests[RIG_REQUESTS_MAX];
	struct egress_request scratch;
	unsigned records_count;
	struct rig_record records[RIG_RECORDS_MAX];
	/* the guest */
	SSL_CTX *ctx;
	SSL *ssl;
	struct http_conn *http; /* NULL: text */
	unsigned answers_count;
	struct rig_answer answers[RIG_REQUESTS_MAX];
	size_t piece;   /* bytes moved at a time; 0: all */
	bool deaf;      /* the guest takes nothing */
	bool keep_body; /* the guest's http_conn consumes nothing */
	size_t flow_len;
	uint8_t flow[RIG_TEXT_SENT_MAX]; /* not yet taken by the gate */
	size_t text_len;
	char text[RIG_TEXT_SENT_MAX]; /* what came, without http */
	bool closed;                  /* close_notify came */
	size_t most_output;
};

/* A policy from YAML text; rules only: "    - { host: a.test }". Generation 7. */
struct policy *rig_policy(const char *rules);

/* name: the SNI and the pin. alpn: as on the wire, or NULL. All but the guest's http_conn. */
struct rig *rig_new(const char *rules, const char *name, bool tls, const char *alpn);
void rig_free(struct rig *g);
/* The guest speaks HTTP through src/http; before the first bytes. */
void rig_client(struct rig *g, bool http2);

/* Moves bytes both ways until neither side has any. */
void rig_pump(struct rig *g);
/* Text of the guest's, without http. */
void rig_say(struct rig *g, const char *text);
void rig_say_bytes(struct rig *g, struct span bytes);
/* One record of TLS, or a segment, given as it is. */
void rig_raw(struct rig *g, struct span bytes);

/* The guest's request; the stream. */
uint32_t rig_ask(struct rig *g, const char *method, const char *host, const char *path,
                 uint8_t framing, uint64_t length);
struct rig_answer *rig_answer(struct rig *g, uint32_t id);

/* The vault's last request, or the i-th. */
struct rig_request *rig_last(struct rig *g);

/* The vault answers. fields: "name: value\n" lines. */
void rig_reply(struct rig *g, uint32_t number, uint16_t status, uint8_t framing, uint64_t length,
               const char *fields);
/* As much of it as there is credit for; how much. */
size_t rig_body(struct rig *g, uint32_t number, const void *at, size_t len);
void rig_trailers(struct rig *g, uint32_t number, const char *name, const char *value);
void rig_end(struct rig *g, uint32_t number);
void rig_reset(struct rig *g, uint32_t number, enum egress_fail why);
/* A whole answer of status 200. */
void rig_answer_with(struct rig *g, uint32_t number, const char *body);
/* Whatever was put into g->frame; false: it is dropped, being late. */
bool rig_deliver(struct rig *g);

/* Of api.test on port 80, and on 443 with a guest that speaks HTTP/1.1. */
struct rig *rig_plain(const char *rules);
struct rig *rig_secure(const char *rules);

/* Checks. The i-th record is that event, for that reason. */
const struct rig_record *rig_recorded(struct rig *g, unsigned i, uint8_t event, const char *reason);
void rig_has(const char *text, const char *what);
void rig_has_not(const char *text, const char *what);
