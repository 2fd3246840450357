#include "gate/intercept_inner.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * Towards the vault a request is a stream of egress. Its head, its body, its trailers and its end
 * go in this order, each as soon as the stream's credit and the link's room permit; what cannot go
 * yet is held, and the guest's own window, which opens only by what went, bounds it. Small frames
 * (credit, end, reset) always find room: the caller keeps some back.
 *
 * A stream that was reset is forgotten at once. What the vault still sends on it is dropped before
 * it comes here.
 */

static struct buf *frame(struct request *r, size_t bytes)
{
	struct buf *out = r->c->all->ops.frame(r->c->flow, bytes);

	if (!out)
		r->c->waits_link = true;
	return out;
}

static bool send_frame(struct request *r)
{
	return r->c->all->ops.send(r->c->flow) == 0;
}

/* --- the head --- */

static void set_addr(struct egress_addr *to, const struct policy_addr *from)
{
	memset(to, 0, sizeof(*to));
	to->family = from->v4 ? EGRESS_IP4 : EGRESS_IP6;
	if (from->v4)
		memcpy(to->bytes, from->at + 12, 4);
	else
		memcpy(to->bytes, from->at, sizeof(to->bytes));
}

/* Payload in the scratch frame. False: it does not fit. */
static bool put_request(struct request *r, const struct judged *j, const struct http_head *h)
{
	struct intercepts *all = r->c->all;
	struct egress_request q = {
		.generation = (uint32_t)policy_generation(all->ops.policy(r->c->flow)),
		.rule = j->verdict.rule,
		.head = *h,
	};

	set_addr(&q.addr, &j->ask.addr);
	buf_init(&all->frame, all->frame_bytes, sizeof(all->frame_bytes));
	egress_put_request(&all->frame, 1, &q);
	return buf_ok(&all->frame);
}

/* Opens the stream. False: no room yet, or the request was answered with why not. */
static bool ask(struct request *r, struct span payload)
{
	struct intercepts *all = r->c->all;
	struct buf *out = frame(r, EGRESS_HEADER_BYTES + payload.len);
	int err;

	if (!out)
		return false;
	r->number = all->ops.number(r->c->flow);
	egress_put(out, EGRESS_REQUEST, r->number, payload);
	err = all->ops.send(r->c->flow);
	if (err < 0) {
		r->forward = false;
		request_answer_fail(r,
		                    err == -EMFILE ? POLICY_LIMIT_CONNECTIONS : POLICY_VAULT_DOWN);
		return false;
	}
	r->asked = true;
	all->stats.requests++;
	request_record(r, r->verdict.observed ? EGRESS_EVENT_OBSERVED : EGRESS_EVENT_ALLOWED,
	               r->verdict.reason);
	return true;
}

bool vault_ask(struct request *r, const struct judged *j, const struct http_head *h)
{
	struct span payload;

	r->forward = true;
	if (!put_request(r, j, h))
		return false;
	payload = buf_span(&r->c->all->frame);
	payload = span_of(payload.at + EGRESS_HEADER_BYTES, payload.len - EGRESS_HEADER_BYTES);
	if (ask(r, payload) || !r->forward)
		return true;
	return hold_add(r->c->all, &r->ask, payload);
}

/* --- what follows it --- */

/* Sends from the front of *bytes what may go now; how much it was. */
static size_t put_body(struct request *r, struct span *bytes)
{
	size_t sent = 0;

	while (bytes->len > 0) {
		size_t n = r->c->all->ops.room(r->c->flow, r->number);
		struct buf *out;

		n = n < bytes->len ? n : bytes->len;
		out = n > 0 ? frame(r, EGRESS_HEADER_BYTES + n) : NULL;
		if (!out)
			break;
		egress_put(out, EGRESS_BODY, r->number, span_of(bytes->at, n));
		if (!send_frame(r))
			break;
		*bytes = span_of(bytes->at + n, bytes->len - n);
		sent += n;
	}
	r->up_bytes += sent;
	return sent;
}

static bool put_held(struct request *r)
{
	struct span bytes = hold_span(&r->up);
	size_t n = put_body(r, &bytes);

	hold_drop(r->c->all, &r->up, n);
	http_conn_consume(r->c->http, r->id, n);
	return r->up.len == 0;
}

static bool put_trailers(struct request *r)
{
	struct span payload = hold_span(&r->up_trailers);
	struct buf *out;

	if (payload.len == 0)
		return true;
	out = frame(r, EGRESS_HEADER_BYTES + payload.len);
	if (!out)
		return false;
	egress_put(out, EGRESS_TRAILERS, r->number, payload);
	hold_free(r->c->all, &r->up_trailers);
	return send_frame(r);
}

static void put_end(struct request *r)
{
	struct buf *out = frame(r, INTERCEPT_SMALL);

	if (!out)
		return;
	egress_put(out, EGRESS_END, r->number, span_of(NULL, 0));
	r->told_end = send_frame(r);
}

void vault_flush(struct request *r)
{
	if (r->over || r->cut || !r->forward)
		return;
	if (!r->asked) {
		if (!ask(r, hold_span(&r->ask)))
			return;
		hold_free(r->c->all, &r->ask);
	}
	if (r->told_end || !put_held(r) || !put_trailers(r) || !r->up_end)
		return;
	put_end(r);
}

void vault_body(struct request *r, struct span bytes)
{
	size_t n = 0;

	r->moved_ms = r->c->now_ms;
	if (r->over || r->cut || !r->forward) {
		http_conn_consume(r->c->http, r->id, bytes.len);
		return;
	}
	if (r->asked && r->up.len == 0) {
		n = put_body(r, &bytes);
		http_conn_consume(r->c->http, r->id, n);
	}
	if (!hold_add(r->c->all, &r->up, bytes)) {
		vault_reset(r, EGRESS_LIMIT);
		request_answer_fail(r, POLICY_LIMIT_CONNECTIONS);
	}
}

