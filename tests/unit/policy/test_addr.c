#include "guardpage.h"
#include "policy/addr.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static enum addr_class class_of(const char *text)
{
	struct policy_addr a;

	CHECK_EQ(addr_parse(span_str(text), &a), 0);
	return policy_address_verdict(&a).class_;
}

static const char *again(const char *text)
{
	static char out[64];
	struct policy_addr a;
	struct buf b;
	size_t len = strlen(text);
	uint8_t *at = guard_copy(text, len);

	CHECK_EQ(addr_parse(span_of(at, len), &a), 0);
	guard_free(at, len);
	buf_init(&b, out, sizeof(out));
	addr_put(&b, &a);
	return buf_cstr(&b);
}

TEST(text_and_back)
{
	CHECK_STR(again("1.2.3.4"), "1.2.3.4");
	CHECK_STR(again("255.100.20.0"), "255.100.20.0");
	CHECK_STR(again("::"), "::");
	CHECK_STR(again("::1"), "::1");
	CHECK_STR(again("2001:DB8:0:0:1:0:0:1"), "2001:db8::1:0:0:1");
	CHECK_STR(again("2001:db8:0:1:1:1:1:1"), "2001:db8:0:1:1:1:1:1");
	CHECK_STR(again("fe80::"), "fe80::");
	CHECK_STR(again("::ffff:1.2.3.4"), "::ffff:102:304");
	CHECK_STR(again("1:2:3:4:5:6:1.2.3.4"), "1:2:3:4:5:6:102:304");
}

TEST(strict_text)
{
	static const char *const bad[] = {
		"",
		"1",
		"1.2.3",
		"1.2.3.4.",
		"1.2.3.4.5",
		"01.2.3.4",
		"1.2.3.256",
		"1.2.3.-1",
		" 1.2.3.4",
		"0x1.2.3.4",
		":",
		":::",
		"1::2::3",
		"1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8:9",
		"12345::",
		"::1.2.3",
		"1:2:3:4:5:6:7:1.2.3.4",
		"::1.2.3.4:5",
		"fe80::1%eth0",
		"[::1]",
		"1:2:3:4:5:6:7:8:",
		":1:2:3:4:5:6:7:8",
		"1:2:3:4:5:6:7::8",
		"g::",
	};
	struct policy_addr a;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (addr_parse(span_str(bad[i]), &a) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "'%s' is accepted", bad[i]);
}

TEST(SSRF_1_examples)
{
	CHECK_EQ(class_of("127.0.0.1"), ADDR_SPECIAL);
	CHECK_EQ(class_of("::1"), ADDR_SPECIAL);
	CHECK_EQ(class_of("::ffff:127.0.0.1"), ADDR_SPECIAL);
	CHECK_EQ(class_of("10.0.0.1"), ADDR_SPECIAL);
	CHECK_EQ(class_of("169.254.169.254"), ADDR_METADATA);
	CHECK_EQ(class_of("169.254.1.1"), ADDR_LINK_LOCAL);
	CHECK_EQ(class_of("fe80::1"), ADDR_LINK_LOCAL);
	CHECK_EQ(class_of("93.184.216.34"), ADDR_PUBLIC);
	CHECK_EQ(class_of("2606:2800:220:1::1"), ADDR_PUBLIC);
}

