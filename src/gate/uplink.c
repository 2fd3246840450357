#include "gate/gate_inner.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/*
 * Theory of operation
 *
 * Every frame of either side goes through egress_order_step(). A stream's `user` says for whom it
 * is: of a RESOLVE which name and family, of a CONNECT which flow or peer, of a REQUEST which flow.
 * It is 0 once nobody waits any more; what still comes then is read past.
 *
 * Of the link's room VAULT_KEPT bytes are for small frames only, so that CREDIT, END and RESET can
 * always be said; where not even they fit, the vault does not read, and the gate ends.
 */

enum { VAULT_KEPT = 64 << 10 };

int uplink_init(struct gate *g, struct err *e)
{
	uint32_t slots = 2 * EGRESS_STREAMS_MAX;
	int r = egress_link_new(g->config.vault_fd, EGRESS_FROM_GATE, &g->vault, e);

	if (r < 0)
		return r;
	g->slots = calloc(slots, sizeof(*g->slots));
	if (!g->slots)
		return err_set(e, -ENOMEM, "out of memory for %d streams", EGRESS_STREAMS_MAX);
	egress_order_init(&g->order, g->slots, slots, EGRESS_STREAMS_MAX);
	return 0;
}

/* -- sending ----------------------------------------------------------------------------------- */

struct buf *uplink_frame(struct gate *g, size_t bytes)
{
	size_t kept = bytes > INTERCEPT_SMALL ? VAULT_KEPT : 0;

	if (g->fault.code != 0)
		return NULL;
	if (egress_link_room(g->vault) < bytes + kept) {
		if (kept == 0)
			gate_fail(g, -EPIPE, "the vault reads nothing any more");
		return NULL;
	}
	g->frame_out = egress_link_out(g->vault);
	g->frame_at = g->frame_out->len;
	return g->frame_out;
}

/* What was just put, as a frame. False: nothing whole. */
static bool put_frame(struct gate *g, const struct buf *out, struct egress_frame *ret)
{
	struct span head = span_of(out->at + g->frame_at, out->len - g->frame_at);
	uint16_t magic;
	uint8_t zero;
	uint32_t bytes;

	return buf_ok(out) && take_le16(&head, &magic) && take_u8(&head, &ret->type) &&
	       take_u8(&head, &zero) && take_le32(&head, &ret->stream) &&
	       take_le32(&head, &bytes) && take_span(&head, bytes, &ret->payload);
}

int uplink_send(struct gate *g, uint32_t user)
{
	struct buf *out = g->frame_out;
	struct egress_frame f;
	struct egress_stream *s;
	enum egress_verdict v;

	if (!put_frame(g, out, &f)) {
		out->len = g->frame_at;
		out->over = false;
		return -EMSGSIZE;
	}
	v = egress_order_step(&g->order, EGRESS_FROM_GATE, &f);
	if (v == EGRESS_BAD_COUNT) {
		out->len = g->frame_at;
		return -EMFILE;
	}
	if (v != EGRESS_PASS && v != EGRESS_DROP) {
		gate_fail(g, -EPROTO, "%s to the vault: %s", egress_type_name(f.type),
		          egress_verdict_word(v));
		return -EPROTO;
	}
	s = user != 0 ? egress_order_find(&g->order, f.stream) : NULL;
	if (s)
		s->user = user;
	if (!egress_link_commit(g->vault, -1)) {
		gate_fail(g, -EPIPE, "the vault reads nothing any more");
		return -EPIPE;
	}
	return 0;
}

void uplink_begin(struct gate *g)
{
	struct buf *out = uplink_frame(g, INTERCEPT_SMALL);

	if (!out)
		return;
	egress_put_u32(out, EGRESS_HELLO, 0, EGRESS_VERSION);
	(void)uplink_send(g, 0);
}

static void policy_taken(struct gate *g, uint32_t generation)
{
	struct buf *out = uplink_frame(g, INTERCEPT_SMALL);

	if (!out)
		return;
	egress_put_u32(out, EGRESS_POLICY_OK, 0, generation);
	(void)uplink_send(g, 0);
}

