/*
 * code: a session of an agent on a workspace, from `berm code` to what is left to decide.
 *
 * Theory of operation
 *
 * The steps are files, and each undoes its own on failure:
 *
 *   code_opts.c      the command line
 *   code_pack.c      the workspace into the session's base; code_report.c says what stayed out
 *   code_spec.c      image, policy, environment and limits of the guest
 *   code_settings.c  what enters the guest before its command: settings, git's texts
 *   code_run.c       the guest's life: settings in, the command, its work collected
 *   code_end.c       what the session has become, and what can be done now
 *
 * Until the guest's command begins nothing has happened that anybody could want back, so whatever
 * fails or is interrupted before that leaves no session. From then on nothing removes it.
 *
 * Hostile   the workspace: names, contents, its .berm.yaml and .bermignore; and the guest. The
 *           user's word is the command line, his home directory and his environment
 */
#pragma once

#include "cli/agent/agents.h"
#include "cli/run.h"
#include "cli/session.h"
#include "review/links.h"
#include "state/result.h"
#include "state/work_session.h"
#include "work/exclude.h"
#include "work/gitdir.h"
#include "work/pack.h"

#include <sys/stat.h>

enum {
	CODE_EXCLUDES_MAX = 64 << 10, /* bytes of all --exclude patterns */
	CODE_TIER_MAX = 1 << 20,      /* bytes of a list of patterns */
	CODE_TICK_MS = 120,           /* of what shows that berm waits */
	CODE_RULES_MAX = 512,         /* that had hits; those of more are counted together */
	CODE_RULE_TEXT_MAX = 160,     /* bytes of one, as it is shown */
	CODE_SAMPLES_MAX = 5,         /* paths named of each reason */
	CODE_NOTES_MAX = 4 << 20,     /* bytes of notes.json */
	CODE_JSON_VERSION = 1,        /* of --json: a key that goes or means another thing is 2 */
	CODE_PIDS = 4096,             /* an agent with its language servers and builds */
	CODE_FILE_MAX = 1 << 20,      /* of a file that is taken out of the guest */
	CODE_HOME_MAX = 512,
};

#define CODE_MOUNT "/workspace" /* where the workspace is in the guest, unless --same-path */
#define CODE_NOTES "notes.json" /* in the session's directory: what entered and what did not */

enum code_on_exit { CODE_ASK = 0, CODE_REVIEW, CODE_KEEP, CODE_APPLY_PLAIN };

/* What the command line says, beside what struct run has of it. */
struct code_options {
	const char *agent;
	const char *dir;              /* -C; NULL: where we are */
	const char *task;             /* --task; NULL: a person sits here */
	const char *const *command;   /* behind "--"; NULL: the profile's */
	const char *const *take_back; /* --include-secret; NULL-ended, borrowed texts */
	const char *exclude;          /* --exclude, a line each; "" */
	enum code_on_exit on_exit;    /* CODE_ASK: not said */
	bool dry_run, no_history, same_path, wide, cross_mounts, skip_cost;
	bool no_settings;
};

struct code_rule {
	char text[CODE_RULE_TEXT_MAX];
	uint64_t hits, bytes;
};

/* What the walk left out by rules; of the reasons, the pack's report has the rest. */
struct code_hits {
	unsigned count;
	uint64_t more; /* hits of rules there was no room for */
	struct code_rule rules[CODE_RULES_MAX];
};

struct code {
	struct cli *c;
	const struct args *a;
	struct code_options opt;
	struct strings take_back, excludes;
	char *exclude_text;

	struct agent_places places;
	bool have_places;
	struct agent *agent;
	char image[SPEC_IMAGE_MAX + 1];
	struct run run;   /* spec, environment, policy, image */
	struct session s; /* terminal and signals */
	sigset_t mask;    /* of signals, before that */
	bool catching;    /* s is initialised */
	uint64_t secrets; /* bit i: the profile's secret i has a value here */

	char root[PATH_MAX]; /* of the workspace, links resolved */
	int root_fd, home_fd;
	struct stat root_st;
	char mount[PATH_MAX]; /* in the guest */

