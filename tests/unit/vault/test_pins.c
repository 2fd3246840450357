/* Pins, and the numbers of things. */
#include "vault/pins.h"

#include "policy/draft.h"
#include "test.h"
#include "vault/limits.h"
#include "vault/slots.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct host_name name_of(const char *text)
{
	struct host_name n;

	CHECK_EQ(host_name_parse(span_str(text), &n), 0);
	return n;
}

static struct policy_addr addr_of(unsigned i)
{
	const uint8_t at[4] = { 9, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i };

	return addr_of_v4(at);
}

TEST(what_was_given_and_to_whom)
{
	struct host_name a = name_of("a.test"), b = name_of("b.test");
	struct policy_addr addr[3] = { addr_of(1), addr_of(2), addr_of(3) };
	_own_(pins_free) struct pins *p = NULL;
	struct err e = { 0 };

	CHECK_OK(pins_new(8, &p, &e), &e);
	CHECK(!pins_have(p, &a, &addr[0]));
	CHECK_EQ(pins_give(p, &a, addr, 2), 0);
	CHECK_EQ(pins_give(p, &b, &addr[2], 1), 0);
	CHECK(pins_have(p, &a, &addr[0]) && pins_have(p, &a, &addr[1]));
	CHECK(!pins_have(p, &a, &addr[2]) && !pins_have(p, &b, &addr[0]));
	CHECK_EQ(pins_give(p, &a, &addr[2], 1), 0); /* a later answer adds */
	CHECK(pins_have(p, &a, &addr[0]) && pins_have(p, &a, &addr[2]));
	CHECK_EQ(pins_count(p), 2);
}

TEST(the_oldest_addresses_go)
{
	struct host_name a = name_of("a.test");
	_own_(pins_free) struct pins *p = NULL;
	struct err e = { 0 };

	CHECK_OK(pins_new(8, &p, &e), &e);
	for (unsigned i = 0; i < VAULT_PIN_ADDRESSES_MAX + 1; i++) {
		struct policy_addr addr = addr_of(i);

		CHECK_EQ(pins_give(p, &a, &addr, 1), 0);
	}
	for (unsigned i = 0; i < VAULT_PIN_ADDRESSES_MAX + 1; i++) {
		struct policy_addr addr = addr_of(i);

		CHECK_EQ(pins_have(p, &a, &addr), i > 0);
	}
}

TEST(LIM_5_the_least_used_name_goes)
{
	struct policy_addr addr = addr_of(1);
	struct host_name used = name_of("used.test");
	_own_(pins_free) struct pins *p = NULL;
	struct err e = { 0 };

	CHECK_OK(pins_new(100, &p, &e), &e);
	CHECK_EQ(pins_give(p, &used, &addr, 1), 0);
	for (unsigned i = 0; i < 1000; i++) {
		char text[32];
		struct host_name n;

		(void)snprintf(text, sizeof(text), "n%u.test", i);
		n = name_of(text);
		CHECK_EQ(pins_give(p, &n, &addr, 1), 0);
		CHECK(pins_have(p, &used, &addr));
		CHECK_EQ(pins_count(p), i + 2 < 100 ? i + 2 : 100);
		if (i >= 99) {
			(void)snprintf(text, sizeof(text), "n%u.test", i - 99);
			n = name_of(text);
			CHECK(!pins_have(p, &n, &addr));
		}
	}
}

static struct policy *policy_of(const char *text)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_free_ uint8_t *tlv = NULL;
	struct policy *p = NULL;
	struct err e = { 0 };
	int none = -1;
	size_t len;

	CHECK_OK(policy_draft_new(policy_preset_dir, &none, &d, &e), &e);
	CHECK_OK(policy_draft_file(d, "t.yaml", span_str(text), &e), &e);
	CHECK_OK(policy_draft_compile(d, 1, &tlv, &len, &e), &e);
	CHECK_OK(policy_load(span_of(tlv, len), &p, &e), &e);
	return p;
}

TEST(HOT_2_dropped_with_their_rule)
{
	struct policy_addr addr = addr_of(1);
	struct host_name a = name_of("a.test"), b = name_of("b.test");
	_own_(policy_free) struct policy *policy =
		policy_of("version: 1\nnetwork:\n  rules:\n    - { host: b.test, port: 443 }\n");
	_own_(pins_free) struct pins *p = NULL;
	struct err e = { 0 };

	CHECK_OK(pins_new(8, &p, &e), &e);
	CHECK_EQ(pins_give(p, &a, &addr, 1), 0);
	CHECK_EQ(pins_give(p, &b, &addr, 1), 0);
	pins_sweep(p, policy);
	CHECK(!pins_have(p, &a, &addr));
	CHECK(pins_have(p, &b, &addr));
	CHECK_EQ(pins_count(p), 1);
}

TEST(numbers)
{
	struct slots s;
	uint32_t n[64], next = 1;
	int things[64];

	slots_init(&s, 64);
	CHECK(!slots_find(&s, 0) && !slots_find(&s, 1));
	for (unsigned i = 0; i < 64; i++) {
		CHECK_EQ(slots_add(&s, &things[i], &n[i]), 0);
		CHECK(n[i] > 0);
	}
	CHECK_EQ(slots_add(&s, &things[0], &next), -ENFILE);
	for (unsigned i = 0; i < 64; i++)
		CHECK(slots_find(&s, n[i]) == &things[i]);
	slots_remove(&s, n[40]);
	slots_remove(&s, n[7]);
	CHECK(!slots_find(&s, n[7]));
	for (unsigned i = 0, seen = 0; i < 70; i++) {
		seen += slots_next(&s, &next) != NULL;
		CHECK_EQ(seen, i < 62 ? i + 1 : 62);
	}
	CHECK_EQ(slots_add(&s, &things[7], &next), 0);
	CHECK_EQ(next, n[7]);
	slots_fini(&s);
}

TEST_MAIN()
