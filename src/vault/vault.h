/*
 * vault: the process of a sandbox that faces the world. It resolves names, opens every upstream
 * connection, and alone holds the values of secrets.
 *
 * Hostile   the gate, which reads what the guest sends; resolvers; upstreams. The supervisor is
 *           trusted
 * Owns      both sockets, from vault_new() on
 * End       with either of them. Nobody takes its place: a sandbox without a vault has no network
 */
#pragma once

#include "base/err.h"

struct vault;

struct vault_fds {
	int control; /* SOCK_SEQPACKET to the supervisor: egress/control.h */
	int link;    /* stream to the gate: egress/egress.h */
};

/*
 * Opens all that comes from the file system or is a socket of another kind than those the jail
 * lets through; reads no byte of either side. fds_max: how many descriptors there may be, with some
 * to spare for connections.
 */
_must_ int vault_new(const struct vault_fds *fds, unsigned fds_max, struct vault **ret,
                     struct err *e);
void vault_free(struct vault *v);
OWN_DEFINE(struct vault, vault_free)

/* In the jail: says READY and serves. 0: the supervisor ended; else what the other side did. */
_must_ int vault_run(struct vault *v, struct err *e);
