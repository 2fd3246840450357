#include "gate/intercept_inner.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * A request begins with the event of its head and is over when nothing can be said to the guest any
 * more: its answer is complete, or its stream is gone. What is still open towards the vault then is
 * reset. Events may come while a caller further up has hold of a request, so one that is over stays
 * in the list, found by nobody, until the call from outside ends.
 */

struct request *request_find(const struct intercept *c, uint32_t id)
{
	struct request *r = c->requests;

	while (r && (r->id != id || r->over))
		r = r->next;
	return r;
}

struct request *request_of_vault(const struct intercept *c, uint32_t number)
{
	struct request *r = c->requests;

	while (r && (r->number != number || !r->asked || r->over))
		r = r->next;
	return r;
}

static struct span keep(uint8_t **at, struct span s)
{
	struct span got = span_of(*at, s.len);

	if (s.len > 0)
		memcpy(*at, s.at, s.len);
	*at += s.len;
	return got;
}

struct request *request_new(struct intercept *c, uint32_t id, const struct http_head *h)
{
	size_t bytes = h ? h->method.len + h->path.len + h->query.len : 0;
	struct request *r = calloc(1, sizeof(*r) + bytes);
	uint8_t *at;

	if (!r)
		return NULL;
	r->c = c;
	r->id = id;
	r->began_ms = r->moved_ms = c->now_ms;
	r->verdict.rule = POLICY_RULE_NONE;
	r->next = c->requests;
	c->requests = r;
	c->requests_seen++;
	c->all->stats.requests_open++;
	if (!h)
		return r;
	at = r->text;
	r->wish.method = keep(&at, h->method);
	r->wish.path = keep(&at, h->path);
	r->wish.query = keep(&at, h->query);
	r->wish.host = h->host;
	r->wish.encoded_slash = (h->flags & HTTP_FLAG_ENCODED_SLASH) != 0;
	r->to_head = span_is(h->method, "HEAD");
	r->websocket = (h->flags & HTTP_FLAG_WEBSOCKET) != 0;
	r->known_length = h->framing == HTTP_BODY_LENGTH;
	return r;
}

void request_record(struct request *r, uint8_t event, enum policy_reason reason)
{
	struct intercepts *all = r->c->all;
	struct policy_ask ask = { 0 };
	struct egress_record rec = {
		.event = event,
		.layer = EGRESS_LAYER_HTTP,
		.reason = (uint8_t)reason,
		.flags = EGRESS_RECORD_INSPECTED,
		.generation = (uint32_t)policy_generation(all->ops.policy(r->c->flow)),
		.rule = r->verdict.rule,
		.status = r->status,
		.flow = r->number,
		.bytes_up = r->up_bytes,
		.bytes_down = r->down_bytes,
		.ms = (uint32_t)(r->c->now_ms - r->began_ms),
		.host = span_of(r->wish.host.text, r->wish.host.len),
		.method = r->wish.method,
		.path = r->wish.path,
	};

	all->ops.ask(r->c->flow, &ask);
	rec.port = ask.port;
	rec.family = ask.addr.v4 ? 4 : 6;
	memcpy(rec.addr, ask.addr.v4 ? ask.addr.at + 12 : ask.addr.at, ask.addr.v4 ? 4 : 16);
	all->ops.record(r->c->flow, &rec);
}

/* The last record of a request. */
static void record_end(struct request *r, uint8_t event, enum policy_reason reason)
{
	if (!r->silent)
		request_record(r, event, reason);
	r->silent = true;
}

void request_finish(struct request *r)
{
	struct intercepts *all = r->c->all;

	if (r->over)
		return;
	vault_reset(r, EGRESS_CANCELLED);
	if (r->asked)
		record_end(r, EGRESS_EVENT_ENDED, r->reason);
	if (r->opaque)
		r->c->closing = true;
	hold_free(all, &r->ask);
	hold_free(all, &r->up);
	hold_free(all, &r->down);
	hold_free(all, &r->up_trailers);
	hold_free(all, &r->down_trailers);
	r->over = true;
}

