#include "test.h"

#include "base/fdio.h"
#include "cli/cli.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/*
 * The verbs' tables are judged as a whole, and what is generated from them is compared with them: a
 * flag that the parser takes and help or a shell does not know is a failure here.
 */

enum { TEXT_WIDTH_MAX = 96, MAN_BYTES_MAX = 256 << 10 };

static char script[CLI_SCRIPT_MAX + 1];

static void each_verb(void (*look)(const char *path, const struct verb *v))
{
	char path[64];

	for (size_t i = 0; cli_verbs[i]; i++) {
		const struct verb *v = cli_verbs[i];

		look(v->name, v);
		for (size_t j = 0; v->subs && v->subs[j]; j++) {
			(void)snprintf(path, sizeof(path), "%s %s", v->name, v->subs[j]->name);
			look(path, v->subs[j]);
		}
	}
}

static void check_lines(const char *text, size_t width)
{
	struct span rest = span_str(text);
	struct span line;

	CHECK_EQ(text[strlen(text) - 1], '\n');
	while (take_until(&rest, '\n', &line))
		if (line.len > width)
			test_fail(__FILE__, __LINE__, "too wide: %.*s", (int)line.len,
			          (const char *)line.at);
}

static void check_verb(const char *path, const struct verb *v)
{
	(void)path;
	CHECK(v->name && v->summary && v->summary[0]);
	CHECK(v->summary[strlen(v->summary) - 1] != '.');
	CHECK(v->run || v->subs);
	if (v->run)
		CHECK(v->args && v->words_min <= v->words_max);
	if (v->about)
		check_lines(v->about, TEXT_WIDTH_MAX);
	if (!v->hidden && v->run) {
		CHECK(v->examples);
		check_lines(v->examples, TEXT_WIDTH_MAX);
		CHECK(strstr(v->examples, v->name));
	}
	for (const struct opt *o = v->opts; o && o->id; o++) {
		CHECK(o->id > 0 && o->name && o->name[0] && o->help && o->help[0]);
		CHECK(o->help[strlen(o->help) - 1] != '.');
		CHECK(strcmp(o->name, "help") != 0 && o->letter != 'h');
		for (const struct opt *other = o + 1; other->id; other++) {
			CHECK(other->id != o->id);
			CHECK(strcmp(other->name, o->name) != 0);
			CHECK(!o->letter || other->letter != o->letter);
		}
	}
}

TEST(every_table_is_sound)
{
	each_verb(check_verb);
}

/* The text before that, or all of it. */
static const char *text_until(const char *text, const char *end)
{
	static char room[CLI_HELP_MAX + 1];
	const char *at = strstr(text, end);

	(void)snprintf(room, sizeof(room), "%.*s", (int)(at ? at + 1 - text : (long)strlen(text)),
	               text);
	return room;
}

/* One after the other, whatever blanks and line ends are between them. */
static bool has_words(const char *text, const char *words)
{
	for (; *text; text++) {
		const char *t = text, *w = words;

		while (*w && (*t == *w || (*w == ' ' && *t == '\n'))) {
			t += *t == '\n' ? 1 + strspn(t + 1, " ") : 1;
			w++;
		}
		if (!*w)
			return true;
	}
	return false;
}

static void check_help(const char *path, const struct verb *v)
{
	char text[CLI_HELP_MAX];
	char flag[64];
	struct buf b;

	buf_init(&b, text, sizeof(text) - 1);
	help_put_verb(&b, path, v);
	CHECK(buf_ok(&b));
	text[b.len] = '\0';
	check_lines(text_until(text, "\nExamples:\n"),
	            80); /* of a terminal; a command stays whole */
	(void)snprintf(flag, sizeof(flag), "berm %s", path);
	CHECK(strstr(text, flag));
	for (const struct opt *o = v->opts; o && o->id; o++) {
		(void)snprintf(flag, sizeof(flag), "--%s", o->name);
		CHECK(strstr(text, flag));
		CHECK(has_words(text, o->help));
	}
	for (size_t i = 0; v->subs && v->subs[i]; i++)
		CHECK(has_words(text, v->subs[i]->summary));
}

