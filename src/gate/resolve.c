#include "gate/gate_inner.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation: every question is answered here
 *
 * To whatever address the guest sends it, a question to port 53 ends here. What a rule covers is
 * asked of the vault, each name and family once at a time, and the answer is kept and pinned
 * (names.h). All else never leaves: it is NXDOMAIN if the policy says no, NODATA for types other
 * than addresses, and for single labels, localhost and reverse names whatever a lone resolver
 * knows.
 *
 * An answer holds the asked name's addresses and nothing of the chain that led to them: the guest
 * may connect by the name it asked for, and by no other.
 *
 * Names are bytes that leave, too, so questions are limited, and those that go out once more: a
 * flood of names below an allowed wildcard is slow before it is wide.
 */

enum { LOCAL_TTL_S = 600 };

int dns_init(struct gate *g, struct err *e)
{
	g->asked = calloc(GATE_ASKED_MAX, sizeof(*g->asked));
	g->asked_first =
		calloc((size_t)(GATE_NAMES_MAX + 1) * NAMES_FAMILIES, sizeof(*g->asked_first));
	if (!g->asked || !g->asked_first)
		return err_set(e, -ENOMEM, "out of memory for questions");
	return 0;
}

/* Where an answer goes: a connection, or a datagram. */
struct asker {
	struct flow *flow; /* NULL: tuple */
	struct net_tuple tuple;
};

static void send_answer(struct gate *g, const struct asker *to, const struct dns_query *q,
                        const struct dns_answer *a)
{
	struct buf out;

	buf_init(&out, g->scratch, GATE_SCRATCH_BYTES);
	if (dns_put_answer(&out, q, a, to->flow ? DNS_REPLY_MAX : q->udp_max, to->flow != NULL) < 0)
		return;
	if (!to->flow)
		(void)net_link_send_udp(&g->link, &to->tuple, buf_span(&out));
	else /* what it does not take it does not read: the connection ends by its time */
		(void)tcp_write(g->tcp, to->flow->tcp, buf_span(&out), g->now_ms);
}

static void answer_empty(struct gate *g, const struct asker *to, const struct dns_query *q,
                         enum dns_rcode rcode, uint32_t ttl_s)
{
	struct dns_answer a = { .rcode = (uint8_t)rcode, .negative_ttl_s = ttl_s };

	send_answer(g, to, q, &a);
}

static void answer_addrs(struct gate *g, const struct asker *to, const struct dns_query *q,
                         const struct net_addr *addrs, unsigned count, uint32_t ttl_s)
{
	struct dns_record records[DNS_RRS_MAX];
	struct dns_answer a = { .rcode = DNS_NOERROR, .records = records, .count = count };

	for (unsigned i = 0; i < count; i++)
		records[i] = (struct dns_record){
			.type = addrs[i].family == 6 ? DNS_AAAA : DNS_A,
			.ttl_s = ttl_s,
			.owner = span_of(q->name, q->name_len),
			.at = addrs[i],
		};
	send_answer(g, to, q, &a);
}

/* -- records ----------------------------------------------------------------------------------- */

/* The same refusal of a name within moments is one record: resolvers ask for both families. */
static void record_name(struct gate *g, enum egress_event event, enum policy_reason why,
                        uint16_t rule, struct span name)
{
	uint8_t what[DNS_NAME_MAX + 2] = { EGRESS_LAYER_DNS, (uint8_t)why };
	struct egress_record r = {
		.event = (uint8_t)event,
		.layer = EGRESS_LAYER_DNS,
		.reason = (uint8_t)why,
		.rule = rule,
		.port = 53,
		.host = name,
	};

	memcpy(what + 2, name.at, name.len);
	if (event == EGRESS_EVENT_REFUSED &&
	    !recent_is_new(&g->recent, span_of(what, name.len + 2), g->now_ms))
		return;
	r.flow = gate_number(g);
	gate_record(g, &r);
}

/* -- what the guest is told of a name ---------------------------------------------------------- */

static void answer_known(struct gate *g, const struct asker *to, const struct dns_query *q,
                         uint16_t id, enum names_family family)
{
	struct net_addr addrs[EGRESS_ADDRESSES_MAX];
	uint32_t ttl_s = names_ttl_s(g->names, id, family, g->now_ms);
	unsigned count;

	switch (names_state(g->names, id, family, g->now_ms)) {
	case NAMES_GOOD:
		count = names_addrs(g->names, id, family, addrs, EGRESS_ADDRESSES_MAX);
		names_told(g->names, id, family);
		answer_addrs(g, to, q, addrs, count, ttl_s);
		break;
	case NAMES_NODATA:
		answer_empty(g, to, q, DNS_NOERROR, ttl_s);
		break;
	case NAMES_NXDOMAIN:
		answer_empty(g, to, q, DNS_NXDOMAIN, ttl_s);
		break;
	case NAMES_FAILED:
	case NAMES_ASKED:
	case NAMES_UNKNOWN:
		answer_empty(g, to, q, DNS_SERVFAIL, 0);
		break;
	}
}

