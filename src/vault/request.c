/*
 * Theory of operation
 *
 * A request is judged, waits for a connection, is sent, and its answer goes back, all at once where
 * it can: HTTP lets a server answer before it has read, so the two directions are apart.
 *
 *   up     BODY of the gate -> scan -> up bytes -> http_conn. Credit is granted for what the
 *          http_conn took, so `up` never has more than was granted at first.
 *   down   http_conn -> down bytes -> scrub -> BODY to the gate, as far as it granted and the link
 *          has room. Only what left `down` is consumed, so it never has more than the window.
 *
 * The head is kept as the gate sent it until the answer begins. Until then a request without a body
 * may be sent once more, on a new connection, if the one that it went to was an old one which the
 * server was about to close. A request that was refused, by us or by the server, is gone here
 * before the gate's half has ended; what the gate still says of it is dropped by its order.
 */
#include "vault/inner.h"

#include "vault/request.h"
#include "vault/request_inner.h"
#include "vault/store_inner.h"

#include <errno.h>
#include <string.h>

/* --- life --- */

void request_hold(struct request *q)
{
	size_t bytes = sizeof(*q) + q->up.size + q->down.size;

	if (q->asked)
		bytes += sizeof(*q->asked) + q->asked->len;
	if (q->scan)
		bytes += scan_bytes(q->scan);
	if (q->scrub)
		bytes += scrub_bytes(q->scrub);
	if (q->up_trailers)
		bytes += sizeof(*q->up_trailers) + q->up_trailers->len;
	if (q->down_trailers)
		bytes += sizeof(*q->down_trailers) + q->down_trailers->len;
	vault_hold(q->v, &q->held, bytes);
}

static void free_parts(struct request *q)
{
	vault_hold(q->v, &q->held, 0);
	scan_free(q->scan);
	scrub_free(q->scrub);
	free(q->asked);
	free(q->up.at);
	free(q->down.at);
	free(q->up_trailers);
	free(q->down_trailers);
	free(q);
}

static void drop(struct request *q)
{
	struct vault *v = q->v;

	if (q->up_conn)
		upstream_leave(q->up_conn, q, q->up_done && q->answer_read);
	peer_tie(v, q->stream, 0);
	slots_remove(&v->requests, q->number);
	free_parts(q);
}

void request_fail(struct request *q, enum egress_fail why)
{
	struct vault *v = q->v;
	uint32_t stream = q->stream;
	bool silent = q->answered; /* our half has ended */

	drop(q);
	if (!silent)
		peer_reset(v, stream, why);
}

/* Both halves have ended, or ours has and the gate's is of no use any more. */
void request_check_done(struct request *q)
{
	if (q->answered && q->gate_ended)
		drop(q);
}

void request_free_all(struct vault *v)
{
	uint32_t number = 1;
	struct request *q;

	while ((q = slots_next(&v->requests, &number)) != NULL)
		drop(q);
}

uint32_t request_stream(const struct request *q)
{
	return q->up_stream;
}

struct request *request_next(const struct request *q)
{
	return q->next;
}

void request_set_next(struct request *q, struct request *next)
{
	q->next = next;
}

void request_tie(struct request *q, struct upstream *u)
{
	q->up_conn = u;
	if (!u)
		q->up_stream = 0;
}

void request_touch(struct request *q)
{
	q->heard_ms = uv_now(&q->v->loop);
}

/* --- records --- */

static void put_what(const struct request *q, struct egress_record *r)
{
	struct egress_addr a = judge_addr_out(&q->ask.addr);

	r->generation = q->v->generation;
	r->rule = q->rule;
	r->port = q->ask.port;
	r->family = a.family;
	memcpy(r->addr, a.bytes, sizeof(r->addr));
	r->flow = q->stream;
	r->flags |= EGRESS_RECORD_INSPECTED;
	r->host = host_span(&q->name);
	if (q->asked) {
		r->method = q->asked->request.head.method;
		r->path = q->asked->request.head.path;
	}
}

static bool kills(const struct vault *v, struct span secret)
{
	for (unsigned i = 0; v->policy && i < policy_secrets(v->policy); i++) {
		const struct policy_secret *s = policy_secret_at(v->policy, i);

		if (span_equal(s->name, secret))
			return (s->flags & SECRET_KILL) != 0;
	}
	return false;
}

