/*
 * relay: moves bytes between the caller's stdio and one stream of a sandbox.
 *
 * Stdin becomes DATA on WIRE_IN as credit allows; DATA on WIRE_OUT and WIRE_ERR is written out, and
 * credit is given back only for what was written, so a slow reader stalls the program in the guest
 * and nothing here grows. Signals arrive through a signalfd and are the caller's to judge.
 *
 * Hostile   the bytes and their amount: both come from the guest. Amounts are held to the window
 * Limits    one WIRE_WINDOW_BYTES of storage an output; RELAY_END_MAX for the result
 * Blocking  a terminal or pipe we were given keeps its flags, since others share them: outputs are
 *           opened anew through /proc/self/fd with O_NONBLOCK, or written so little at a time that
 *           the kernel has said it fits
 * Errors    -ENODATA: the supervisor went away before the end; -EPROTO; a broken output is told to
 *           the program as a pipe would tell it, and is no error
 */
#pragma once

#include "base/err.h"
#include "lib/client.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/signalfd.h>
#include <sys/types.h>

enum {
	RELAY_CREDIT_BYTES = WIRE_WINDOW_BYTES / 4, /* given back at once, so frames stay few */
	RELAY_PIPE_BYTES = 4096, /* PIPE_BUF: what poll(2) promises to fit into a pipe */
	RELAY_SOCKET_BYTES = 64 << 10,
	RELAY_BROKEN_GRACE_MS = 1000, /* from SIGPIPE to SIGKILL, if the program goes on writing */
	RELAY_TICK_MS = 120,          /* of the progress line, and only while there is one */
	RELAY_TEXT_MAX = WIRE_TEXT_MAX,
};

/*
 * Where one output goes: to an fd; or, with fd -1, into `capture` as far as it fits; or it is kept
 * for sink_read(), and then a reader who takes his time stalls the program.
 */
struct relay_sink {
	int fd;              /* borrowed */
	struct buf *capture; /* borrowed; NULL with fd -1 discards */
	bool readable;       /* with fd -1: for sink_read() */
	uint64_t bytes;      /* that arrived */
	bool truncated;      /* more arrived than `capture` holds */
	bool steady;         /* an error of fd breaks the sink, and only that */
	int error;           /* that errno */
	bool broken;         /* its reader has gone */
	/* the relay's own */
	uint8_t *ring; /* WIRE_WINDOW_BYTES, made when an output is slow for the first time */
	size_t ring_from, ring_len;
	int write_fd; /* fd opened anew, or fd itself */
	uint8_t kind;
	uint32_t credit_owed; /* written, not yet given back */
	uint32_t credit_left; /* what the other side may still send */
	bool eof;
};

struct relay;

/* What the caller wants to know while it runs. Any may be NULL. Non-zero from on_signal ends it. */
struct relay_ops {
	int (*on_signal)(void *ctx, struct relay *r, const struct signalfd_siginfo *si);
	void (*on_started)(void *ctx);
	/* Once: the program is gone and all it wrote is written out; END may be far away. */
	void (*on_ended)(void *ctx);
	void (*on_progress)(void *ctx, struct span text);
	void (*on_tick)(void *ctx); /* every RELAY_TICK_MS from the first progress to the start */
	void (*on_answer)(void *ctx,
	                  const struct wire_frame *f); /* control frames of other kinds */
};

/* What a relay waits for, as poll(2) has it: relay_prepare() fills, relay_serve() reads. */
enum { RELAY_PEER, RELAY_SIGNAL, RELAY_IN, RELAY_OUT, RELAY_ERR, RELAY_FDS };

enum relay_end {
	RELAY_RUNNING = 0,
	RELAY_EXIT,   /* exit is set */
	RELAY_FAILED, /* fail is set: the command did not start */
	/* the stream was reset; reset_errno, and end_json if it was the sandbox's end */
	RELAY_RESET,
	RELAY_ENDED,    /* the sandbox ended first; end_json is set */
	RELAY_DETACHED, /* ctrl-p ctrl-q */
	RELAY_STARTED,  /* as until_start asked */
	RELAY_LOST,     /* the supervisor went away; relay_run() says -ENODATA */
	RELAY_LEFT,     /* on_signal said so; `left` is what it said */
};

struct relay {
	struct client *client; /* borrowed */
	uint32_t stream;
	int in_fd;     /* borrowed; -1: the program has no stdin of ours */
	int signal_fd; /* borrowed; -1: none */
	struct relay_sink out, err;
	bool want_end; /* do not stop at EXIT: wait for END, which is the supervisor's last word */
	bool cut_is_end;  /* nor for END when a sandbox cut it off: the caller does */
	bool until_start; /* stop once the program runs */
	bool steady;      /* an error of in_fd is the end of the input, and only that */
	int in_error;     /* that errno */
	bool detach_keys; /* ctrl-p ctrl-q on stdin leaves the program running */
	const struct relay_ops *ops;
	void *ctx;

	/* results */
	uint8_t ended; /* enum relay_end */
	int left;
	bool started;
	struct wire_exit exit;
	struct wire_fail fail; /* its text is in fail_text */
	char fail_text[RELAY_TEXT_MAX + 1];
	uint32_t reset_errno;
	char *end_json; /* NUL-ended; relay_fini() frees it; NULL until END came */
	size_t end_bytes;

	/* the relay's own */
	uint32_t in_credit;
	bool in_eof, saw_ctrl_p, progress, peer_gone, told_ended;
	uint64_t broken_ms; /* when an output broke; 0 */
	bool killed;        /* after the grace */
};

/* Sets everything to "nothing": fds -1, stream 1, no ops. */
void relay_init(struct relay *r, struct client *c);

/* Runs until the end that was asked for; the answer is in r->ended. What arrived is written out. */
_must_ int relay_run(struct relay *r, struct err *e);
void relay_fini(struct relay *r);

/*
 * The parts of relay_run(), for callers with a loop of their own. relay_prepare() gives credit,
 * sends what the socket takes and says what to wait for; an fd of -1 is nothing. relay_serve() does
 * all that `revents` allow; when it asked for nothing that was to come, it does no harm.
 */
_must_ int relay_prepare(struct relay *r, struct pollfd p[RELAY_FDS], struct err *e);
_must_ int relay_serve(struct relay *r, const struct pollfd p[RELAY_FDS], struct err *e);
bool relay_finished(const struct relay *r);

/*
 * Input from memory, with in_fd -1: bytes taken, possibly 0 (no credit, no room, not started), or
 * -EPIPE: the program takes none any more, or its input has ended.
 */
ssize_t relay_put_input(struct relay *r, struct span data);
void relay_end_input(struct relay *r);

/* May relay_put_input() take something now? */
bool relay_takes_input(const struct relay *r);

/* For on_signal: sends a signal to the stream's program. */
void relay_signal(struct relay *r, int sig);
void relay_resize(struct relay *r, uint16_t rows, uint16_t cols);