void request_sweep(struct intercept *c)
{
	struct request **at = &c->requests;

	while (*at) {
		struct request *r = *at;

		if (!r->over) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		c->all->stats.requests_open--;
		free(r);
	}
	if (!c->requests && c->requests_seen > 0 && !c->idle) {
		c->idle = true;
		c->began_ms = c->now_ms;
		c->head_began = false;
	}
}

/* --- answers --- */

void request_reset_guest(struct request *r)
{
	if (r->over)
		return;
	http_conn_reset(r->c->http, r->id, HTTP_RESET_INTERNAL);
	if (!r->c->http2)
		r->c->cut_short = true;
	request_finish(r);
}

void request_flush_down(struct request *r)
{
	struct http_trailers *t = NULL;
	struct span bytes = hold_span(&r->down);
	size_t n = bytes.len;

	if (r->over)
		return;
	if (n > 0) {
		if (http_conn_body(r->c->http, r->id, &bytes) < 0) {
			request_reset_guest(r);
			return;
		}
		hold_drop(r->c->all, &r->down, n - bytes.len);
		vault_grant(r, n - bytes.len);
	}
	if (r->down.len > 0 || !r->down_end)
		return;
	if (r->down_trailers.len > 0 &&
	    egress_parse_trailers(hold_span(&r->down_trailers), &r->c->all->trailers) == 0)
		t = &r->c->all->trailers;
	if (http_conn_end(r->c->http, r->id, t) == -EPROTO && !r->c->http2)
		r->c->cut_short = true;
	request_finish(r);
}

static void answer(struct request *r, uint16_t status, const char *word, struct span body)
{
	struct http_head *h = &r->c->all->head;

	refusal_head(h, status, body.len, word);
	r->replied = true;
	if (http_conn_reply(r->c->http, r->id, h) < 0 ||
	    (!r->to_head && !hold_add(r->c->all, &r->down, body))) {
		request_reset_guest(r);
		return;
	}
	r->down_end = true;
	request_flush_down(r);
}

static void give_number(struct request *r)
{
	if (r->number == 0)
		r->number = r->c->all->ops.number(r->c->flow);
}

/* By the policy, here or in the vault, or by what the upstream did. */
static void refuse(struct request *r, const struct policy_ask *ask, const struct policy_verdict *v)
{
	const struct policy *p = r->c->all->ops.policy(r->c->flow);
	uint8_t room[REFUSAL_BODY_MAX];
	struct buf body;

	give_number(r);
	r->status = refusal_status(v->reason);
	r->reason = v->reason;
	r->verdict.rule = v->rule;
	if (r->status >= 502) {
		r->c->all->stats.failed++;
		record_end(r, r->asked ? EGRESS_EVENT_ENDED : EGRESS_EVENT_REFUSED, v->reason);
	} else {
		r->c->all->stats.refused++;
		record_end(r, EGRESS_EVENT_REFUSED, v->reason);
	}
	buf_init(&body, room, sizeof(room));
	refusal_put_policy(&body, r->number, p, ask, v);
	answer(r, r->status, policy_reason_word(v->reason), buf_span(&body));
}

void request_answer_policy(struct request *r, const struct judged *j)
{
	refuse(r, &j->ask, &j->verdict);
}

void request_answer_fail(struct request *r, enum policy_reason reason)
{
	struct policy_verdict v = { .act = POLICY_DENY, .rule = r->verdict.rule };
	struct host_name name;
	struct policy_ask ask = { 0 };

	if (r->over)
		return;
	v.reason = (uint8_t)reason;
	if (r->replied) {
		r->reason = (uint8_t)reason;
		request_reset_guest(r);
		return;
	}
	r->c->all->ops.ask(r->c->flow, &ask);
	ask.name = NULL;
	if (host_name_parse(span_of(r->wish.host.text, r->wish.host.len), &name) == 0)
		ask.name = &name;
	ask.method = r->wish.method;
	ask.path = r->wish.path;
	refuse(r, &ask, &v);
}

/* Is it that these bytes are no HTTP at all? */
static bool is_other_protocol(const struct request *r, enum http_reason why)
{
	return r->wish.method.len == 0 && r->c->requests_seen == 1 &&
	       (why == HTTP_REQUEST_LINE || why == HTTP_METHOD || why == HTTP_CONTROL_BYTE ||
	        why == HTTP_VERSION);
}

