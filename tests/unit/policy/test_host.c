#include "guardpage.h"
#include "policy/host.h"
#include "test.h"

#include <errno.h>
#include <string.h>

/* Judged against a guard page; a refusal leaves the output alone. */
static int parse_name(const char *text, struct host_name *ret)
{
	size_t len = strlen(text);
	uint8_t *at = guard_copy(text, len);
	struct host_name before;
	int r;

	memset(ret, 0xa5, sizeof(*ret));
	before = *ret;
	r = host_name_parse(span_of(at, len), ret);
	CHECK(r == 0 || (r == -EBADMSG && memcmp(&before, ret, sizeof(before)) == 0));
	guard_free(at, len);
	return r;
}

static enum host_fault pattern_fault(const char *text)
{
	enum host_fault fault = HOST_FAULT_NONE;
	struct host_pattern p;

	if (host_pattern_parse(span_str(text), &p, &fault) == 0)
		return HOST_FAULT_NONE;
	CHECK(fault != HOST_FAULT_NONE);
	CHECK(strlen(host_fault_text(fault)) > 8);
	return fault;
}

static bool matches(const char *pattern, const char *name)
{
	struct host_pattern p;
	struct host_name n;

	CHECK_EQ(host_pattern_parse(span_str(pattern), &p, NULL), 0);
	CHECK_EQ(parse_name(name, &n), 0);
	return host_pattern_match(&p, &n);
}

TEST(L4_6_one_star_is_one_label)
{
	CHECK(matches("*.e.test", "a.e.test"));
	CHECK(!matches("*.e.test", "e.test"));
	CHECK(!matches("*.e.test", "a.b.e.test"));
	CHECK(!matches("*.e.test", "evile.test"));
	CHECK(!matches("*.e.test", "a.evile.test"));
	CHECK(!matches("*.e.test", "a.e.test.evil.test"));
}

TEST(L4_6_two_stars_are_any_depth)
{
	CHECK(matches("**.e.test", "a.e.test"));
	CHECK(matches("**.e.test", "a.b.c.d.e.test"));
	CHECK(!matches("**.e.test", "e.test"));
	CHECK(!matches("**.e.test", "evile.test"));
	CHECK(!matches("**.e.test", "a.evile.test"));
}

TEST(L4_6_case_and_last_dot_do_not_matter)
{
	struct host_name n;

	CHECK(matches("API.Example.COM", "api.example.com."));
	CHECK(matches("*.example.com.", "A.EXAMPLE.com"));
	CHECK_EQ(parse_name("WWW.Example.Com.", &n), 0);
	CHECK_SPAN(host_span(&n), "www.example.com");
}

