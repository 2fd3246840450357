#include "gate/gate_inner.h"

#include "gate/hello_parse.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * The first bytes stay in the endpoint's ring until there is a verdict; each time more came they
 * are copied to the scratch buffer and read from the front. A ring holds 256 KiB, a first flight is
 * looked at up to 16 KiB and 5 s, so what a guest can make us read again is bounded by its
 * segments.
 *
 * Who names no host that the address is pinned to goes no further, whatever the bytes: a connection
 * is not dialled before its name is known, and the vault dials the pinned address alone.
 */

enum { TLS_1_2 = 0x0303 };

/* What came so far, at most HELLO_MAX bytes of it. */
static struct span flight_of(struct gate *g, const struct flow *f)
{
	struct iovec iov[TCP_READ_IOVS];
	unsigned n = tcp_readable(f->tcp, iov);
	size_t len = 0;

	for (unsigned i = 0; i < n && len < HELLO_MAX; i++) {
		size_t part = iov[i].iov_len < HELLO_MAX - len ? iov[i].iov_len : HELLO_MAX - len;

		memcpy(g->scratch + len, iov[i].iov_base, part);
		len += part;
	}
	return span_of(g->scratch, len);
}

/* A refusal that says the name which was asked for, also if it is none of the address's. */
static void refuse_host(struct gate *g, struct flow *f, enum egress_layer layer,
                        const struct policy_verdict *v, struct span host)
{
	g->record_host = host;
	flow_refuse(g, f, layer, v);
	g->record_host = span_of(NULL, 0);
}

static void refuse_hello(struct gate *g, struct flow *f, enum policy_reason why, struct span host)
{
	struct policy_verdict v = { .act = POLICY_DENY, .reason = (uint8_t)why, .rule = f->rule };

	refuse_host(g, f, EGRESS_LAYER_TLS, &v, host);
}

/* More names may be pinned to an address than are looked at: the one that is named has to be. */
static void make_candidate(struct gate *g, struct flow *f, uint16_t id)
{
	uint16_t ids[POLICY_CANDIDATES_MAX];
	unsigned count = f->names_count;

	if (id == NAMES_NONE ||
	    !names_is_pinned(g->names, id, &tcp_flow_tuple(f->tcp)->remote, g->now_ms))
		return;
	for (unsigned i = 0; i < count; i++)
		if (f->names[i] == id)
			return;
	memcpy(ids, f->names, sizeof(ids));
	if (count == POLICY_CANDIDATES_MAX)
		count--;
	ids[count] = id;
	names_hold(g->names, id); /* over the change, in which others are let go */
	flow_hold_names(g, f, ids, count + 1);
	names_let_go(g->names, id);
}

/* Judges what the hello says. False: refused, and f is gone. */
static bool judge_hello(struct gate *g, struct flow *f, const struct hello *h,
                        struct policy_verdict *ret)
{
	bool named = h->sni == HELLO_SNI_NAME;
	struct span host = named ? host_span(&h->name) : span_of(NULL, 0);
	struct policy_ask a;
	uint16_t id;

	f->seen = POLICY_SEEN_TLS;
	if (named)
		make_candidate(g, f, names_find(g->names, &h->name));
	flow_ask(g, f, &a);
	a.name = named ? &h->name : NULL;
	*ret = policy_flow_verdict(g->policy, &a);
	if (ret->act != POLICY_ALLOW) {
		refuse_host(g, f, EGRESS_LAYER_TLS, ret, host);
		return false;
	}
	if (h->sni == HELLO_SNI_INVALID || h->version < TLS_1_2) {
		refuse_hello(g, f, h->version < TLS_1_2 ? POLICY_NOT_TLS : POLICY_NAME_INVALID,
		             host);
		return false;
	}
	if (!ret->inspect && gate_bytes_over(g)) {
		refuse_hello(g, f, POLICY_LIMIT_BYTES, host);
		return false;
	}
	id = named ? names_take(g->names, &h->name) : NAMES_NONE;
	if ((named && id == NAMES_NONE) || flow_host_full(g, id, &tcp_flow_tuple(f->tcp)->remote)) {
		refuse_hello(g, f, POLICY_LIMIT_CONNECTIONS, host);
		return false;
	}
	flow_set_name(g, f, id);
	f->host = id;
	f->rule = ret->rule;
	f->pin_only = ret->pin_only;
	return true;
}

/* To the vault: it connects while the first flight waits. */
static void connect_mid(struct gate *g, struct flow *f, enum egress_protocol proto, uint16_t name)
{
	struct policy_ask a;

	flow_ask(g, f, &a);
	f->stream = uplink_connect(g, &a, f->rule, proto, name, flow_index(g, f));
	f->number = f->stream;
	if (f->stream == 0) {
		flow_refuse_why(g, f, EGRESS_LAYER_TCP, POLICY_VAULT_DOWN);
		return;
	}
	flow_become(g, f, FLOW_ASKING_MID);
	flow_enlist(g, f, LIST_ASKING, g->now_ms + GATE_ASKING_MS);
}

