#include "guardpage.h"
#include "net/dns.h"
#include "net/head.h"
#include "test.h"

#include <errno.h>

/* header; question a.Ex-1.com A IN; OPT with 1232 bytes and one option */
static const uint8_t query[] = {
	0x12, 0x34, 0x01, 0x00, 0, 1,   0,   0,   0, 0, 0,  1, 1, 'a', 4,
	'E',  'x',  '-',  '1',  3, 'c', 'o', 'm', 0, 0, 1,  0, 1, 0,   0,
	41,   0x04, 0xd0, 0,    0, 0,   0,   0,   6, 0, 10, 0, 2, 9,   9,
};
enum { QUESTION_END = 28 };

static struct dns_query parsed(const uint8_t *at, size_t len)
{
	struct dns_query q;

	CHECK_EQ(dns_parse_query(guard_span(at, len), &q), 0);
	return q;
}

static uint8_t code_of(const uint8_t *at, size_t len)
{
	return parsed(at, len).rcode;
}

TEST(query_is_read)
{
	struct dns_query q = parsed(query, sizeof(query));

	CHECK_EQ(q.rcode, DNS_NOERROR);
	CHECK_STR(q.name, "a.ex-1.com");
	CHECK(q.plain && q.edns && q.recursion_wanted && q.id == 0x1234);
	CHECK_EQ(q.type, DNS_A);
	CHECK_EQ(q.udp_max, 1232);
	CHECK_EQ(q.question.len, QUESTION_END - DNS_HEAD_BYTES);
}

TEST(every_prefix_is_dropped_or_an_error)
{
	uint8_t plain[QUESTION_END];

	for (size_t len = 0; len < sizeof(query); len++) {
		struct dns_query q;
		int r = dns_parse_query(guard_span(query, len), &q);

		CHECK_EQ(r, len < DNS_HEAD_BYTES ? -EBADMSG : 0);
		CHECK(r < 0 || q.rcode == DNS_FORMERR);
	}
	memcpy(plain, query, sizeof(plain));
	plain[11] = 0; /* no OPT announced */
	CHECK_EQ(code_of(plain, sizeof(plain)), DNS_NOERROR);
	CHECK_EQ(parsed(plain, sizeof(plain)).udp_max, DNS_UDP_PLAIN_MAX);
}

TEST(fields_that_make_it_no_query)
{
	static const struct {
		uint8_t at, to;
		int code;
	} rows[] = {
		{ 2, 0x81, -EBADMSG },     /* an answer */
		{ 2, 0x29, DNS_NOTIMP },   /* opcode 5, update */
		{ 2, 0x03, DNS_FORMERR },  /* truncated */
		{ 5, 0, DNS_FORMERR },     /* no question */
		{ 5, 2, DNS_FORMERR },     /* two */
		{ 7, 1, DNS_FORMERR },     /* an answer record */
		{ 9, 1, DNS_FORMERR },     /* an authority record */
		{ 11, 2, DNS_FORMERR },    /* two additional records */
		{ 11, 0, DNS_FORMERR },    /* bytes behind the question */
		{ 12, 0xc0, DNS_FORMERR }, /* a pointer */
		{ 12, 0x40, DNS_FORMERR }, /* a label of a kind unknown */
		{ 27, 3, DNS_NOTIMP },     /* class CHAOS */
		{ 28, 1, DNS_FORMERR },    /* OPT not of the root */
		{ 30, 1, DNS_FORMERR },    /* no OPT */
		{ 34, 1, DNS_BADVERS },
		{ 38, 5, DNS_FORMERR }, /* an option's length beyond the record's */
		{ 42, 3, DNS_FORMERR }, /* the same, from inside */
		{ 32, 1, DNS_NOERROR },
	};
	uint8_t q[sizeof(query)];
	struct dns_query got;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int r;

		memcpy(q, query, sizeof(q));
		q[rows[i].at] = rows[i].to;
		r = dns_parse_query(guard_span(q, sizeof(q)), &got);
		CHECK_EQ(r < 0 ? r : got.rcode, rows[i].code);
	}
}

