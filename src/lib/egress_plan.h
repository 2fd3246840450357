/*
 * egress_plan: what a start brings for the guest's network: the policy, the secrets' values, the
 * ports to be published. The command (or the library) makes it, the supervisor takes it.
 *
 * Shape     packets of egress/control.h, CONTROL_FROM_COMMAND, in a SOCK_SEQPACKET that holds all
 *           of them and is at its end: START_FD_EGRESS (lib/start.h). A value is an open file; the
 *           supervisor passes it on to the vault, unread
 * Ports     are listened on here, with the rights and in the network of whoever publishes them; the
 *           supervisor, which has neither, accepts only
 * Owns      every fd in it
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "egress/control.h"
#include "lib/publish.h"
#include "policy/limits.h"

enum {
	EGRESS_PORTS_MAX = PUBLISH_MAX,
	EGRESS_PLAN_POLICY = POLICY_TLV_MAX, /* bytes of a compiled policy */
};

struct egress_secret {
	char name[CONTROL_SECRET_NAME_MAX + 1];
	int fd;
};

struct egress_port {
	struct control_accepted at; /* where it listens: its real port, also if any was asked for */
	int fd;
};

struct egress_plan {
	int policy_fd; /* -1: not yet */
	int roots_fd;  /* -1: none */
	int import_fd; /* -1: no fork */
	unsigned secret_count;
	struct egress_secret secrets[CONTROL_SECRETS_MAX];
	unsigned port_count;
	struct egress_port ports[EGRESS_PORTS_MAX];
};

void egress_plan_init(struct egress_plan *p);
void egress_plan_fini(struct egress_plan *p);

static inline void egress_plan_fini_scope(struct egress_plan *p)
{
	egress_plan_fini(p);
}

/* The compiled policy, of whatever generation, in place of one before. -EBADMSG, -EFBIG. */
_must_ int egress_plan_policy(struct egress_plan *p, struct span tlv, struct err *e);

/* One that lets nothing through. */
_must_ int egress_plan_deny(struct egress_plan *p, struct err *e);

/*
 * Takes fd: a sealed memory file with the value (lib/secret_source.h), in place of one of this name
 * before. -EINVAL: the name; -E2BIG: more than CONTROL_SECRETS_MAX.
 */
_must_ int egress_plan_secret(struct egress_plan *p, const char *name, int fd, struct err *e);

/* Certificates (PEM) that the vault trusts beside the host's. */
_must_ int egress_plan_roots(struct egress_plan *p, struct span pem, struct err *e);

/*
 * Listens at once; ports[].at has the real port. -E2BIG: more than EGRESS_PORTS_MAX; -EADDRINUSE,
 * -EACCES, ... of listening.
 */
_must_ int egress_plan_publish(struct egress_plan *p, const struct publish *what, struct err *e);

/*
 * For a fork of the sandbox `id`: its policy of now, unless there is one already, and its secrets'
 * values, from its vault to that of the fork. -ENOENT, -EAGAIN, -ETIMEDOUT.
 */
_must_ int egress_plan_inherit(struct egress_plan *p, int state_fd, const char *id, struct err *e);

/* The socket with all of it. The plan keeps its fds. -EINVAL: there is no policy. */
_must_ int egress_plan_send(const struct egress_plan *p, int *ret_fd, struct err *e);