uint32_t uplink_resolve(struct gate *g, uint16_t name, enum names_family family)
{
	struct egress_resolve r = {
		.want = family == NAMES_IP6 ? EGRESS_WANT_IP6 : EGRESS_WANT_IP4,
		.name = host_span(names_host(g->names, name)),
	};
	struct buf *out = uplink_frame(g, EGRESS_TEXT_MAX);
	uint32_t number;

	if (!out)
		return 0;
	number = gate_number(g);
	egress_put_resolve(out, number, &r);
	return uplink_send(g, (uint32_t)name << 1 | family) == 0 ? number : 0;
}

uint32_t uplink_connect(struct gate *g, const struct policy_ask *a, uint16_t rule,
                        enum egress_protocol proto, uint16_t name, uint32_t user)
{
	struct egress_connect c = {
		.generation = g->generation,
		.rule = rule,
		.addr.family = a->addr.v4 ? EGRESS_IP4 : EGRESS_IP6,
		.port = a->port,
		.protocol = (uint8_t)proto,
	};
	struct buf *out = uplink_frame(g, EGRESS_TEXT_MAX);
	uint32_t number;

	if (!out)
		return 0;
	if (a->addr.v4)
		memcpy(c.addr.bytes, a->addr.at + 12, 4);
	else
		memcpy(c.addr.bytes, a->addr.at, 16);
	if (name != NAMES_NONE)
		c.name = host_span(names_host(g->names, name));
	number = gate_number(g);
	egress_put_connect(out, number, &c);
	return uplink_send(g, user) == 0 ? number : 0;
}

void uplink_end(struct gate *g, uint32_t *stream, bool given_up)
{
	struct egress_stream *s;
	struct buf *out;

	if (*stream == 0)
		return;
	s = egress_order_find(&g->order, *stream);
	out = s ? uplink_frame(g, INTERCEPT_SMALL) : NULL;
	if (s)
		s->user = 0;
	if (out && given_up)
		egress_put_reset(out, *stream, EGRESS_CANCELLED);
	else if (out)
		egress_put(out, EGRESS_END, *stream, span_of(NULL, 0));
	if (out)
		(void)uplink_send(g, 0);
	*stream = 0;
}

enum policy_reason uplink_reason(uint8_t fail)
{
	switch ((enum egress_fail)fail) {
	case EGRESS_OK:
	case EGRESS_CANCELLED:
		return POLICY_OK;
	case EGRESS_NO_NAME:
	case EGRESS_NO_ADDRESS:
	case EGRESS_DNS:
		return POLICY_UPSTREAM_DNS;
	case EGRESS_SPECIAL:
		return POLICY_SPECIAL_ADDRESS;
	case EGRESS_METADATA:
		return POLICY_METADATA_ADDRESS;
	case EGRESS_NOT_RESOLVED:
		return POLICY_NOT_RESOLVED;
	case EGRESS_DENIED:
		return POLICY_NO_RULE;
	case EGRESS_PLACEHOLDER:
		return POLICY_PLACEHOLDER_ELSEWHERE;
	case EGRESS_REFUSED:
	case EGRESS_UNREACHABLE:
		return POLICY_UPSTREAM_REFUSED;
	case EGRESS_TIMEOUT:
		return POLICY_UPSTREAM_TIMEOUT;
	case EGRESS_CERTIFICATE:
		return POLICY_UPSTREAM_CERTIFICATE;
	case EGRESS_PROTOCOL:
	case EGRESS_CLOSED:
		return POLICY_UPSTREAM_PROTOCOL;
	case EGRESS_LIMIT:
		return POLICY_LIMIT_CONNECTIONS;
	case EGRESS_FULL:
		return POLICY_LIMIT_MEMORY;
	case EGRESS_REVOKED_BY_POLICY:
		return POLICY_REVOKED;
	case EGRESS_INTERNAL:
	case EGRESS_TOO_LARGE: /* of a request, which has its own words */
	case EGRESS_FAIL_COUNT:
		break;
	}
	return POLICY_VAULT_DOWN;
}

/* -- receiving --------------------------------------------------------------------------------- */

