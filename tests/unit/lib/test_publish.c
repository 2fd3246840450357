#include "lib/publish.h"

#include "test.h"

#include <errno.h>
#include <string.h>

static const char *again(const char *text)
{
	static char room[PUBLISH_TEXT_MAX];
	struct publish p = { 0 };
	struct err e = { 0 };
	struct buf b;

	CHECK_OK(publish_parse(text, &p, &e), &e);
	buf_init(&b, room, sizeof(room));
	publish_put(&b, &p);
	return buf_cstr(&b);
}

TEST(forms)
{
	CHECK_STR(again("8080:80"), "127.0.0.1:8080:80");
	CHECK_STR(again("0:65535"), "127.0.0.1:0:65535");
	CHECK_STR(again("0.0.0.0:1:2"), "0.0.0.0:1:2");
	CHECK_STR(again("localhost:1:2"), "127.0.0.1:1:2");
	CHECK_STR(again("[::1]:8080:80"), "[::1]:8080:80");
	CHECK_STR(again("[2001:db8:1:2:3:4:5:6]:65535:65535"),
	          "[2001:db8:1:2:3:4:5:6]:65535:65535");
}

TEST(refused)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "", "no port of the guest" },
		{ ":", "no port of the guest" },
		{ "80", "no port of the host; 0 takes" },
		{ ":80", "no port of the host; 0 takes" },
		{ "80:0", "no port of the guest" },
		{ "80:65536", "no port of the guest" },
		{ "80:http", "no port of the guest" },
		{ "65536:80", "no port of the host, 0" },
		{ "-1:80", "no port of the host, 0" },
		{ "8080:80/udp", "only TCP" },
		{ "*:1:2", "no address in front" },
		{ "::1:1:2", "no address in front" },
		{ "[::1:1:2", "no address in front" },
		{ "[127.0.0.1]:1:2", "no address in front" },
		{ "a.example:1:2", "no address in front" },
		{ "1.2.3:1:2", "no address in front" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct publish p = { .host_port = 7 };
		struct err e = { 0 };

		CHECK_EQ(publish_parse(rows[i].text, &p, &e), -EINVAL);
		CHECK_EQ(p.host_port, 7);
		if (!strstr(e.text, rows[i].why) || !strstr(e.text, "[ADDRESS:]HOST:GUEST"))
			test_fail(__FILE__, __LINE__, "%s: %s", rows[i].text, e.text);
	}
}

TEST(what_other_machines_reach)
{
	static const struct {
		const char *text;
		bool local;
	} rows[] = {
		{ "0:80", true },
		{ "127.0.0.1:0:80", true },
		{ "127.9.0.1:0:80", true },
		{ "[::1]:0:80", true },
		{ "0.0.0.0:0:80", false },
		{ "128.0.0.1:0:80", false },
		{ "[::]:0:80", false },
		{ "10.0.0.1:0:80", false },
		{ "[fe80::1]:0:80", false },
		{ "[7f00::1]:0:80", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct publish p = { 0 };
		struct err e = { 0 };

		CHECK_OK(publish_parse(rows[i].text, &p, &e), &e);
		CHECK_EQ(publish_is_local(&p), rows[i].local);
	}
}

TEST_MAIN()
