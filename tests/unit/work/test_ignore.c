#include "test.h"

#include "work/ignore.h"
#include "work/path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a walk of `path` comes to: excluded itself, or below a directory that is. */
static bool excluded(struct ignore_set *s, const char *path, bool is_dir)
{
	for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		struct span above = span_of(path, (size_t)(slash - path));

		if (ignore_ask(s, above, true).verdict == IGNORE_EXCLUDED)
			return true;
	}
	return ignore_ask(s, span_str(path), is_dir).verdict == IGNORE_EXCLUDED;
}

static struct ignore_set *set_of(const char *text)
{
	struct ignore_set *s;
	struct err e;

	CHECK_OK(ignore_set_new(&s, &e), &e);
	CHECK_OK(ignore_add(s, span_str(""), ".bermignore", span_str(text), NULL, &e), &e);
	return s;
}

/* Each pair was also put to git 2.39; a "/" at the path's end makes it a directory. */
TEST(e10_agrees_with_gitignore)
{
	const struct {
		const char *patterns, *path;
		bool excluded;
	} pairs[] = {
		{ "a", "a", true },
		{ "a", "x/y/a", true },
		{ "a", "a/b", true },
		{ "a", "aa", false },
		{ "/a", "a", true },
		{ "/a", "x/a", false },
		{ "x/a", "x/a", true },
		{ "x/a", "y/x/a", false },
		{ "a/", "a", false },
		{ "a/", "a/", true },
		{ "a/", "x/a/f", true },
		{ "*.o", "x/f.o", true },
		{ "*.o", "f.oo", false },
		{ "/*.o", "x/f.o", false },
		{ "x/*.o", "x/y/f.o", false },
		{ "x/?", "x/f", true },
		{ "x/?", "x/ff", false },
		{ "**/a", "a", true },
		{ "**/a", "x/y/a", true },
		{ "**/a/b", "x/a/b", true },
		{ "a/**", "a/", false },
		{ "a/**", "a/x/y", true },
		{ "a/**/b", "a/b", true },
		{ "a/**/b", "a/x/y/b", true },
		{ "a/**/b", "ax/b", false },
		{ "a**/b", "ax/b", true },
		{ "a**/b", "ax/y/b", false },
		{ "# a", "# a", false },
		{ "\\# a", "# a", true },
		{ "\\!a", "!a", true },
		{ "*\n!a", "a", false },
		{ "*\n!a", "b", true },
		{ "x/\n!x/a", "x/a", true }, /* below an excluded directory nothing comes back */
		{ "x/*\n!x/a", "x/a", false },
		{ "a  ", "a", true },
		{ "a\\ ", "a ", true },
		{ "a\r", "a", true },
		{ "[a-c]x", "bx", true },
		{ "[!a-c]x", "bx", false },
		{ "[]a]x", "]x", true },
		{ "[[:digit:]a]x", "7x", true },
		{ "[[:digits:]a]x", "ax", false },
		{ "[a", "[a", false },
		{ "\xe9*", "x/\xe9t\xe9", true },
		{ "a\\", "a\\", false },
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		_own_(ignore_set_free) struct ignore_set *s = set_of(pairs[i].patterns);
		char path[64];
		size_t n = strlen(pairs[i].path);
		bool is_dir = pairs[i].path[n - 1] == '/';

		(void)snprintf(path, sizeof(path), "%.*s", (int)(n - is_dir), pairs[i].path);
		if (excluded(s, path, is_dir) != pairs[i].excluded)
			test_fail(__FILE__, __LINE__, "\"%s\" and %s", pairs[i].patterns,
			          pairs[i].path);
	}
}

static bool match(const struct ignore_rule *r, struct span path)
{
	return ignore_match(r, path, wpath_last(path), false);
}

TEST(e11_many_stars_end)
{
	char pattern[512], path[4096];
	size_t n = 0;
	struct ignore_rule r;

	for (int i = 0; i < 200; i++) {
		pattern[n++] = '*';
		pattern[n++] = 'a';
	}
	memset(path, 'a', sizeof(path));
	path[sizeof(path) - 1] = 'b';
	CHECK_EQ(ignore_parse_line(span_of(pattern, n), &r), 0);
	CHECK(!match(&r, span_of(path, sizeof(path))));
	path[sizeof(path) - 1] = 'a';
	CHECK(match(&r, span_of(path, sizeof(path))));

	for (n = 0; n < 200; n++)
		memcpy(pattern + 2 * n, "a/", 2);
	for (n = 0; n < 100; n++)
		memcpy(pattern + 5 * n, "**/a/", 5);
	for (n = 0; n + 1 < sizeof(path); n += 2)
		memcpy(path + n, "a/", 2);
	CHECK_EQ(ignore_parse_line(span_of(pattern, 499), &r), 0);
	path[sizeof(path) - 1] = 'b';
	CHECK(!match(&r, span_of(path, sizeof(path))));
}

