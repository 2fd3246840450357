#include "term/columns.h"

#include "test.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROOM = 4096 };

static const struct column of[] = { { "NAME", 4, false },
	                            { "WHERE", 4, true },
	                            { "WHAT", 0, false } };

/* A list of one row, as it is printed. */
static const char *printed(const char *name, const char *where, const char *what, unsigned cols)
{
	static char text[ROOM];
	const char *cells[] = { name, where, what };
	_own_(columns_free) struct columns *t = NULL;
	int out = memfd_create("out", MFD_CLOEXEC);
	int before = dup(STDOUT_FILENO);
	struct err e = { 0 };
	ssize_t n;
	int r;

	CHECK(out >= 0 && before >= 0);
	CHECK_OK(columns_new(of, 3, &t, &e), &e);
	CHECK_OK(columns_add(t, cells, &e), &e);
	CHECK(dup2(out, STDOUT_FILENO) >= 0);
	r = columns_print(t, cols, &e);
	CHECK(dup2(before, STDOUT_FILENO) >= 0);
	CHECK_OK(r, &e);
	n = pread(out, text, sizeof(text) - 1, 0);
	CHECK(n > 0);
	text[n] = '\0';
	(void)close(out);
	(void)close(before);
	return text;
}

TEST(columns_are_as_wide_as_what_stands_in_them)
{
	CHECK_STR(printed("alpha", "/x", "sleep 5", 0), "NAME   WHERE  WHAT\n"
	                                                "alpha  /x     sleep 5\n");
}

TEST(a_wide_character_takes_two_and_another_one)
{
	CHECK_STR(printed("gr\xc3\xbc\xc3\x9f"
	                  "e",
	                  "/\xe4\xb8\xad", "x", 0),
	          "NAME   WHERE  WHAT\n"
	          "gr\xc3\xbc\xc3\x9f"
	          "e  /\xe4\xb8\xad    x\n");
}

TEST(an_accent_stands_on_the_character_before_it)
{
	CHECK_STR(printed("cafe\xcc\x81", "/x", "x", 0), "NAME  WHERE  WHAT\n"
	                                                 "cafe\xcc\x81  /x     x\n");
}

TEST(what_is_cut_is_marked_and_fits)
{
	/* the last loses first; of a path the end is kept */
	CHECK_STR(printed("alpha", "/home/somebody/work", "a command of many words", 40),
	          "NAME   WHERE                WHAT\n"
	          "alpha  /home/somebody/work  a command o>\n");
	CHECK_STR(printed("alpha", "/home/somebody/work", "a command of many words", 33),
	          "NAME   WHERE         WHAT\n"
	          "alpha  <mebody/work  a command o>\n");
}

TEST(half_of_a_wide_character_is_not_shown)
{
	const char *wide =
		"\xe4\xb8\xad\xe6\x96\x87\xe4\xb8\xad\xe6\x96\x87\xe4\xb8\xad\xe6\x96\x87\xe4\xb8\xad";

	/* fourteen columns in twelve: five of two, and the mark */
	CHECK_STR(printed("alpha", "/x", wide, 26),
	          "NAME   WHERE  WHAT\n"
	          "alpha  /x     \xe4\xb8\xad\xe6\x96\x87\xe4\xb8\xad\xe6\x96\x87\xe4\xb8\xad>\n");
}

TEST(an_end_does_not_begin_with_an_accent)
{
	/* "/e-e-e-e", each e with an accent, has eight columns; seven are left: "/e" goes */
	CHECK_STR(printed("alpha", "/e\xcc\x81-e\xcc\x81-e\xcc\x81-e\xcc\x81", "x", 20),
	          "NAME   WHERE    WHAT\n"
	          "alpha  <-e\xcc\x81-e\xcc\x81-e\xcc\x81  x\n");
}

TEST(z1_controls_are_written_out)
{
	CHECK_STR(printed("a\x1b[31m", "/x", "a\nb", 0), "NAME       WHERE  WHAT\n"
	                                                 "a\\x1b[31m  /x     a\\x0ab\n");
}

TEST_MAIN()
