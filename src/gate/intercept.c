#include "gate/intercept_inner.h"

#include "http/h1.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * Bytes of the guest go through TLS into http_conn, whose events make and feed requests. What
 * http_conn has to say is sealed only when the loop asks for output, so that no more of it lies
 * about than the guest takes. When http_conn cannot take more (an answer is due first, a body's
 * window is full), at most one record lies here and the rest stays in the guest's TCP flow.
 *
 * An end has three steps. FIN: all is said. Then bytes of the guest are still taken and dropped for
 * a while, since closing on unread bytes would reset the flow and lose our last words. DONE. An
 * answer that is cut short never ends with FIN: the guest must not take it for whole.
 */

int intercepts_new(struct ca *ca, const struct intercept_ops *ops, struct intercepts **ret,
                   struct err *e)
{
	_own_(intercepts_free) struct intercepts *all = calloc(1, sizeof(*all));
	int r;

	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	all->ops = *ops;
	r = tls_world_new(ca, &all->tls, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&all);
	return 0;
}

void intercepts_free(struct intercepts *all)
{
	if (!all)
		return;
	tls_world_free(all->tls);
	free(all);
}

const struct intercept_stats *intercepts_stats(struct intercepts *all)
{
	all->stats.leaves = tls_world_minted(all->tls);
	return &all->stats;
}

static void connection_free(struct intercept *c)
{
	if (!c)
		return;
	tls_free(c->tls);
	free(c);
}
OWN_DEFINE(struct intercept, connection_free)

int intercept_new(struct intercepts *all, const struct intercept_start *start,
                  struct intercept **ret, struct err *e)
{
	_own_(connection_free) struct intercept *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	if (start->tls && !start->name)
		return err_set(e, -EINVAL, "a connection over TLS that names no host");
	if (all->stats.connections == INTERCEPT_CONNECTIONS_MAX)
		return err_set(e, -EMFILE, "%d connections are read already",
		               INTERCEPT_CONNECTIONS_MAX);
	c->all = all;
	c->flow = start->flow;
	c->now_ms = c->began_ms = c->took_ms = c->heard_ms = start->now_ms;
	c->idle = true;
	if (start->tls) {
		c->name = *start->name;
		r = tls_new(all->tls, start->name, start->real_s, &c->tls, e);
		if (r < 0)
			return r;
	}
	all->stats.connections++;
	c->next = all->connections;
	if (c->next)
		c->next->prev = c;
	all->connections = c;
	held_note(c);
	*ret = steal_ptr(&c);
	return 0;
}

/* Nobody is there any more who could be told. */
static void drop_requests(struct intercept *c)
{
	for (struct request *r = c->requests; r; r = r->next)
		request_finish(r);
	request_sweep(c);
}

static void release(struct intercept *c)
{
	http_conn_free(c->http);
	c->http = NULL;
	hold_free(c->all, &c->plain);
	hold_free(c->all, &c->answer);
}

void intercept_free(struct intercept *c, uint64_t now_ms)
{
	if (!c)
		return;
	c->now_ms = now_ms;
	drop_requests(c);
	release(c);
	if (c->prev)
		c->prev->next = c->next;
	else
		c->all->connections = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->all->stats.connections--;
	c->all->stats.held_bytes -= c->held;
	connection_free(c);
}

/* --- the end --- */

static void finish(struct intercept *c)
{
	if (c->fin)
		return;
	drop_requests(c);
	if (c->tls && !c->cut_short)
		tls_close(c->tls);
	c->fin = true;
	c->fin_ms = c->now_ms;
	c->blocked = false;
}

static void settle(struct intercept *c)
{
	request_sweep(c);
	if (c->fin || !c->http)
		return;
	if (http_conn_finished(c->http) || (c->closing && http_conn_output(c->http).len == 0))
		finish(c);
}

static void give_up(struct intercept *c)
{
	drop_requests(c);
	c->abort = true;
}

void intercept_shed(struct intercept *c, enum policy_reason why)
{
	for (struct request *r = c->requests; r; r = r->next)
		r->reason = r->reason == POLICY_OK ? (uint8_t)why : r->reason;
	c->why = (uint8_t)why;
	give_up(c);
	release(c);
	tls_free(c->tls);
	c->tls = NULL;
	held_note(c);
}

