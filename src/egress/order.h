/*
 * order: which message may come now. Pure; both processes run every frame through it, those they
 * send as well as those they read, so each knows what the other may still say.
 *
 * A stream has two halves. A half begins with the message that opens it (the gate's) or answers
 * (the vault's), carries what its kind allows, and ends once, with END, RESET or one of the
 * messages that end it by their nature. When both have ended the stream is gone. Messages cross on
 * the way: what comes for a half that the reader has reset, and CREDIT or RESET for a stream that
 * is gone, is dropped and no fault.
 */
#pragma once

#include "egress/egress.h"

enum egress_verdict {
	EGRESS_PASS = 0,
	EGRESS_DROP,       /* late but legal: do nothing, but close its descriptor */
	EGRESS_BAD_HELLO,  /* not first, or again, or another version */
	EGRESS_BAD_STREAM, /* unknown, or opened with an id that is not new */
	EGRESS_BAD_COUNT,  /* more streams than there is room for */
	EGRESS_BAD_ORDER,  /* not now, or not on a stream of this kind */
	EGRESS_BAD_CREDIT, /* more bytes than were granted, or a grant of nothing or too much */
	EGRESS_BAD_LENGTH, /* more or fewer bytes than the head said, or any where there are none */
	EGRESS_BAD_HEAD,   /* a head that contradicts itself or what was asked */
	EGRESS_VERDICT_COUNT,
};

const char *egress_verdict_word(enum egress_verdict v);

enum egress_half {
	EGRESS_HALF_NONE = 0, /* nothing said yet */
	EGRESS_HALF_OPEN,     /* bytes may come */
	EGRESS_HALF_TRAILED,  /* only END */
	EGRESS_HALF_ENDED,
	EGRESS_HALF_RESET,
};

struct egress_flow {
	uint8_t half;
	uint8_t framing;
	uint32_t credit; /* bytes it may still send */
	uint64_t left;   /* LENGTH: bytes it still must send */
};

struct egress_stream {
	uint32_t id;  /* 0: the slot is free */
	uint8_t kind; /* EGRESS_RESOLVE, EGRESS_CONNECT or EGRESS_REQUEST */
	bool websocket;
	bool opaque; /* after a 101: both halves until they end */
	struct egress_flow gate;
	struct egress_flow vault;
	uint32_t user; /* the caller's, such as an index into a table of its own */
};

struct egress_order {
	struct egress_stream *slots; /* borrowed */
	uint32_t slot_count;         /* a power of two */
	uint32_t count;              /* streams open */
	uint32_t count_max;
	uint32_t last_id;
	bool gate_hello, vault_hello;
};

/*
 * slots: a power of two of them, at least twice count_max; they are cleared. Holds no memory of its
 * own.
 */
void egress_order_init(struct egress_order *o, struct egress_stream *slots, uint32_t slot_count,
                       uint32_t count_max);

/*
 * Judges the next frame of a side, and takes note of it if it passes. DROP for a frame one is about
 * to send means that the other will not look at it; it is sent all the same.
 */
_must_ enum egress_verdict egress_order_step(struct egress_order *o, enum egress_side from,
                                             const struct egress_frame *f);

/*
 * The open stream of that id, or NULL. Good until the next step. A frame that ends a stream makes
 * it disappear: ask before the step for what the stream was.
 */
struct egress_stream *egress_order_find(struct egress_order *o, uint32_t id);

/* How many bytes a side may send in one BODY now; 0: none, or it may not send BODY at all. */
uint32_t egress_order_room(const struct egress_stream *s, enum egress_side from);