TEST(names_long_and_odd)
{
	uint8_t q[DNS_QUERY_MAX + 1] = { 0, 1, 0, 0, 0, 1 };
	struct dns_query got;
	size_t at = DNS_HEAD_BYTES;

	for (int i = 0; i < 127; i++) { /* 254 bytes and the end: the longest name there is */
		q[at++] = 1;
		q[at++] = (uint8_t)(i == 5 ? '.' : 'a');
	}
	q[at] = 0;
	q[at + 2] = DNS_AAAA;
	q[at + 4] = 1;
	got = parsed(q, at + 5);
	CHECK_EQ(got.rcode, DNS_NOERROR);
	CHECK_EQ(got.name_len, DNS_NAME_MAX);
	CHECK(!got.plain && got.name[10] == '?');
	memmove(q + 14, q + 12, at - 12 + 5); /* one label more */
	CHECK_EQ(code_of(q, at + 7), DNS_FORMERR);

	CHECK_EQ(dns_parse_query(span_of(q, sizeof(q)), &got), -EBADMSG);
	memset(q + 12, 0, 10); /* the root */
	q[14] = q[16] = 1;
	got = parsed(q, 17);
	CHECK(got.rcode == DNS_NOERROR && got.name_len == 0 && got.plain);
}

TEST(stream_by_every_prefix)
{
	uint8_t at[2 + sizeof(query)];
	struct span message;

	put_be16(at, sizeof(query));
	memcpy(at + 2, query, sizeof(query));
	for (size_t len = 0; len <= sizeof(at); len++) {
		struct span in = guard_span(at, len);

		CHECK_EQ(dns_parse_tcp(&in, &message), len < sizeof(at) ? -EAGAIN : 0);
		CHECK_EQ(in.len, len < sizeof(at) ? len : 0);
	}
	put_be16(at, 11);
	CHECK_EQ(dns_parse_tcp(&(struct span){ at, sizeof(at) }, &message), -EBADMSG);
	put_be16(at, DNS_QUERY_MAX + 1);
	CHECK_EQ(dns_parse_tcp(&(struct span){ at, sizeof(at) }, &message), -EBADMSG);
}

static uint8_t out_at[DNS_REPLY_MAX];
static struct buf out;

static int answer(const struct dns_query *q, const struct dns_answer *a, size_t max, bool tcp)
{
	buf_init(&out, out_at, sizeof(out_at));
	return dns_put_answer(&out, q, a, max, tcp);
}

static unsigned be16_at(size_t at)
{
	return (unsigned)(out.at[at] << 8 | out.at[at + 1]);
}

TEST(answer_along_a_chain)
{
	const struct dns_record records[] = {
		{ DNS_CNAME, 60, span_str("a.ex-1.com"), { 0 }, span_str("edge.cdn.test") },
		{ DNS_A, 60, span_str("edge.cdn.test"), net_addr4(192, 0, 2, 1), { 0 } },
		{ DNS_A, 60, span_str("edge.cdn.test"), net_addr4(192, 0, 2, 2), { 0 } },
	};
	const struct dns_answer a = { .records = records, .count = 3 };
	static const uint8_t expected[] = {
		0xc0, 12,   0,   5, 0,   1,   0,    0, 0,   60,  0,   15,  4, 'e',
		'd',  'g',  'e', 3, 'c', 'd', 'n',  4, 't', 'e', 's', 't', 0, 0xc0,
		40,   0,    1,   0, 1,   0,   0,    0, 60,  0,   4,   192, 0, 2,
		1,    0xc0, 40,  0, 1,   0,   1,    0, 0,   0,   60,  0,   4, 192,
		0,    2,    2,   0, 0,   41,  0x10, 0, 0,   0,   0,   0,   0, 0,
	};
	struct dns_query q = parsed(query, sizeof(query));

	CHECK_EQ(answer(&q, &a, q.udp_max, false), 0);
	CHECK_EQ(be16_at(0), 0x1234);
	CHECK_EQ(be16_at(2), 0x8180);
	CHECK_EQ(be16_at(4), 1);
	CHECK_EQ(be16_at(6), 3);
	CHECK_EQ(be16_at(10), 1);
	/* the question comes back as it was written, capitals too */
	CHECK_MEM(span_of(out.at + 12, 16), span_of(query + 12, 16));
	CHECK_MEM(span_of(out.at + 28, out.len - 28), span_of(expected, sizeof(expected)));
}