enum policy_reason intercept_why(const struct intercept *c)
{
	return (enum policy_reason)c->why;
}

/* At the end of each call from outside, when nobody holds anything of a connection's. */
static void count(struct intercept *c)
{
	held_note(c);
	held_relieve(c);
}

/* --- from the guest --- */

static bool open_http(struct intercept *c, bool http2)
{
	const struct http_conn_opts opts = {
		.http2 = http2,
		.keep_slash = true,
		.scheme = c->tls ? HTTP_TLS : HTTP_PLAIN,
	};

	c->http2 = http2;
	c->began_ms = c->now_ms;
	if (http_conn_new(&opts, &intercept_events, c, &c->http, NULL) == 0)
		return true;
	give_up(c);
	return false;
}

/* Offers bytes to http_conn, which may leave some. */
static void feed(struct intercept *c, struct span *in)
{
	bool some = in->len > 0;

	c->heard_ms = c->now_ms;
	if (http_conn_recv(c->http, c->now_ms, in) < 0) {
		drop_requests(c);
		*in = span_of(NULL, 0);
	}
	request_sweep(c);
	if (!some || !c->idle || c->requests)
		return;
	if (!c->head_began || c->http2)
		c->began_ms = c->now_ms;
	c->head_began = true;
}

static void feed_held(struct intercept *c)
{
	struct span s = hold_span(&c->plain);
	size_t n = s.len;

	if (n == 0 || !c->http || c->fin)
		return;
	feed(c, &s);
	hold_drop(c->all, &c->plain, n - s.len);
}

static void recv_end(struct intercept *c)
{
	if (c->eof)
		return;
	c->eof = true;
	if (!c->http)
		finish(c);
	else if (!c->fin && http_conn_recv_eof(c->http) < 0)
		drop_requests(c);
}

/* "PRI " is how HTTP/2 begins, and no method. */
static bool plain_begin(struct intercept *c, struct span *in)
{
	static const char preface[] = "PRI ";
	size_t n = PREFACE_BYTES - c->plain.len;
	struct span seen;

	n = n < in->len ? n : in->len;
	if (!hold_add(c->all, &c->plain, span_of(in->at, n))) {
		give_up(c);
		return false;
	}
	*in = span_of(in->at + n, in->len - n);
	seen = hold_span(&c->plain);
	if (seen.len == 0)
		return false;
	if (memcmp(seen.at, preface, seen.len) != 0)
		return open_http(c, false);
	return seen.len == PREFACE_BYTES && open_http(c, true);
}

static void recv_plain(struct intercept *c, struct span *in)
{
	if (!c->http && (in->len == 0 || !plain_begin(c, in)))
		return;
	feed_held(c);
	if (c->plain.len == 0 && in->len > 0)
		feed(c, in);
	c->blocked = c->plain.len > 0 || in->len > 0;
}

static void record_tls_failure(struct intercept *c)
{
	struct policy_ask ask = { 0 };
	struct egress_record rec = {
		.event = EGRESS_EVENT_ENDED,
		.layer = EGRESS_LAYER_TLS,
		.reason = POLICY_NOT_TLS,
		.flags = EGRESS_RECORD_INSPECTED,
		.generation = (uint32_t)policy_generation(c->all->ops.policy(c->flow)),
		.rule = POLICY_RULE_NONE,
		.flow = c->all->ops.number(c->flow),
		.host = host_span(&c->name),
		.path = span_str(tls_why(c->tls)),
	};

	c->all->ops.ask(c->flow, &ask);
	rec.port = ask.port;
	rec.family = ask.addr.v4 ? 4 : 6;
	memcpy(rec.addr, ask.addr.v4 ? ask.addr.at + 12 : ask.addr.at, ask.addr.v4 ? 4 : 16);
	c->all->ops.record(c->flow, &rec);
}

static void tls_failed(struct intercept *c)
{
	if (!c->http) {
		c->all->stats.handshakes_failed++;
		record_tls_failure(c);
	}
	c->cut_short = true;
	finish(c);
}

