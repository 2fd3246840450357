/* The bytes of a request: its body upwards, its answer downwards. request.c has the theory. */
#include "vault/inner.h"

#include "vault/request_inner.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { WAITING_FIRST = 16 << 10 };

/* --- bytes that wait --- */

static struct span wait_span(const struct waiting *w)
{
	return w->at ? span_of(w->at + w->from, w->len) : span_of("", 0); /* never NULL + 0 */
}

static void wait_drop(struct request *q, struct waiting *w, size_t n)
{
	w->from += n;
	w->len -= n;
	if (w->len > 0)
		return;
	free(w->at); /* most requests wait for nothing most of the time */
	*w = (struct waiting){ 0 };
	request_hold(q);
}

static bool wait_put(struct request *q, struct waiting *w, struct span bytes)
{
	size_t size = w->size ? w->size : WAITING_FIRST;

	if (bytes.len == 0)
		return true;
	if (w->from > 0) {
		memmove(w->at, w->at + w->from, w->len);
		w->from = 0;
	}
	while (size - w->len < bytes.len)
		size *= 2;
	if (size > w->size) {
		uint8_t *at = realloc(w->at, size);

		if (!at)
			return false;
		w->at = at;
		w->size = size;
		request_hold(q);
	}
	memcpy(w->at + w->len, bytes.at, bytes.len);
	w->len += bytes.len;
	return true;
}

static struct kept_trailers *keep_trailers(const struct http_trailers *t)
{
	size_t bytes = 0, at = 0;
	struct kept_trailers *k;

	for (uint16_t i = 0; i < t->count; i++)
		bytes += t->fields[i].name.len + t->fields[i].value.len;
	k = calloc(1, sizeof(*k) + bytes);
	if (!k)
		return NULL;
	k->t.count = t->count;
	k->len = bytes;
	for (uint16_t i = 0; i < t->count; i++) {
		const struct http_field *f = &t->fields[i];

		memcpy(k->bytes + at, f->name.at, f->name.len);
		k->t.fields[i].name = span_of(k->bytes + at, f->name.len);
		at += f->name.len;
		if (f->value.len > 0)
			memcpy(k->bytes + at, f->value.at, f->value.len);
		k->t.fields[i].value = span_of(k->bytes + at, f->value.len);
		at += f->value.len;
	}
	return k;
}

/* --- up --- */

static void grant(struct request *q, size_t taken)
{
	q->owed += (uint32_t)taken;
	if (q->owed == 0 || q->gate_ended || (q->owed < VAULT_GRANT_BYTES && q->up.len > 0))
		return;
	egress_put_u32(peer_begin(q->v), EGRESS_CREDIT, q->stream, q->owed);
	peer_must(q->v);
	q->owed = 0;
}

static bool may_send_body(const struct request *q)
{
	bool websocket = q->asked && (q->asked->request.head.flags & HTTP_FLAG_WEBSOCKET);

	return q->up_conn && q->up_stream && !q->up_done && (!websocket || q->opaque);
}

static void end_up(struct request *q)
{
	const struct http_trailers *t = q->up_trailers ? &q->up_trailers->t : NULL;

	if (http_conn_end(upstream_conn(q->up_conn), q->up_stream, t) < 0) {
		request_fail(q, EGRESS_PROTOCOL);
		return;
	}
	q->up_done = true;
	if (q->opaque)
		upstream_last(q->up_conn);
	upstream_touch(q->up_conn);
	request_check_done(q);
}

void request_push_up(struct request *q)
{
	struct span in = wait_span(&q->up);
	size_t had = in.len;

	if (!may_send_body(q))
		return;
	if (had > 0) {
		if (http_conn_body(upstream_conn(q->up_conn), q->up_stream, &in) < 0) {
			request_fail(q, EGRESS_PROTOCOL);
			return;
		}
		q->v->stats.sent_bytes += had - in.len;
		q->up_taken += had - in.len;
		wait_drop(q, &q->up, had - in.len);
		grant(q, had - in.len);
		upstream_touch(q->up_conn);
	}
	if (q->gate_ended && q->up.len == 0)
		end_up(q);
}

void request_room(struct request *q)
{
	request_push_up(q);
}

static void refuse_scan(struct request *q, int r, const struct scan_hit *hit)
{
	if (r == -EPERM)
		request_violation(q, hit);
	else
		request_fail(q, r == -EPROTO ? EGRESS_PLACEHOLDER : EGRESS_INTERNAL);
}

