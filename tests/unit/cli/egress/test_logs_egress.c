#include "cli/egress/logs_egress.h"

#include "test.h"

static const char *shown(const char *json)
{
	static char room[4096];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	if (!logs_egress_put(&b, span_str(json), false))
		return NULL;
	CHECK(buf_ok(&b));
	return buf_cstr(&b);
}

#define HEAD "{\"time\":\"2026-01-31T12:00:00.000Z\",\"sandbox\":\"0123456789ab\",\"by\":\"gate\","

TEST(what_was_refused)
{
	CHECK_STR(shown(HEAD "\"event\":\"refused\",\"layer\":\"dns\",\"reason\":\"no-rule\","
	                     "\"rule\":null,\"host\":\"files.example.org\",\"port\":null}"),
	          "2026-01-31T12:00:00.000Z  refused    dns   files.example.org  no-rule");
	CHECK_STR(shown(HEAD "\"event\":\"refused\",\"layer\":\"http\",\"reason\":\"path\","
	                     "\"rule\":\"policy.yaml:7\",\"host\":\"a.example\",\"port\":443,"
	                     "\"method\":\"POST\",\"path\":\"/x\",\"status\":403,\"exec\":3}"),
	          "2026-01-31T12:00:00.000Z  refused    http  POST a.example:443/x 403  path"
	          "  (policy.yaml:7)  command 3");
	CHECK_STR(shown(HEAD
	                "\"event\":\"refused\",\"layer\":\"tcp\",\"reason\":\"special-address\","
	                "\"host\":null,\"address\":\"fd00::1\",\"port\":22}"),
	          "2026-01-31T12:00:00.000Z  refused    tcp   [fd00::1]:22  special-address");
}

TEST(what_went_on)
{
	CHECK_STR(shown(HEAD "\"event\":\"allowed\",\"layer\":\"tls\",\"reason\":\"allowed\","
	                     "\"rule\":\"preset standard:8\",\"host\":\"a.example\",\"port\":443,"
	                     "\"exec\":1}"),
	          "2026-01-31T12:00:00.000Z  allowed    tls   a.example:443  (preset standard:8)");
	CHECK_STR(shown(HEAD "\"event\":\"ended\",\"layer\":\"tls\",\"reason\":\"allowed\","
	                     "\"host\":\"a.example\",\"port\":443,\"bytes_up\":2048,"
	                     "\"bytes_down\":1048576,\"ms\":2500}"),
	          "2026-01-31T12:00:00.000Z  ended      tls   a.example:443  2 KiB up, 1 MiB down,"
	          " 2.5 s");
	CHECK_STR(shown(HEAD
	                "\"event\":\"scrubbed\",\"layer\":\"http\",\"reason\":\"allowed\","
	                "\"host\":\"a.example\",\"port\":443,\"secret\":\"TOKEN\",\"count\":2}"),
	          "2026-01-31T12:00:00.000Z  scrubbed   http  a.example:443  secret TOKEN");
	CHECK_STR(shown(HEAD "\"event\":\"lost\",\"layer\":\"tcp\",\"count\":12}"),
	          "2026-01-31T12:00:00.000Z  lost       12 records are missing here");
}

TEST(colours)
{
	static const struct {
		const char *json, *text;
	} rows[] = {
		{ HEAD
		  "\"event\":\"refused\",\"layer\":\"dns\",\"host\":\"a.example\",\"port\":53}",
		  "2026-01-31T12:00:00.000Z  \033[31mrefused  \033[0m  dns   a.example" },
		{ HEAD "\"event\":\"ended\",\"layer\":\"tls\",\"host\":\"a.example\",\"port\":443}",
		  "2026-01-31T12:00:00.000Z  ended      tls   a.example:443" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char room[512];
		struct buf b;

		buf_init(&b, room, sizeof(room));
		CHECK(logs_egress_put(&b, span_str(rows[i].json), true));
		CHECK_STR(buf_cstr(&b), rows[i].text);
	}
}

TEST(nothing_moves_the_cursor)
{
	const char *got = shown(HEAD "\"event\":\"refused\",\"layer\":\"http\",\"reason\":\"path\","
	                             "\"host\":\"a\\u001b[2J\",\"port\":80,\"method\":\"G\\nT\","
	                             "\"path\":\"/\\r\\u0007\"}");

	CHECK(got);
	for (const char *at = got; *at; at++)
		CHECK((unsigned char)*at >= ' ');
}

TEST(what_is_no_record)
{
	CHECK(!shown(""));
	CHECK(!shown("{"));
	CHECK(!shown("[]"));
	CHECK(!shown("{}"));
	CHECK(!shown("{\"event\":7}"));
	CHECK(shown("{\"event\":\"refused\"}"));
}

TEST_MAIN()
