/*
 * Theory of operation
 *
 * Every frame, read or about to be sent, goes through one egress_order: what the gate may not say
 * ends the vault, and with it the sandbox's network, for there is no innocent way to get there.
 *
 * Frames are put into the link's buffer as things happen and sent once a turn of the loop, just
 * before it waits. Below VAULT_LINK_RESERVE bytes of room the vault is choked: it reads neither the
 * gate nor upstreams until the gate has read. What can come up all the same (answers to questions
 * already asked, ends, resets) is bounded and fits into the reserve.
 */
#include "vault/inner.h"

#include "vault/request.h"
#include "vault/upstream.h"

#include <errno.h>
#include <string.h>

static void before_wait(uv_prepare_t *h)
{
	struct vault *v = h->data;

	upstream_run_all(v);
	peer_flush(v);
}

int peer_open(struct vault *v, int fd, struct err *e)
{
	int r = egress_link_new(fd, EGRESS_FROM_VAULT, &v->link, e);

	if (r < 0) {
		(void)close(fd);
		return r;
	}
	v->order_slots = calloc((size_t)EGRESS_STREAMS_MAX * 2, sizeof(*v->order_slots));
	if (!v->order_slots)
		return err_set(e, -ENOMEM, "out of memory");
	egress_order_init(&v->order, v->order_slots, EGRESS_STREAMS_MAX * 2, EGRESS_STREAMS_MAX);
	(void)uv_prepare_init(&v->loop, &v->before_wait); /* neither can fail */
	v->before_wait.data = v;
	v->before_wait_open = true;
	(void)uv_prepare_start(&v->before_wait, before_wait);
	r = alarm_new(&v->loop, peer_more, v, &v->again, e);
	if (r == 0)
		r = watch_new(&v->loop, fd, peer_readable, v, &v->link_watch, e);
	return r;
}

void peer_close(struct vault *v)
{
	watch_free(v->link_watch);
	alarm_free(v->again);
	if (v->before_wait_open)
		uv_close((uv_handle_t *)&v->before_wait, NULL);
	egress_link_free(v->link);
	free(v->order_slots);
}

/* --- sending --- */

struct buf *peer_begin(struct vault *v)
{
	v->frame = egress_link_out(v->link);
	v->frame_at = v->frame->len;
	return v->frame;
}

bool peer_send(struct vault *v, int fd)
{
	struct span bytes = span_of(v->frame->at + v->frame_at, v->frame->len - v->frame_at);
	enum egress_verdict verdict;
	struct egress_frame f;

	if (!egress_link_commit(v->link, fd))
		return false;
	if (egress_parse_frame(&bytes, EGRESS_FROM_VAULT, &f) < 0 || bytes.len > 0) {
		vault_end(v, -EPROTO, "wrote a frame that is none");
		return true;
	}
	verdict = egress_order_step(&v->order, EGRESS_FROM_VAULT, &f);
	if (verdict != EGRESS_PASS && verdict != EGRESS_DROP)
		vault_end(v, -EPROTO, "was about to say %s out of turn (%s)",
		          egress_type_name(f.type), egress_verdict_word(verdict));
	return true;
}

void peer_must(struct vault *v)
{
	if (!peer_send(v, -1))
		vault_end(v, -ENOBUFS, "the gate does not read");
}

void peer_reset(struct vault *v, uint32_t stream, enum egress_fail why)
{
	egress_put_reset(peer_begin(v), stream, why);
	peer_must(v);
}

void peer_end(struct vault *v, uint32_t stream)
{
	egress_put(peer_begin(v), EGRESS_END, stream, span_of(NULL, 0));
	peer_must(v);
}

void peer_tie(struct vault *v, uint32_t stream, uint32_t number)
{
	struct egress_stream *s = egress_order_find(&v->order, stream);

	if (s)
		s->user = number;
}

static void set_watch(struct vault *v)
{
	if (!v->ended)
		watch_set(v->link_watch, !v->choked, egress_link_waits(v->link));
}

bool peer_is_choked(struct vault *v)
{
	/* peer_flush() sees it, and sets off what was left */
	if (egress_link_room(v->link) < VAULT_LINK_RESERVE)
		v->choked = true;
	return v->choked;
}

void peer_flush(struct vault *v)
{
	struct err e = { 0 };

	if (v->ended)
		return;
	if (egress_link_waits(v->link) && egress_link_flush(v->link, &e) < 0) {
		vault_end(v, e.code, "%s", e.text);
		return;
	}
	if (egress_link_room(v->link) < VAULT_LINK_RESERVE) {
		v->choked = true;
	} else if (v->choked) {
		v->choked = false;
		alarm_set(v->again, 0);
	} else if (v->untold > 0) {
		alarm_set(v->again, 0);
	}
	set_watch(v);
}