TEST(SSRF_1_metadata_however_embedded)
{
	static const char *const all[] = {
		"::ffff:169.254.169.254",
		"::169.254.169.254",
		"64:ff9b::169.254.169.254",
		"64:ff9b:1::169.254.169.254",
		"64:ff9b:1:a9fe:a9:fe00::",
		"2002:a9fe:a9fe::1",
		"2001:0:a9fe:a9fe::1",
		"2001:0:1:1::5601:5601",
		"2600::5efe:169.254.169.254",
		"2600::200:5efe:169.254.169.254",
		"::ffff:0:169.254.169.254",
		"fd00:ec2::254",
		"fd20:ce::254",
		"168.63.129.16",
		"100.100.100.200",
		"192.0.0.192",
		"64:ff9b::168.63.129.16",
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (class_of(all[i]) != ADDR_METADATA)
			test_fail(__FILE__, __LINE__, "%s is %d", all[i], class_of(all[i]));
}

TEST(edges_of_ranges)
{
	CHECK_EQ(class_of("9.255.255.255"), ADDR_PUBLIC);
	CHECK_EQ(class_of("10.255.255.255"), ADDR_SPECIAL);
	CHECK_EQ(class_of("11.0.0.0"), ADDR_PUBLIC);
	CHECK_EQ(class_of("100.63.255.255"), ADDR_PUBLIC);
	CHECK_EQ(class_of("100.64.0.0"), ADDR_SPECIAL);
	CHECK_EQ(class_of("100.128.0.0"), ADDR_PUBLIC);
	CHECK_EQ(class_of("172.15.255.255"), ADDR_PUBLIC);
	CHECK_EQ(class_of("172.31.255.255"), ADDR_SPECIAL);
	CHECK_EQ(class_of("223.255.255.255"), ADDR_PUBLIC);
	CHECK_EQ(class_of("224.0.0.0"), ADDR_SPECIAL);
	CHECK_EQ(class_of("2001:1ff:ffff::"), ADDR_SPECIAL);
	CHECK_EQ(class_of("2001:200::1"), ADDR_PUBLIC);
	CHECK_EQ(class_of("3fff:fff::1"), ADDR_SPECIAL);
	CHECK_EQ(class_of("3fff:1000::1"), ADDR_PUBLIC);
	CHECK_EQ(class_of("4000::1"), ADDR_SPECIAL);
	CHECK_EQ(class_of("1fff::1"), ADDR_SPECIAL);
}

TEST(SSRF_1_literals_in_all_writings)
{
	static const char *const loopback[] = {
		"127.0.0.1",
		"127.1",
		"127.0.1",
		"2130706433",
		"0x7f000001",
		"0x7f.1",
		"0177.0.0.1",
		"017700000001",
		"0x7F.0x0.0x0.0x1",
		"127.0.0.1.",
		"[::ffff:127.0.0.1]",
		"[::1]",
		"00000177.1",
		"[::1%lo]",
		"0000000000000000000000000000000000000000000000000177.0.0.01",
	};
	struct policy_addr a;

	for (size_t i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++) {
		if (addr_literal_parse(span_str(loopback[i]), &a) < 0)
			test_fail(__FILE__, __LINE__, "%s is no literal", loopback[i]);
		CHECK_EQ(policy_address_verdict(&a).class_, ADDR_SPECIAL);
	}
	CHECK_EQ(addr_literal_parse(span_str("256.1"), &a), -EBADMSG);
	CHECK_EQ(addr_literal_parse(span_str("4294967296"), &a), -EBADMSG);
	CHECK_EQ(addr_literal_parse(span_str("1.2.3.4.5"), &a), -EBADMSG);
	CHECK_EQ(addr_literal_parse(span_str("08.1"), &a), -EBADMSG);
	CHECK_EQ(addr_literal_parse(span_str("1.2.3.256"), &a), -EBADMSG);
	CHECK_EQ(addr_literal_parse(span_str("1.16777216"), &a), -EBADMSG);
	CHECK_EQ(addr_literal_parse(span_str("a.test"), &a), -EBADMSG);
	CHECK_EQ(addr_literal_parse(span_str(""), &a), -EBADMSG);
	CHECK_EQ(addr_literal_parse(span_str("."), &a), -EBADMSG);
}

TEST(ranges)
{
	struct policy_cidr net;
	struct policy_addr a;

	CHECK_EQ(addr_cidr_parse(span_str("10.1.2.0/23"), &net), 0);
	CHECK_EQ(addr_parse(span_str("10.1.3.255"), &a), 0);
	CHECK(addr_in(&a, &net));
	CHECK_EQ(addr_parse(span_str("10.1.4.0"), &a), 0);
	CHECK(!addr_in(&a, &net));
	CHECK_EQ(addr_parse(span_str("::ffff:10.1.2.1"), &a), 0);
	CHECK(!addr_in(&a, &net));
	CHECK_EQ(addr_cidr_parse(span_str("2001:db8::/33"), &net), 0);
	CHECK_EQ(addr_cidr_parse(span_str("10.1.2.1"), &net), 0);
	CHECK_EQ(net.bits, 32);
	CHECK_EQ(addr_cidr_parse(span_str("10.1.2.1/24"), &net), -EBADMSG);
	CHECK_EQ(addr_cidr_parse(span_str("10.1.2.0/33"), &net), -EBADMSG);
	CHECK_EQ(addr_cidr_parse(span_str("10.1.2.0/"), &net), -EBADMSG);
	CHECK_EQ(addr_cidr_parse(span_str("10.1.2.0/024"), &net), -EBADMSG);
	CHECK_EQ(addr_cidr_parse(span_str("::/129"), &net), -EBADMSG);
}

static enum cidr_fault judge(const char *text)
{
	struct policy_cidr net;

	CHECK_EQ(addr_cidr_parse(span_str(text), &net), 0);
	return addr_cidr_judge(&net);
}

TEST(SSRF_4_ranges_a_rule_may_not_open)
{
	CHECK_EQ(judge("0.0.0.0/0"), CIDR_BROAD);
	CHECK_EQ(judge("128.0.0.0/1"), CIDR_BROAD);
	CHECK_EQ(judge("::/0"), CIDR_BROAD);
	CHECK_EQ(judge("2000::/3"), CIDR_BROAD);
	CHECK_EQ(judge("169.254.0.0/16"), CIDR_NEVER);
	CHECK_EQ(judge("169.254.169.254"), CIDR_NEVER);
	CHECK_EQ(judge("168.63.129.16"), CIDR_NEVER);
	CHECK_EQ(judge("fe80::/64"), CIDR_NEVER);
	CHECK_EQ(judge("fd00:ec2::/32"), CIDR_NEVER);
	CHECK_EQ(judge("10.0.0.0/8"), CIDR_OK);
	CHECK_EQ(judge("100.64.0.0/10"), CIDR_OK);
	CHECK_EQ(judge("fc00::/7"), CIDR_OK);
	CHECK_EQ(judge("127.0.0.1"), CIDR_OK);
}

TEST_MAIN()