TEST(a_line_that_says_nothing)
{
	struct ignore_rule r;
	char line[IGNORE_PATTERN_MAX + 1];

	CHECK_EQ(ignore_parse_line(span_str(""), &r), -ENODATA);
	CHECK_EQ(ignore_parse_line(span_str("   "), &r), -ENODATA);
	CHECK_EQ(ignore_parse_line(span_str("#a"), &r), -ENODATA);
	CHECK_EQ(ignore_parse_line(span_str("!"), &r), -ENODATA);
	CHECK_EQ(ignore_parse_line(span_str("/"), &r), -ENODATA);
	memset(line, 'a', sizeof(line));
	CHECK_EQ(ignore_parse_line(span_of(line, sizeof(line)), &r), -E2BIG);
	CHECK_EQ(ignore_parse_line(span_of(line, sizeof(line) - 1), &r), 0);
}

TEST(says_which_line_it_was)
{
	_own_(ignore_set_free) struct ignore_set *s = set_of("\xef\xbb\xbf*.o\n\n# c\n!keep.o\n");
	struct ignore_hit h = ignore_ask(s, span_str("x/keep.o"), false);

	CHECK_EQ(h.verdict, IGNORE_TAKEN_BACK);
	CHECK_EQ(h.line, 4);
	CHECK_STR(h.source, ".bermignore");
	CHECK(span_is(h.pattern, "keep.o"));
	CHECK_EQ(ignore_ask(s, span_str("a.o"), false).line, 1);
	CHECK_EQ(ignore_ask(s, span_str("a.c"), false).verdict, IGNORE_NOTHING_SAID);
}

TEST(a_file_further_down_beats_one_further_up)
{
	_own_(ignore_set_free) struct ignore_set *s = set_of("*.o\n");
	struct err e;

	CHECK_OK(ignore_add(s, span_str("x"), "x/.bermignore", span_str("!a.o\n/b\n"), NULL, &e),
	         &e);
	CHECK_EQ(ignore_ask(s, span_str("x/a.o"), false).verdict, IGNORE_TAKEN_BACK);
	CHECK_EQ(ignore_ask(s, span_str("xx/a.o"), false).verdict, IGNORE_EXCLUDED);
	CHECK_EQ(ignore_ask(s, span_str("x/b"), false).verdict, IGNORE_EXCLUDED);
	CHECK_EQ(ignore_ask(s, span_str("x/y/b"), false).verdict, IGNORE_NOTHING_SAID);
	CHECK_EQ(ignore_ask(s, span_str("x"), true).verdict, IGNORE_NOTHING_SAID);
	CHECK_EQ(ignore_count(s), 3);
	ignore_leave(s, span_str("x/y"));
	CHECK_EQ(ignore_count(s), 3);
	ignore_leave(s, span_str("xx"));
	CHECK_EQ(ignore_count(s), 1);
}