/* -- questions that wait ----------------------------------------------------------------------- */

static uint32_t *waiters_of(struct gate *g, uint16_t id, enum names_family family)
{
	return &g->asked_first[(uint32_t)id * NAMES_FAMILIES + family];
}

static bool wait_for_answer(struct gate *g, const struct asker *from, const struct dns_query *q,
                            uint16_t id, enum names_family family)
{
	uint32_t i = g->asked_free;
	uint32_t *head = waiters_of(g, id, family);
	struct asked *a;

	if (i != 0)
		g->asked_free = g->asked[i - 1].next;
	else if (g->asked_used < GATE_ASKED_MAX)
		i = ++g->asked_used;
	else
		return false;
	a = &g->asked[i - 1];
	*a = (struct asked){
		.taken = true,
		.family = (uint8_t)family,
		.name = id,
		.flow = from->flow ? flow_index(g, from->flow) : 0,
		.next = *head,
		.tuple = from->tuple,
		.query = *q,
	};
	if (q->question.len > sizeof(a->room)) { /* cannot be: a name and two numbers */
		a->query.question.len = 0;
	} else {
		memcpy(a->room, q->question.at, q->question.len);
		a->query.question.at = a->room;
	}
	if (from->flow)
		from->flow->asked = i;
	*head = i;
	g->asked_count++;
	return true;
}

static void tell_waiters(struct gate *g, uint16_t id, enum names_family family)
{
	uint32_t *head = waiters_of(g, id, family);
	uint32_t i = *head;

	*head = 0;
	while (i != 0) {
		struct asked *a = &g->asked[i - 1];
		struct asker to = { .tuple = a->tuple };
		uint32_t next = a->next;

		if (a->flow != 0)
			to.flow = &g->flows[a->flow - 1];
		if (a->taken)
			answer_known(g, &to, &a->query, id, family);
		a->next = g->asked_free;
		g->asked_free = i;
		g->asked_count--;
		if (to.flow && a->taken) {
			to.flow->asked = 0;
			flow_queue(g, to.flow); /* there may be another question behind it */
		}
		i = next;
	}
}

void dns_flow_gone(struct gate *g, const struct flow *f)
{
	if (f->asked == 0)
		return;
	g->asked[f->asked - 1].taken = false; /* it stays in its list, and nobody is told */
	g->asked[f->asked - 1].flow = 0;
}

/* -- what is asked of the vault ---------------------------------------------------------------- */

/* Refused for how many there are. SERVFAIL: it may be tried again, which REFUSED does not say. */
static void limited(struct gate *g, const struct asker *to, const struct dns_query *q)
{
	g->stats.dns_limited++;
	if (recent_is_new(&g->recent, span_str("dns limit"), g->now_ms))
		record_name(g, EGRESS_EVENT_REFUSED, POLICY_LIMIT_DNS, POLICY_RULE_NONE,
		            span_of(q->name, q->name_len));
	answer_empty(g, to, q, DNS_SERVFAIL, 0);
}

static void look_up(struct gate *g, const struct asker *from, const struct dns_query *q,
                    const struct host_name *host)
{
	enum names_family family = q->type == DNS_AAAA ? NAMES_IP6 : NAMES_IP4;
	uint16_t id = names_take(g->names, host);
	enum names_state state;

	if (id == NAMES_NONE) {
		limited(g, from, q);
		return;
	}
	state = names_state(g->names, id, family, g->now_ms);
	if (state != NAMES_UNKNOWN && state != NAMES_ASKED) {
		answer_known(g, from, q, id, family);
		return;
	}
	if (state == NAMES_UNKNOWN && !bucket_take(&g->lookup_bucket, 1, g->now_ms)) {
		limited(g, from, q);
		return;
	}
	if (!wait_for_answer(g, from, q, id, family)) {
		limited(g, from, q);
		return;
	}
	if (state == NAMES_ASKED)
		return;
	g->stats.dns_lookups++;
	names_asked(g->names, id, family);
	if (uplink_resolve(g, id, family) == 0) {
		names_bad(g->names, id, family, NAMES_FAILED, GATE_FAILED_S, g->now_ms);
		tell_waiters(g, id, family);
	}
}