void request_answer_http(struct request *r, enum http_reason why)
{
	enum policy_reason reason = is_other_protocol(r, why) ? POLICY_NOT_HTTP : POLICY_AMBIGUOUS;
	uint8_t room[REFUSAL_BODY_MAX];
	char message[128];
	struct buf text;
	struct buf body;

	if (r->over)
		return;
	vault_reset(r, EGRESS_CANCELLED);
	give_number(r);
	r->c->all->stats.bad++;
	r->reason = (uint8_t)reason;
	if (r->replied) {
		request_reset_guest(r);
		return;
	}
	r->status = refusal_http_status(why);
	record_end(r, EGRESS_EVENT_REFUSED, reason);
	buf_init(&text, message, sizeof(message));
	buf_printf(&text, "this is no request that is passed on: %s", http_reason_word(why));
	buf_init(&body, room, sizeof(room));
	refusal_put_http(&body, r->number, r->status, http_reason_word(why), buf_cstr(&text));
	answer(r, r->status, http_reason_word(why), buf_span(&body));
}

void request_timed_out(struct request *r)
{
	give_number(r);
	r->c->all->stats.bad++;
	r->status = 408;
	r->reason = POLICY_NOT_HTTP;
	record_end(r, EGRESS_EVENT_REFUSED, POLICY_NOT_HTTP);
}

void request_answer_slow(struct request *r)
{
	uint8_t room[REFUSAL_BODY_MAX];
	struct buf body;

	vault_reset(r, EGRESS_CANCELLED);
	if (r->replied) {
		request_reset_guest(r);
		return;
	}
	request_timed_out(r);
	buf_init(&body, room, sizeof(room));
	refusal_put_http(&body, r->number, r->status, "timeout",
	                 "the request's body stopped coming");
	answer(r, r->status, "timeout", buf_span(&body));
}

/* --- events of http_conn --- */

static void on_head(void *user, uint32_t stream, const struct http_head *h)
{
	struct intercept *c = user;
	struct request *r = request_new(c, stream, h);
	struct judged j;

	c->idle = false;
	if (!r) {
		c->cut_short |= !c->http2;
		http_conn_reset(c->http, stream, HTTP_RESET_REFUSED);
		return;
	}
	judge_request(c, &r->wish, h, &j);
	r->verdict = j.verdict;
	r->reason = j.verdict.reason;
	if (j.bad != HTTP_FINE)
		request_answer_http(r, j.bad);
	else if (j.verdict.act != POLICY_ALLOW)
		request_answer_policy(r, &j);
	else if (!vault_ask(r, &j, h))
		request_answer_http(r, HTTP_HEAD_TOO_LARGE);
}

static void on_body(void *user, uint32_t stream, struct span bytes)
{
	struct intercept *c = user;
	struct request *r = request_find(c, stream);

	if (r)
		vault_body(r, bytes);
	else
		http_conn_consume(c->http, stream, bytes.len);
}

static void on_trailers(void *user, uint32_t stream, const struct http_trailers *t)
{
	struct request *r = request_find(user, stream);

	if (r)
		vault_trailers(r, t);
}

static void on_end(void *user, uint32_t stream)
{
	struct request *r = request_find(user, stream);

	if (!r)
		return;
	if (r->websocket && !r->head_ended)
		r->head_ended = true; /* what our half is depends on the answer */
	else
		vault_end(r);
}

static void on_refused(void *user, uint32_t stream, enum http_reason why)
{
	struct intercept *c = user;
	struct request *r = request_find(c, stream);

	c->idle = false;
	if (!r)
		r = request_new(c, stream, NULL);
	if (r)
		request_answer_http(r, why);
	else
		http_conn_reset(c->http, stream, HTTP_RESET_PROTOCOL);
}

static void on_reset(void *user, uint32_t stream, enum http_reset why)
{
	struct request *r = request_find(user, stream);

	(void)why;
	if (r)
		request_finish(r);
}

static void on_room(void *user, uint32_t stream)
{
	struct request *r = request_find(user, stream);

	if (r)
		request_flush_down(r);
}

const struct http_events intercept_events = {
	.head = on_head,
	.body = on_body,
	.trailers = on_trailers,
	.end = on_end,
	.refused = on_refused,
	.reset = on_reset,
	.room = on_room,
};
