/*
 * agent_build: an agent's image, made by the package managers of its base image in a guest.
 *
 * Theory of operation
 *
 *   1. A guest of the base image starts with a network that lets nothing through.
 *   2. Before each package manager runs it is asked, in the guest, where it is set up to take
 *      packages from; that, and what the image and --env say, fills the preset `registries`, which
 *      permits reading. No registry is known here by itself.
 *   3. apt, npm and pip install what the recipe names, and say which versions that became.
 *   4. The root file system comes out as a tar, as the bytes of a program in the guest, into a file
 *      without a name. The guest is ended; then berm-unpack, in its jail, makes an image of it.
 *   5. A fresh guest of that image, without a network, is to answer --version, behind the
 *      whole command: its first word may be an interpreter. Only then the image gets its name.
 *
 * Whatever fails, and an interrupt, ends the guest and leaves nothing.
 *
 * Hostile   all that comes from the guest: packages run their scripts there as root. Its text is
 *           escaped, its amounts have limits, its tar is an import like any
 */
#pragma once

#include "cli/agent/agent_image.h"
#include "cli/agent/agents.h"
#include "cli/session.h"
#include "state/strings.h"

enum {
	BUILD_TAIL_MAX = 8 << 10,    /* of a step's output, for the message when it fails */
	BUILD_TAIL_LINES = 12,       /* and so many lines of it are shown */
	BUILD_ANSWER_MAX = 16 << 10, /* what a question's answer may have */
	BUILD_STEP_MAX = 64,         /* "npm packages" */
	BUILD_PIDS = 2048,           /* npm runs many at once */
	BUILD_ASK_MS =
		900000, /* of the agent, for --version: 150 MB of code on a busy software CPU */
	BUILD_POLL_MS = 200, /* between two looks of the progress line */
};

#define BUILD_TIME_MS   (UINT64_C(2) * 3600 * 1000) /* all of it, unless --time says otherwise */
#define BUILD_TAR_BYTES (UINT64_C(16) << 30)        /* a guest must not fill the host's disk */

/* The last bytes of an output. */
struct build_tail {
	uint8_t at[BUILD_TAIL_MAX];
	size_t from, len;
};

struct build {
	struct cli *c;
	const struct args *args;
	const struct agent *agent;
	const struct agent_where *where;
	struct image_store *store;
	struct image *base;
	struct strings env;   /* of every command in the guest; NAME=VALUE */
	struct strings hosts; /* registries, HOST or HOST:PORT */
	uint64_t time_ms;
	char name[IMAGE_NAME_MAX + 1]; /* what the image is to be called */

	/* the guest */
	struct session session; /* its signals are caught from the start on */
	char id[SPEC_ID_LEN + 1];
	bool running;
	struct build_tail tail;
	char step[BUILD_STEP_MAX]; /* what is being done, for people */
	unsigned step_number;

	/* what became of it */
	char packages[3][BUILD_ANSWER_MAX]; /* as apt, npm and pip print them; lines */
	char image_id[IMAGE_ID_LEN + 1];
	char version[AGENT_VERSION_MAX + 1];
	char built[32];
};

/* One command in the guest, as root. */
struct build_command {
	const char *const *argv; /* NULL-ended */
	struct buf *answer;      /* its stdout, as far as it fits; NULL: into the tail */
	int out_fd;              /* its stdout, if it is 0 or more */
	uint64_t out_max;        /* of that */
};

/* --- agent_build_guest.c --- */

/* Starts it and waits until it runs. -EINTR: a signal came. */
_must_ int build_guest_start(struct build *b, struct err *e);

/*
 * Runs one command to its end; its output goes to the tail, line by line to the spinner. ret_code:
 * its exit status; 127 where there is no such program. -EINTR, -EFBIG, -ECONNRESET with the
 * sandbox's reason.
 */
_must_ int build_guest_run(struct build *b, const struct build_command *cmd, int *ret_code,
                           struct err *e);

/* What the policy says next: `registries` with b->hosts, and --allow. */
_must_ int build_guest_permit(struct build *b, struct err *e);

/* Ends it, and waits until nothing is left of it. */
void build_guest_end(struct build *b);

/*
 * Runs the command with --version behind it in a fresh guest of the image, and takes the first
 * line of the answer into b.
 */
_must_ int build_guest_ask(struct build *b, const struct image *image, struct err *e);

/* Says what is being done from here on. */
void build_step(struct build *b, const char *what);

/* --- agent_build_steps.c --- */

/* Installs what the recipe names. The message of a failure has the step and what to do. */
_must_ int build_install(struct build *b, struct err *e);

/* --- agent_build_image.c --- */

/* The guest's root as a tar in a file without a name, which is the caller's. */
_must_ int build_take_tree(struct build *b, int *ret_fd, struct err *e);

/* Makes an image of it, without a name: b->image_id. ret_known: there was one of that id. */
_must_ int build_import(struct build *b, int tar_fd, bool *ret_known, struct err *e);
