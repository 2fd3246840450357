#include "cli/verbs.h"

#include <string.h>

enum {
	WIDTH = 80,       /* of a line: a terminal has that at least */
	COLUMN_MAX = 28,  /* an option wider than that gets a line of its own */
	TYPED_MAX = 64,   /* "-x, --name VALUE" of any row */
	VERB_COLUMN = 10, /* the longest verb and two blanks */
};

static void put_indented(struct buf *out, const char *lines)
{
	struct span rest = span_str(lines);
	struct span line;

	while (take_until(&rest, '\n', &line)) {
		buf_put_str(out, "  ");
		buf_put_span(out, line);
		buf_put_str(out, "\n");
	}
}

static bool take_word(struct span *rest, struct span *ret)
{
	const char *at = (const char *)rest->at;
	size_t gap = 0, len = 0;

	while (gap < rest->len && (at[gap] == ' ' || at[gap] == '\n'))
		gap++;
	while (gap + len < rest->len && at[gap + len] != ' ' && at[gap + len] != '\n')
		len++;
	*ret = span_of(rest->at + gap, len);
	*rest = span_of(rest->at + gap + len, rest->len - gap - len);
	return len > 0;
}

/* In lines that begin at `indent`; the first of them is there up to it already. */
static void put_filled(struct buf *out, struct span text, size_t indent)
{
	size_t column = indent;
	struct span word;

	while (take_word(&text, &word)) {
		if (column > indent && column + 1 + word.len > WIDTH) {
			buf_printf(out, "\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			buf_put_str(out, " ");
			column++;
		}
		buf_put_span(out, word);
		column += word.len;
	}
	buf_put_str(out, "\n");
}

/* Paragraphs stand between empty lines; one that begins with a blank stays as it is. */
static void put_about(struct buf *out, const char *about)
{
	struct span rest = span_str(about);
	struct span paragraph = span_of(rest.at, 0);
	struct span line;

	while (take_until(&rest, '\n', &line)) {
		bool apart = line.len == 0 || line.at[0] == ' ';

		if (apart && paragraph.len > 0)
			put_filled(out, paragraph, 0);
		if (apart) {
			buf_put_span(out, line);
			buf_put_str(out, "\n");
			paragraph = span_of(rest.at, 0);
		} else {
			paragraph.len = (size_t)(line.at + line.len - paragraph.at);
		}
	}
	if (paragraph.len > 0)
		put_filled(out, paragraph, 0);
}

static void put_opt(struct buf *out, const struct opt *o)
{
	char storage[TYPED_MAX];
	struct buf typed;
	const char *text;

	buf_init(&typed, storage, sizeof(storage));
	if (o->letter)
		buf_printf(&typed, "-%c, ", o->letter);
	else
		buf_put_str(&typed, "    ");
	buf_printf(&typed, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
	text = buf_cstr(&typed);
	if (strlen(text) > COLUMN_MAX)
		buf_printf(out, "  %s\n  %*s  ", text, COLUMN_MAX, "");
	else
		buf_printf(out, "  %-*s  ", COLUMN_MAX, text);
	put_filled(out, span_str(o->help), COLUMN_MAX + 4);
}

static void put_verb(struct buf *out, const struct verb *v)
{
	buf_printf(out, "  %-*s", VERB_COLUMN, v->name);
	put_filled(out, span_str(v->summary), VERB_COLUMN + 2);
}

static void put_verbs(struct buf *out, const struct verb *const *table)
{
	for (size_t i = 0; table[i]; i++)
		if (!table[i]->hidden)
			put_verb(out, table[i]);
}

void help_put_verb(struct buf *out, const char *path, const struct verb *v)
{
	static const struct opt help = { 1, 'h', "help", NULL, COMPLETE_NONE, "show this text" };

	buf_put_str(out, "Usage: ");
	if (v->run)
		buf_printf(out, "berm %s%s%s%s\n", path, v->opts ? " [FLAGS]" : "",
		           v->args[0] ? " " : "", v->args);
	if (v->subs)
		buf_printf(out, "%sberm %s VERB\n", v->run ? "       " : "", path);
	buf_printf(out, "\n%s.\n", v->summary);
	if (v->subs) {
		buf_put_str(out, "\nVerbs:\n");
		put_verbs(out, v->subs);
	}
	if (v->about) {
		buf_put_str(out, "\n");
		put_about(out, v->about);
	}
	if (v->run) {
		buf_put_str(out, "\nFlags:\n");
		for (const struct opt *o = v->opts; o && o->id; o++)
			put_opt(out, o);
		put_opt(out, &help);
	}
	if (v->examples) {
		buf_put_str(out, "\nExamples:\n");
		put_indented(out, v->examples);
	}
	if (v->subs)
		buf_printf(out, "\nMore on one of them: berm %s VERB --help\n", path);
}

/* Titles stand before the verb that is the first of its group in cli_verbs. */
static const struct {
	const struct verb *first;
	const char *title;
} groups[] = {
	{ &verb_run, "A command in a guest" },
	{ &verb_code, "An agent on a directory" },
	{ &verb_ps, "Sandboxes that run, or have ended" },
	{ &verb_snapshot, "Copies and images" },
	{ &verb_policy, "What they may reach" },
	{ &verb_doctor, "berm itself" },
};

static void put_title(struct buf *out, const struct verb *v)
{
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (groups[i].first == v)
			buf_printf(out, "\n%s:\n", groups[i].title);
}

void help_put_all(struct buf *out)
{
	buf_put_str(out, "Usage: berm VERB [FLAGS] [WORDS]\n\n"
	                 "Runs programs nobody has read inside a microVM of their own.\n");
	for (size_t i = 0; cli_verbs[i]; i++) {
		if (cli_verbs[i]->hidden)
			continue;
		put_title(out, cli_verbs[i]);
		put_verb(out, cli_verbs[i]);
	}
	buf_put_str(out, "\nMore on one of them: berm VERB --help. The manual: man berm\n");
}

void help_put_short(struct buf *out)
{
	buf_put_str(out, "berm runs programs nobody has read inside a microVM of their own.\n\n"
	                 "  berm run -- python3 -c 'print(1)'   run a command in a fresh guest\n"
	                 "  berm code claude-code               let an agent work on this project\n"
	                 "  berm review                         decide on what it changed\n"
	                 "  berm ps                             what runs now\n"
	                 "  berm doctor                         what this machine can do\n\n"
	                 "All verbs: berm help\n");
}

const struct verb *verb_find(const struct verb *const *table, const char *name)
{
	for (size_t i = 0; table[i]; i++)
		if (strcmp(table[i]->name, name) == 0)
			return table[i];
	return NULL;
}

const char *verb_nearest(const struct verb *const *table, const char *typed)
{
	size_t nearest = CLI_SUGGEST_DISTANCE_MAX + 1;
	const char *best = NULL;

	for (size_t i = 0; table[i]; i++) {
		size_t d = edit_distance(typed, table[i]->name);

		if (!table[i]->hidden && d < nearest && d * 2 <= strlen(table[i]->name)) {
			nearest = d;
			best = table[i]->name;
		}
	}
	return best;
}