/* The vault judges addresses. So do we: neither leaves it to the other. */
static uint8_t judge_addrs(const struct egress_resolved *r, enum names_family family,
                           struct net_addr *ret)
{
	for (unsigned i = 0; i < r->count; i++) {
		struct net_addr *a = &ret[i];
		struct policy_addr p;
		enum addr_class what;

		*a = (struct net_addr){ .family = r->addr[i].family };
		memcpy(a->at, r->addr[i].bytes, a->family == 6 ? 16 : 4);
		if (a->family != (family == NAMES_IP6 ? 6 : 4))
			return EGRESS_DNS;
		p = gate_policy_addr(a);
		what = policy_address_verdict(&p).class_;
		if (what == ADDR_METADATA)
			return EGRESS_METADATA;
		if (what == ADDR_LINK_LOCAL)
			return EGRESS_SPECIAL;
	}
	return EGRESS_OK;
}

/* What the guest is told where there is no address, and whether it is a finding. */
static enum names_state state_of_fail(uint8_t fail)
{
	switch ((enum egress_fail)fail) {
	case EGRESS_NO_ADDRESS:
		return NAMES_NODATA;
	case EGRESS_NO_NAME:
	case EGRESS_SPECIAL:
	case EGRESS_METADATA:
	case EGRESS_DENIED:
	case EGRESS_NOT_RESOLVED:
		return NAMES_NXDOMAIN;
	case EGRESS_OK:
	case EGRESS_DNS:
	case EGRESS_PLACEHOLDER:
	case EGRESS_REFUSED:
	case EGRESS_UNREACHABLE:
	case EGRESS_TIMEOUT:
	case EGRESS_CERTIFICATE:
	case EGRESS_PROTOCOL:
	case EGRESS_CLOSED:
	case EGRESS_LIMIT:
	case EGRESS_REVOKED_BY_POLICY:
	case EGRESS_CANCELLED:
	case EGRESS_INTERNAL:
	case EGRESS_TOO_LARGE:
	case EGRESS_FULL:
	case EGRESS_FAIL_COUNT:
		break;
	}
	return NAMES_FAILED;
}

static void resolved_badly(struct gate *g, uint16_t id, enum names_family family, uint8_t fail,
                           uint32_t ttl_s)
{
	struct span name = host_span(names_host(g->names, id));
	enum names_state state = state_of_fail(fail);

	if (fail == EGRESS_DENIED)
		ttl_s = 1; /* the policies of the two cross on the way: ask again soon */
	names_bad(g->names, id, family, state, state == NAMES_FAILED ? GATE_FAILED_S : ttl_s,
	          g->now_ms);
	if (fail == EGRESS_NO_ADDRESS)
		return; /* most names have no IPv6 */
	g->stats.dns_failed++;
	record_name(g, EGRESS_EVENT_REFUSED, uplink_reason(fail), POLICY_RULE_NONE, name);
}

void dns_resolved(struct gate *g, uint32_t user, const struct egress_resolved *r)
{
	uint16_t id = (uint16_t)(user >> 1);
	enum names_family family = (enum names_family)(user & 1);
	struct policy_verdict v = policy_name_verdict(g->policy, names_host(g->names, id));
	struct net_addr addrs[EGRESS_ADDRESSES_MAX];
	uint8_t fail = r->fail;

	if (v.act != POLICY_ALLOW)
		fail = EGRESS_DENIED; /* by the policy that came meanwhile */
	if (fail == EGRESS_OK)
		fail = judge_addrs(r, family, addrs);
	if (fail != EGRESS_OK) {
		resolved_badly(g, id, family, fail, r->ttl_s);
	} else {
		names_good(g->names, id, family, addrs, r->count, r->ttl_s, g->now_ms);
		record_name(g, EGRESS_EVENT_ALLOWED, POLICY_OK, v.rule,
		            host_span(names_host(g->names, id)));
	}
	tell_waiters(g, id, family);
}

/* -- what can be said without asking ----------------------------------------------------------- */

static bool ends_with(const struct dns_query *q, const char *tail)
{
	size_t len = strlen(tail);

	return q->name_len >= len && memcmp(q->name + q->name_len - len, tail, len) == 0;
}

/* RFC 6761, 6.3: localhost is here, for whoever asks. */
static void answer_localhost(struct gate *g, const struct asker *to, const struct dns_query *q)
{
	struct net_addr a = net_addr4(127, 0, 0, 1);

	if (q->type == DNS_AAAA)
		a = (struct net_addr){ .family = 6, .at = { [15] = 1 } };
	if (q->type == DNS_A || q->type == DNS_AAAA)
		answer_addrs(g, to, q, &a, 1, LOCAL_TTL_S);
	else
		answer_empty(g, to, q, DNS_NOERROR, LOCAL_TTL_S);
}

