/* Bodies of refusals: bounded, JSON, and nothing in them that should not be. */
#include "gate/refusal.h"
#include "test.h"

#include <string.h>

TEST(every_reason_has_a_status)
{
	for (unsigned r = 0; r < POLICY_REASONS; r++) {
		uint16_t s = refusal_status((enum policy_reason)r);

		CHECK(s >= 400 && s < 600);
	}
	for (unsigned f = 0; f < EGRESS_FAIL_COUNT; f++)
		CHECK(refusal_reason((enum egress_fail)f) != POLICY_OK);
	CHECK_EQ(refusal_http_status(HTTP_TRACE), 405);
	CHECK_EQ(refusal_http_status(HTTP_CONNECT), 501);
	CHECK_EQ(refusal_http_status(HTTP_LENGTH), 400);
	CHECK_EQ(refusal_http_status(HTTP_HEAD_TOO_LARGE), 431);
	CHECK_EQ(refusal_http_status(HTTP_BODY_TOO_LARGE), 413);
}

TEST(a_head_fits_its_body)
{
	static struct http_head h;

	refusal_head(&h, 405, 17, "trace");
	CHECK_EQ(h.status, 405);
	CHECK_EQ(h.framing, HTTP_BODY_LENGTH);
	CHECK_EQ(h.length, 17);
	CHECK(span_is(http_head_find(&h, "content-type"), "application/json"));
	CHECK(span_is(http_head_find(&h, "berm-reason"), "trace"));
	CHECK(http_head_find(&h, "allow").len > 0);
}

TEST(BYP_7_texts_are_escaped)
{
	char room[REFUSAL_BODY_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	refusal_put_http(&b, 4294967295U, 400, "bare-lf", "a \"quoted\"\nline");
	CHECK(buf_ok(&b));
	CHECK_STR(buf_cstr(&b),
	          "{\"error\":\"bad-request\",\"status\":400,\"request_id\":\"4294967295\","
	          "\"reason\":\"bare-lf\",\"message\":\"a \\\"quoted\\\"\\nline\"}\n");
}

TEST_MAIN()
