#include "guardpage.h"
#include "policy/glob.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static bool path(const char *pattern, const char *text)
{
	size_t len = strlen(text);
	uint8_t *at = guard_copy(text, len);
	const char *why;
	bool got;

	CHECK_EQ(glob_parse_path(span_str(pattern), &why), 0);
	got = glob_path_match(span_str(pattern), span_of(at, len));
	guard_free(at, len);
	return got;
}

TEST(L7_2_star_stays_in_its_segment)
{
	CHECK(path("/*", "/a"));
	CHECK(path("/*", "/"));
	CHECK(!path("/*", "/a/b"));
	CHECK(path("/*/*/git-upload-pack", "/o/r/git-upload-pack"));
	CHECK(!path("/*/*/git-upload-pack", "/o/r/s/git-upload-pack"));
	CHECK(!path("/*/*/git-upload-pack", "/r/git-upload-pack"));
	CHECK(path("/a*c", "/abbc"));
	CHECK(path("/a*b*c", "/axbxbxc"));
	CHECK(!path("/a*b*c", "/axbxb"));
	CHECK(!path("/a*c", "/ab/c"));
}

TEST(L7_2_two_stars_cross_segments)
{
	CHECK(path("/**", "/"));
	CHECK(path("/**", "/a"));
	CHECK(path("/**", "/a/b/c"));
	CHECK(path("/a/**", "/a"));
	CHECK(path("/a/**", "/a/"));
	CHECK(path("/a/**", "/a/b/c"));
	CHECK(!path("/a/**", "/ab"));
	CHECK(!path("/a/**", "/b/a"));
	CHECK(path("/**/x", "/x"));
	CHECK(path("/**/x", "/a/b/x"));
	CHECK(!path("/**/x", "/a/b/xy"));
	CHECK(path("/a/**/b/**/c", "/a/1/b/2/b/3/c"));
	CHECK(path("/a/**/b/*/c", "/a/b/x/b/y/c"));
	CHECK(!path("/a/**/b/*/c", "/a/b/x/y/c"));
}

TEST(exact_paths)
{
	CHECK(path("/", "/"));
	CHECK(!path("/", "/a"));
	CHECK(path("/a/b", "/a/b"));
	CHECK(!path("/a/b", "/a/b/"));
	CHECK(!path("/a/b/", "/a/b"));
	CHECK(!path("/a", "/A"));
	CHECK(!path("/a", ""));
	CHECK(path("/%2F", "/%2F"));
}

/* A canonical path has both spellings of these, and a server takes them for one. */
TEST(PATH_6_escapes_do_not_change_the_answer)
{
	CHECK(path("/a@b", "/a%40b"));
	CHECK(path("/a%40b", "/a@b"));
	CHECK(path("/%2A", "/*"));
	CHECK(!path("/%2A", "/a"));
	CHECK(path("/a*c", "/a%2Fc"));
	CHECK(!path("/a%2Fc", "/a/c"));
	CHECK(!path("/%3B", "/;"));
	CHECK(!path("/*1", "/%21"));
	CHECK(path("/*!", "/x%21"));
}

TEST(patterns_that_could_never_match)
{
	static const char *const bad[] = { "",      "a",    "a/b",  "/a//b", "/./a",  "/a/..",
		                           "/a**",  "/**a", "/a?b", "/a#b",  "/a b",  "/a\\b",
		                           "/%2f",  "/%41", "/%",   "/%4",   "/\xc3", "/***",
		                           "/a/\n", "/a;b", "/{a}", "/[a]",  "/a|b" };
	const char *why;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		if (glob_parse_path(span_str(bad[i]), &why) != -EBADMSG || !why)
			test_fail(__FILE__, __LINE__, "'%s' is accepted", bad[i]);
	}
}

TEST(hostile_paths_cost_little)
{
	static const char pattern[] = "/**/a*a*a*a*a*a*b/**/a*a*a*a*b";
	uint8_t text[POLICY_PATH_MAX];

	memset(text, 'a', sizeof(text));
	for (size_t i = 0; i < sizeof(text); i += 40)
		text[i] = '/';
	for (int i = 0; i < 200; i++)
		CHECK(!glob_path_match(span_str(pattern), span_of(text, sizeof(text))));
}

TEST(values)
{
	CHECK(glob_value_match(span_str("*"), span_str("")));
	CHECK(glob_value_match(span_str("a*/c"), span_str("a/b/c")));
	CHECK(!glob_value_match(span_str(""), span_str("a")));
	CHECK(glob_value_match(span_str(""), span_str("")));
	CHECK(!glob_value_match(span_str("a"), span_str("")));
}

TEST_MAIN()