TEST(L4_7_broad_or_broken_patterns)
{
	static const struct {
		const char *text;
		enum host_fault fault;
	} bad[] = {
		{ "", HOST_FAULT_EMPTY },
		{ ".", HOST_FAULT_EMPTY },
		{ "*", HOST_FAULT_BROAD },
		{ "**", HOST_FAULT_BROAD },
		{ "*.com", HOST_FAULT_BROAD },
		{ "**.com", HOST_FAULT_BROAD },
		{ "*.", HOST_FAULT_WILDCARD },
		{ "com", HOST_FAULT_SINGLE },
		{ "localhost", HOST_FAULT_SINGLE },
		{ "a..test", HOST_FAULT_LABEL },
		{ ".a.test", HOST_FAULT_LABEL },
		{ "a.test..", HOST_FAULT_LABEL },
		{ "-a.test", HOST_FAULT_LABEL },
		{ "a-.test", HOST_FAULT_LABEL },
		{ "a*.test.org", HOST_FAULT_WILDCARD },
		{ "a.*.test", HOST_FAULT_WILDCARD },
		{ "***.a.test", HOST_FAULT_WILDCARD },
		{ "https://a.test", HOST_FAULT_URL },
		{ "a.test/x", HOST_FAULT_URL },
		{ "u@a.test", HOST_FAULT_URL },
		{ "a.test:443", HOST_FAULT_PORT },
		{ "1.2.3.4", HOST_FAULT_ADDRESS },
		{ "0x7f.1", HOST_FAULT_ADDRESS },
		{ "2130706433", HOST_FAULT_ADDRESS },
		{ "a.test.1", HOST_FAULT_ADDRESS },
		{ "a.0x7f", HOST_FAULT_ADDRESS },
		{ "[::1]", HOST_FAULT_ADDRESS },
		{ "::1", HOST_FAULT_ADDRESS },
		{ "a b.test", HOST_FAULT_BYTE },
		{ "b\xc3\xbc.test", HOST_FAULT_BYTE },
		{ "metadata.google.internal", HOST_FAULT_METADATA },
		{ "x.metadata.google.internal", HOST_FAULT_METADATA },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (pattern_fault(bad[i].text) != bad[i].fault)
			test_fail(__FILE__, __LINE__, "'%s': %d", bad[i].text,
			          pattern_fault(bad[i].text));
}

TEST(L4_7_nul_and_length)
{
	char text[300];
	enum host_fault fault;
	struct host_pattern p;

	CHECK_EQ(host_pattern_parse(span_of("a.te\0st", 7), &p, &fault), -EBADMSG);
	CHECK_EQ(fault, HOST_FAULT_BYTE);
	memset(text, 'a', 63);
	memcpy(text + 63, ".test", 6);
	CHECK_EQ(pattern_fault(text), HOST_FAULT_NONE);
	memset(text, 'a', 64);
	memcpy(text + 64, ".test", 6);
	CHECK_EQ(pattern_fault(text), HOST_FAULT_LABEL);
	for (int i = 0; i < 300; i++)
		text[i] = i % 2 ? '.' : 'a';
	text[253] = 0;
	CHECK_EQ(pattern_fault(text), HOST_FAULT_NONE);
	text[253] = '.';
	text[254] = 'a';
	text[255] = 0;
	CHECK_EQ(pattern_fault(text), HOST_FAULT_LONG);
}

TEST(names_of_a_guest)
{
	static const char *const bad[] = { "",       ".",     "..",      "a..b", "a b",  "a/b",
		                           "a\nb",   "*.a.b", "1.2.3.4", "1",    "0x1",  "a.0",
		                           "xn--a-", "-a.b",  "a.b..",   "a:1",  "[::1]" };
	struct host_name n;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(parse_name(bad[i], &n), -EBADMSG);
	CHECK_EQ(parse_name("_dmarc.a-b.test", &n), 0);
	CHECK_EQ(parse_name("xn--bcher-kva.test", &n), 0);
	CHECK_EQ(parse_name("localhost", &n), 0);
	CHECK_EQ(parse_name("a.1x", &n), 0);
}

TEST(covers)
{
	static const struct {
		const char *a, *b;
		bool covers;
	} cases[] = {
		{ "a.e.test", "a.e.test", true },    { "*.e.test", "a.e.test", true },
		{ "*.e.test", "*.e.test", true },    { "*.e.test", "**.e.test", false },
		{ "**.e.test", "*.e.test", true },   { "**.e.test", "**.b.e.test", true },
		{ "**.e.test", "*.b.e.test", true }, { "*.e.test", "*.b.e.test", false },
		{ "a.e.test", "*.e.test", false },   { "**.e.test", "*.evile.test", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct host_pattern a;
		struct host_pattern b;

		CHECK_EQ(host_pattern_parse(span_str(cases[i].a), &a, NULL), 0);
		CHECK_EQ(host_pattern_parse(span_str(cases[i].b), &b, NULL), 0);
		CHECK_EQ(host_pattern_covers(&a, &b), cases[i].covers);
	}
}

TEST(SSRF_1_metadata_names)
{
	static const char *const names[] = { "metadata.google.internal",
		                             "metadata.goog",
		                             "instance-data",
		                             "metadata",
		                             "metadata.tencentyun.com",
		                             "METADATA.google.internal." };
	struct host_name n;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		CHECK_EQ(parse_name(names[i], &n), 0);
		CHECK(host_is_metadata(&n));
	}
	CHECK_EQ(parse_name("metadata.example.com", &n), 0);
	CHECK(!host_is_metadata(&n));
	CHECK_EQ(parse_name("my-metadata", &n), 0);
	CHECK(!host_is_metadata(&n));
}

TEST_MAIN()
