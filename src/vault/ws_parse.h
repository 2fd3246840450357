/*
 * ws: where the payload stands in a stream of WebSocket frames. Pure.
 *
 * Hostile   every byte. Refused: reserved bits (compression, which is not offered) and opcodes,
 *           control frames that are fragmented or over 125 bytes, lengths written longer than they
 *           need, frames masked from a server or unmasked from a client
 * Source    RFC 6455, 5.2
 */
#pragma once

#include "vault/view.h"

enum { WS_HEAD_MAX = 14 };

/* Where in a frame the next byte stands. Zeros: at the beginning of one. */
struct ws {
	bool client; /* frames of a client: masked */
	uint8_t head_len;
	uint8_t head[WS_HEAD_MAX];
	uint64_t left;  /* of the payload, while the head is whole */
	uint64_t taken; /* of it, for the mask */
};

enum ws_what { WS_DATA, WS_CONTROL };

/*
 * Goes on over the next bytes of the stream. The payload of data or of control frames, unmasked, is
 * appended to *v, whose segments say where in `wire` it stood; v may be NULL. 0 or -EBADMSG.
 */
_must_ int ws_parse(struct ws *w, struct span wire, enum ws_what what, struct view *v);