/* One record. True: and perhaps another. */
static bool recv_record(struct intercept *c, struct span *in)
{
	size_t n = 0;
	enum tls_read got = tls_read(c->tls, in, c->all->plain, &n);
	struct span s = span_of(c->all->plain, n);

	if (!c->http && tls_is_open(c->tls)) {
		c->all->stats.handshakes++;
		if (!open_http(c, tls_is_http2(c->tls)))
			return false;
	}
	switch (got) {
	case TLS_BYTES:
		feed(c, &s);
		if (!hold_add(c->all, &c->plain, s))
			give_up(c);
		return !c->abort;
	case TLS_CLOSED:
		recv_end(c);
		return false;
	case TLS_FAILED:
		tls_failed(c);
		return false;
	case TLS_FULL:
		c->blocked = true;
		return false;
	case TLS_MORE:
		return false;
	}
	return false;
}

static void recv_tls(struct intercept *c, struct span *in)
{
	do {
		feed_held(c);
		if (c->plain.len > 0) {
			c->blocked = true;
			return;
		}
	} while (!c->fin && !c->eof && recv_record(c, in));
}

void intercept_recv(struct intercept *c, uint64_t now_ms, struct span *in)
{
	c->now_ms = now_ms;
	if (!c->fin && !c->abort && !c->eof) {
		if (c->tls)
			recv_tls(c, in);
		else
			recv_plain(c, in);
		settle(c);
	}
	if (c->fin || c->abort || c->eof)
		*in = span_of(NULL, 0); /* nobody listens any more */
	count(c);
}

void intercept_recv_eof(struct intercept *c, uint64_t now_ms)
{
	c->now_ms = now_ms;
	feed_held(c);
	recv_end(c);
	settle(c);
	count(c);
}

/* --- from the vault, from the clock --- */

/* Something has changed, so what was left lying may go on. */
static void resume(struct intercept *c)
{
	if (c->abort)
		return;
	c->blocked = false;
	feed_held(c);
	c->blocked = c->plain.len > 0;
	settle(c);
	count(c);
}

void intercept_frame(struct intercept *c, uint64_t now_ms, const struct egress_frame *f)
{
	struct request *r = request_of_vault(c, f->stream);

	c->now_ms = now_ms;
	if (!r || c->fin || c->abort)
		return;
	c->heard_ms = now_ms;
	vault_frame(r, f);
	resume(c);
}

void intercept_reload(struct intercept *c, uint64_t now_ms)
{
	c->now_ms = now_ms;
	for (struct request *r = c->requests; r; r = r->next) {
		struct judged j;

		if (r->over || !r->forward)
			continue;
		judge_request(c, &r->wish, NULL, &j);
		if (j.bad == HTTP_FINE && j.verdict.act == POLICY_ALLOW)
			continue;
		vault_reset(r, EGRESS_REVOKED_BY_POLICY);
		request_answer_fail(r, POLICY_REVOKED);
	}
	resume(c);
}

void intercept_over(struct intercept *c, uint64_t now_ms)
{
	c->now_ms = now_ms;
	for (struct request *r = c->requests; r; r = r->next) {
		if (r->over || !r->forward)
			continue;
		vault_reset(r, EGRESS_CANCELLED);
		request_answer_fail(r, POLICY_LIMIT_BYTES);
	}
	resume(c);
}

/* A request that no stream is there for: its head never came to an end. HTTP/1 alone. */
static void answer_slow(struct intercept *c)
{
	struct intercepts *all = c->all;
	struct request *r = request_new(c, 0, NULL);
	uint8_t room[ANSWER_MAX];
	uint8_t text[ANSWER_MAX];
	struct buf body;
	struct buf out;

	if (!r) {
		give_up(c);
		return;
	}
	request_timed_out(r);
	buf_init(&body, text, sizeof(text));
	buf_init(&out, room, sizeof(room));
	refusal_put_http(&body, r->number, 408, "timeout",
	                 "the request's head did not come to an end");
	refusal_head(&all->head, 408, body.len, "timeout");
	h1_put_response(&out, &all->head, H1_PUT_CLOSE);
	buf_put_span(&out, buf_span(&body));
	if (c->tls)
		(void)tls_write(c->tls, buf_span(&out));
	else
		(void)!hold_add(all, &c->answer, buf_span(&out));
	finish(c);
}

