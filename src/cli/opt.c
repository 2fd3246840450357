#include "base/log.h"
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

enum {
	PREFIX_LEN_MIN = 3, /* of fewer letters too many flags could be meant */
	USAGE_TEXT_MAX = 400,
};

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Rows of the usual table, the last three: swapped neighbours count once, being the usual slip. */
size_t edit_distance(const char *a, const char *b)
{
	size_t rows[3][CLI_SUGGEST_LEN_MAX + 1];
	size_t len_a = strnlen(a, CLI_SUGGEST_LEN_MAX);
	size_t len_b = strnlen(b, CLI_SUGGEST_LEN_MAX);

	for (size_t j = 0; j <= len_b; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= len_a; i++) {
		size_t *now = rows[i % 3];
		const size_t *before = rows[(i + 2) % 3];

		now[0] = i;
		for (size_t j = 1; j <= len_b; j++) {
			size_t cost = a[i - 1] == b[j - 1] ? 0 : 1;

			now[j] = least(least(before[j] + 1, now[j - 1] + 1), before[j - 1] + cost);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = least(now[j], rows[(i + 1) % 3][j - 2] + 1);
		}
	}
	return least(rows[len_a % 3][len_b], CLI_SUGGEST_DISTANCE_MAX + 1);
}

static const struct opt *find_long(const struct verb *v, const char *name, size_t len)
{
	for (const struct opt *o = v->opts; o && o->id; o++)
		if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
			return o;
	return NULL;
}

static const struct opt *find_letter(const struct verb *v, char letter)
{
	for (const struct opt *o = v->opts; o && o->id; o++)
		if (o->letter == letter && letter)
			return o;
	return NULL;
}

/* The one flag that begins like that; of two none. */
static const char *begins_like(const struct verb *v, const char *typed)
{
	size_t len = strlen(typed);
	const char *found = NULL;

	for (const struct opt *o = v->opts; o && o->id; o++) {
		if (len < PREFIX_LEN_MIN || strncmp(o->name, typed, len) != 0)
			continue;
		if (found)
			return NULL;
		found = o->name;
	}
	return found;
}

static int unknown_long(const struct verb *v, const char *name, size_t len, struct err *e)
{
	size_t nearest = CLI_SUGGEST_DISTANCE_MAX + 1;
	const char *best = NULL;
	char typed[CLI_SUGGEST_LEN_MAX + 1];

	len = least(len, CLI_SUGGEST_LEN_MAX);
	memcpy(typed, name, len);
	typed[len] = '\0';
	for (const struct opt *o = v->opts; o && o->id; o++) {
		size_t d = edit_distance(typed, o->name);

		/* a word half of which must change is another word */
		if (d < nearest && d * 2 <= strlen(o->name)) {
			nearest = d;
			best = o->name;
		}
	}
	if (!best)
		best = begins_like(v, typed);
	if (best)
		return err_set(e, -EINVAL, "unknown option '--%s': did you mean '--%s'?", typed,
		               best);
	return err_set(e, -EINVAL, "unknown option '--%s'", typed);
}

/* Is value one of "a|b|c"? A placeholder has no bar and takes anything. */
static bool choice_ok(const char *choices, const char *value)
{
	struct span rest = span_str(choices);
	struct span one;

	if (!strchr(choices, '|'))
		return true;
	while (take_until(&rest, '|', &one))
		if (span_is(one, value))
			return true;
	return false;
}

struct parse {
	const struct verb *verb;
	char *const *argv;
	int argc, at;
	struct arg *opts;
	const char **words;
	struct args got;
};

/* `inline_value` is what stands behind "=" or the letter; NULL: the next word is the value. */
static int add(struct parse *p, const struct opt *o, const char *inline_value, struct err *e)
{
	const char *value = NULL;

	if (o->value) {
		value = inline_value;
		if (!value && p->at < p->argc)
			value = p->argv[p->at++];
		if (!value)
			return err_set(e, -EINVAL, "option '--%s' needs a value: --%s %s", o->name,
			               o->name, o->value);
		if (!choice_ok(o->value, value))
			return err_set(e, -EINVAL, "option '--%s': '%s' is none of %s", o->name,
			               value, o->value);
	}
	p->opts[p->got.opt_count++] = (struct arg){ .id = o->id, .value = value };
	return 0;
}

static int take_long(struct parse *p, const char *word, struct err *e)
{
	const char *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct opt *o = find_long(p->verb, word, len);

	if (!o && len == 4 && memcmp(word, "help", 4) == 0)
		return ARGS_HELP;
	if (!o)
		return unknown_long(p->verb, word, len, e);
	if (equals && !o->value)
		return err_set(e, -EINVAL, "option '--%s' takes no value", o->name);
	return add(p, o, equals ? equals + 1 : NULL, e);
}