static void take_body(struct request *q, struct span bytes)
{
	struct scan_hit hit = { 0 };
	int r;

	request_touch(q);
	if (q->answered) { /* the server did not want it; nor did the gate know yet */
		grant(q, bytes.len);
		return;
	}
	r = scan_piece(q->scan, bytes, &hit);
	request_hold(q);
	if (r < 0)
		refuse_scan(q, r, &hit);
	else if (!wait_put(q, &q->up, bytes))
		request_fail(q, EGRESS_INTERNAL);
	else
		request_push_up(q);
}

static int take_trailers(struct request *q, struct span payload)
{
	struct http_trailers *t = malloc(sizeof(*t));
	struct scan_hit hit = { 0 };
	int r;

	if (!t)
		return request_fail(q, EGRESS_INTERNAL), 0;
	if (egress_parse_trailers(payload, t) < 0) {
		free(t);
		return -EBADMSG;
	}
	r = scan_trailers(q->scan, t, &hit);
	if (r == 0 && !q->up_trailers)
		q->up_trailers = keep_trailers(t);
	request_hold(q);
	free(t);
	if (r < 0)
		refuse_scan(q, r, &hit);
	else if (!q->up_trailers)
		request_fail(q, EGRESS_INTERNAL);
	return 0;
}

static void take_end(struct request *q)
{
	struct scan_hit none = { 0 };
	int r = q->answered ? 0 : scan_end(q->scan);

	q->gate_ended = true;
	if (r < 0)
		refuse_scan(q, r, &none);
	else if (q->answered)
		request_check_done(q);
	else if (q->opaque || !q->up_done)
		request_push_up(q);
}

int request_frame(struct vault *v, uint32_t number, const struct egress_frame *f)
{
	struct request *q = slots_find(&v->requests, number);

	if (!q)
		return 0;
	switch (f->type) {
	case EGRESS_BODY:
		take_body(q, f->payload);
		return 0;
	case EGRESS_TRAILERS:
		return take_trailers(q, f->payload);
	case EGRESS_END:
		take_end(q);
		return 0;
	case EGRESS_RESET:
		request_fail(q, EGRESS_CANCELLED);
		return 0;
	case EGRESS_CREDIT:
		request_touch(q);
		request_push_down(q);
		return 0;
	default:
		return -EBADMSG;
	}
}

/* --- down --- */

void request_head(struct request *q, const struct http_head *h)
{
	struct http_head *out;
	int r;

	request_touch(q);
	out = malloc(sizeof(*out));
	r = out ? scrub_head(q->scrub, h, out) : -ENOMEM;
	if (r < 0) {
		free(out);
		request_fail(q, r == -EPROTO ? EGRESS_PROTOCOL : EGRESS_INTERNAL);
		return;
	}
	egress_put_response(peer_begin(q->v), q->stream, out);
	free(out);
	if (!peer_send(q->v, -1)) { /* too long for any frame */
		request_fail(q, EGRESS_PROTOCOL);
		return;
	}
	request_say_scrubbed(q);
	if (h->status < 200 && h->status != 101)
		return;
	q->head_seen = true;
	q->opaque = h->status == 101;
	if (q->opaque)
		scan_upgrade(q->scan);
	else if (q->asked && (q->asked->request.head.flags & HTTP_FLAG_WEBSOCKET))
		q->up_done = true; /* no upgrade, so no bytes of ours */
	free(q->asked);
	q->asked = NULL;
	q->ask.method = q->ask.path = q->ask.query = span_of(NULL, 0);
	request_hold(q);
	if (q->opaque)
		request_push_up(q);
}

/* How much may be said to the gate now. */
static size_t room_down(const struct request *q)
{
	const struct egress_stream *s = egress_order_find(&q->v->order, q->stream);
	size_t link = egress_link_room(q->v->link);
	size_t room = s ? egress_order_room(s, EGRESS_FROM_VAULT) : 0;

	link = link > VAULT_LINK_RESERVE ? link - VAULT_LINK_RESERVE : 0;
	return room < link ? room : link;
}

/* Has all been said that the head promised? Then there is no room because there is no need. */
static bool is_whole(const struct request *q)
{
	const struct egress_stream *s = egress_order_find(&q->v->order, q->stream);

	return s && s->vault.framing == HTTP_BODY_LENGTH && s->vault.left == 0;
}

