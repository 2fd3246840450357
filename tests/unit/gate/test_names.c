/* The table of names and pins, and the token bucket: pure, so time is a number. */
#include "gate/bucket.h"
#include "gate/names.h"
#include "gate/recent.h"
#include "test.h"

#include <stdio.h>

static struct names *table(void)
{
	static const struct siphash_key key = { .at = { 1, 2, 3 } };
	struct names *n;
	struct err e = { 0 };

	CHECK_OK(names_new(&key, &n, &e), &e);
	return n;
}

static struct host_name host(const char *text)
{
	struct host_name h;

	CHECK_EQ(host_name_parse(span_str(text), &h), 0);
	return h;
}

static struct host_name numbered(unsigned i)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "n%u.example", i);
	return host(text);
}

TEST(an_answer_pins_for_its_time_and_a_little_longer)
{
	struct names *n = table();
	struct host_name h = host("a.example");
	struct net_addr a = net_addr4(198, 51, 100, 7), got[4];
	uint16_t ids[POLICY_CANDIDATES_MAX];
	uint16_t id = names_take(n, &h);

	CHECK_EQ(names_state(n, id, NAMES_IP4, 0), NAMES_UNKNOWN);
	names_asked(n, id, NAMES_IP4);
	CHECK_EQ(names_state(n, id, NAMES_IP4, 99999999), NAMES_ASKED);
	names_good(n, id, NAMES_IP4, &a, 1, 60, 1000);
	CHECK_EQ(names_state(n, id, NAMES_IP4, 60999), NAMES_GOOD);
	CHECK_EQ(names_state(n, id, NAMES_IP6, 60999), NAMES_UNKNOWN);
	CHECK_EQ(names_ttl_s(n, id, NAMES_IP4, 1000), 60);
	CHECK_EQ(names_state(n, id, NAMES_IP4, 61000), NAMES_UNKNOWN);
	CHECK_EQ(names_addrs(n, id, NAMES_IP4, got, 4), 1);
	CHECK_EQ(names_pinned(n, &a, 70999, ids), 1);
	CHECK_EQ(ids[0], id);
	CHECK(names_is_pinned(n, id, &a, 70999));
	CHECK_EQ(names_pinned(n, &a, 71000, ids), 0);
	CHECK(!names_is_pinned(n, id, &a, 71000));
	names_free(n);
}

TEST(times_are_clamped)
{
	static const struct {
		uint32_t ttl_s, kept_s;
	} cases[] = { { 0, GATE_TTL_MIN_S },
		      { 1, GATE_TTL_MIN_S },
		      { 100, 100 },
		      { 31536000, GATE_TTL_MAX_S } };
	struct names *n = table();
	struct host_name h = host("a.example");
	struct net_addr a = net_addr4(198, 51, 100, 7);
	uint16_t id = names_take(n, &h);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		names_good(n, id, NAMES_IP4, &a, 1, cases[i].ttl_s, 0);
		CHECK_EQ(names_ttl_s(n, id, NAMES_IP4, 0), cases[i].kept_s);
	}
	names_bad(n, id, NAMES_IP4, NAMES_NXDOMAIN, 86400, 0);
	CHECK_EQ(names_ttl_s(n, id, NAMES_IP4, 0), GATE_NEGATIVE_MAX_S);
	names_free(n);
}

TEST(what_an_answer_no_longer_has_stays_pinned_for_its_time)
{
	struct names *n = table();
	struct host_name h = host("a.example");
	struct net_addr a[2] = { net_addr4(198, 51, 100, 1), net_addr4(198, 51, 100, 2) }, got[4];
	uint16_t id = names_take(n, &h);

	names_good(n, id, NAMES_IP4, &a[0], 1, 60, 0);
	names_good(n, id, NAMES_IP4, &a[1], 1, 60, 30000);
	CHECK_EQ(names_addrs(n, id, NAMES_IP4, got, 4), 1);
	CHECK(net_addr_equal(got[0], a[1]));
	CHECK(names_is_pinned(n, id, &a[0], 69000));
	CHECK(!names_is_pinned(n, id, &a[0], 70000));
	CHECK(names_is_pinned(n, id, &a[1], 70000));
	names_good(n, id, NAMES_IP4, a, 2, 60, 80000); /* the first comes back, the order is kept */
	CHECK_EQ(names_addrs(n, id, NAMES_IP4, got, 4), 2);
	CHECK(net_addr_equal(got[0], a[0]) && net_addr_equal(got[1], a[1]));
	CHECK_EQ(names_pins(n), 2);
	names_drop(n, id);
	CHECK_EQ(names_pins(n), 0);
	CHECK(!names_is_pinned(n, id, &a[0], 80000));
	CHECK_EQ(names_state(n, id, NAMES_IP4, 80000), NAMES_UNKNOWN);
	names_free(n);
}