/* --- reading --- */

static void on_control(struct vault *v, const struct egress_frame *f)
{
	uint32_t generation;
	struct span why;

	switch (f->type) {
	case EGRESS_POLICY_OK:
		if (egress_parse_u32(f->payload, &generation) < 0)
			vault_end(v, -EBADMSG, "the gate's POLICY_OK is damaged");
		else
			control_policy_taken(v, generation);
		return;
	case EGRESS_STATS:
		v->stats.streams = v->order.count;
		egress_put_stats(peer_begin(v), &v->stats);
		peer_must(v);
		return;
	case EGRESS_REFUSE:
		if (egress_parse_text(f->payload, &why) < 0)
			why = span_str("no reason");
		vault_end(v, -EPROTO, "the gate refuses: %.*s", (int)why.len, (const char *)why.at);
		return;
	default: /* HELLO: judged already */
		return;
	}
}

static void on_open(struct vault *v, const struct egress_frame *f)
{
	struct egress_resolve resolve;
	struct egress_connect connect;

	if (f->type == EGRESS_RESOLVE) {
		if (egress_parse_resolve(f->payload, &resolve) == 0) {
			vault_resolve(v, f->stream, &resolve);
			return;
		}
	} else if (f->type == EGRESS_CONNECT) {
		if (egress_parse_connect(f->payload, &connect) == 0) {
			flow_connect(v, f->stream, &connect);
			return;
		}
	} else if (request_open(v, f->stream, f->payload) == 0) {
		return;
	}
	vault_end(v, -EBADMSG, "the gate's %s is damaged", egress_type_name(f->type));
}

/* was: of its stream, before this frame was counted. */
static void on_stream(struct vault *v, const struct egress_frame *f,
                      const struct egress_stream *was)
{
	if (was->kind == EGRESS_REQUEST) {
		if (was->user && request_frame(v, was->user, f) < 0)
			vault_end(v, -EBADMSG, "the gate's %s is damaged",
			          egress_type_name(f->type));
	} else if (was->kind == EGRESS_CONNECT &&
	           (f->type == EGRESS_END || f->type == EGRESS_RESET)) {
		flow_end(v, was->user, f->type == EGRESS_RESET);
	}
}

static void on_frame(struct vault *v, const struct egress_frame *f)
{
	const struct egress_stream *s = egress_order_find(&v->order, f->stream);
	struct egress_stream was = { 0 };
	enum egress_verdict verdict;

	if (s)
		was = *s;
	verdict = egress_order_step(&v->order, EGRESS_FROM_GATE, f);
	if (verdict == EGRESS_DROP)
		return;
	if (verdict != EGRESS_PASS) {
		vault_end(v, -EPROTO, "the gate broke the order: %s on stream %u (%s)",
		          egress_type_name(f->type), f->stream, egress_verdict_word(verdict));
		return;
	}
	if (f->stream == 0)
		on_control(v, f);
	else if (was.id == 0)
		on_open(v, f);
	else
		on_stream(v, f, &was);
}

/* Frames that are there. They may not all have their turn now. */
static void read_frames(struct vault *v)
{
	for (unsigned n = 0; !v->ended; n++) {
		struct egress_frame f;
		int fd; /* the link takes none from the gate */
		int r;

		if (egress_link_room(v->link) < VAULT_LINK_RESERVE)
			return; /* peer_flush() sees to the rest */
		if (n == VAULT_FRAMES_AT_ONCE) {
			alarm_set(v->again, 0);
			return;
		}
		r = egress_link_next(v->link, &f, &fd);
		if (r == -EAGAIN)
			return;
		if (r < 0) {
			vault_end(v, r, "the gate sends what is no frame");
			return;
		}
		on_frame(v, &f);
		request_relieve(v);
	}
}

void peer_more(void *user)
{
	struct vault *v = user;

	if (v->ended)
		return;
	flow_tell_all(v);
	upstream_touch_all(v);
	request_resume_all(v);
	read_frames(v);
}

void peer_readable(void *user, bool readable, bool writable)
{
	struct vault *v = user;
	struct err e = { 0 };

	if (writable)
		peer_flush(v);
	if (!readable || v->ended || v->choked)
		return;
	if (egress_link_recv(v->link, &e) < 0) {
		vault_end(v, e.code, "%s", e.text);
		return;
	}
	read_frames(v);
}
