/*
 * A DNS query, and the answers to it. Contracts: a message without a good question gets an error or
 * nothing; a good one's name is lower case, whole and at most 253 bytes; every answer fits what was
 * asked for, carries the id, and begins with the question as it came.
 */
#include "net/dns.h"
#include "net/head.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_name(const struct dns_query *q)
{
	must(q->name_len <= DNS_NAME_MAX && q->name[q->name_len] == '\0');
	for (size_t i = 0; i < q->name_len; i++) {
		char c = q->name[i];

		must((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
		     c == '.' || (c == '?' && !q->plain));
	}
}

static void check_answer(const struct dns_query *q, const struct dns_answer *a, size_t max,
                         bool tcp)
{
	static uint8_t at[2 + DNS_REPLY_MAX];
	size_t prefix = tcp ? 2 : 0;
	struct buf out;
	int r;

	buf_init(&out, at, sizeof(at));
	r = dns_put_answer(&out, q, a, max, tcp);
	if (r < 0) {
		must(out.len == 0 && (r == -EMSGSIZE || r == -EINVAL));
		return;
	}
	must(out.len >= prefix + DNS_HEAD_BYTES && out.len - prefix <= max);
	must(at[prefix] == q->id >> 8 && at[prefix + 1] == (q->id & 255));
	must((at[prefix + 2] & 0x80) != 0 && (at[prefix + 3] & 15) == (a->rcode & 15));
	must(q->question.len == 0 ||
	     memcmp(at + prefix + DNS_HEAD_BYTES, q->question.at, q->question.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dns_record records[] = {
		{ .type = DNS_CNAME, .ttl_s = 60, .target = span_str("edge.cdn.test") },
		{ .type = DNS_A, .owner = span_str("edge.cdn.test"), .at = net_addr4(9, 9, 9, 9) },
	};
	struct dns_answer a = { .negative_ttl_s = 5 };
	struct span in = span_of(data, size);
	struct span message = in;
	struct dns_query q;

	(void)dns_parse_tcp(&in, &message);
	if (dns_parse_query(message, &q) < 0)
		return 0;
	if (q.rcode == DNS_NOERROR) {
		check_name(&q);
		must(q.opcode == 0 && q.question.len >= 5);
		must(q.udp_max >= DNS_UDP_PLAIN_MAX && q.udp_max <= DNS_UDP_MAX);
		records[0].owner = span_of(q.name, q.name_len);
		a.records = records;
		a.count = 2;
		check_answer(&q, &a, q.udp_max, false);
		check_answer(&q, &a, DNS_REPLY_MAX, true);
		check_answer(&q, &a, size, false);
		a.count = 0;
		check_answer(&q, &a, q.udp_max, false);
		a.rcode = DNS_NXDOMAIN;
		check_answer(&q, &a, q.udp_max, false);
	} else {
		a.rcode = q.rcode;
		check_answer(&q, &a, q.udp_max, false);
	}
	return 0;
}