TEST(an_address_has_many_names_and_the_last_told_comes_first)
{
	struct names *n = table();
	struct net_addr a = net_addr4(198, 51, 100, 7);
	uint16_t ids[POLICY_CANDIDATES_MAX], last = 0, first = 0;

	for (unsigned i = 0; i < 40; i++) {
		struct host_name h = numbered(i);

		last = names_take(n, &h);
		first = i == 0 ? last : first;
		names_good(n, last, NAMES_IP4, &a, 1, 60, 0);
	}
	CHECK_EQ(names_pinned(n, &a, 1, ids), POLICY_CANDIDATES_MAX);
	CHECK_EQ(ids[0], last);
	CHECK(names_is_pinned(n, first, &a, 1));
	names_told(n, first, NAMES_IP4); /* out of memory: no new answer */
	CHECK_EQ(names_pinned(n, &a, 1, ids), POLICY_CANDIDATES_MAX);
	CHECK_EQ(ids[0], first);
	CHECK_EQ(ids[1], last);
	names_good(n, first, NAMES_IP4, &a, 1, 60, 1);
	CHECK_EQ(names_pinned(n, &a, 2, ids), POLICY_CANDIDATES_MAX);
	CHECK_EQ(ids[0], first);
	names_free(n);
}

TEST(a_flood_of_names_is_bounded_and_spares_what_is_in_use)
{
	struct names *n = table();
	struct host_name held = host("held.example"), asked = host("asked.example");
	uint16_t keep = names_take(n, &held), wait = names_take(n, &asked);

	names_hold(n, keep);
	names_asked(n, wait, NAMES_IP6);
	for (unsigned i = 0; i < 3 * GATE_NAMES_MAX; i++) {
		struct host_name h = numbered(i);
		struct net_addr a[5];
		uint16_t id = names_take(n, &h);

		CHECK(id != NAMES_NONE && id != keep && id != wait);
		for (unsigned k = 0; k < 5; k++)
			a[k] = net_addr4(198, (uint8_t)(i >> 8), (uint8_t)i, (uint8_t)k);
		names_good(n, id, NAMES_IP4, a, 5, 60, i);
		CHECK(names_is_pinned(n, id, &a[4], i));
		CHECK(names_count(n) <= GATE_NAMES_MAX && names_pins(n) <= GATE_PINS_MAX);
	}
	CHECK_EQ(names_find(n, &held), keep);
	CHECK_EQ(names_find(n, &asked), wait);
	CHECK_EQ(names_state(n, wait, NAMES_IP6, 0), NAMES_ASKED);
	names_let_go(n, keep);
	names_free(n);
}

TEST(a_table_full_of_names_in_use_refuses_new_ones)
{
	struct names *n = table();
	struct host_name h;

	for (unsigned i = 0; i < GATE_NAMES_MAX; i++) {
		h = numbered(i);
		names_hold(n, names_take(n, &h));
	}
	h = host("one.more.example");
	CHECK_EQ(names_take(n, &h), NAMES_NONE);
	h = host("n77.example");
	names_let_go(n, names_find(n, &h));
	h = host("one.more.example");
	CHECK(names_take(n, &h) != NAMES_NONE);
	h = host("n77.example");
	CHECK_EQ(names_find(n, &h), NAMES_NONE);
	names_free(n);
}

TEST(a_bucket_fills_at_its_rate)
{
	struct bucket b;

	bucket_init(&b, 10, 3, 0);
	CHECK(bucket_take(&b, 1, 0) && bucket_take(&b, 2, 0) && !bucket_take(&b, 1, 99));
	CHECK(bucket_take(&b, 1, 100) && !bucket_take(&b, 1, 150) && bucket_take(&b, 1, 200));
	CHECK(bucket_take(&b, 3, 10000) && !bucket_take(&b, 1, 10000));
	bucket_init(&b, 0, 0, 0); /* no limit */
	CHECK(bucket_take(&b, UINT64_MAX, 0) && bucket_take(&b, UINT64_MAX, 0));
	bucket_change(&b, 10, 3, 5);
	CHECK_EQ(bucket_level(&b, 5), 3);
	CHECK(bucket_take(&b, 3, 5));
	bucket_change(&b, 1000, 100, 5); /* no gift of a whole burst */
	CHECK_EQ(bucket_level(&b, 5), 0);
	CHECK_EQ(bucket_level(&b, 55), 50);
}

TEST(the_same_is_said_once_in_a_while)
{
	static struct recent r;

	CHECK(recent_is_new(&r, span_str("a"), 0));
	CHECK(!recent_is_new(&r, span_str("a"), GATE_RECENT_MS - 1));
	CHECK(recent_is_new(&r, span_str("b"), 1));
	CHECK(recent_is_new(&r, span_str("a"), GATE_RECENT_MS));
}

TEST_MAIN()
