/* Answers of resolvers: what counts, what is refused, and every prefix of a good one. */
#include "vault/answer_parse.h"

#include "base/buf.h"
#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { ROOM = 8192, QUESTION_AT = 12 };

struct message {
	uint8_t bytes[ROOM];
	struct buf b;
	struct host_name name;
	uint16_t answers, authorities;
};

static void put_be16(struct buf *b, unsigned v)
{
	buf_put_u8(b, (uint8_t)(v >> 8));
	buf_put_u8(b, (uint8_t)v);
}

static void put_be32(struct buf *b, uint32_t v)
{
	put_be16(b, v >> 16);
	put_be16(b, v & 0xffff);
}

static void put_name(struct buf *b, const char *name)
{
	struct span rest = span_str(name);
	struct span label;

	while (take_until(&rest, '.', &label)) {
		buf_put_u8(b, (uint8_t)label.len);
		buf_put_span(b, label);
	}
	buf_put_u8(b, 0);
}

static void begin(struct message *m, const char *name, unsigned type)
{
	buf_init(&m->b, m->bytes, sizeof(m->bytes));
	m->answers = m->authorities = 0;
	CHECK_EQ(host_name_parse(span_str(name), &m->name), 0);
	for (unsigned word = 0; word < 6; word++)
		put_be16(&m->b, word == 1 ? 0x8180 : word == 2 ? 1 : 0);
	put_name(&m->b, name);
	put_be16(&m->b, type);
	put_be16(&m->b, 1);
}

static void record(struct message *m, const char *owner, unsigned type, uint32_t ttl,
                   struct span data)
{
	if (owner)
		put_name(&m->b, owner);
	else
		put_be16(&m->b, 0xc000 | QUESTION_AT);
	put_be16(&m->b, type);
	put_be16(&m->b, 1);
	put_be32(&m->b, ttl);
	put_be16(&m->b, (unsigned)data.len);
	buf_put_span(&m->b, data);
	m->answers++;
}

static void put_a(struct message *m, const char *owner, uint32_t ttl, uint8_t last)
{
	const uint8_t addr[4] = { 9, 1, 0, last };

	record(m, owner, ANSWER_A, ttl, span_of(addr, 4));
}

static void put_cname(struct message *m, const char *owner, uint32_t ttl, const char *target)
{
	uint8_t room[300];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	put_name(&b, target);
	record(m, owner, 5, ttl, buf_span(&b));
}

static struct span finish(struct message *m)
{
	CHECK(buf_ok(&m->b));
	m->bytes[7] = (uint8_t)(m->answers - m->authorities);
	m->bytes[6] = (uint8_t)((m->answers - m->authorities) >> 8);
	m->bytes[9] = (uint8_t)m->authorities;
	return buf_span(&m->b);
}

static int parse(struct message *m, struct answer *a)
{
	memset(a, 0xa5, sizeof(*a));
	return answer_parse(finish(m), &m->name, ANSWER_A, a);
}

static uint8_t last_byte(const struct answer *a, unsigned i)
{
	return a->addr[i].at[15];
}

TEST(addresses_of_the_name)
{
	static struct message m;
	struct answer a;

	begin(&m, "a.test", ANSWER_A);
	put_a(&m, NULL, 300, 1);
	put_a(&m, "A.TEST", 60, 2);
	put_a(&m, "a.test", 600, 1); /* again */
	put_a(&m, "b.test", 5, 3);
	CHECK_EQ(parse(&m, &a), 0);
	CHECK_EQ(a.count, 2);
	CHECK_EQ(last_byte(&a, 0), 1);
	CHECK_EQ(last_byte(&a, 1), 2);
	CHECK_EQ(a.ttl_s, 60);
	CHECK_EQ(a.chain_count, 0);
}

TEST(DNS_5_only_what_the_chain_reaches)
{
	static struct message m;
	struct answer a;

	begin(&m, "a.test", ANSWER_A);
	put_a(&m, "c.test", 300, 3); /* before the chain that leads to it */
	put_a(&m, "a.test", 300, 9); /* beside a CNAME of the same name: not at the chain's end */
	put_cname(&m, "b.test", 20, "c.test");
	put_cname(&m, NULL, 40, "b.test");
	put_cname(&m, "x.test", 1, "a.test");
	CHECK_EQ(parse(&m, &a), 0);
	CHECK_EQ(a.count, 1);
	CHECK_EQ(last_byte(&a, 0), 3);
	CHECK_EQ(a.chain_count, 2);
	CHECK_SPAN(host_span(&a.chain[0]), "b.test");
	CHECK_SPAN(host_span(&a.chain[1]), "c.test");
	CHECK_EQ(a.ttl_s, 20);
}

TEST(chains_that_are_none)
{
	static struct message m;
	char from[32], to[32];
	struct answer a;

	begin(&m, "a.test", ANSWER_A); /* a loop */
	put_cname(&m, "a.test", 1, "b.test");
	put_cname(&m, "b.test", 1, "a.test");
	CHECK_EQ(parse(&m, &a), -EBADMSG);
	begin(&m, "a.test", ANSWER_A); /* a fork */
	put_cname(&m, "a.test", 1, "b.test");
	put_cname(&m, "a.test", 1, "c.test");
	CHECK_EQ(parse(&m, &a), -EBADMSG);
	begin(&m, "n0.test", ANSWER_A);
	for (int i = 0; i < EGRESS_CHAIN_MAX + 1; i++) {
		(void)snprintf(from, sizeof(from), "n%d.test", i);
		(void)snprintf(to, sizeof(to), "n%d.test", i + 1);
		put_cname(&m, from, 1, to);
		if (i == EGRESS_CHAIN_MAX - 1) {
			CHECK_EQ(parse(&m, &a), 0);
			CHECK_EQ(a.chain_count, EGRESS_CHAIN_MAX);
		}
	}
	CHECK_EQ(parse(&m, &a), -EBADMSG);
	begin(&m, "a.test", ANSWER_A); /* to a name that no host has */
	put_cname(&m, "a.test", 1, "b!.test");
	CHECK_EQ(parse(&m, &a), -EBADMSG);
}

