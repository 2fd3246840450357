#include "cli/cli.h"

#include <string.h>

/*
 * Theory of operation
 *
 * The scripts are printed from the verbs' tables when berm is built, so what a shell offers is what
 * the parser takes. What is known only when the key is pressed (sandboxes, images) the script asks
 * of `berm __complete WHAT`.
 *
 * bash and zsh get one function: a case over the verb, in it a case over the word before. fish gets
 * one `complete` line an option.
 */

/* The command that lists values while the user types, or NULL. */
static const char *live_list(enum cli_complete what)
{
	switch (what) {
	case COMPLETE_SANDBOX:
		return "berm __complete sandboxes";
	case COMPLETE_ANY_SANDBOX:
		return "berm __complete ended";
	case COMPLETE_IMAGE:
		return "berm __complete images";
	case COMPLETE_SNAPSHOT:
		return "berm __complete snapshots";
	case COMPLETE_PRESET:
		return "berm __complete presets";
	case COMPLETE_AGENT:
		return "berm __complete agents";
	case COMPLETE_SESSION:
		return "berm __complete sessions";
	case COMPLETE_COPY:
		return "berm __complete copy";
	case COMPLETE_NONE:
	case COMPLETE_FILE:
	case COMPLETE_VERB:
	case COMPLETE_SHELL:
	default:
		return NULL;
	}
}

static bool takes_files(enum cli_complete what)
{
	return what == COMPLETE_FILE || what == COMPLETE_COPY;
}

/* "a|b" as words; nothing for a placeholder. */
static void put_choices(struct buf *out, const char *choices)
{
	struct span rest = span_str(choices);
	struct span one;
	const char *gap = "";

	if (!strchr(choices, '|') || strchr(choices, ':'))
		return;
	while (take_until(&rest, '|', &one)) {
		buf_put_str(out, gap);
		buf_put_span(out, one);
		gap = " ";
	}
}

static void put_verb_names(struct buf *out, const struct verb *const *table)
{
	const char *gap = "";

	for (size_t i = 0; table[i]; i++) {
		if (table[i]->hidden)
			continue;
		buf_printf(out, "%s%s", gap, table[i]->name);
		gap = " ";
	}
}

/* --- bash; zsh runs the same through its emulation of compgen --- */

static void put_bash_value(struct buf *out, const struct opt *o)
{
	const char *list = live_list(o->complete);

	buf_printf(out, "\t\t--%s", o->name);
	if (o->letter)
		buf_printf(out, "|-%c", o->letter);
	buf_put_str(out, ") ");
	if (list)
		buf_printf(out, "words=$(%s 2>/dev/null)", list);
	else if (takes_files(o->complete))
		buf_put_str(out, "files=1");
	else
		buf_put_str(out, "words=\"");
	if (!list && !takes_files(o->complete)) {
		put_choices(out, o->value);
		buf_put_str(out, "\"");
	}
	buf_put_str(out, "; value=1 ;;\n");
}

static void put_bash_verb(struct buf *out, const char *path, const struct verb *v)
{
	const char *list = live_list(v->words);

	buf_printf(out, "\t'%s')\n\t\tcase $prev in\n", path);
	for (const struct opt *o = v->opts; o && o->id; o++)
		if (o->value)
			put_bash_value(out, o);
	buf_put_str(out, "\t\t*)\n\t\t\topts=\"--help");
	for (const struct opt *o = v->opts; o && o->id; o++)
		buf_printf(out, " --%s", o->name);
	buf_put_str(out, "\"");
	if (list)
		buf_printf(out, "\n\t\t\twords=$(%s 2>/dev/null)", list);
	if (takes_files(v->words))
		buf_put_str(out, "\n\t\t\tfiles=1");
	if (v->words == COMPLETE_VERB) {
		buf_put_str(out, "\n\t\t\twords=\"");
		put_verb_names(out, cli_verbs);
		buf_put_str(out, "\"");
	}
	buf_printf(out, "\n\t\t\tstop=%d ;;\n\t\tesac ;;\n", v->stop_at_word ? 1 : 0);
}

static void put_bash_group(struct buf *out, const struct verb *v)
{
	char path[64];

	const char *list = live_list(v->words);

	/* the second word: one of its verbs, or with `run` also what that takes */
	buf_printf(out, "\t'%s') words=\"", v->name);
	put_verb_names(out, v->subs);
	if (v->run && list)
		buf_printf(out, " $(%s 2>/dev/null)", list);
	buf_put_str(out, "\"\n\t\topts=\"--help");
	for (const struct opt *o = v->run ? v->opts : NULL; o && o->id; o++)
		buf_printf(out, " --%s", o->name);
	buf_put_str(out, "\" ;;\n");
	for (size_t i = 0; v->subs[i]; i++) {
		(void)snprintf(path, sizeof(path), "%s %s", v->name, v->subs[i]->name);
		put_bash_verb(out, path, v->subs[i]);
	}
}