static void violation(struct request *q, const struct scan_hit *hit, enum policy_reason why)
{
	const struct egress_mark mark = {
		.secret = hit->secret, .where = hit->where, .form = hit->form, .count = 1
	};
	struct egress_record r = {
		.event = EGRESS_EVENT_VIOLATION,
		.layer = EGRESS_LAYER_HTTP,
		.reason = (uint8_t)why,
		.count = 1,
		.secret = hit->secret,
	};

	q->v->stats.violations++;
	if (kills(q->v, hit->secret))
		r.flags |= EGRESS_RECORD_KILL;
	put_what(q, &r);
	control_record(q->v, &r);
	if (!q->answered) {
		egress_put_mark(peer_begin(q->v), EGRESS_VIOLATION, q->stream, &mark);
		peer_must(q->v);
	}
	request_fail(q, EGRESS_PLACEHOLDER);
}

void request_violation(struct request *q, const struct scan_hit *hit)
{
	violation(q, hit, POLICY_PLACEHOLDER_ELSEWHERE);
}

/* Every reply that may still show the value ends as well: nothing of it is held back any more. */
void request_guessed(struct request *q)
{
	struct vault *v = q->v;
	unsigned secret = scrub_guessed(q->scrub);
	const struct scan_hit hit = { .secret = store_name(v->store, secret),
		                      .where = q->opaque ? EGRESS_IN_OPAQUE : EGRESS_IN_BODY,
		                      .form = EGRESS_RAW };
	uint32_t number = 1;

	violation(q, &hit, POLICY_VALUE_GUESSED);
	(void)!store_remove(v->store, hit.secret); /* by now a value may be there no more */
	while ((q = slots_next(&v->requests, &number)) != NULL)
		if (q->scrub && (scrub_holds(q->scrub) >> secret & 1))
			request_fail(q, EGRESS_PLACEHOLDER);
}

void request_say_scrubbed(struct request *q)
{
	struct egress_mark mark;

	while (scrub_next_mark(q->scrub, &mark)) {
		struct egress_record r = {
			.event = EGRESS_EVENT_SCRUBBED,
			.layer = EGRESS_LAYER_HTTP,
			.count = mark.count,
			.secret = mark.secret,
		};

		q->v->stats.scrubbed += mark.count;
		put_what(q, &r);
		control_record(q->v, &r);
		egress_put_mark(peer_begin(q->v), EGRESS_SCRUBBED, q->stream, &mark);
		peer_must(q->v);
	}
}

static void record_certificate(struct request *q, long fault, const char *words)
{
	struct egress_record r = {
		.event = EGRESS_EVENT_REFUSED,
		.layer = EGRESS_LAYER_TLS,
		.reason = POLICY_UPSTREAM_CERTIFICATE,
		.status = (uint16_t)fault,
	};

	put_what(q, &r);
	r.path = span_str(words ? words : "not accepted");
	control_record(q->v, &r);
}

/* --- opening --- */

static enum egress_fail judge(struct request *q)
{
	struct judge j = vault_judge(q->v);
	struct policy_verdict verdict;
	enum egress_fail why =
		judge_request(&j, &q->asked->request, &q->name, &q->names, &q->ask, &verdict);

	if (why == EGRESS_OK)
		q->rule = verdict.rule;
	return why;
}

/* Could it be sent as it is? Said before a connection is made, and again when it is. */
static int try_swap(struct request *q, struct http_head *out, struct swap_report *report)
{
	return swap_head(q->v->store, q->v->policy, &q->ask, &q->asked->request.head, out, report);
}

static uint64_t bound(const struct request *q)
{
	return swap_bound(q->v->store, q->v->policy, &q->ask);
}

/* What swap_head() says against it. The request is gone. */
static void refuse_swap(struct request *q, int r, const struct swap_report *report)
{
	if (r == -EPERM || r == -ENOKEY)
		request_violation(q, &report->hit);
	else
		request_fail(q, r == -EMSGSIZE ? EGRESS_TOO_LARGE : EGRESS_INTERNAL);
}

