/*
 * cli: the command line of berm, as tables.
 *
 * Every verb is a struct verb in its own cmd_x.c. Its options are rows of a table, and from these
 * tables come the parser, `--help`, the checks on the number of words and the shell completions, so
 * none of them can drift from the others.
 *
 * A verb gets its command line already judged (struct args) and returns the exit status of berm:
 * 0 and up as the manual says, CLI_EXIT_ERROR for berm's own failures (term/share.h).
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "term/share.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum {
	CLI_WORDS_ANY = 1 << 20,      /* words_max: as many as the kernel hands over */
	CLI_NO_DASHES = 1 << 30,      /* dashes_at without a "--" */
	CLI_HELP_MAX = 16 << 10,      /* the help of any verb */
	CLI_SCRIPT_MAX = 128 << 10,   /* a completion script */
	CLI_SUGGEST_DISTANCE_MAX = 3, /* a typing error, not another word */
	CLI_SUGGEST_LEN_MAX = 32,     /* longer words are compared no further */
};

/* What the shell offers for an option's value or a verb's words. */
enum cli_complete {
	COMPLETE_NONE = 0,
	COMPLETE_FILE,
	COMPLETE_SANDBOX,     /* live ones */
	COMPLETE_ANY_SANDBOX, /* and ended ones */
	COMPLETE_IMAGE,
	COMPLETE_SNAPSHOT,
	COMPLETE_PRESET,
	COMPLETE_AGENT,
	COMPLETE_SESSION,
	COMPLETE_COPY, /* a live sandbox with a colon behind it, or a file */
	COMPLETE_VERB,
	COMPLETE_SHELL, /* bash, zsh, fish */
};

/* One option. A table ends with OPT_END_ROW; --help and -h are every verb's and in no table. */
struct opt {
	int id;            /* > 0, unique in its table */
	char letter;       /* its short form; 0: none */
	const char *name;  /* its long form, without the dashes */
	const char *value; /* "SIZE", or a choice "auto|qemu" (checked); NULL: it takes no value */
	enum cli_complete complete; /* of its value */
	const char *help;           /* a few words, without a full stop */
};
/* clang-format off */
#define OPT_END_ROW { .id = 0 }
#define OPT_JSON_ROW { OPT_JSON, 0, "json", NULL, COMPLETE_NONE, "print JSON, for programs" }
/* clang-format on */

enum { OPT_JSON = 1000 }; /* sets cli.json as well */

struct args;

struct verb {
	const char *name;
	const char *summary;  /* one line, lower case, no full stop */
	const char *args;     /* its words in the usage line: "SANDBOX CMD [ARG...]"; "" for none */
	const char *about;    /* lines of at most 80 columns, each ending in a newline; or NULL */
	const char *examples; /* the same, commands as they are typed */
	const struct opt *opts; /* ends with OPT_END_ROW; NULL: only --help */
	/* NULL-ended: `berm image ls`. With run as well, what is no sub is run's first word. */
	const struct verb *const *subs;
	int (*run)(struct cli *c, const struct args *a); /* returns the exit status */
	size_t words_min, words_max;
	enum cli_complete words; /* what its words are */
	bool stop_at_word; /* its first word ends the options: what follows is a command's own */
	bool hidden;       /* not listed and not completed */
};

struct arg {
	int id;
	const char *value; /* NULL for an option without one */
};

/* One command line, judged by its verb's table. Strings are borrowed from argv. */
struct args {
	const struct verb *verb;
	const char *path;       /* "policy check": for messages; set by main */
	const struct arg *opts; /* in the order given */
	size_t opt_count;
	const char *const *words; /* NULL-ended */
	size_t word_count;
	size_t dashes_at; /* how many words stood before "--", or CLI_NO_DASHES */
};

/* --- verbs.c, help.c, complete.c --- */

extern const struct verb *const cli_verbs[]; /* NULL-ended, in the order of the help */

/* The verb of that name in a NULL-ended table, or NULL. */
const struct verb *verb_find(const struct verb *const *table, const char *name);

/* The visible name nearest to what was typed, or NULL when nothing is near. */
const char *verb_nearest(const struct verb *const *table, const char *typed);

/* `path` is what stands between berm and the words: "run", "image ls". */
void help_put_verb(struct buf *out, const char *path, const struct verb *v);
void help_put_all(struct buf *out);   /* every verb */
void help_put_short(struct buf *out); /* what a newcomer needs */

/* The completion script of a shell ("bash", "zsh", "fish"); false for another. */
bool complete_put_script(struct buf *out, const char *shell);

/* --- opt.c --- */

enum { ARGS_HELP = 1 };

/*
 * Judges argv (what follows the verb) by v's table. Words may stand between options unless the verb
 * stops at the first one; "--" ends the options. "-abc", "-nVALUE", "--name=VALUE" and
 * "--name VALUE" are understood, abbreviations are not. Pure but for one allocation.
 *
 * Returns 0 and ret_args, the caller's, borrowing argv's strings; ARGS_HELP when --help was met
 * before anything wrong; -EINVAL with the nearest option's name; -ENOMEM.
 */
_must_ int args_parse(const struct verb *v, int argc, char *const *argv, struct args **ret_args,
                      struct err *e);
void args_free(struct args *a);
OWN_DEFINE(struct args, args_free)

bool args_has(const struct args *a, int id);

/* The last value given, or NULL. */
const char *args_value(const struct args *a, int id);

/* Prints what is wrong with a command line and "see berm help VERB"; returns CLI_EXIT_ERROR. */
int cli_usage(const struct args *a, const char *fmt, ...) _printf_(2, 3);

/* Edit distance with transpositions, never more than CLI_SUGGEST_DISTANCE_MAX + 1. Pure. */
size_t edit_distance(const char *a, const char *b);
