#include "test.h"

#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { A = 1, B, VALUE, CHOICE, PLAIN, FIRST, SECOND };

static const struct opt opts[] = {
	{ A, 'a', "all", NULL, COMPLETE_NONE, "all of them" },
	{ B, 'b', "brief", NULL, COMPLETE_NONE, "less" },
	{ VALUE, 'e', "env", "NAME", COMPLETE_NONE, "a value" },
	{ CHOICE, 0, "engine", "auto|qemu", COMPLETE_NONE, "a choice" },
	{ PLAIN, 0, "plain-only", NULL, COMPLETE_NONE, "" },
	{ FIRST, 0, "forgotten-first", NULL, COMPLETE_NONE, "" },
	{ SECOND, 0, "forgotten-second", NULL, COMPLETE_NONE, "" },
	OPT_END_ROW,
};

static const struct verb mixed = {
	.name = "mixed", .args = "[WORD...]", .opts = opts, .words_max = CLI_WORDS_ANY
};
static const struct verb stopping = { .name = "stopping",
	                              .args = "IMAGE [CMD...]",
	                              .opts = opts,
	                              .words_max = CLI_WORDS_ANY,
	                              .stop_at_word = true };
static const struct verb two = { .name = "two", .args = "SRC DST", .words_min = 2, .words_max = 2 };

/* A line of words apart from one another by blanks; returns args_parse()'s answer. */
static int parse(const struct verb *v, const char *line, struct args **ret, struct err *e)
{
	static char storage[400];
	static char *argv[40];
	int argc = 0;
	char *at = storage;

	memset(argv, 0, sizeof(argv));
	(void)snprintf(storage, sizeof(storage), "%s", line);
	while (*at) {
		argv[argc++] = at;
		at = strchrnul(at, ' ');
		if (*at)
			*at++ = '\0';
	}
	return args_parse(v, argc, argv, ret, e);
}

static struct args *good(const struct verb *v, const char *line)
{
	struct args *a = NULL;
	struct err e = { 0 };

	CHECK_OK(parse(v, line, &a, &e), &e);
	return a;
}

static void bad(const struct verb *v, const char *line, const char *says)
{
	struct args *a = NULL;
	struct err e = { 0 };

	CHECK_EQ(parse(v, line, &a, &e), -EINVAL);
	CHECK(!a);
	if (!strstr(e.text, says))
		CHECK_STR(e.text, says);
}

TEST(every_spelling_of_an_option_is_taken)
{
	static const char *const lines[] = { "-e V w", "-eV w", "--env V w", "--env=V w",
		                             "w --env V" };

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct args *a = good(&mixed, lines[i]);

		CHECK_STR(args_value(a, VALUE), "V");
		CHECK_EQ(a->word_count, 1);
		CHECK_STR(a->words[0], "w");
		CHECK(!a->words[1]);
		args_free(a);
	}
}

TEST(letters_may_stand_together)
{
	struct args *a = good(&mixed, "-abeX -ba");

	CHECK(args_has(a, A));
	CHECK(args_has(a, B));
	CHECK_STR(args_value(a, VALUE), "X");
	CHECK_EQ(a->opt_count, 5);
	args_free(a);
}

TEST(an_empty_value_is_one)
{
	struct args *a = good(&mixed, "--env=");

	CHECK_STR(args_value(a, VALUE), "");
	args_free(a);
}

TEST(the_last_value_counts_and_all_are_kept)
{
	struct args *a = good(&mixed, "-e A --env B");

	CHECK_STR(args_value(a, VALUE), "B");
	CHECK_STR(a->opts[0].value, "A");
	args_free(a);
}

TEST(a_stopping_verb_leaves_the_commands_own_options_alone)
{
	struct args *a = good(&stopping, "-a image -b --nonsense -- -a");

	CHECK(args_has(a, A));
	CHECK(!args_has(a, B));
	CHECK_EQ(a->word_count, 5);
	CHECK_STR(a->words[1], "-b");
	CHECK_STR(a->words[3], "--");
	CHECK_EQ(a->dashes_at, CLI_NO_DASHES);
	args_free(a);
}

TEST(dashes_are_told_by_where_they_stood)
{
	struct args *a = good(&stopping, "-- cmd -a");

	CHECK_EQ(a->dashes_at, 0);
	CHECK_EQ(a->word_count, 2);
	args_free(a);
	a = good(&stopping, "image -- cmd -a");
	CHECK_EQ(a->dashes_at, 1);
	CHECK_EQ(a->word_count, 3);
	CHECK_STR(a->words[1], "cmd");
	args_free(a);
	a = good(&mixed, "-- -a");
	CHECK(!args_has(a, A));
	CHECK_STR(a->words[0], "-a");
	args_free(a);
	a = good(&stopping, "--");
	CHECK_EQ(a->dashes_at, 0);
	CHECK_EQ(a->word_count, 0);
	args_free(a);
}

TEST(a_single_dash_is_a_word)
{
	struct args *a = good(&mixed, "-");

	CHECK_STR(a->words[0], "-");
	args_free(a);
}

TEST(mistakes_are_told_with_what_was_meant)
{
	bad(&mixed, "--al", "did you mean '--all'");
	bad(&mixed, "--engnie auto", "did you mean '--engine'");
	bad(&mixed, "--plain", "did you mean '--plain-only'");
	bad(&mixed, "--pl", "unknown option '--pl'");
	bad(&mixed, "--forgotten", "unknown option '--forgotten'");
	bad(&mixed, "--zzzzzz", "unknown option '--zzzzzz'");
	bad(&mixed, "-x", "unknown option '-x'");
	bad(&mixed, "--all=1", "takes no value");
	bad(&mixed, "--env", "needs a value");
	bad(&mixed, "-e", "needs a value");
	bad(&mixed, "--engine kvm", "'kvm' is none of auto|qemu");
	bad(&two, "a", "SRC DST");
	bad(&two, "a b c", "'c' is one word too many");
}

TEST(help_is_asked_for_by_every_verb_but_not_by_a_commands_words)
{
	struct args *a = NULL;
	struct err e = { 0 };

	CHECK_EQ(parse(&mixed, "x --help", &a, &e), ARGS_HELP);
	CHECK_EQ(parse(&two, "-h", &a, &e), ARGS_HELP);
	CHECK_EQ(parse(&stopping, "image --help", &a, &e), 0);
	args_free(a);
}

TEST(distance_counts_what_fingers_do)
{
	CHECK_EQ(edit_distance("run", "run"), 0);
	CHECK_EQ(edit_distance("rnu", "run"), 1);
	CHECK_EQ(edit_distance("ru", "run"), 1);
	CHECK_EQ(edit_distance("runs", "run"), 1);
	CHECK_EQ(edit_distance("", "run"), 3);
	CHECK_EQ(edit_distance("inspetc", "inspect"), 1);
	CHECK_EQ(edit_distance("abcdefgh", "ijklmnop"), CLI_SUGGEST_DISTANCE_MAX + 1);
	CHECK_EQ(edit_distance("a-word-that-is-longer-than-thirty-two-letters", ""),
	         CLI_SUGGEST_DISTANCE_MAX + 1);
}

TEST_MAIN()
