/*
 * agent: a coding agent as data: its image, its command, what it may reach and with which
 * credentials, which of a person's settings it gets, and what of its login is kept.
 *
 * A profile is put together from layers, each of which replaces whole fields of the one below: the
 * installed file, the user's own file of that name, and words of the command line. A profile of the
 * user's that is not installed is laid upon `custom`. What a workspace says of itself comes between
 * file and command line and may only take away (agent_tighten()). Of each field the origin is kept.
 *
 * Hostile   the workspace's file. The others are the user's, and may be wrong in any way
 * Shape     berm-agent(5)
 * Units     memory and disk in bytes, heaps in percent of memory
 * Errors    -EINVAL "FILE:LINE:COLUMN: what", -ENOENT, -EFBIG, -ENOMEM
 * Owns      a struct agent owns every text it points to, until agent_free()
 */
#pragma once

#include "agents/settings.h"
#include "policy/draft.h"

enum {
	AGENT_FILE_MAX = 1 << 20, /* bytes of a profile; people write them by hand */
	AGENT_NAME_MAX = 64,      /* it becomes a file's name and a part of an image's */
	AGENT_WORDS_MAX = 64,     /* of a command, a list of packages, of keys */
	AGENT_WORD_MAX = 1024,    /* bytes of one */
	AGENT_RULES_MAX = 256,    /* secrets and rules of a profile, all told */
	AGENT_SECRETS_MAX = 64,   /* POLICY_SECRETS_MAX: a set of them is one 64-bit number */
	AGENT_SETTINGS_MAX = 64,  /* files and folders that may enter */
	AGENT_STATE_MAX = 16,     /* token files that are kept */
	AGENT_STATE_BYTES_MAX = 64 << 10, /* of one token file */
	AGENT_ENV_MAX = 64,               /* variables that are set */
	AGENT_NOTICES_MAX = 32,    /* of a workspace's file; the last says that there are more */
	AGENT_EXCLUDES_MAX = 1024, /* patterns of a workspace's file */
	AGENT_LIST_MAX = 1024,     /* profiles in a folder */
	AGENT_TEXT_MAX = 4 << 20,  /* of a field as it is shown: a file, each byte escaped */
	AGENT_CPUS_MAX = 64,
	AGENT_SOURCES_MAX = 2, /* files of a profile: installed, the user's */
};

/* From the narrowest. Each brings the rules of those before it. */
enum agent_level { AGENT_MODEL_ONLY, AGENT_LOCKED, AGENT_STANDARD, AGENT_LEVELS };

const char *agent_level_word(enum agent_level l);

/* "locked"; false for a word that is no level. */
_must_ bool agent_level_find(const char *word, enum agent_level *ret);

enum agent_field {
	AGENT_F_DESCRIPTION,
	AGENT_F_BASE,
	AGENT_F_APT,
	AGENT_F_NPM,
	AGENT_F_PIP,
	AGENT_F_COMMAND,
	AGENT_F_INTERACTIVE,
	AGENT_F_TASK,
	AGENT_F_LOGIN,
	AGENT_F_SECRETS,
	AGENT_F_EGRESS,
	AGENT_F_MODEL_ONLY,
	AGENT_F_LOCKED,
	AGENT_F_STANDARD,
	AGENT_F_SETTINGS,
	AGENT_F_STATE,
	AGENT_F_CPUS,
	AGENT_F_MEMORY,
	AGENT_F_DISK,
	AGENT_F_SET,
	AGENT_F_FORWARD,
	AGENT_F_NODE,
	AGENT_F_GO,
	AGENT_FIELDS,
};

/* "image.packages.npm" */
const char *agent_field_name(enum agent_field f);

struct agent_words {
	const char *const *at; /* NULL-ended; of an empty list too */
	unsigned count;
};

/* A rule or a secret in the words of berm-policy(5). */
struct agent_item {
	const char *text; /* one line of YAML */
	const char *name; /* of a secret: the variable in the guest; else "" */
	unsigned source;  /* index into sources */
	unsigned line;    /* in that file */
};

struct agent_items {
	const struct agent_item *at;
	unsigned count;
};

struct agent_setting {
	const char *path; /* beneath the home directory, on both sides */
	const char *category;
	enum settings_format format;
	struct agent_words keys; /* of JSON, JSONC and TOML: the top-level ones that may enter */
};

struct agent_pair {
	const char *name, *value;
};

enum agent_category_count { AGENT_CATEGORIES = 10 };

/* settings, instructions, rules, agents, skills, commands, prompts, tools, plugins, themes. */
extern const char *const agent_categories[AGENT_CATEGORIES + 1];

struct agent {
	char name[AGENT_NAME_MAX + 1];
	const char *sources[AGENT_SOURCES_MAX]; /* files, as messages call them; from the lowest */
	unsigned sources_count;
	bool user_own;                    /* a file of the user's is among them */
	const char *origin[AGENT_FIELDS]; /* "FILE:LINE", "--memory", "default" */

	const char *description;
	const char *base;                 /* an image of the store */
	struct agent_words apt, npm, pip; /* for the image's own package managers */
	struct agent_words command;       /* at least one word */
	struct agent_words interactive;   /* arguments behind it where a person sits */
	struct agent_words task; /* and without one; the word "{task}" stands for the task */
	struct agent_words
		login; /* and where a person only logs in; none: it asks when it starts */
	struct agent_items secrets;
	enum agent_level level;
	struct agent_items rules[AGENT_LEVELS];
	const struct agent_setting *settings;
	unsigned settings_count;
	struct agent_words state; /* token files beneath the guest's home, kept per workspace */
	uint64_t cpus, memory_bytes, disk_bytes;
	const struct agent_pair *set;
	unsigned set_count;
	struct agent_words
		forward; /* variables of the host's that the guest gets if they are set */
	uint64_t node_percent, go_percent; /* of memory, for the heaps; 0: left as it is */