	struct exclude *exclude;
	struct gitdir *gitdir;
	struct code_hits *hits;
	struct class_list *classes; /* with links: NULL where nothing is packed */
	struct review_links *links;
	struct pack_totals totals;
	uint64_t pack_ms;
	char packed_over[SESSION_ID_LEN + 1]; /* the session whose base this one has now, or "" */
	char packed_as[SESSION_ID_LEN + 1];   /* the session whose base it shares, or "" */
	struct work_session work;             /* dir_fd -1: there is none yet */
	bool begun;               /* its command may have run: it is never removed from here on */
	struct strings said;      /* about settings: a line each */
	uint32_t transfers;       /* streams of code_files.c so far */
	char home[CODE_HOME_MAX]; /* in the guest; "": not known yet */

	int32_t command_code; /* as a shell has it; -1: the command never ended by itself */
	struct result result; /* of the sandbox; reason 0: not known */
	struct buf out, err;  /* with --json */
	void *captured;
};

/* --- code_opts.c --- */

extern const struct opt code_opts[];

/* -EINVAL: a wrong command line. */
_must_ int code_take_options(struct code *k, struct err *e);

/* --- code_pack.c --- */

/* Opens the workspace and judges whether it may be one. */
_must_ int code_open_workspace(struct code *k, struct err *e);

/* Makes k->work and packs into it; with dry_run it only counts. -EINTR: a signal, noted in k->s. */
_must_ int code_pack(struct code *k, struct err *e);

/* Says how many files and bytes a directory of the workspace holds. */
_must_ int code_measure(struct code *k, struct span path, struct pack_totals *ret, struct err *e);

/* --- code_report.c --- */

/* For people, on stderr: what was packed, what stayed out. Nothing with --json. */
void code_tell_packed(struct code *k);

/* The same of settings that did not enter as they are, once they have been put. */
void code_tell_settings(const struct code *k);

/* notes.json of the session: that, the settings and what the user took back. */
_must_ int code_write_notes(struct code *k, struct err *e);

/* What --dry-run prints, on stdout. */
_must_ int code_print_dry_run(struct code *k, struct err *e);

/* JSON members, without braces: "files", "bytes", "left_out" and so on. */
void code_put_packed_json(const struct code *k, struct buf *b);

/* --- code_spec.c --- */

/* Image, limits, policy. Comes after the agent is known, and before a workspace is packed. */
_must_ int code_plan(struct code *k, struct err *e);

/* The environment, which needs the image's; and the rest of the spec. */
_must_ int code_finish_spec(struct code *k, struct err *e);

/* --- code_git.c --- */

struct code_identity {
	char name[256], email[256]; /* "": not set */
};

/* user.name and user.email of the host's own git configuration. Never fails: none is none. */
void code_git_identity(const struct cli *c, struct code_identity *ret);

/* That, as git's configuration has it; nothing where nothing is set. */
void code_put_identity(struct buf *b, const struct code_identity *id);

/* --- code_settings.c --- */

/* Puts into the guest what enters before its command. Waits until the guest is there. */
_must_ int code_put_settings(struct code *k, struct err *e);

/* What the agent made of its login, while its guest still runs: cli/agent/agent_state.h. */
_must_ int code_take_login(struct code *k, struct err *e);

/* --- code_files.c: files in and out of the guest, while no command of ours runs --- */

/*
 * Writes an entry stream (wire/entry.h) to `path` in the guest, whose directory exists. -EINTR: a
 * signal, noted in k->s; -ECONNRESET: the guest ended, k->s.relay.end_json says how.
 */
_must_ int code_files_put(struct code *k, const char *path, struct span entries, struct err *e);

/* One regular file, whole. -ENOENT; -EFBIG over `max`; -EISDIR: it is none; and as above. */
_must_ int code_files_get(struct code *k, const char *path, size_t max, char **ret, size_t *ret_len,
                          struct err *e);

/* So many ids of streams that were never used. */
uint32_t code_files_streams(struct code *k, uint32_t count);

/* The home directory of the guest's user, as the guest's passwd has it. */
_must_ int code_files_home(struct code *k, char ret[CODE_HOME_MAX], struct err *e);

/* --- code_run.c --- */

/* From the start to END; k->work is locked again afterwards, if anybody can. */
_must_ int code_run(struct code *k, struct err *e);

/*
 * One turn of waiting: sends what is there to send, then waits for the supervisor's bytes or a
 * signal, which the caller reads; timeout_ms as poll(2). Neither came: the spinner was moved.
 */
_must_ int code_wait(struct code *k, int timeout_ms, bool *ret_signals, bool *ret_bytes,
                     struct err *e);

/* --- code_end.c --- */

/* Says what has become of it; --on-exit. Returns the exit status of berm. */
int code_end(struct code *k);