TEST(no_answer_to_this_question)
{
	static struct message m;
	struct answer a;

	begin(&m, "b.test", ANSWER_A);
	put_a(&m, NULL, 1, 1);
	CHECK_EQ(host_name_parse(span_str("a.test"), &m.name), 0);
	CHECK_EQ(parse(&m, &a), -EBADMSG);
	begin(&m, "a.test", ANSWER_AAAA);
	CHECK_EQ(parse(&m, &a), -EBADMSG);
	for (unsigned byte = 2; byte < 6; byte++) {
		begin(&m, "a.test", ANSWER_A);
		put_a(&m, NULL, 1, 1);
		/* no answer, another operation, cut; two questions, none */
		m.bytes[byte] = byte == 2 ? 0x01 : byte == 3 ? 0x80 : 1;
		if (byte == 3)
			m.bytes[2] |= 0x02;
		CHECK_EQ(parse(&m, &a), byte == 5 ? 0 : -EBADMSG);
	}
	begin(&m, "a.test", ANSWER_A);
	record(&m, NULL, ANSWER_A, 1, span_str("abc")); /* three bytes of an address */
	CHECK_EQ(parse(&m, &a), -EBADMSG);
	CHECK_EQ(a.count, 0xa5a5a5a5); /* untouched */
}

TEST(names_that_only_look_alike)
{
	static struct message m;
	struct answer a;

	begin(&m, "a.b.test", ANSWER_A);
	put_be16(&m.b, 0x0361); /* one label "a.b", then "test" */
	buf_put_str(&m.b, ".b");
	buf_put_u8(&m.b, 4);
	buf_put_str(&m.b, "test");
	buf_put_u8(&m.b, 0);
	put_be16(&m.b, ANSWER_A);
	put_be16(&m.b, 1);
	put_be32(&m.b, 1);
	put_be16(&m.b, 4);
	put_be32(&m.b, 0x09010009);
	m.answers = 1;
	CHECK_EQ(parse(&m, &a), 0);
	CHECK_EQ(a.count, 0);
}

TEST(pointers_go_back_only)
{
	static struct message m;
	struct answer a;

	begin(&m, "a.test", ANSWER_A);
	put_be16(&m.b, (unsigned)(0xc000 | m.b.len)); /* to itself */
	put_be16(&m.b, ANSWER_A);
	put_be16(&m.b, 1);
	put_be32(&m.b, 1);
	put_be16(&m.b, 4);
	put_be32(&m.b, 0x09010009);
	m.answers = 1;
	CHECK_EQ(parse(&m, &a), -EBADMSG);
}

TEST(negative_answers)
{
	static struct message m;
	struct answer a;
	uint8_t room[128];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	put_name(&b, "ns.test");
	put_name(&b, "root.test");
	for (uint32_t i = 0; i < 5; i++)
		put_be32(&b, i == 4 ? 33 : 1000);
	begin(&m, "a.test", ANSWER_A);
	record(&m, "test", 6, 900, buf_span(&b));
	m.authorities = 1;
	m.bytes[3] |= ANSWER_NXDOMAIN;
	CHECK_EQ(parse(&m, &a), 0);
	CHECK_EQ(a.rcode, ANSWER_NXDOMAIN);
	CHECK_EQ(a.negative_ttl_s, 33);
	begin(&m, "a.test",
	      ANSWER_A); /* addresses of a name that does not exist count for nothing */
	put_a(&m, NULL, 1, 1);
	m.bytes[3] |= ANSWER_NXDOMAIN;
	CHECK_EQ(parse(&m, &a), 0);
	CHECK_EQ(a.count, 0);
}

TEST(every_prefix_at_a_guard_page)
{
	static struct message m;
	struct answer a;
	struct span whole;

	begin(&m, "a.test", ANSWER_A);
	put_cname(&m, NULL, 40, "b.test");
	put_a(&m, "b.test", 300, 1);
	whole = finish(&m);
	for (size_t len = 0; len <= whole.len; len++) {
		uint8_t *at = guard_copy(whole.at, len);
		int r = answer_parse(span_of(at, len), &m.name, ANSWER_A, &a);

		CHECK_EQ(r, len == whole.len ? 0 : -EBADMSG);
		guard_free(at, len);
	}
}

TEST(more_than_there_is_room_for)
{
	static struct message m;
	struct answer a;

	begin(&m, "a.test", ANSWER_A);
	for (unsigned i = 0; i < EGRESS_ADDRESSES_MAX + 5; i++)
		put_a(&m, NULL, 1, (uint8_t)i);
	CHECK_EQ(parse(&m, &a), 0);
	CHECK_EQ(a.count, EGRESS_ADDRESSES_MAX);
	for (unsigned i = 0; i < 128; i++)
		put_a(&m, NULL, 1, (uint8_t)i);
	CHECK_EQ(parse(&m, &a), -EBADMSG);
}

TEST_MAIN()
