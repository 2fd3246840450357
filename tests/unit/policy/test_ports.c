#include "policy/ports.h"
#include "test.h"

static bool takes(const char *text)
{
	struct rule_ports got;

	return ports_take(span_str(text), &got);
}

TEST(L4_7_numbers)
{
	static const char *const bad[] = { "",    "0",  "65536", "99999999999", "-1",
		                           "1-",  "-",  "2-1",   "0-5",         "1-65536",
		                           "080", "+1", "1 ",    "a",           "1-2-3" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (takes(bad[i]))
			test_fail(__FILE__, __LINE__, "'%s' is accepted", bad[i]);
	CHECK(takes("1"));
	CHECK(takes("65535"));
	CHECK(takes("1-65535"));
	CHECK(takes("8000-8000"));
}

TEST(L4_3_ranges_at_both_ends)
{
	struct rule_ports p[POLICY_PORTS_MAX];
	uint8_t n = 0;

	CHECK(ports_add(p, &n, (struct rule_ports){ 8000, 8010 }));
	CHECK(!ports_have(p, n, 7999));
	CHECK(ports_have(p, n, 8000));
	CHECK(ports_have(p, n, 8010));
	CHECK(!ports_have(p, n, 8011));
	CHECK(ports_have(p, 0, 5));
}

TEST(ranges_merge_and_stay_in_order)
{
	struct rule_ports p[POLICY_PORTS_MAX];
	uint8_t n = 0;

	CHECK(ports_add(p, &n, (struct rule_ports){ 100, 200 }));
	CHECK(ports_add(p, &n, (struct rule_ports){ 10, 20 }));
	CHECK(ports_add(p, &n, (struct rule_ports){ 300, 400 }));
	CHECK_EQ(n, 3);
	CHECK_EQ(p[0].lo, 10);
	CHECK(ports_add(p, &n, (struct rule_ports){ 201, 299 }));
	CHECK_EQ(n, 2);
	CHECK_EQ(p[1].lo, 100);
	CHECK_EQ(p[1].hi, 400);
	CHECK(ports_add(p, &n, (struct rule_ports){ 1, 65535 }));
	CHECK_EQ(n, 1);
	CHECK(ports_add(p, &n, (struct rule_ports){ 65535, 65535 }));
	CHECK_EQ(n, 1);
}

TEST(cover)
{
	static const struct rule_ports a[] = { { 80, 80 }, { 443, 450 } };
	static const struct rule_ports in[] = { { 445, 446 } };
	static const struct rule_ports out[] = { { 80, 81 } };
	static const struct rule_ports all[] = { { 1, 65535 } };

	CHECK(ports_cover(a, 2, a, 2));
	CHECK(ports_cover(a, 2, in, 1));
	CHECK(!ports_cover(a, 2, out, 1));
	CHECK(ports_cover(a, 0, out, 1));
	CHECK(!ports_cover(a, 2, a, 0));
	CHECK(ports_cover(all, 1, a, 0));
	CHECK(ports_cover(a, 0, a, 0));
}

TEST(too_many)
{
	struct rule_ports p[POLICY_PORTS_MAX];
	uint8_t n = 0;

	for (uint16_t i = 0; i < POLICY_PORTS_MAX; i++) {
		uint16_t port = (uint16_t)(10 * i + 1);

		CHECK(ports_add(p, &n, (struct rule_ports){ port, port }));
	}
	CHECK(!ports_add(p, &n, (struct rule_ports){ 9, 9 }));
}

TEST_MAIN()
