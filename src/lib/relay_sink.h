/*
 * relay_sink: one output of a relay. See relay.h.
 */
#pragma once

#include "lib/relay.h"

enum sink_kind {
	SINK_UNOPENED = 0, /* decided at the first byte: many programs never write to stderr */
	SINK_DISCARD,
	SINK_CAPTURE,
	SINK_KEEP,     /* for sink_read() */
	SINK_FILE,     /* always ready */
	SINK_NONBLOCK, /* our own open file description */
	SINK_SOCKET,
	SINK_SMALL, /* somebody's, and blocking: little at a time */
};

void sink_init(struct relay_sink *s);
void sink_fini(struct relay_sink *s);

/*
 * Takes data that arrived: writes what fits now and keeps the rest. -EPROTO: more than the window;
 * -ENOMEM; a write error other than a reader that left. Credit is owed for what is done with.
 */
_must_ int sink_take(struct relay_sink *s, struct span data, struct err *e);

/* Writes kept bytes, after poll(2) said the fd is ready. */
_must_ int sink_flush(struct relay_sink *s, struct err *e);

/* Are there bytes to be written once the fd is ready? */
static inline bool sink_waiting(const struct relay_sink *s)
{
	return s->ring_len > 0 && s->kind != SINK_KEEP;
}

/* Takes kept bytes of a readable sink: how many, 0 when there are none now. */
size_t sink_read(struct relay_sink *s, void *ret, size_t size);
