#include "cli/cli.h"

#include <string.h>

enum {
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
		buf_printf(out, "  %s\n  %*s  %s\n", text, COLUMN_MAX, "", o->help);
	else
		buf_printf(out, "  %-*s  %s\n", COLUMN_MAX, text, o->help);
}

static void put_verbs(struct buf *out, const struct verb *const *table)
{
	for (size_t i = 0; table[i]; i++)
		if (!table[i]->hidden)
			buf_printf(out, "  %-*s%s\n", VERB_COLUMN, table[i]->name,
			           table[i]->summary);
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
	if (v->about)
		buf_printf(out, "\n%s", v->about);
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

void help_put_all(struct buf *out)
{
	buf_put_str(out,
	            "Usage: berm VERB [FLAGS] [WORDS]\n\n"
	            "Runs programs nobody has read inside a microVM of their own.\n\nVerbs:\n");
	put_verbs(out, cli_verbs);
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