static int take_letters(struct parse *p, const char *word, struct err *e)
{
	for (const char *at = word; *at; at++) {
		const struct opt *o = find_letter(p->verb, *at);
		int r;

		if (!o && *at == 'h')
			return ARGS_HELP;
		if (!o)
			return err_set(e, -EINVAL, "unknown option '-%c'", *at);
		if (o->value)
			return add(p, o, at[1] ? at + 1 : NULL, e);
		r = add(p, o, NULL, e);
		if (r != 0)
			return r;
	}
	return 0;
}

/* The first word of a verb that stops there; a "--" right behind it may be spelled out. */
static void take_rest(struct parse *p)
{
	if (p->at < p->argc && strcmp(p->argv[p->at], "--") == 0) {
		p->got.dashes_at = p->got.word_count;
		p->at++;
	}
	while (p->at < p->argc)
		p->words[p->got.word_count++] = p->argv[p->at++];
}

static int check_count(const struct parse *p, struct err *e)
{
	const struct verb *v = p->verb;

	if (p->got.word_count < v->words_min)
		return err_set(e, -EINVAL, "too few words: it takes %s", v->args);
	if (p->got.word_count > v->words_max && v->words_max == 0)
		return err_set(e, -EINVAL, "'%s': it takes no words", p->words[0]);
	if (p->got.word_count > v->words_max)
		return err_set(e, -EINVAL, "'%s' is one word too many: it takes %s",
		               p->words[v->words_max], v->args);
	return 0;
}

/* One block: the words with their NULL, then as many options as the letters could spell. */
static int make_room(struct parse *p, struct args **ret, struct err *e)
{
	size_t words = (size_t)p->argc + 1;
	size_t opts = 0;
	size_t bytes;
	struct args *a;

	for (int i = 0; i < p->argc; i++)
		opts += p->argv[i][0] == '-' ? strlen(p->argv[i]) : 0;
	bytes = sizeof(*a) + words * sizeof(const char *) + opts * sizeof(struct arg);
	a = calloc(1, bytes);
	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	p->opts = (struct arg *)(void *)(a + 1);
	p->words = (const char **)(void *)(p->opts + opts);
	*ret = a;
	return 0;
}

/* 0, ARGS_HELP or -EINVAL. */
static int walk(struct parse *p, struct err *e)
{
	while (p->at < p->argc) {
		const char *word = p->argv[p->at++];
		int r = 0;

		if (strcmp(word, "--") == 0) {
			p->got.dashes_at = p->got.word_count;
			while (p->at < p->argc)
				p->words[p->got.word_count++] = p->argv[p->at++];
			return 0;
		}
		if (word[0] == '-' && word[1] == '-') {
			r = take_long(p, word + 2, e);
		} else if (word[0] == '-' && word[1]) {
			r = take_letters(p, word + 1, e);
		} else {
			p->words[p->got.word_count++] = word;
			if (p->verb->stop_at_word) {
				take_rest(p);
				return 0;
			}
		}
		if (r != 0)
			return r;
	}
	return 0;
}

int args_parse(const struct verb *v, int argc, char *const *argv, struct args **ret, struct err *e)
{
	struct parse p = { .verb = v, .argv = argv, .argc = argc };
	_own_(args_free) struct args *a = NULL;
	int r = make_room(&p, &a, e);

	if (r < 0)
		return r;
	p.got.verb = v;
	p.got.dashes_at = CLI_NO_DASHES;
	r = walk(&p, e);
	if (r == 0)
		r = check_count(&p, e);
	if (r != 0)
		return r;
	p.got.opts = p.opts;
	p.got.words = p.words;
	*a = p.got;
	*ret = steal_ptr(&a);
	return 0;
}

void args_free(struct args *a)
{
	free(a);
}

bool args_has(const struct args *a, int id)
{
	for (size_t i = 0; i < a->opt_count; i++)
		if (a->opts[i].id == id)
			return true;
	return false;
}

const char *args_value(const struct args *a, int id)
{
	for (size_t i = a->opt_count; i > 0; i--)
		if (a->opts[i - 1].id == id)
			return a->opts[i - 1].value;
	return NULL;
}

int cli_usage(const struct args *a, const char *fmt, ...)
{
	const char *path = a->path ? a->path : a->verb->name;
	char text[USAGE_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_error("%s: %s (see berm help %s)", path, text, path);
	return CLI_EXIT_ERROR;
}