/* What scrub says against a piece. The request is gone. */
static void refuse_scrub(struct request *q, int r)
{
	if (r == -EACCES)
		request_guessed(q);
	else
		request_fail(q, r == -EPROTO ? EGRESS_PROTOCOL : EGRESS_INTERNAL);
}

static void put_body(struct request *q, struct span bytes)
{
	egress_put(peer_begin(q->v), EGRESS_BODY, q->stream, bytes);
	peer_must(q->v);
}

/*
 * Of `in` what may go now; ret_left is what may not. False: the answer was cut, and the request is
 * gone.
 */
static bool scrub_down(struct request *q, struct span in, struct span *ret_left)
{
	for (;;) {
		size_t room = room_down(q);
		size_t had = in.len;
		struct span out;
		int r;

		q->stuck = room == 0 && !is_whole(q);
		if (room == 0)
			break;
		r = scrub_piece(q->scrub, &in, room, &out);
		request_hold(q);
		if (r < 0) {
			refuse_scrub(q, r);
			return false;
		}
		if (had > in.len && q->up_conn)
			http_conn_consume(upstream_conn(q->up_conn), q->up_stream, had - in.len);
		if (out.len > 0)
			put_body(q, out);
		request_say_scrubbed(q);
		if (out.len == 0 && (in.len == 0 || in.len == had))
			break;
	}
	*ret_left = in;
	return true;
}

/* What scrub held back. False: not all of it yet, or the request is gone. */
static bool scrub_rest(struct request *q)
{
	for (;;) {
		size_t room = room_down(q);
		struct span out;
		int r;

		if (room == 0 && scrub_held(q->scrub) > 0)
			return false;
		r = scrub_end(q->scrub, room, &out);
		if (r < 0) {
			request_fail(q, r == -EPROTO ? EGRESS_PROTOCOL : EGRESS_INTERNAL);
			return false;
		}
		if (out.len == 0)
			return true;
		put_body(q, out);
		request_say_scrubbed(q);
	}
}

static void end_down(struct request *q)
{
	if (!scrub_rest(q))
		return;
	request_say_scrubbed(q);
	if (q->down_trailers && !q->opaque) {
		struct http_trailers out;

		if (scrub_trailers(q->scrub, &q->down_trailers->t, &out) < 0) {
			request_fail(q, EGRESS_INTERNAL);
			return;
		}
		egress_put_trailers(peer_begin(q->v), q->stream, &out);
		if (!peer_send(q->v, -1)) {
			request_fail(q, EGRESS_LIMIT);
			return;
		}
		request_say_scrubbed(q);
	}
	q->answered = true;
	peer_end(q->v, q->stream);
	/* what the server has not read of the request by now it does not want */
	if (q->up_conn)
		upstream_leave(q->up_conn, q, q->up_done);
	wait_drop(q, &q->up, q->up.len);
	request_check_done(q);
}

void request_push_down(struct request *q)
{
	struct span left = wait_span(&q->down);
	size_t had = left.len;

	if (q->answered || !q->head_seen)
		return;
	if (had > 0 || q->stuck) {
		if (!scrub_down(q, left, &left))
			return;
		wait_drop(q, &q->down, had - left.len);
		if (q->up_conn)
			upstream_touch(q->up_conn);
	}
	if (q->answer_read && q->down.len == 0 && !q->stuck)
		end_down(q);
}

void request_body(struct request *q, struct span bytes)
{
	request_touch(q);
	if (q->down.len == 0 && !q->stuck && !scrub_down(q, bytes, &bytes))
		return;
	if (!wait_put(q, &q->down, bytes))
		request_fail(q, EGRESS_INTERNAL);
}

void request_trailers(struct request *q, const struct http_trailers *t)
{
	free(q->down_trailers);
	q->down_trailers = keep_trailers(t);
	request_hold(q);
	if (!q->down_trailers)
		request_fail(q, EGRESS_INTERNAL);
}

/* After an upgrade the first end is that of the answer's head, and the bytes go on. */
void request_ended(struct request *q)
{
	request_touch(q);
	q->answer_read = true;
	request_push_down(q);
}

void request_resume_all(struct vault *v)
{
	uint32_t number = 1;
	struct request *q;

	while (!v->choked && (q = slots_next(&v->requests, &number)) != NULL)
		if (q->down.len > 0 || q->stuck || q->answer_read)
			request_push_down(q);
}