static void bad(struct gate *g, const struct egress_frame *f, const char *why)
{
	gate_fail(g, -EPROTO, "the vault broke the protocol: %s: %s", egress_type_name(f->type),
	          why);
}

static void on_control(struct gate *g, const struct egress_frame *f)
{
	struct span what = span_of(NULL, 0);
	uint32_t generation;

	if (f->type == EGRESS_POLICY) {
		if (egress_parse_policy(f->payload, &generation, &what) < 0) {
			bad(g, f, "payload");
			return;
		}
		gate_reload(g, generation, what);
		policy_taken(g, generation);
		return;
	}
	if (f->type == EGRESS_REFUSE) {
		if (egress_parse_text(f->payload, &what) < 0)
			what = span_of("", 0);
		gate_fail(g, -EPIPE, "the vault refused: %.*s", (int)what.len,
		          (const char *)what.at);
	}
}

static void on_resolved(struct gate *g, uint32_t user, const struct egress_frame *f)
{
	struct egress_resolved r;

	if (egress_parse_resolved(f->payload, &r) < 0)
		bad(g, f, "payload");
	else if (user != 0)
		dns_resolved(g, user, &r);
}

/* A CONNECT's stream: fd is the caller's no more. */
static void on_connect(struct gate *g, uint32_t user, const struct egress_frame *f, int fd)
{
	struct egress_connected c = { .fail = EGRESS_CLOSED };
	enum egress_fail why;

	if (f->type == EGRESS_CONNECTED && egress_parse_connected(f->payload, &c) < 0)
		bad(g, f, "payload");
	if (user == 0 || g->fault.code != 0) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	if (f->type == EGRESS_CONNECTED) {
		if (user & USER_PEER)
			udp_connected(g, user & ~USER_PEER, c.fail, fd);
		else
			flow_connected(g, &g->flows[user - 1], c.fail, fd);
		return;
	}
	if (f->type == EGRESS_REVOKED)
		why = EGRESS_REVOKED_BY_POLICY;
	else if (f->type != EGRESS_RESET || egress_parse_reset(f->payload, &why) < 0)
		why = EGRESS_CLOSED;
	if (user & USER_PEER)
		udp_cut(g, user & ~USER_PEER, uplink_reason((uint8_t)why));
	else
		flow_cut(g, &g->flows[user - 1], uplink_reason((uint8_t)why));
}

static void take(struct gate *g, const struct egress_frame *f, int got)
{
	_own_fd_ int fd = got;
	struct egress_stream *s = egress_order_find(&g->order, f->stream);
	uint8_t kind = s ? s->kind : 0;
	uint32_t user = s ? s->user : 0;
	enum egress_verdict v = egress_order_step(&g->order, EGRESS_FROM_VAULT, f);

	if (v == EGRESS_DROP)
		return;
	if (v != EGRESS_PASS)
		bad(g, f, egress_verdict_word(v));
	else if (f->stream == 0)
		on_control(g, f);
	else if (kind == EGRESS_RESOLVE)
		on_resolved(g, user, f);
	else if (kind == EGRESS_CONNECT)
		on_connect(g, user, f, steal_fd(&fd));
	else if (user != 0)
		reader_frame(g, &g->flows[user - 1], f);
}

void uplink_readable(struct gate *g)
{
	struct err e = { 0 };
	struct egress_frame f;
	int fd = -1;
	int r = egress_link_recv(g->vault, &e);

	if (r < 0) {
		gate_fail(g, r, "%s", e.text);
		return;
	}
	while (g->fault.code == 0 && (r = egress_link_next(g->vault, &f, &fd)) == 0)
		take(g, &f, fd);
	if (r == -EBADMSG)
		gate_fail(g, -EPROTO, "the vault broke the protocol: no frame");
}

void uplink_flush(struct gate *g)
{
	struct err e = { 0 };
	int r = egress_link_flush(g->vault, &e);

	if (r < 0)
		gate_fail(g, r, "%s", e.text);
	gate_watch_room(g, egress_link_fd(g->vault), SOURCE_VAULT, egress_link_waits(g->vault),
	                &g->vault_wakes);
}
