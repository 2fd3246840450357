#include "guardpage.h"
#include "http/http.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static int parse(const char *text, struct http_host *ret)
{
	size_t len = strlen(text);
	uint8_t *at = guard_copy(text, len);
	int r = host_parse(span_of(at, len), ret);

	guard_free(at, len);
	return r;
}

TEST(one_spelling_for_each_host)
{
	static const struct {
		const char *in;
		const char *text;
		uint8_t kind;
		uint16_t port;
	} rows[] = {
		{ "a.test", "a.test", HTTP_HOST_NAME, 0 },
		{ "A.TEST", "a.test", HTTP_HOST_NAME, 0 },
		{ "a.test.", "a.test", HTTP_HOST_NAME, 0 },
		{ "a.test:443", "a.test", HTTP_HOST_NAME, 443 },
		{ "a.test.:65535", "a.test", HTTP_HOST_NAME, 65535 },
		{ "localhost", "localhost", HTTP_HOST_NAME, 0 },
		{ "xn--bcher-kva.test", "xn--bcher-kva.test", HTTP_HOST_NAME, 0 },
		{ "1.2.3.4a", "1.2.3.4a", HTTP_HOST_NAME, 0 },
		{ "1.2.3.4", "1.2.3.4", HTTP_HOST_IP4, 0 },
		{ "255.0.0.1:1", "255.0.0.1", HTTP_HOST_IP4, 1 },
		{ "[::1]", "::1", HTTP_HOST_IP6, 0 },
		{ "[::]", "::", HTTP_HOST_IP6, 0 },
		{ "[1::]", "1::", HTTP_HOST_IP6, 0 },
		{ "[0:0:0:0:0:0:0:1]:80", "::1", HTTP_HOST_IP6, 80 },
		{ "[2001:DB8::0:1]", "2001:db8::1", HTTP_HOST_IP6, 0 },
		{ "[::ffff:127.0.0.1]", "::ffff:7f00:1", HTTP_HOST_IP6, 0 },
		{ "[1:0:0:2:0:0:0:3]", "1:0:0:2::3", HTTP_HOST_IP6, 0 },
		{ "[1:2:3:4:5:6:7::]", "1:2:3:4:5:6:7:0", HTTP_HOST_IP6, 0 },
		{ "[1:2:3:4:5:6:1.2.3.4]", "1:2:3:4:5:6:102:304", HTTP_HOST_IP6, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct http_host h;

		CHECK_EQ(parse(rows[i].in, &h), 0);
		CHECK_STR(h.text, rows[i].text);
		CHECK_EQ(h.len, strlen(rows[i].text));
		CHECK_EQ(h.kind, rows[i].kind);
		CHECK_EQ(h.port, rows[i].port);
	}
}

/* SSRF-1: what some program takes for an address is an address here, or nothing. */
TEST(ssrf_1_no_number_passes_for_a_name)
{
	static const char *const bad[] = {
		"127.1",     "0x7f.0.0.1", "0x7f000001", "2130706433", "0177.0.0.1", "1.2.3",
		"1.2.3.4.5", "256.0.0.1",  "1.2.3.04",   "a.1",        "a.0x1",      "1.2.3.4.:80:",
		"0X7F.1",    "1..2.3",     ".1.2.3.4",   "a.test.1",   "1.2.3.0x04",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct http_host h;

		CHECK_EQ(parse(bad[i], &h), -EBADMSG);
	}
}

TEST(con_1_what_is_no_authority_is_refused)
{
	static const char *const bad[] = {
		"",           ".",         "..",
		"a..test",    "-a.test",   "a-.test",
		"a_b.test",   "a.test..",  "user@a",
		"a.test:",    "a.test:0",  "a.test:65536",
		"a:080",      "a:+80",     "a: 80",
		"a:8 0",      "a b",       "a/b",
		"[::1",       "::1",       "[::1]x",
		"[::1]:",     "[::1]:0",   "[]",
		"[:]",        "[:::]",     "[1::2::3]",
		"[12345::]",  "[1:2:3:4]", "[1:2:3:4:5:6:7:8:9]",
		"[::1%eth0]", "[::1.2.3]", "[1.2.3.4]",
		"[:1::]",     "[1::2:]",   "[1:2:3:4:5:6:7:1.2.3.4]",
		"[::g]",      "a\x80",     "a%41",
		"*",          "*.test",    "[1:2:3:4::5:6:7:8]",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct http_host h;

		memset(&h, 0xa5, sizeof(h));
		CHECK_EQ(parse(bad[i], &h), -EBADMSG);
		CHECK_EQ(h.kind, 0xa5);
	}
}

TEST(names_end_at_their_limits)
{
	char text[300];
	struct http_host h;

	memset(text, 'a', sizeof(text));
	text[63] = '\0';
	CHECK_EQ(parse(text, &h), 0);
	text[63] = 'a';
	text[64] = '\0';
	CHECK_EQ(parse(text, &h), -EBADMSG);
	memset(text, 'a', sizeof(text));
	for (size_t i = 49; i < 253; i += 50)
		text[i] = '.';
	text[253] = '\0';
	CHECK_EQ(parse(text, &h), 0);
	CHECK_EQ(h.len, 253);
	text[253] = 'a';
	text[254] = '\0';
	CHECK_EQ(parse(text, &h), -EBADMSG);
}

/* The bytes of an address, for the vault's check, are those of its text. */
TEST(an_address_has_its_bytes)
{
	static const uint8_t mapped[16] = { [10] = 0xff, [11] = 0xff, 10, 1, 2, 3 };
	struct http_host h;

	CHECK_EQ(parse("10.1.2.3", &h), 0);
	CHECK_EQ(memcmp(h.addr, mapped + 12, 4), 0);
	CHECK_EQ(parse("[::ffff:10.1.2.3]", &h), 0);
	CHECK_EQ(memcmp(h.addr, mapped, 16), 0);
}

TEST_MAIN()
