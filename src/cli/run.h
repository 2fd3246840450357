/*
 * run: what `berm run` makes of its command line and the image's configuration.
 *
 * Order     environment: the image's, then --env-file and -e as they stand on the command line; the
 *           last one of a name counts. Command: --entrypoint or the image's, then the words given
 *           or the image's own. Nothing comes from the host's environment unless it is named
 * Limits    those of spec.h; RUN_ENV_FILE_MAX
 */
#pragma once

#include "cli/cli.h"
#include "cli/egress/egress.h"
#include "state/spec.h"
#include "state/strings.h"

enum {
	RUN_ENV_FILE_MAX = 1 << 20, /* bytes; a whole environment is at most SPEC_EXEC_MAX */
	RUN_CAPTURE_MAX = 4 << 20,  /* of stdout, and of stderr, with --json */
	RUN_SHOWN_COMMAND_MAX = 200,
};

/* Flags of `run`; other verbs may have rows of these in their tables. */
enum run_opt {
	RUN_OPT_NAME = 1,
	RUN_OPT_DETACH,
	RUN_OPT_RM,
	RUN_OPT_INTERACTIVE,
	RUN_OPT_TTY,
	RUN_OPT_NO_TTY,
	RUN_OPT_NO_STDIN,
	RUN_OPT_ENV,
	RUN_OPT_ENV_FILE,
	RUN_OPT_WORKDIR,
	RUN_OPT_USER,
	RUN_OPT_HOSTNAME,
	RUN_OPT_ENTRYPOINT,
	RUN_OPT_CPUS,
	RUN_OPT_MEMORY,
	RUN_OPT_DISK,
	RUN_OPT_PIDS,
	RUN_OPT_TIME,
	RUN_OPT_IDLE,
	RUN_OPT_OUTPUT,
	RUN_OPT_ENGINE,
	RUN_OPT_MINIMUM,
	RUN_OPT_HOST_CPU,
	RUN_OPT_COLD,
	RUN_OPT_WARM,
	RUN_OPT_RESULT,
};

struct image;

/* "NAME=VALUE", or "NAME" for that of `host` (NULL-ended), unset there: nothing. -EINVAL. */
_must_ int run_env(struct strings *env, const char *const *host, const char *text, size_t len,
                   struct err *e);

/* Lines as run_env() takes them; empty ones and those starting with '#' are passed over. */
_must_ int run_env_file(struct strings *env, const char *const *host, const char *path,
                        struct err *e);

/* TERM of the host, unless the guest has one by now: for a command with a terminal. */
_must_ int run_env_term(struct strings *env, const char *const *host, struct err *e);

struct image_config;

struct run {
	struct spec spec;
	const char *image; /* as given; NULL is the default image */
	const char *const *words;
	size_t word_count;
	const char *entrypoint;  /* NULL: not given */
	const char *result_path; /* NULL: not asked for */
	bool interactive, no_stdin, want_tty, no_tty;
	struct strings env, argv, warm;
	struct egress egress;
	struct image *opened; /* the strings of the spec live in it; see run_drop_image() */
	int disk_fd;          /* of opened */
};

void run_init(struct run *r);
void run_fini(struct run *r);

/* Flags into r->spec, judged; the image is not looked at. Prints nothing. */
_must_ int run_take_flags(struct run *r, struct cli *c, const struct args *a, struct err *e);

/* One of them, by its id, or of egress_is_opt(). --engine, where it is not given: BERM_ENGINE. */
_must_ int run_take_flag(struct run *r, struct cli *c, const struct arg *o, struct err *e);
_must_ int run_take_engine_of_env(struct run *r, const struct cli *c, struct err *e);

/*
 * Finds the image, opens its disk, and merges its configuration with the flags (run_image.c).
 * run_fini() does not know of it: run_drop_image() afterwards.
 */
_must_ int run_take_image(struct run *r, struct cli *c, struct err *e);
void run_drop_image(struct run *r);

/*
 * The warm-up commands of the template: the image's first, which are what its own programs need,
 * then those that were given, with the image's variables. None with --cold. Borrows `config`.
 */
_must_ int run_merge_warm(struct run *r, const struct image_config *config, struct err *e);

/* argv of the main command; pure. The image's lists may be NULL. */
_must_ int run_command(struct run *r, const char *const *image_entrypoint,
                       const char *const *image_cmd, struct err *e);

extern const struct opt run_opts[];
