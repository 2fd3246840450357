#include "policy/query.h"
#include "test.h"

#include <string.h>

static bool holds(enum query_mode mode, const char *value, const char *query, bool deny)
{
	struct span values[1] = { span_str(value) };
	struct query_test t = { (uint8_t)mode, span_str("service"), values, 1 };

	if (mode == QUERY_MISSING)
		t.values_count = 0;
	return query_holds(&t, span_str(query), deny);
}

TEST(L7_2_any)
{
	CHECK(holds(QUERY_SOME, "x", "service=x", false));
	CHECK(holds(QUERY_SOME, "x", "a=1&service=y&service=x", false));
	CHECK(!holds(QUERY_SOME, "x", "service=y", false));
	CHECK(!holds(QUERY_SOME, "x", "", false));
	CHECK(!holds(QUERY_SOME, "x", "services=x", false));
}

TEST(L7_2_all_and_repeated)
{
	CHECK(holds(QUERY_EVERY, "x*", "service=x&service=xy", false));
	CHECK(!holds(QUERY_EVERY, "x", "service=x&service=y", false));
	CHECK(!holds(QUERY_EVERY, "x", "a=1", false));
	CHECK(holds(QUERY_ONCE, "x", "service=x&a=1", false));
	CHECK(!holds(QUERY_ONCE, "x", "service=x&service=x", false));
}

TEST(L7_2_missing)
{
	CHECK(holds(QUERY_MISSING, "", "a=1", false));
	CHECK(holds(QUERY_MISSING, "", "", false));
	CHECK(!holds(QUERY_MISSING, "", "service", false));
	CHECK(!holds(QUERY_MISSING, "", "service=", false));
}

TEST(escapes_are_read_once)
{
	CHECK(holds(QUERY_SOME, "git-receive-pack", "%73ervice=git%2Dreceive-pack", true));
	CHECK(holds(QUERY_SOME, "a b", "service=a+b", false));
	CHECK(holds(QUERY_SOME, "%78", "service=%2578", false));
	CHECK(!holds(QUERY_SOME, "x", "service=%2578", false));
	CHECK(holds(QUERY_SOME, "%zz", "service=%zz", false));
}

TEST(what_is_ambiguous_denies)
{
	/* a server that splits at ';' reads service=bad */
	CHECK(holds(QUERY_SOME, "bad", "a=1;service=bad", true));
	CHECK(holds(QUERY_SOME, "ok;service=bad", "service=ok;service=bad", true));
	CHECK(!holds(QUERY_EVERY, "ok", "service=ok;service=bad", false));
	CHECK(!holds(QUERY_MISSING, "", "a=1;service=bad", false));
}

TEST(floods_deny)
{
	static char query[POLICY_PATH_MAX + 2];

	memset(query, '&', POLICY_PATH_MAX);
	CHECK(holds(QUERY_SOME, "x", query, true));
	CHECK(!holds(QUERY_MISSING, "", query, false));
	memset(query, 'a', POLICY_PATH_MAX + 1);
	CHECK(holds(QUERY_SOME, "x", query, true));
	CHECK(!holds(QUERY_MISSING, "", query, false));
}

TEST_MAIN()
