#include "net/dns.h"
#include "net/head.h"

#include <assert.h>
#include <errno.h>

enum {
	FLAG_ANSWER = 0x8000,
	FLAG_TRUNCATED = 0x0200,
	FLAG_RECURSION = 0x0100,
	FLAG_RECURSION_HERE = 0x0080,
	OPCODE_SHIFT = 11,
	CLASS_IN = 1,
	POINTER = 0xc000,
	POINTER_MAX = 0x3fff,
	OPT_BYTES = 11,
	SOA_BYTES = 1 + 10 + 1 + 1 + 20,
};

/* A message as it grows. Names already in it are pointed to: the question, and CNAME targets. */
struct message {
	struct buf b; /* from the header on */
	bool bad;     /* a record that is none */
	struct {
		struct span text;
		uint16_t at;
	} names[DNS_RRS_MAX + 1];
	size_t name_count;
};

static void put16(struct message *m, uint16_t v)
{
	uint8_t at[2];

	put_be16(at, v);
	buf_put(&m->b, at, sizeof(at));
}

static void put32(struct message *m, uint32_t v)
{
	put16(m, (uint16_t)(v >> 16));
	put16(m, (uint16_t)v);
}

static void remember(struct message *m, struct span text, size_t at)
{
	if (at > POINTER_MAX)
		return;
	assert(m->name_count < DNS_RRS_MAX + 1);
	m->names[m->name_count].text = text;
	m->names[m->name_count++].at = (uint16_t)at;
}

static void put_labels(struct message *m, struct span text)
{
	struct span label;

	if (text.len > DNS_NAME_MAX || (text.len > 0 && text.at[text.len - 1] == '.'))
		m->bad = true;
	while (take_until(&text, '.', &label)) {
		if (label.len == 0 || label.len > DNS_LABEL_MAX)
			m->bad = true;
		buf_put_u8(&m->b, (uint8_t)label.len);
		buf_put_span(&m->b, label);
	}
	buf_put_u8(&m->b, 0);
}

static void put_name(struct message *m, struct span text)
{
	for (size_t i = 0; i < m->name_count; i++) {
		if (span_equal(m->names[i].text, text)) {
			put16(m, (uint16_t)(POINTER | m->names[i].at));
			return;
		}
	}
	put_labels(m, text);
}

static void put_cname(struct message *m, struct span target)
{
	size_t length_at = m->b.len;

	put16(m, 0);
	if (!buf_ok(&m->b))
		return;
	put_name(m, target);
	if (!buf_ok(&m->b))
		return;
	put_be16(m->b.at + length_at, (uint16_t)(m->b.len - length_at - 2));
	remember(m, target, length_at + 2);
}

static void put_record(struct message *m, const struct dns_record *r)
{
	unsigned bytes = r->type == DNS_A ? 4 : 16;

	put_name(m, r->owner);
	put16(m, r->type);
	put16(m, CLASS_IN);
	put32(m, r->ttl_s);
	if (r->type == DNS_CNAME) {
		put_cname(m, r->target);
		return;
	}
	if (!(r->type == DNS_A && r->at.family == 4) && !(r->type == DNS_AAAA && r->at.family == 6))
		m->bad = true;
	put16(m, (uint16_t)bytes);
	buf_put(&m->b, r->at.at, bytes);
}

/* "The root says so": one SOA whose only meaning is the time (RFC 2308, 3). */
static void put_soa(struct message *m, uint32_t ttl_s)
{
	buf_put_u8(&m->b, 0);
	put16(m, DNS_SOA);
	put16(m, CLASS_IN);
	put32(m, ttl_s);
	put16(m, 22);
	buf_put_u8(&m->b, 0); /* its server */
	buf_put_u8(&m->b, 0); /* its mailbox */
	put32(m, 1);          /* serial */
	put32(m, 3600);       /* refresh, retry, expire: for secondaries, of which there are none */
	put32(m, 600);
	put32(m, 86400);
	put32(m, ttl_s);
}

static void put_opt(struct message *m, uint8_t rcode)
{
	buf_put_u8(&m->b, 0);
	put16(m, DNS_OPT);
	put16(m, DNS_UDP_MAX);
	buf_put_u8(&m->b, rcode >> 4);
	buf_put_u8(&m->b, 0);
	put16(m, 0);
	put16(m, 0);
}

static void put_head(struct message *m, const struct dns_query *q, uint8_t rcode)
{
	unsigned flags = FLAG_ANSWER | FLAG_RECURSION_HERE | (rcode & 15U);

	flags |= (unsigned)q->opcode << OPCODE_SHIFT;
	if (q->recursion_wanted)
		flags |= FLAG_RECURSION;
	put16(m, q->id);
	put16(m, (uint16_t)flags);
	put16(m, q->question.len > 0);
	put16(m, 0);
	put16(m, 0);
	put16(m, q->edns);
	if (q->question.len == 0)
		return;
	buf_put_span(&m->b, q->question);
	remember(m, span_of(q->name, q->name_len), DNS_HEAD_BYTES);
}

static void put_body(struct message *m, const struct dns_query *q, const struct dns_answer *a,
                     size_t room)
{
	size_t began = m->b.len;
	bool negative = a->count == 0 && q->question.len > 0 &&
	                (a->rcode == DNS_NOERROR || a->rcode == DNS_NXDOMAIN);

	m->b.size = room;
	for (size_t i = 0; i < a->count; i++)
		put_record(m, &a->records[i]);
	if (negative)
		put_soa(m, a->negative_ttl_s);
	if (!buf_ok(&m->b)) { /* all or none: half an answer looks like a whole one */
		m->b.over = false;
		m->b.len = began;
		m->b.at[2] |= FLAG_TRUNCATED >> 8;
		return;
	}
	put_be16(m->b.at + 6, (uint16_t)a->count);
	put_be16(m->b.at + 8, negative);
}

int dns_put_answer(struct buf *out, const struct dns_query *q, const struct dns_answer *a,
                   size_t max, bool tcp)
{
	size_t prefix = tcp ? 2 : 0;
	size_t opt = q->edns ? OPT_BYTES : 0;
	size_t room = out->size - out->len;
	struct message m = { 0 };

	if (a->count > DNS_RRS_MAX || room < prefix)
		return a->count > DNS_RRS_MAX ? -EINVAL : -EMSGSIZE;
	room -= prefix;
	if (room > max)
		room = max;
	if (room > UINT16_MAX)
		room = UINT16_MAX;
	if (room < DNS_HEAD_BYTES + q->question.len + opt)
		return -EMSGSIZE;
	buf_init(&m.b, out->at + out->len + prefix, room);
	put_head(&m, q, a->rcode);
	put_body(&m, q, a, room - opt);
	if (m.bad)
		return -EINVAL;
	m.b.size = room;
	if (q->edns)
		put_opt(&m, a->rcode);
	assert(buf_ok(&m.b));
	if (tcp)
		put_be16(out->at + out->len, (uint16_t)m.b.len);
	out->len += prefix + m.b.len;
	return 0;
}