TEST(negative_answers)
{
	struct dns_query q = parsed(query, sizeof(query));

	for (int i = 0; i < 2; i++) {
		const struct dns_answer a = { .rcode = i ? DNS_NXDOMAIN : DNS_NOERROR,
			                      .negative_ttl_s = 5 };

		CHECK_EQ(answer(&q, &a, q.udp_max, false), 0);
		CHECK_EQ(be16_at(2), i ? 0x8183 : 0x8180);
		CHECK(be16_at(6) == 0 && be16_at(8) == 1);
		CHECK_EQ(be16_at(29), DNS_SOA);
		CHECK_EQ(be16_at(37), 22);
		CHECK_EQ(out.at[60], 5); /* the SOA's last byte: its minimum */
	}
}

TEST(error_answers)
{
	const struct dns_answer failed = { .rcode = DNS_SERVFAIL };
	struct dns_query q = parsed(query, 20);
	struct dns_answer a = { .rcode = q.rcode };

	CHECK_EQ(answer(&q, &a, DNS_UDP_PLAIN_MAX, false), 0);
	CHECK_EQ(out.len, DNS_HEAD_BYTES);
	CHECK_EQ(be16_at(2), 0x8181);
	CHECK_EQ(be16_at(4), 0);

	q = parsed(query, sizeof(query));
	CHECK_EQ(answer(&q, &failed, q.udp_max, false), 0);
	CHECK(be16_at(2) == 0x8182 && be16_at(8) == 0);
	a.rcode = DNS_BADVERS; /* its upper bits stand in the OPT record */
	CHECK_EQ(answer(&q, &a, q.udp_max, false), 0);
	CHECK(be16_at(2) == 0x8180 && out.at[out.len - 6] == 1);
}

TEST(answers_that_do_not_fit_are_truncated)
{
	struct dns_record records[DNS_RRS_MAX];
	struct dns_answer a = { .records = records, .count = DNS_RRS_MAX };
	struct dns_query q = parsed(query, sizeof(query));

	for (int i = 0; i < DNS_RRS_MAX; i++)
		records[i] = (struct dns_record){ .type = DNS_AAAA,
			                          .owner = span_str("a.ex-1.com"),
			                          .at.family = 6 };
	CHECK_EQ(answer(&q, &a, q.udp_max, false), 0); /* 64 x 28 over 1232 */
	CHECK_EQ(be16_at(2), 0x8380);
	CHECK(be16_at(6) == 0 && be16_at(10) == 1);
	CHECK_EQ(out.len, QUESTION_END + 11);

	CHECK_EQ(answer(&q, &a, DNS_REPLY_MAX, true), 0);
	CHECK_EQ(out.len, 2 + QUESTION_END + DNS_RRS_MAX * 28 + 11);
	CHECK_EQ(be16_at(0), out.len - 2);
	CHECK_EQ(be16_at(8), DNS_RRS_MAX);
	for (size_t max = 0; max < out.len; max += 7) {
		int r = answer(&q, &a, max, false);

		CHECK_EQ(r, max < QUESTION_END + 11 ? -EMSGSIZE : 0);
		CHECK(out.len <= max && (r == 0 || out.len == 0));
	}
}

TEST(records_that_are_none)
{
	char long_label[DNS_LABEL_MAX + 4] = "b.";
	const char *const names[] = { "a..b", ".a", "a.", long_label };
	struct dns_query q = parsed(query, sizeof(query));
	struct dns_record r = { .type = DNS_A, .at.family = 4 };
	struct dns_answer a = { .records = &r, .count = 1 };

	memset(long_label + 2, 'x', DNS_LABEL_MAX + 1);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		r.owner = span_str(names[i]);
		CHECK_EQ(answer(&q, &a, 4096, false), -EINVAL);
		CHECK_EQ(out.len, 0);
	}
	r.owner = span_str("x");
	r.at.family = 6;
	CHECK_EQ(answer(&q, &a, 4096, false), -EINVAL);
	a.count = DNS_RRS_MAX + 1;
	CHECK_EQ(answer(&q, &a, 4096, false), -EINVAL);
}

TEST_MAIN()
