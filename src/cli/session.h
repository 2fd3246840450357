/*
 * session: what `run`, `exec` and `attach` share: stdio, terminal and signals of one program.
 *
 * Signals   INT, TERM, HUP and QUIT go to the program. A second one within SESSION_AGAIN_MS says
 *           that it did not help: `run` ends the sandbox, `exec` kills the command, `attach`
 *           leaves. A third ends berm itself. TSTP stops the program and berm, as a job is stopped.
 *           What was ignored when berm was started (nohup, a background job) stays ignored.
 */
#pragma once

#include "cli/cli.h"
#include "lib/relay.h"
#include "state/result.h"
#include "term/term.h"

#include <signal.h>

enum { SESSION_AGAIN_MS = 2000 };

enum session_kind { SESSION_RUN, SESSION_EXEC, SESSION_ATTACH };

struct session {
	struct cli *cli; /* borrowed */
	enum session_kind kind;
	bool tty; /* the program has a pty and we a terminal */
	struct client *client;
	struct relay relay;
	struct term term;
	struct spinner spinner;
	int signal_fd;
	uint64_t signal_ms; /* of the last one passed on */
	unsigned signals;   /* how often it was asked to end in a row */
	int interrupted;    /* the signal that came before the program ran */
};

/* Catches signals from here on: before anything is started that they are to end. */
_must_ int session_init(struct session *s, struct cli *c, enum session_kind kind, struct err *e);

/* Takes the socket of a supervisor, also on failure. Frames may then be queued on s->client. */
_must_ int session_connect(struct session *s, int fd, struct err *e);

/* Moves bytes until the end; the answer is in s->relay. The terminal is as it was afterwards. */
_must_ int session_run(struct session *s, struct err *e);
void session_fini(struct session *s);

/* Stdin of the program: our own, or none. `asked` is -i, `refused` is --no-stdin. */
bool session_wants_stdin(const struct cli *c, bool asked, bool refused);

/* --fetch-max: how much of a workspace's work is fetched at most. */
_must_ int session_fetch_max(const char *text, uint64_t *ret, struct err *e);

/* Says how a sandbox ended, if its exit status alone would leave a question. True: in words of its
 * own. */
bool session_explain(const struct result *res);

/* The exit status that stands for how the stream ended; says why when it did not start. */
int session_status(const struct session *s, const char *command);
