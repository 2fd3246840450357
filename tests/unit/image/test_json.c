#include "image/json.h"

#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static int depth_of(const char *text)
{
	unsigned depth = 0;
	int r = json_parse_depth(guard_span(text, strlen(text)), &depth);

	return r < 0 ? r : (int)depth;
}

TEST(depth)
{
	CHECK_EQ(depth_of("{}"), 1);
	CHECK_EQ(depth_of("[[{}],[]]"), 3);
	CHECK_EQ(depth_of("7"), 0);
	CHECK_EQ(depth_of("[\"[[[\\\"[[\"]"), 1);
	CHECK_EQ(depth_of("["), -EBADMSG);
	CHECK_EQ(depth_of("]"), -EBADMSG);
	CHECK_EQ(depth_of("\""), -EBADMSG);
	CHECK_EQ(depth_of("\"\\"), -EBADMSG);
}

static int load(const char *text, json_t **ret)
{
	struct err e = { 0 };

	return json_load(span_str(text), 1000, "it", ret, &e);
}

TEST(loads)
{
	char deep[2 * (IMAGE_JSON_DEPTH_MAX + 1) + 1] = "";
	json_t *j = NULL;
	char big[1002];

	CHECK_EQ(load("{\"a\": 1}", &j), 0);
	json_decref(j);
	CHECK_EQ(load("{\"a\": 1, \"a\": 2}", &j), -EBADMSG);
	CHECK_EQ(load("{} x", &j), -EBADMSG);
	CHECK_EQ(load("", &j), -EBADMSG);
	CHECK_EQ(load("{\"a\\u0000b\": 1}", &j), -EBADMSG);
	memset(deep, '[', IMAGE_JSON_DEPTH_MAX + 1);
	memset(deep + IMAGE_JSON_DEPTH_MAX + 1, ']', IMAGE_JSON_DEPTH_MAX + 1);
	CHECK_EQ(load(deep, &j), -E2BIG);
	memset(big, ' ', sizeof(big));
	big[1001] = '\0';
	CHECK_EQ(load(big, &j), -E2BIG);
}

TEST(members)
{
	_own_(json_decref) json_t *j = NULL;
	_own_free_ const char **list = NULL;
	_own_free_ const char **pairs = NULL;
	_own_free_ const char **none = NULL;
	struct err e = { 0 };
	const char *text;
	uint64_t n;

	CHECK_EQ(load("{\"t\":\"x\",\"n\":7,\"l\":[\"a\",\"b\"],\"p\":{\"z\":\"1\",\"a\":\"2\"},"
	              "\"m\":[1],\"neg\":-1}",
	              &j),
	         0);
	CHECK_OK(json_get_text(j, "t", &text, &e), &e);
	CHECK_STR(text, "x");
	CHECK_OK(json_get_text(j, "absent", &text, &e), &e);
	CHECK_STR(text, "");
	CHECK_EQ(json_get_text(j, "n", &text, &e), -EBADMSG);
	CHECK_OK(json_get_list(j, "l", 2, &list, &e), &e);
	CHECK_STR(list[1], "b");
	CHECK(!list[2]);
	CHECK_EQ(json_get_list(j, "l", 1, &none, &e), -E2BIG);
	CHECK_EQ(json_get_list(j, "m", 9, &none, &e), -EBADMSG);
	CHECK_OK(json_get_list(j, "absent", 9, &none, &e), &e);
	CHECK(!none[0]);
	CHECK_OK(json_get_pairs(j, "p", 2, &pairs, &e), &e);
	CHECK_STR(pairs[0], "a");
	CHECK_STR(pairs[3], "1");
	CHECK_EQ(json_get_u64(j, "neg", &n, &e), -EBADMSG);
	CHECK_OK(json_get_u64(j, "n", &n, &e), &e);
}

TEST_MAIN()
