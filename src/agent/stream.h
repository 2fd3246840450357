/*
 * stream: one EXEC, PUT or GET: a child, its pipes or pty, and the credit of its channels.
 *
 * Theory of operation
 *
 * Output is not buffered here: a pipe is read only when its channel has credit and the port has
 * room, straight into the frame that carries it. Input that the child does not take yet waits in
 * one buffer of WIRE_WINDOW_BYTES, which the host cannot overrun, as credit is granted for what was
 * passed on. So one slow stream holds up nothing but itself, and nothing grows.
 *
 * fds are watched edge-triggered: an event sets `ready`, an EAGAIN clears it. A fd nobody wants to
 * read thus costs nothing, even one that hung up.
 *
 * A COLLECT's child says how much it will write in its mail, before it does: an edge on the pipe
 * thus finds the answer there.
 *
 * The status pipe is not watched at all: a wake-up at the moment of execve would only take the CPU
 * from the command. It is looked at whenever the stream moves, and every AGENT_LOOK_MS until the
 * command is known to run.
 *
 * End of an EXEC: when its process is gone and both outputs are at EOF. A process left behind may
 * hold an output open for ever; so STREAM_GRACE_MS after the exit, what the pipe holds at that
 * moment is still sent, and then it is closed. Whoever needs the output of a daemon sends it to a
 * file. (ssh would wait for ever, which for a program that calls us is a hang.)
 */
#pragma once

#include "agent/child.h"
#include "agent/port.h"

enum {
	STREAM_GRACE_MS = 250,         /* a pipeline's last stage has time to finish */
	STREAM_CREDIT_STEP = 64 << 10, /* credit is granted in pieces of at least this */
	STREAM_OUTS = 2,
	STREAM_SIGNALS_MAX = 64,
	STREAM_EPOLL_SHIFT = 8,
};

struct stream_out {
	int fd; /* -1: at EOF, or it never had one */
	bool ready;
	bool cut; /* only `left` bytes more are sent */
	uint32_t credit;
	uint64_t left;
};

struct stream_in {
	int fd; /* -1: closed; what still comes is dropped */
	bool ready, eof;
	uint8_t *buf;
	size_t at, end;
	uint32_t owed;   /* passed on, not yet granted again */
	uint32_t credit; /* what the host may still send */
};

struct stream {
	uint32_t id; /* 0: free */
	uint8_t type;
	bool tty;
	bool started, reported;
	bool sized; /* COLLECT: the host knows how much will come, or never will */
	bool exited;
	bool dirty;       /* the input buffer's pages were used */
	uint64_t signals; /* that arrived before the command had started; bit n-1 is n */
	uint64_t cut_ms;  /* when outputs are cut; 0 before the exit */
	struct child child;
	struct stream_in in;
	struct stream_out out[STREAM_OUTS];
	struct wire_exit exit;
	uint8_t report[CHILD_REPORT_MAX];
	size_t report_len;
};

struct agent;

_must_ int streams_init(struct agent *a, struct err *e);

/* Opens a stream for EXEC, PUT or GET, or answers the frame with its failure. */
void stream_open(struct agent *a, const struct wire_frame *f);

/* DATA, EOF, CREDIT, RESIZE, SIGNAL and RESET. -EPROTO: the host broke the rules of credit. */
_must_ int stream_frame(struct agent *a, const struct wire_frame *f);

/* An edge on one of its fds; `what` is one of enum stream_event. */
enum stream_event { STREAM_EV_IN, STREAM_EV_OUT, STREAM_EV_ERR };
void stream_event(struct agent *a, unsigned slot, unsigned what);

/* Its process ended. False: it is no stream's. */
bool stream_reaped(struct agent *a, pid_t pid, const struct wire_exit *x);

/* Moves what can be moved, in turns. True if there was something; then call again. */
bool streams_pump(struct agent *a);

/* Deadlines: UINT64_MAX if there is none. */
uint64_t streams_deadline_ms(const struct agent *a);
void streams_tick(struct agent *a, uint64_t now_ms);

/*
 * A new epoch: all but the EXEC `keep` (0: none) are forgotten, their fds closed while processes go
 * on. That one has a whole window of credit each way again, less what of its input still waits
 * here.
 */
void streams_renew(struct agent *a, uint32_t keep);
/* Tells the new host what it cannot know of that one: its credit, and which outputs have ended. */
void streams_tell(struct agent *a, uint32_t keep);
unsigned streams_count(const struct agent *a);

/* Keeps one child waiting; cheap if there is one already. */
void stream_refill(struct agent *a);