/* True: answered. */
static bool answer_local(struct gate *g, const struct asker *to, const struct dns_query *q)
{
	bool dotted = memchr(q->name, '.', q->name_len) != NULL;
	bool localhost = strcmp(q->name, "localhost") == 0 || ends_with(q, ".localhost");

	if (q->rcode == DNS_NOERROR && dotted && !localhost && !ends_with(q, ".arpa"))
		return false;
	g->stats.dns_local++;
	if (q->rcode != DNS_NOERROR)
		answer_empty(g, to, q, (enum dns_rcode)q->rcode, 0);
	else if (localhost)
		answer_localhost(g, to, q);
	else
		answer_empty(g, to, q, DNS_NXDOMAIN, LOCAL_TTL_S);
	return true;
}

static void refuse_name(struct gate *g, const struct asker *to, const struct dns_query *q,
                        enum policy_reason why, uint16_t rule)
{
	g->stats.dns_refused++;
	record_name(g, EGRESS_EVENT_REFUSED, why, rule, span_of(q->name, q->name_len));
	answer_empty(g, to, q, DNS_NXDOMAIN, GATE_TTL_MIN_S);
}

static void question(struct gate *g, const struct asker *from, const struct dns_query *q)
{
	struct policy_verdict v;
	struct host_name host;

	g->stats.dns_questions++;
	if (!bucket_take(&g->dns_bucket, 1, g->now_ms)) {
		limited(g, from, q);
		return;
	}
	if (answer_local(g, from, q))
		return;
	if (!q->plain || host_name_parse(span_of(q->name, q->name_len), &host) < 0) {
		refuse_name(g, from, q, POLICY_NAME_INVALID, POLICY_RULE_NONE);
		return;
	}
	if (!g->policy) {
		answer_empty(g, from, q, DNS_SERVFAIL, 0);
		return;
	}
	v = policy_name_verdict(g->policy, &host);
	if (v.act != POLICY_ALLOW)
		refuse_name(g, from, q, (enum policy_reason)v.reason, v.rule);
	else if (q->type == DNS_A || (q->type == DNS_AAAA && g->config.with_ip6))
		look_up(g, from, q, &host);
	else /* no other type is asked: HTTPS and SVCB would hand out keys and ports (DNS-11) */
		answer_empty(g, from, q, DNS_NOERROR, GATE_NEGATIVE_MAX_S);
}

/* -- the two roads ----------------------------------------------------------------------------- */

void dns_datagram(struct gate *g, const struct net_packet *p)
{
	struct asker from = { .tuple = p->tuple };
	struct dns_query q;

	if (dns_parse_query(p->udp.data, &q) == 0)
		question(g, &from, &q);
}

/* One message off the connection's front. False: there is none, or f is gone. */
static bool take_message(struct gate *g, struct flow *f)
{
	struct asker from = { .flow = f, .tuple = *tcp_flow_tuple(f->tcp) };
	uint8_t room[2 + DNS_QUERY_MAX];
	struct iovec iov[TCP_READ_IOVS];
	unsigned n = tcp_readable(f->tcp, iov);
	struct span in = span_of(room, 0);
	struct span message;
	struct dns_query q;
	int r;

	for (unsigned i = 0; i < n; i++) {
		size_t left = sizeof(room) - in.len;
		size_t part = iov[i].iov_len < left ? iov[i].iov_len : left;

		memcpy(room + in.len, iov[i].iov_base, part);
		in.len += part;
	}
	r = dns_parse_tcp(&in, &message);
	if (r == -EAGAIN)
		return false;
	if (r < 0 || dns_parse_query(message, &q) < 0) {
		flow_abort(g, f);
		return false;
	}
	tcp_consume(g->tcp, f->tcp, 2 + message.len, g->now_ms);
	flow_enlist(g, f, LIST_DNS, g->now_ms + GATE_DNS_IDLE_MS);
	question(g, &from, &q);
	return true;
}

void dns_stream(struct gate *g, struct flow *f)
{
	/* one question at a time: what comes behind it waits in the ring */
	while (f->asked == 0 && take_message(g, f))
		continue;
	if (f->kind == FLOW_DNS && f->asked == 0 && tcp_at_eof(f->tcp))
		tcp_shutdown(g->tcp, f->tcp, g->now_ms);
}
