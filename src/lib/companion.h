/*
 * companion: a process beside a sandbox's engine that serves it: the gate, the vault. It belongs to
 * the sandbox: its supervisor starts it beside the engine, ends with it, and ends it.
 *
 * Started as   PREFIX/libexec/berm/<program> <sandbox's id>, with no environment, in a session and,
 *              where that is permitted, a pid namespace of its own; it dies with its supervisor. A
 *              copy's gate is told so by a further word, COMPANION_COPY.
 * Files        0 is /dev/null; 1 and 2 its log, of which the last words are kept; 3 (COMPANION_FD_
 *              CONTROL) a SOCK_SEQPACKET to the supervisor; from 4 on what its kind says. All else
 *              is closed.
 * Ready        it closes its jail and then sends READY (egress/control.h) on 3, before it reads a
 *              byte of the guest's. The gate's has the certificate the guest is to trust, see
 *              struct wire_trust. The guest does not run before that. What else is said on 3 is in
 *              egress/control.h as well.
 * End          its end ends the sandbox. EOF on 3: the supervisor has ended.
 * Hostile      what it says: it reads hostile bytes later. Its packet is parsed strictly, its log
 *              is bounded and leaves through the logger's escapes
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "egress/control.h"
#include "wire/wire.h"

#include <sys/types.h>

enum companion_fd { COMPANION_FD_CONTROL = 3, COMPANION_FD_FIRST = 4 };

enum {
	COMPANION_FDS_MAX = 4, /* of its own kind */
	COMPANIONS_MAX = 2,
	COMPANION_LOG_MAX = 4096,
	COMPANION_LOG_READ = COMPANION_LOG_MAX / 2, /* at once; as much of what was before stays */
	COMPANION_LOG_READS_MAX = 64,               /* at its end: more than the pipe holds */
	COMPANION_READY_MS = 10000,                 /* a key pair and a jail; on a loaded machine */
	COMPANION_DEATH_MS = 500,                   /* from its closed socket to its end */
};

/* What they hold, from COMPANION_FD_FIRST on. */
enum companion_gate_fd {
	COMPANION_GATE_LINK,  /* stream socket to the guest's card: docs/internals/virtio-net.md */
	COMPANION_GATE_VAULT, /* stream socket to the vault: egress/egress.h */
	COMPANION_GATE_COUNT
};

enum companion_vault_fd {
	COMPANION_VAULT_GATE, /* the other end */
	COMPANION_VAULT_COUNT
};

#define COMPANION_COPY "copy"

struct companion {
	const char *words; /* "the gate": in messages */
	pid_t pid;         /* -1: there is none */
	int pidfd, control_fd, log_fd;
	char text[COMPANION_LOG_MAX];
	struct buf said; /* its last words */
};

struct companion_start {
	const char *libexec, *program, *words, *id;
	const char *more;           /* a further word; NULL: none */
	int fds[COMPANION_FDS_MAX]; /* borrowed */
	unsigned fd_count;
};

struct companion_ready {
	bool has_trust;
	struct wire_trust trust; /* borrowed from the packet */
};

void companion_init(struct companion *c);
/* Kills without waiting for its end, which is still companion_end()'s. */
void companion_kill(const struct companion *c);
/* Kills, reaps, closes; harmless twice. */
void companion_end(struct companion *c);

/* -ENOENT: it is not installed. */
_must_ int companion_start(const struct companion_start *how, struct companion *ret, struct err *e);

/*
 * The next packet, in a room of CONTROL_PACKET_MAX bytes. -EAGAIN: none; -EPIPE: its end is closed;
 * -EPROTO: what no companion sends, a descriptor among it.
 */
_must_ int companion_recv(struct companion *c, uint8_t *room, struct span *ret, struct err *e);

/*
 * Waits until one of them says something on its socket (companion_recv()), or has room for more if
 * `room` is asked for. -EPIPE: one ended, and e has its last words; -ETIMEDOUT.
 */
_must_ int companion_wait(struct companion *const *all, unsigned count, bool room,
                          uint64_t deadline_ms, struct err *e);

/* It ended: -EPIPE, with its last words. */
int companion_gone(struct companion *c, struct err *e);

/* Reads what it said, from a log fd that does not block. False: nothing. */
bool companion_drain(struct companion *c);

/* Waits COMPANION_DEATH_MS at most: has it ended? */
bool companion_ended(const struct companion *c);

/* "the gate ended: its last words", after draining; escaped. */
void companion_put_end(struct buf *out, struct companion *c);

/* companion_parse.c: pure, of READY's payload. 0 or -EBADMSG. */
_must_ int companion_parse_ready(struct span payload, struct companion_ready *ret);