static void get_upstream(struct request *q, bool fresh)
{
	const struct http_head *h = &q->asked->request.head;
	struct upstream_key key = {
		.name = q->name,
		.addr = q->ask.addr,
		.port = q->ask.port,
		.tls = h->scheme == HTTP_TLS,
		.h1 = (h->flags & HTTP_FLAG_WEBSOCKET) != 0,
	};

	if (!upstream_get(q->v, &key, fresh, q))
		request_fail(q, EGRESS_LIMIT);
}

static void start(struct request *q)
{
	struct swap_report report = { 0 };
	enum egress_fail why = judge(q);
	int r;

	if (why != EGRESS_OK) {
		request_fail(q, why);
		return;
	}
	r = scrub_new(q->v->store, &q->scrub, NULL);
	if (r == 0)
		scrub_hold(q->scrub, bound(q));
	if (r == 0)
		r = scan_new(q->v->store, &q->asked->request.head, &q->scan, NULL);
	if (r < 0) {
		request_fail(q, r == -EPROTO ? EGRESS_PLACEHOLDER : EGRESS_INTERNAL);
		return;
	}
	request_hold(q);
	r = try_swap(q, &q->asked->out, &report);
	swap_done(q->v->store);
	if (r < 0)
		refuse_swap(q, r, &report);
	else
		get_upstream(q, false);
}

static struct asked *keep_payload(struct span payload)
{
	struct asked *a = malloc(sizeof(*a) + payload.len);

	if (!a)
		return NULL;
	memset(a, 0, offsetof(struct asked, bytes));
	memcpy(a->bytes, payload.at, payload.len);
	a->len = payload.len;
	return a;
}

int request_open(struct vault *v, uint32_t stream, struct span payload)
{
	struct asked *a = keep_payload(payload);
	struct request *q = calloc(1, sizeof(*q));

	v->stats.requests++;
	if (a && egress_parse_request(span_of(a->bytes, a->len), &a->request) < 0) {
		free(a);
		free(q);
		return -EBADMSG;
	}
	if (!a || !q || slots_add(&v->requests, q, &q->number) < 0) {
		free(a);
		free(q);
		peer_reset(v, stream, EGRESS_LIMIT);
		return 0;
	}
	q->v = v;
	q->stream = stream;
	q->asked = a;
	q->rule = POLICY_RULE_NONE;
	request_hold(q);
	peer_tie(v, stream, q->number);
	request_touch(q);
	vault_sweep_soon(v);
	start(q);
	return 0;
}

/* --- its connection --- */

/* The values stand in `out` for the time of this call. */
static int send_head(struct request *q, struct swap_report *report)
{
	struct http_head *out = &q->asked->out;
	int r = try_swap(q, out, report);

	if (r == 0)
		r = http_conn_open(upstream_conn(q->up_conn), out, &q->up_stream);
	swap_done(q->v->store);
	memset(out, 0, sizeof(*out));
	return r;
}

void request_ready(struct request *q)
{
	struct swap_report report = { 0 };
	int r = send_head(q, &report);

	if (r == -EPROTO || r == -EAGAIN) { /* an upgrade over HTTP/2; or it closes just now */
		request_fail(q, r == -EPROTO ? EGRESS_PROTOCOL : EGRESS_CLOSED);
		return;
	}
	if (r < 0) {
		refuse_swap(q, r, &report);
		return;
	}
	q->up_done = q->asked->request.head.framing == HTTP_BODY_NONE &&
	             !(q->asked->request.head.flags & HTTP_FLAG_WEBSOCKET);
	q->sent = true;
	q->old_conn = upstream_is_used(q->up_conn);
	request_touch(q);
	upstream_touch(q->up_conn);
	request_push_up(q);
}

static bool is_safe(struct span method)
{
	return span_is(method, "GET") || span_is(method, "HEAD") || span_is(method, "OPTIONS");
}

/*
 * May it be sent once more? It had no body, nothing of an answer came, and either the server never
 * looked at it or nothing comes of it if it did. (RFC 9110, 9.2.2; RFC 9113, 8.7)
 */
static bool may_repeat(const struct request *q, bool untouched)
{
	const struct http_head *h = q->asked ? &q->asked->request.head : NULL;

	if (!h || q->again || q->head_seen || q->up_taken > 0 || !q->sent)
		return false;
	if (h->framing != HTTP_BODY_NONE || (h->flags & HTTP_FLAG_WEBSOCKET))
		return false;
	return untouched || (q->old_conn && is_safe(h->method));
}

