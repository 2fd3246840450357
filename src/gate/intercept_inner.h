/* intercept_inner: a connection and its requests, the parts of intercept*.c. For them alone. */
#pragma once

#include "egress/control.h"
#include "gate/intercept.h"
#include "gate/refusal.h"
#include "gate/tls.h"
#include "http/conn.h"

enum {
	CREDIT_LUMP = EGRESS_WINDOW_BYTES / 4,  /* granted at once */
	HOLD_MAX = EGRESS_WINDOW_BYTES + 65536, /* bytes of one body: more was never granted */
	PREFACE_BYTES = 4,                      /* "PRI ": HTTP/2 without TLS */
	ANSWER_MAX = 1024,                      /* a whole answer that no stream is there for */
};

/* Bytes that wait. */
struct hold {
	uint8_t *at;
	size_t from, len, size;
};

/* What is judged of a request: it is judged again when the policy changes. */
struct wish {
	struct http_host host;
	bool encoded_slash;
	struct span method, path, query;
};

struct intercepts {
	struct intercept_ops ops;
	struct tls_world *tls;
	struct intercept_stats stats;
	struct intercept *connections;
	/* scratch, for the time of a call */
	struct http_head head;
	struct http_trailers trailers;
	struct buf frame;
	uint8_t frame_bytes[EGRESS_HEADER_BYTES + EGRESS_HEAD_MAX];
	uint8_t plain[TLS_RECORD_MAX];
};

/*
 * One request, from its head to the end of both directions. Towards the guest it is a stream of
 * http_conn, towards the vault one of egress; either may be gone before the other.
 */
struct request {
	struct request *next;
	struct intercept *c;
	uint32_t id;     /* http_conn's */
	uint32_t number; /* of its record, and the vault's stream once it is asked */
	bool forward;    /* it is for the vault; else it is answered here */
	bool asked;      /* the REQUEST was sent */
	bool told_end;   /* and our half ended, */
	bool cut;        /* or was reset: nothing more of it goes either way */
	bool vault_over; /* the vault's half has ended */
	bool up_end;     /* the guest has said all */
	bool down_end;   /* all that the guest is to get lies here */
	bool to_head, websocket, opaque;
	bool head_ended; /* websocket: the request's own end, before the opaque bytes */
	bool known_length;
	bool replied;   /* a final head went to the guest */
	bool silent;    /* how it ended was recorded, here or by the vault */
	bool over;      /* nothing is left to do: swept at the end of the call */
	uint8_t reason; /* enum policy_reason: why it ended as it did */
	uint16_t status;
	uint32_t owed; /* credit for the vault, not yet granted */
	struct policy_verdict verdict;
	struct hold ask;         /* payload of the REQUEST, while the link has no room */
	struct hold up, down;    /* bodies */
	struct hold up_trailers; /* payloads of TRAILERS */
	struct hold down_trailers;
	uint64_t up_bytes, down_bytes;
	uint64_t began_ms, moved_ms; /* moved: a byte came from the guest */
	struct wish wish;            /* its spans lie in text */
	uint8_t text[];
};

struct intercept {
	struct intercepts *all;
	struct intercept *next, *prev;
	size_t held; /* bytes, of stats.held_bytes; those of the holds are counted by themselves */
	uint8_t why; /* enum policy_reason: it was given up for that */
	void *flow;
	struct tls *tls; /* NULL: plain */
	struct http_conn *http;
	struct host_name name; /* with TLS */
	struct request *requests;
	struct hold plain;  /* read and not yet taken by http_conn */
	struct hold answer; /* a 408 for which there is no stream; plain HTTP */
	uint64_t now_ms, real_s;
	uint64_t began_ms; /* of what is timed now: handshake, idle time, a head */
	uint64_t took_ms;  /* the guest took bytes, or there was nothing to take */
	uint64_t heard_ms; /* a byte, either way */
	uint64_t fin_ms;
	uint32_t requests_seen;
	bool http2;
	bool idle;       /* no request is open, since began_ms */
	bool head_began; /* and bytes came meanwhile, the first at began_ms */
	bool blocked;    /* offering more bytes is of no use before something else happens */
	bool waits_link;
	bool eof;
	bool closing;   /* as soon as http_conn has nothing left to say */
	bool fin;       /* all is said, but for what the output has */
	bool cut_short; /* of an answer the end is missing: no FIN may make it look whole */
	bool abort;
};

/* --- what is held (intercept_hold.c): counted in stats.held_bytes --- */

/* A connection's own share has changed. */
void held_note(struct intercept *c);
/* Is too much held by all? Then one gives way, perhaps this one. */
void held_relieve(struct intercept *c);

_must_ bool hold_add(struct intercepts *all, struct hold *h,
                     struct span bytes); /* false: no room */
void hold_drop(struct intercepts *all, struct hold *h, size_t n);
void hold_free(struct intercepts *all, struct hold *h);
static inline struct span hold_span(const struct hold *h)
{
	return h->len > 0 ? span_of(h->at + h->from, h->len) : span_of(NULL, 0);
}

/* --- intercept.c --- */

/* Ends it and its requests at once, and frees what it holds. */
void intercept_shed(struct intercept *c, enum policy_reason why);

/* --- intercept_judge.c --- */

struct judged {
	struct policy_ask ask;
	struct policy_verdict verdict;
	enum http_reason bad;  /* not HTTP_FINE: a 400 and such, whatever the verdict */
	struct host_name name; /* ask.name points here, or to the connection's */
};

/* h: for the fields that would make a server take another method or path; NULL: known before. */
void judge_request(struct intercept *c, const struct wish *w, const struct http_head *h,
                   struct judged *ret);

/* --- intercept_request.c: towards the guest --- */
extern const struct http_events intercept_events;

struct request *request_new(struct intercept *c, uint32_t id, const struct http_head *h);
struct request *request_find(const struct intercept *c, uint32_t id);
struct request *request_of_vault(const struct intercept *c, uint32_t number);

/* It is over, both ways. */
void request_finish(struct request *r);
/* Frees those that are over. */
void request_sweep(struct intercept *c);
/* Says so, unless something was said before; then the stream is reset. */
void request_answer_policy(struct request *r, const struct judged *j);
void request_answer_fail(struct request *r, enum policy_reason reason);
void request_answer_http(struct request *r, enum http_reason why);
/* Its body stopped coming: 408. */
void request_answer_slow(struct request *r);
/* Numbers and records it so. */
void request_timed_out(struct request *r);
/* No more of the answer comes: what of it was sent is no whole message. */
void request_reset_guest(struct request *r);
void request_flush_down(struct request *r);
void request_record(struct request *r, uint8_t event, enum policy_reason reason);

/* --- intercept_vault.c: towards the vault --- */

/* The head goes, now or when there is room. False: it cannot be said. */
_must_ bool vault_ask(struct request *r, const struct judged *j, const struct http_head *h);
void vault_flush(struct request *r);
void vault_body(struct request *r, struct span bytes);
void vault_trailers(struct request *r, const struct http_trailers *t);
void vault_end(struct request *r);
void vault_reset(struct request *r, enum egress_fail why);
void vault_grant(struct request *r, size_t bytes);
void vault_frame(struct request *r, const struct egress_frame *f);