/* A set leaves most rules out by their first and last bytes: its answers are those of them all. */
TEST(a_set_answers_as_its_rules_do_one_by_one)
{
	static const char *const forms[] = {
		"%s",  "*%s",  "%s*",  "!%s",  "/%s",   "%s/",    "**/%s",    "x/%s", "?%s",
		"%s?", "[%s]", "[^%s", "\\%s", "%s\\ ", "a*%s*b", "%s/**/%s", "%s]",  "%s\\"
	};
	static const char *const words[] = { "a", "b", "ab", "]", "a]b", "!", "\\a", "[ab]" };
	static const char *const paths[] = { "a",     "b",      "ab",  "x/a",   "x/b",
		                             "x/ab",  "aab",    "a]b", "x/a]b", "]",
		                             "a/x/a", "b/a/ab", "x",   "!",     "!a",
		                             "a b",   "ab ",    "aa",  "ba",    "[ab]" };
	enum { FORMS = sizeof(forms) / sizeof(forms[0]), WORDS = sizeof(words) / sizeof(words[0]) };
	char lines[FORMS * WORDS][32];
	unsigned seen[3] = { 0 };

	for (unsigned i = 0; i < FORMS * WORDS; i++) {
		const char *word = words[i % WORDS];

		/* the last form has the word twice */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		(void)snprintf(lines[i], sizeof(lines[i]), forms[i / WORDS], word, word);
#pragma GCC diagnostic pop
	}
	/* sets of every length around the 64 that are looked at together, with other beginnings */
	for (unsigned from = 0; from < FORMS * WORDS; from += 7) {
		for (unsigned p = 0; p < 2 * sizeof(paths) / sizeof(paths[0]); p++) {
			_own_(ignore_set_free) struct ignore_set *s = set_of("");
			struct span path = span_str(paths[p / 2]);
			enum ignore_verdict want = IGNORE_NOTHING_SAID;
			struct err e;

			for (unsigned i = from; i < FORMS * WORDS; i++) {
				struct ignore_rule r;

				CHECK_OK(ignore_add(s, span_str(""), "f", span_str(lines[i]), NULL,
				                    &e),
				         &e);
				if (ignore_parse_line(span_str(lines[i]), &r) == 0 &&
				    ignore_match(&r, path, wpath_last(path), p % 2))
					want = r.negated ? IGNORE_TAKEN_BACK : IGNORE_EXCLUDED;
				CHECK_EQ(ignore_ask(s, path, p % 2).verdict, want);
			}
			seen[want]++;
		}
	}
	CHECK(seen[IGNORE_NOTHING_SAID] > 0 && seen[IGNORE_EXCLUDED] > 0 &&
	      seen[IGNORE_TAKEN_BACK] > 0);
}

TEST(rules_that_were_taken_off_leave_nothing_behind)
{
	_own_(ignore_set_free) struct ignore_set *s = set_of("*.o\n");
	struct err e;

	for (int i = 0; i < 3; i++) {
		CHECK_OK(ignore_add(s, span_str("x"), "f", span_str("a*\n*b\nc/\nd\n"), NULL, &e),
		         &e);
		CHECK_EQ(ignore_ask(s, span_str("x/d"), false).line, 4);
		ignore_leave(s, span_str("y"));
		CHECK_OK(ignore_add(s, span_str("y"), "g", span_str("d\nc\n"), NULL, &e), &e);
		CHECK_EQ(ignore_ask(s, span_str("y/a"), false).verdict, IGNORE_NOTHING_SAID);
		CHECK_EQ(ignore_ask(s, span_str("y/b"), false).verdict, IGNORE_NOTHING_SAID);
		CHECK_EQ(ignore_ask(s, span_str("y/c"), false).line, 2);
		CHECK_EQ(ignore_ask(s, span_str("y/d"), false).line, 1);
		ignore_leave(s, span_str("x"));
	}
	CHECK_EQ(ignore_ask(s, span_str("x/d"), false).verdict, IGNORE_NOTHING_SAID);
}

TEST(a_path_without_a_last_part_is_answered)
{
	_own_(ignore_set_free) struct ignore_set *s = set_of("a\n/b\n*.o\n*\n");

	CHECK_EQ(ignore_ask(s, span_str(""), true).verdict, IGNORE_NOTHING_SAID);
	CHECK_EQ(ignore_ask(s, span_str("a/"), true).verdict, IGNORE_EXCLUDED);
}

TEST(refuses_too_much)
{
	_own_(ignore_set_free) struct ignore_set *s = set_of("*.o\n");
	_own_free_ char *text = malloc(IGNORE_FILE_MAX + 1);
	unsigned refused;
	struct err e;

	CHECK(text != NULL);
	memset(text, 'a', IGNORE_FILE_MAX + 1);
	CHECK_EQ(ignore_add(s, span_str(""), "f", span_of(text, IGNORE_FILE_MAX + 1), NULL, &e),
	         -E2BIG);
	for (size_t i = 1; i < IGNORE_FILE_MAX; i += 2)
		text[i] = '\n';
	CHECK_EQ(ignore_add(s, span_str(""), "f", span_of(text, IGNORE_FILE_MAX), NULL, &e),
	         -E2BIG);
	CHECK_EQ(ignore_count(s), 1); /* all of a file or nothing */
	memset(text, 'a', IGNORE_PATTERN_MAX + 1);
	memcpy(text + IGNORE_PATTERN_MAX + 1, "\nb", 2);
	CHECK_OK(ignore_add(s, span_str(""), "f", span_of(text, IGNORE_PATTERN_MAX + 3), &refused,
	                    &e),
	         &e);
	CHECK_EQ(refused, 1);
	CHECK_EQ(ignore_count(s), 2);
}

TEST_MAIN()