static void first_tls(struct gate *g, struct flow *f, const struct hello *h)
{
	const struct net_addr *addr = &tcp_flow_tuple(f->tcp)->remote;
	struct policy_verdict v;

	if (!judge_hello(g, f, h, &v))
		return;
	if (v.inspect) {
		reader_start(g, f, true);
		return;
	}
	/* a name that is not pinned here went through by a rule for the address */
	connect_mid(g, f, EGRESS_TLS,
	            f->name != NAMES_NONE && names_is_pinned(g->names, f->name, addr, g->now_ms)
	                    ? f->name
	                    : NAMES_NONE);
}

/* Neither TLS nor HTTP, where names that may begin so share the address with others. */
static void first_raw(struct gate *g, struct flow *f)
{
	struct policy_verdict v;
	struct policy_ask a;

	f->seen = POLICY_SEEN_RAW;
	flow_ask(g, f, &a);
	v = policy_flow_verdict(g->policy, &a);
	if (v.act != POLICY_ALLOW) {
		flow_refuse(g, f, EGRESS_LAYER_TCP, &v);
		return;
	}
	f->rule = v.rule;
	if (gate_bytes_over(g)) {
		flow_refuse_why(g, f, EGRESS_LAYER_TCP, POLICY_LIMIT_BYTES);
		return;
	}
	f->pin_only = v.pin_only;
	connect_mid(g, f, EGRESS_TCP, gate_pick_name(g, &a, f->names));
}

static void first_http(struct gate *g, struct flow *f, struct span flight)
{
	int r = hello_parse_http(flight);

	if (r == -EAGAIN)
		return;
	if (r == 0) {
		f->seen = POLICY_SEEN_HTTP;
		reader_start(g, f, false);
	} else if (f->needs == POLICY_NEEDS_NAME) {
		first_raw(g, f);
	} else {
		flow_refuse_why(g, f, EGRESS_LAYER_HTTP, POLICY_NOT_HTTP);
	}
}

void first_read(struct gate *g, struct flow *f)
{
	struct span flight = flight_of(g, f);
	struct hello h;
	int r;

	if (flight.len == 0) {
		if (tcp_at_eof(f->tcp))
			flow_abort(g, f); /* it asked for nothing */
		return;
	}
	if (f->needs == POLICY_NEEDS_HTTP) {
		first_http(g, f, flight);
		return;
	}
	r = hello_parse(flight, &h);
	if (r == -EAGAIN && flight.len < HELLO_MAX)
		return;
	if (r == 0)
		first_tls(g, f, &h);
	else if (r == -EPROTO && f->needs == POLICY_NEEDS_NAME)
		first_http(g, f, flight);
	else if (r == -EPROTO)
		flow_refuse_why(g, f, EGRESS_LAYER_TLS, POLICY_NOT_TLS);
	else
		flow_refuse_why(g, f, EGRESS_LAYER_TLS, POLICY_AMBIGUOUS);
}

void first_late(struct gate *g, struct flow *f)
{
	/* silence, or half a ClientHello: what it would have become nobody can say */
	if (f->needs == POLICY_NEEDS_HTTP)
		flow_refuse_why(g, f, EGRESS_LAYER_HTTP, POLICY_NOT_HTTP);
	else
		flow_refuse_why(g, f, EGRESS_LAYER_TLS, POLICY_NOT_TLS);
}

bool first_peek(struct gate *g, struct flow *f, bool *ret_gone)
{
	struct span flight = flight_of(g, f);
	struct policy_verdict v;
	struct hello h;
	int r;

	if (flight.len == 0)
		return tcp_at_eof(f->tcp);
	r = hello_parse(flight, &h);
	if (r == -EAGAIN && flight.len < HELLO_MAX) {
		if (f->list == LIST_NONE)
			flow_enlist(g, f, LIST_FIRST, g->now_ms + GATE_FIRST_MS);
		return false;
	}
	flow_delist(g, f);
	f->peek = false;
	if (r == -EPROTO)
		return true;
	*ret_gone = true;
	if (r != 0) {
		flow_refuse_why(g, f, EGRESS_LAYER_TLS, POLICY_AMBIGUOUS);
		return false;
	}
	if (!judge_hello(g, f, &h, &v))
		return false;
	if (v.inspect) { /* it is connected already: too late to read it */
		flow_refuse_why(g, f, EGRESS_LAYER_TLS, POLICY_PROTOCOL_NOT_ALLOWED);
		return false;
	}
	*ret_gone = false;
	return true;
}