	struct agent_words exclude;    /* by the workspace: more patterns that stay out */
	const unsigned *exclude_lines; /* of each, in its file */
	struct agent_words notices;    /* about the workspace's file; escaped, a line each */
	struct agent_piece *pieces;    /* the texts */
};

/* Where profiles are. A fd of -1: there is no such folder. */
struct agent_where {
	int installed_fd;      /* PREFIX/share/berm/agents */
	int user_fd;           /* ~/.config/berm/agents */
	int presets_fd;        /* PREFIX/share/berm/egress */
	const char *user_path; /* for messages */
};

/* A name: a-z, 0-9 and '-', no '-' in front; "custom" is one too. */
bool agent_name_ok(const char *name);

/*
 * Puts a profile together and judges it whole: what it says of hosts and secrets compiles.
 * -ENOENT: there is none of that name; the message has the nearest. A wrong file of the user's is
 * an error even where the installed one would do.
 */
_must_ int agent_load(const struct agent_where *w, const char *name, struct agent **ret,
                      struct err *e);
void agent_free(struct agent *a);
OWN_DEFINE(struct agent, agent_free)

/* As agent_load() would find it if `text` were the user's file of that name. For `agent add`. */
_must_ int agent_load_text(const struct agent_where *w, const char *name, const char *label,
                           struct span text, struct agent **ret, struct err *e);

/*
 * A file that is to be read as a profile or a workspace's own: regular, at most AGENT_FILE_MAX
 * bytes, opened without waiting. dir_fd and path as for openat(2). -ENOENT, -EINVAL: no regular
 * file.
 */
_must_ int agent_read_file(int dir_fd, const char *path, const char *label, char **ret_text,
                           size_t *ret_len, struct err *e);

/*
 * The file `.berm.yaml` at the root of a workspace: resources that are lower, a level of egress
 * that is narrower, categories of settings to leave out, patterns to exclude. Whatever would
 * widen is refused and noted; a file that is no such file is left out whole and noted. Never
 * fails but for -ENOMEM: a session starts all the same. Comes after agent_load(), before
 * agent_flags_take().
 */
#define AGENT_WORKSPACE_FILE ".berm.yaml"
_must_ int agent_tighten(struct agent *a, int workspace_fd, struct err *e);
_must_ int agent_tighten_text(struct agent *a, struct span text, struct err *e);

/* Words of the command line, which win. NULL and 0: not given. */
struct agent_flags {
	const char *image;
	const char *egress;         /* a level */
	const char *const *command; /* NULL-ended */
	uint64_t cpus, memory_bytes, disk_bytes;
};

_must_ int agent_flags_take(struct agent *a, const struct agent_flags *f, struct err *e);

/*
 * Adds the rules of a level and of those below it to a draft, and the secrets whose bit is set
 * (bit i: secrets.at[i]); a placeholder for each is all that a guest gets. Origins are lines of
 * the profile.
 */
_must_ int agent_policy(const struct agent *a, enum agent_level level, uint64_t secrets,
                        struct policy_draft *d, struct err *e);

/* --- agent_show.c --- */

/* One field, for people or as a JSON value. AGENT_TEXT_MAX bytes suffice. */
void agent_put_field(const struct agent *a, enum agent_field f, struct buf *b);
void agent_put_field_json(const struct agent *a, enum agent_field f, struct buf *b);

/*
 * The variables a guest of that much memory gets, NAME=VALUE: those that are set, then heap caps.
 * NODE_OPTIONS that the profile sets is added to. What is forwarded is not among them, nor BERM_*.
 */
_must_ int agent_environment(const struct agent *a, uint64_t memory_bytes, char ***ret,
                             struct err *e);
void agent_environment_free(char **list);

/* --- agent_list.c --- */

struct agent_row {
	char name[AGENT_NAME_MAX + 1];
	bool installed, user;
};

struct agent_list {
	unsigned count;
	struct agent_row rows[]; /* by name */
};

/* The names of all profiles, whether or not they are valid. Freed with free(). */
_must_ int agent_list(const struct agent_where *w, struct agent_list **ret, struct err *e);

/* --- settings_walk.c --- */

enum settings_fate {
	SETTINGS_ENTERS,
	SETTINGS_ABSENT,  /* there is no such file */
	SETTINGS_REFUSED, /* why says what is wrong with it */
};

/* One file, or one that was refused. Borrowed for the call. */
struct settings_found {
	const struct agent_setting *setting;
	const char *path; /* of the file, beneath the home directory */
	enum settings_fate fate;
	const char *why;                  /* of one that is refused; else "" */
	const struct settings_file *file; /* of one that enters; else NULL */
	bool executable;
};

enum {
	SETTINGS_FILES_MAX = 2000,     /* of all folders of an agent together */
	SETTINGS_BYTES_MAX = 32 << 20, /* of all files together */
	SETTINGS_FOLDER_DEPTH_MAX = 8, /* skills/NAME/scripts/x is 4 */
};

/*
 * Every settings file that would enter, in the order of the profile and of names; nothing is
 * written or executed. Links are followed within home alone, special files and files named like
 * credentials are refused. A found() other than 0 ends the walk and is returned.
 */
_must_ int settings_walk(const struct agent *a, int home_fd,
                         int (*found)(void *arg, const struct settings_found *f), void *arg,
                         struct err *e);