static void put_bash(struct buf *out)
{
	buf_put_str(out, "_berm() {\n"
	                 "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	                 "\tlocal verb=${COMP_WORDS[1]} opts= words= files= value= stop=0 path\n"
	                 "\tCOMPREPLY=()\n"
	                 "\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	                 "\t\tCOMPREPLY=($(compgen -W \"--help --version ");
	put_verb_names(out, cli_verbs);
	buf_put_str(out, "\" -- \"$cur\"))\n\t\treturn\n\tfi\n\tpath=$verb\n\tcase $verb in\n");
	for (size_t i = 0; cli_verbs[i]; i++)
		if (cli_verbs[i]->subs)
			buf_printf(out,
			           "\t%s) [ \"$COMP_CWORD\" -gt 2 ] && path=\"%s "
			           "${COMP_WORDS[2]}\" ;;\n",
			           cli_verbs[i]->name, cli_verbs[i]->name);
	buf_put_str(out, "\tesac\n\tcase $path in\n");
	for (size_t i = 0; cli_verbs[i]; i++) {
		if (cli_verbs[i]->subs)
			put_bash_group(out, cli_verbs[i]);
		else if (!cli_verbs[i]->hidden)
			put_bash_verb(out, cli_verbs[i]->name, cli_verbs[i]);
	}
	buf_put_str(
		out,
		"\tesac\n"
		"\tcase $cur in\n"
		"\t-*) [ -z \"$value\" ] && words=$opts files= ;;\n"
		"\tesac\n"
		"\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
		"\tif [ -n \"$files\" ] || { [ \"$stop\" = 1 ] && [ ${#COMPREPLY[@]} -eq 0 ]; }; "
		"then\n"
		"\t\tCOMPREPLY+=($(compgen -f -- \"$cur\"))\n"
		"\tfi\n"
		"}\n");
}

/* --- fish --- */

/* A single-quoted word of fish: the backslash and the quote are special in it. */
static void put_quoted(struct buf *out, const char *text)
{
	buf_put_str(out, "'");
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			buf_put_str(out, "\\");
		buf_put_u8(out, (uint8_t)*text);
	}
	buf_put_str(out, "'");
}

static void put_fish_values(struct buf *out, enum cli_complete what, const char *choices)
{
	const char *list = live_list(what);

	if (list)
		buf_printf(out, " -a '(%s 2>/dev/null)'", list);
	if (takes_files(what))
		buf_put_str(out, " -F");
	if (!list && choices && strchr(choices, '|') && !strchr(choices, ':')) {
		buf_put_str(out, " -a '");
		put_choices(out, choices);
		buf_put_str(out, "'");
	}
}

static void put_fish_verb(struct buf *out, const char *seen, const struct verb *v)
{
	for (const struct opt *o = v->opts; o && o->id; o++) {
		buf_printf(out, "complete -c berm -n '%s' -l %s", seen, o->name);
		if (o->letter)
			buf_printf(out, " -s %c", o->letter);
		if (o->value) {
			buf_put_str(out, " -x");
			put_fish_values(out, o->complete, o->value);
		}
		buf_put_str(out, " -d ");
		put_quoted(out, o->help);
		buf_put_str(out, "\n");
	}
	if (!live_list(v->words) && !takes_files(v->words))
		return;
	buf_printf(out, "complete -c berm -n '%s'", seen);
	put_fish_values(out, v->words, NULL);
	buf_put_str(out, "\n");
}

static void put_fish_one(struct buf *out, const struct verb *v)
{
	char seen[160];

	buf_printf(out, "complete -c berm -n __fish_use_subcommand -a %s -d ", v->name);
	put_quoted(out, v->summary);
	buf_put_str(out, "\n");
	for (size_t i = 0; v->subs && v->subs[i]; i++) {
		buf_printf(out, "complete -c berm -n '__fish_seen_subcommand_from %s' -a %s -d ",
		           v->name, v->subs[i]->name);
		put_quoted(out, v->subs[i]->summary);
		buf_put_str(out, "\n");
		(void)snprintf(seen, sizeof(seen),
		               "__fish_seen_subcommand_from %s; and __fish_seen_subcommand_from %s",
		               v->name, v->subs[i]->name);
		put_fish_verb(out, seen, v->subs[i]);
	}
	(void)snprintf(seen, sizeof(seen), "__fish_seen_subcommand_from %s", v->name);
	if (v->run)
		put_fish_verb(out, seen, v);
}

bool complete_put_script(struct buf *out, const char *shell)
{
	if (strcmp(shell, "bash") == 0) {
		put_bash(out);
		buf_put_str(out, "complete -o filenames -F _berm berm\n");
		return true;
	}
	if (strcmp(shell, "zsh") == 0) {
		buf_put_str(out, "#compdef berm\nautoload -U +X bashcompinit && bashcompinit\n");
		put_bash(out);
		buf_put_str(out, "complete -F _berm berm\n");
		return true;
	}
	if (strcmp(shell, "fish") != 0)
		return false;
	buf_put_str(out, "complete -c berm -f\ncomplete -c berm -l help -s h -d 'show help'\n");
	for (size_t i = 0; cli_verbs[i]; i++)
		if (!cli_verbs[i]->hidden)
			put_fish_one(out, cli_verbs[i]);
	return true;
}
