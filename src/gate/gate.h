/*
 * gate: the process that faces the guest: every remote host it talks to, every name server it asks.
 *
 * Frames of the guest's card come in at one end and messages to the vault go out at the other; what
 * lies between is judged here. Only three files are held from the start, and sockets come to it
 * connected, from the vault (upstreams) and the supervisor (published ports).
 *
 * Hostile   every byte of the card's; the vault's frames and the supervisor's packets go through
 *           the parsers of src/egress
 * Memory    all tables are made at the start (limits.h); OpenSSL and nghttp2 take more for
 *           connections that are read
 * Errors    what the guest does wrong ends a connection; what the vault or the supervisor does
 *           wrong ends the gate, and the sandbox with it
 * Source    docs/internals/gate.md
 */
#pragma once

#include "base/err.h"
#include "gate/ca.h"

#include <stdbool.h>
#include <stdint.h>

struct gate;

/* The files berm-gate is started with: lib/companion.h. */
enum gate_fd { GATE_FD_CONTROL = 3, GATE_FD_CARD = 4, GATE_FD_VAULT = 5, GATE_FD_COUNT = 6 };

struct gate_config {
	int control_fd; /* SOCK_SEQPACKET to the supervisor */
	int card_fd;    /* stream of frames: docs/internals/virtio-net.md */
	int vault_fd;   /* stream of egress messages */
	struct ca *ca;  /* borrowed for the gate's life */
	bool with_ip6;
	uint64_t (*now_ms)(void); /* NULL: clock_mono_ms(); tests move it themselves */
};

/*
 * Takes the three fds once it succeeds. Reads nothing yet, so that the jail can be closed behind
 * it. -ENOMEM, or what epoll said.
 */
_must_ int gate_new(const struct gate_config *config, struct gate **ret, struct err *e);
void gate_free(struct gate *g);
OWN_DEFINE(struct gate, gate_free)

/* READY with the certificate, and HELLO to the vault: the jail is closed. */
_must_ int gate_begin(struct gate *g, struct err *e);

/*
 * One turn of the loop: waits wait_ms at most (-1: until something happens), does what is to do.
 * Returns 0; 1: the supervisor or the card's engine has ended, and so shall the gate; else why it
 * cannot go on.
 */
_must_ int gate_turn(struct gate *g, int wait_ms, struct err *e);
