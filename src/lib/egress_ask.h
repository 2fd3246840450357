/*
 * egress_ask: what a command asks about the network of a sandbox that runs: a new policy, a secret,
 * a connection to be let in.
 *
 * The supervisor listens on sandboxes/<id>/egress.sock (SOCK_SEQPACKET) for packets of
 * egress/control.h, CONTROL_FROM_COMMAND. Its answers are the vault's. One request at a time; each
 * call waits for its answer until deadline_ms of clock_mono_ms() (UINT64_MAX: for ever), or for
 * EGRESS_ASK_MS where it takes none. A connection on which one was not answered in time is of no
 * more use.
 *
 * Errors    -ENOENT (it has ended), -EAGAIN (it is starting), -ENODEV (it has no network),
 *           -EINVAL (refused; the text says why), -EPIPE (it ended meanwhile), -ETIMEDOUT, -EPROTO
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "egress/control.h"

enum { EGRESS_ASK_MS = 30000 }; /* a policy: the gate closes connections first */

/* EGRESS_ASK_MS from now. */
uint64_t egress_ask_deadline(void);

#define EGRESS_SOCKET      "egress.sock"
#define EGRESS_POLICY_FILE "policy" /* in force, compiled; holds no secret */

/* A connection for any number of requests. */
_must_ int egress_ask_open(int state_fd, const char *id, int *ret_fd, struct err *e);

/*
 * Puts a compiled policy into force; its own generation is not looked at. expect: the generation
 * that is to be in force now, or 0 for any; -ESTALE: it is another. Nothing has changed on failure.
 */
_must_ int egress_ask_policy(int fd, struct span tlv, uint32_t expect, uint64_t deadline_ms,
                             uint32_t *ret_generation, struct err *e);

/*
 * Gives a secret a value, or another one. value_fd: borrowed, a sealed memory file
 * (lib/secret_source.h). Commands that start from now on have its placeholder.
 */
_must_ int egress_ask_secret(int fd, const char *name, int value_fd, uint64_t deadline_ms,
                             struct err *e);
_must_ int egress_ask_secret_rm(int fd, const char *name, uint64_t deadline_ms, struct err *e);

/*
 * Hands over an accepted TCP connection (borrowed), to be joined to a port of the guest's. There is
 * no answer: one that the gate does not want is closed.
 */
_must_ int egress_ask_forward(int fd, const struct control_accepted *who, int conn_fd,
                              struct err *e);

/* For a fork: a socket with the values, for a plan's import_fd; the caller's. */
_must_ int egress_ask_export(int fd, int *ret_fd, struct err *e);

/*
 * The compiled policy in force, or at the end of a sandbox that left a record. -ENODEV: it has no
 * network. ret_tlv is the caller's to free.
 */
_must_ int egress_policy_read(int state_fd, const char *id, uint8_t **ret_tlv, size_t *ret_len,
                              struct err *e);