TEST(help_groups_every_verb)
{
	char text[CLI_HELP_MAX];
	char row[80];
	size_t titles = 0;
	struct buf b;

	buf_init(&b, text, sizeof(text) - 1);
	help_put_all(&b);
	CHECK(buf_ok(&b));
	text[b.len] = '\0';
	check_lines(text, 80);
	for (size_t i = 0; cli_verbs[i]; i++) {
		(void)snprintf(row, sizeof(row), "\n  %s ", cli_verbs[i]->name);
		CHECK_EQ(strstr(text, row) != NULL, !cli_verbs[i]->hidden);
	}
	for (const char *at = text; (at = strstr(at, ":\n  ")) != NULL; at++)
		titles++;
	CHECK_EQ(titles, 6);
}

TEST(help_knows_every_flag)
{
	each_verb(check_help);
}

static bool fish; /* which spells --name as `-l name` */

static void check_script(const char *path, const struct verb *v)
{
	char flag[64];
	const char *from = script;

	if (v->hidden)
		return;
	CHECK(strstr(script, v->name));
	if (!fish) {
		char label[80];

		(void)snprintf(label, sizeof(label), "\n\t'%s')", path);
		from = strstr(script, label);
		CHECK(from);
	}
	for (const struct opt *o = v->opts; o && o->id; o++) {
		(void)snprintf(flag, sizeof(flag), "%s%s", fish ? "-l " : "--", o->name);
		if (!strstr(from, flag))
			test_fail(__FILE__, __LINE__, "%s does not offer %s", path, flag);
	}
}

TEST(completions_know_every_flag)
{
	static const char *const shells[] = { "bash", "zsh", "fish" };

	for (size_t i = 0; i < 3; i++) {
		struct buf b;

		buf_init(&b, script, CLI_SCRIPT_MAX);
		CHECK(complete_put_script(&b, shells[i]));
		CHECK(buf_ok(&b));
		script[b.len] = '\0';
		CHECK(!strstr(script, "__complete bash"));
		fish = i == 2;
		each_verb(check_script);
	}
	CHECK(!complete_put_script(&(struct buf){ 0 }, "tcsh"));
}

static const char *manual; /* the source of berm(1) */

/* In the source, '_' and '*' begin an emphasis, so a flag is *--name* and nothing else. */
static void check_manual(const char *path, const struct verb *v)
{
	char flag[64];

	if (v->hidden)
		return;
	(void)snprintf(flag, sizeof(flag), "*berm %s*", path);
	if (v->run && !strstr(manual, flag))
		test_fail(__FILE__, __LINE__, "berm(1) does not have %s", flag);
	for (const struct opt *o = v->opts; o && o->id; o++) {
		(void)snprintf(flag, sizeof(flag), "*--%s*", o->name);
		if (!strstr(manual, flag))
			test_fail(__FILE__, __LINE__, "berm(1) does not have %s of %s", flag, path);
	}
}

TEST(the_manual_knows_every_flag)
{
	struct err e = { 0 };
	char *text = NULL;

	CHECK_OK(fd_read_file(AT_FDCWD, MANUAL, MAN_BYTES_MAX, &text, NULL, &e), &e);
	manual = text;
	each_verb(check_manual);
	free(text);
}

TEST(a_mistyped_verb_is_recognised)
{
	CHECK_STR(verb_nearest(cli_verbs, "exce"), "exec");
	CHECK_STR(verb_nearest(cli_verbs, "inspetc"), "inspect");
	CHECK_STR(verb_nearest(cli_verbs, "frobnicate"), NULL);
	CHECK(verb_nearest(cli_verbs, "__complet") == NULL);
}

TEST_MAIN()