static bool has_output(struct intercept *c)
{
	if (c->tls)
		return tls_output(c->tls).len > 0;
	return c->answer.len > 0 || (c->http && !c->fin && http_conn_output(c->http).len > 0);
}

static bool is_past(const struct intercept *c, uint64_t since_ms, uint64_t limit_ms)
{
	return c->now_ms - since_ms >= limit_ms;
}

static void check_uploads(struct intercept *c)
{
	for (struct request *r = c->requests; r; r = r->next)
		if (!r->over && r->asked && r->known_length && !r->up_end && r->up.len == 0 &&
		    is_past(c, r->moved_ms, INTERCEPT_UPLOAD_MS))
			request_answer_slow(r);
}

static void check_times(struct intercept *c)
{
	if (c->abort || c->fin)
		return;
	if (!c->http) {
		if (is_past(c, c->began_ms, c->tls ? INTERCEPT_HANDSHAKE_MS : INTERCEPT_HEAD_MS))
			give_up(c);
		return;
	}
	check_uploads(c);
	if (c->requests) {
		if (is_past(c, c->heard_ms, INTERCEPT_QUIET_MS))
			give_up(c);
	} else if (c->head_began && !c->http2 && is_past(c, c->began_ms, INTERCEPT_HEAD_MS)) {
		answer_slow(c);
	} else if (is_past(c, c->began_ms, INTERCEPT_IDLE_MS + INTERCEPT_LINGER_MS)) {
		finish(c); /* HTTP/2 with a stream that the guest never ends */
	} else if (is_past(c, c->began_ms, INTERCEPT_IDLE_MS)) {
		http_conn_drain(c->http);
	}
}

void intercept_run(struct intercept *c, uint64_t now_ms)
{
	c->now_ms = now_ms;
	c->waits_link = false;
	for (struct request *r = c->requests; r; r = r->next)
		vault_flush(r);
	if (has_output(c) && is_past(c, c->took_ms, INTERCEPT_STALL_MS))
		give_up(c);
	check_times(c);
	resume(c);
}

/* --- to the guest --- */

/* Seals what http_conn has, as far as there is room. */
static void seal(struct intercept *c)
{
	struct span out;
	size_t n;

	if (!c->http || c->fin)
		return;
	while ((out = http_conn_output(c->http)).len > 0) {
		n = tls_write(c->tls, out);
		if (n == 0)
			return;
		http_conn_sent(c->http, n);
	}
}

struct span intercept_output(struct intercept *c, uint64_t now_ms)
{
	struct span out = span_of(NULL, 0);

	c->now_ms = now_ms;
	if (c->abort)
		return out;
	if (c->tls)
		seal(c);
	settle(c);
	if (c->tls)
		out = tls_output(c->tls);
	else if (c->answer.len > 0)
		out = hold_span(&c->answer);
	else if (c->http && !c->fin)
		out = http_conn_output(c->http);
	if (out.len == 0)
		c->took_ms = now_ms;
	held_note(c); /* `out` is lent: who gives way is seen at the next call */
	return out;
}

void intercept_sent(struct intercept *c, uint64_t now_ms, size_t n)
{
	c->now_ms = now_ms;
	if (n == 0)
		return;
	c->took_ms = c->heard_ms = now_ms;
	if (c->tls)
		tls_sent(c->tls, n);
	else if (c->answer.len > 0)
		hold_drop(c->all, &c->answer, n);
	else if (c->http)
		http_conn_sent(c->http, n);
	resume(c);
}

unsigned intercept_state(const struct intercept *c)
{
	bool empty = c->tls ? tls_output(c->tls).len == 0 : c->answer.len == 0;
	unsigned state = 0;

	if (c->abort || (c->fin && empty && c->cut_short && c->http))
		return INTERCEPT_ABORT;
	if (c->fin && empty)
		state |= INTERCEPT_FIN;
	if (c->fin && empty && (c->eof || is_past(c, c->fin_ms, INTERCEPT_LINGER_MS)))
		return state | INTERCEPT_DONE;
	if (!c->blocked && !c->eof)
		state |= INTERCEPT_READ;
	if (c->waits_link)
		state |= INTERCEPT_LINK;
	return state;
}