void vault_trailers(struct request *r, const struct http_trailers *t)
{
	struct intercepts *all = r->c->all;
	struct span payload;

	if (r->over || r->cut || !r->forward || t->count == 0)
		return;
	buf_init(&all->frame, all->frame_bytes, sizeof(all->frame_bytes));
	egress_put_trailers(&all->frame, 1, t);
	payload = buf_span(&all->frame);
	if (!buf_ok(&all->frame) || !hold_add(all, &r->up_trailers,
	                                      span_of(payload.at + EGRESS_HEADER_BYTES,
	                                              payload.len - EGRESS_HEADER_BYTES))) {
		vault_reset(r, EGRESS_LIMIT);
		request_answer_fail(r, POLICY_LIMIT_CONNECTIONS);
	}
}

void vault_end(struct request *r)
{
	r->up_end = true;
	vault_flush(r);
}

void vault_reset(struct request *r, enum egress_fail why)
{
	struct buf *out;

	if (!r->asked || r->cut)
		return;
	r->cut = true;
	if (r->told_end && r->vault_over)
		return; /* the stream is gone */
	out = frame(r, INTERCEPT_SMALL);
	if (!out)
		return; /* the caller ends the gate */
	egress_put_reset(out, r->number, why);
	(void)send_frame(r);
}

void vault_grant(struct request *r, size_t bytes)
{
	struct buf *out;

	r->owed += (uint32_t)bytes;
	if (r->owed < CREDIT_LUMP || r->cut || r->vault_over || !r->asked)
		return;
	out = frame(r, INTERCEPT_SMALL);
	if (!out)
		return;
	egress_put_u32(out, EGRESS_CREDIT, r->number, r->owed);
	if (send_frame(r))
		r->owed = 0;
}

/* --- what the vault says --- */

/* It offers the same over UDP, where nothing of ours can be. */
static void drop_alt_svc(struct http_head *h)
{
	uint16_t kept = 0;

	for (uint16_t i = 0; i < h->count; i++)
		if (!span_is(h->fields[i].name, "alt-svc"))
			h->fields[kept++] = h->fields[i];
	h->count = kept;
}

/* The vault said what no vault says, or what has no place in this answer. */
static void fail(struct request *r)
{
	vault_reset(r, EGRESS_PROTOCOL);
	request_answer_fail(r, POLICY_UPSTREAM_PROTOCOL);
}

static void take_response(struct request *r, struct span payload)
{
	struct http_head *h = &r->c->all->head;
	bool final;

	if (egress_parse_response(payload, h) < 0 || r->replied) {
		fail(r);
		return;
	}
	drop_alt_svc(h);
	final = h->status >= 200 || h->status == 101;
	if (http_conn_reply(r->c->http, r->id, h) < 0) {
		fail(r);
		return;
	}
	if (!final)
		return;
	r->replied = true;
	r->status = h->status;
	r->opaque = h->status == 101;
	if (r->websocket && !r->opaque)
		vault_end(r); /* no upgrade, so nothing more from us */
}

static void take_body(struct request *r, struct span bytes)
{
	size_t all = bytes.len;

	if (!r->replied) {
		fail(r);
		return;
	}
	r->down_bytes += all;
	if (r->down.len == 0 && http_conn_body(r->c->http, r->id, &bytes) < 0) {
		fail(r);
		return;
	}
	vault_grant(r, all - bytes.len);
	if (!hold_add(r->c->all, &r->down, bytes)) {
		vault_reset(r, EGRESS_LIMIT);
		r->reason = POLICY_LIMIT_CONNECTIONS;
		request_reset_guest(r);
	}
}

static void take_trailers(struct request *r, struct span payload)
{
	struct http_trailers *t = &r->c->all->trailers;

	if (!r->replied || r->down_trailers.len > 0 || egress_parse_trailers(payload, t) < 0 ||
	    !hold_add(r->c->all, &r->down_trailers, payload))
		fail(r);
}

static void take_end(struct request *r)
{
	r->vault_over = true;
	if (!r->replied) {
		fail(r);
		return;
	}
	r->down_end = true;
	request_flush_down(r);
}

static void take_reset(struct request *r, enum egress_fail why)
{
	r->vault_over = true;
	vault_reset(r, EGRESS_CANCELLED);
	/* of these the vault has told the supervisor itself */
	r->silent = why == EGRESS_CERTIFICATE || why == EGRESS_PLACEHOLDER;
	if (why == EGRESS_TOO_LARGE && !r->replied)
		request_answer_http(r, HTTP_HEAD_TOO_LARGE);
	else
		request_answer_fail(r, refusal_reason(why));
}

void vault_frame(struct request *r, const struct egress_frame *f)
{
	enum egress_fail why;

	if (r->over || r->cut)
		return;
	switch (f->type) {
	case EGRESS_RESPONSE:
		take_response(r, f->payload);
		break;
	case EGRESS_BODY:
		take_body(r, f->payload);
		break;
	case EGRESS_TRAILERS:
		take_trailers(r, f->payload);
		break;
	case EGRESS_END:
		take_end(r);
		break;
	case EGRESS_RESET:
		take_reset(r, egress_parse_reset(f->payload, &why) == 0 ? why : EGRESS_INTERNAL);
		break;
	case EGRESS_REVOKED:
		take_reset(r, EGRESS_REVOKED_BY_POLICY);
		break;
	case EGRESS_CREDIT:
		vault_flush(r);
		break;
	default: /* SCRUBBED, VIOLATION: the vault tells the supervisor itself */
		break;
	}
}