static void repeat(struct request *q)
{
	q->again = true;
	q->sent = false;
	q->up_done = false;
	if (q->up_conn)
		upstream_leave(q->up_conn, q, true);
	get_upstream(q, true);
}

void request_failed(struct request *q, enum egress_fail why, long fault, const char *words)
{
	if (q->answer_read)
		return; /* all is here: what the gate has no room for yet is still sent */
	if (why == EGRESS_CLOSED && may_repeat(q, false)) {
		repeat(q);
		return;
	}
	if (why == EGRESS_CERTIFICATE)
		record_certificate(q, fault, words);
	request_fail(q, why);
}

void request_refused(struct request *q, enum http_reason why)
{
	(void)why;
	request_fail(q, EGRESS_PROTOCOL);
}

void request_was_reset(struct request *q, enum http_reset why)
{
	if ((why == HTTP_RESET_REFUSED && may_repeat(q, true)) ||
	    (why == HTTP_RESET_CLOSED && may_repeat(q, false)))
		repeat(q);
	else
		request_fail(q, why == HTTP_RESET_PROTOCOL   ? EGRESS_PROTOCOL
		                : why == HTTP_RESET_INTERNAL ? EGRESS_INTERNAL
		                                             : EGRESS_CLOSED);
}

/* --- what ends requests --- */

void request_sweep(struct vault *v)
{
	uint64_t now_ms = uv_now(&v->loop);
	uint32_t number = 1;
	struct request *q;

	while ((q = slots_next(&v->requests, &number)) != NULL) {
		uint64_t patience = q->opaque ? VAULT_OPAQUE_MS : VAULT_SILENCE_MS;

		if (now_ms - q->heard_ms >= patience)
			request_fail(q, EGRESS_TIMEOUT);
	}
}

static struct request *most_idle(struct vault *v, uint64_t share)
{
	struct request *got = NULL;
	uint32_t number = 1;
	struct request *q;

	while ((q = slots_next(&v->requests, &number)) != NULL)
		if (q->held >= share && (!got || q->heard_ms < got->heard_ms ||
		                         (q->heard_ms == got->heard_ms && q->held > got->held)))
			got = q;
	return got;
}

static uint64_t sum_of(struct vault *v)
{
	uint64_t sum = 0;
	uint32_t number = 1;
	const struct request *q;

	while ((q = slots_next(&v->requests, &number)) != NULL)
		sum += q->held;
	return sum;
}

/* One at a time: what its connection holds is given back a little later. */
void request_relieve(struct vault *v)
{
	if (v->held_bytes > VAULT_HELD_MAX && v->requests.count > 0)
		request_fail(most_idle(v, sum_of(v) / v->requests.count), EGRESS_FULL);
}

void request_touch_all(struct vault *v)
{
	uint32_t number = 1;
	struct request *q;

	while ((q = slots_next(&v->requests, &number)) != NULL)
		request_touch(q);
}

static void revoke_request(struct request *q)
{
	struct vault *v = q->v;
	uint32_t stream = q->stream;
	bool silent = q->answered;

	drop(q);
	if (silent)
		return;
	egress_put_u32(peer_begin(v), EGRESS_REVOKED, stream, v->generation);
	peer_must(v);
}

static bool keeps(const struct judge *j, const struct policy *old, struct request *q)
{
	q->ask.method = q->ask.path = q->ask.query = span_of(NULL, 0);
	if (judge_keeps(j, old, &q->ask, true) != EGRESS_OK)
		return false;
	/* until its answer begins it may be sent (once more), so it is judged as a whole */
	if (q->asked && judge(q) != EGRESS_OK)
		return false;
	/* a secret is bound to its host now, and none is looked for in its answer */
	return scrub_holds(q->scrub) != 0 || bound(q) == 0;
}

void request_judge_all(struct vault *v, const struct policy *old)
{
	struct judge j = vault_judge(v);
	uint32_t number = 1;
	struct request *q;

	while ((q = slots_next(&v->requests, &number)) != NULL)
		if (!keeps(&j, old, q))
			revoke_request(q);
}
