/*
 * limits: every maximum of src/egress, with its reason.
 */
#pragma once

#include "http/limits.h"

enum {
	EGRESS_BODY_MAX = 64 << 10, /* payload of one BODY */
	/* a head as HTTP/1 reads it, a path that grew by its escapes, and what is beside it */
	EGRESS_HEAD_MAX = HTTP_HEAD_MAX + 2 * HTTP_TARGET_MAX + 1024,
	EGRESS_POLICY_MAX = 256 << 10,
	EGRESS_TEXT_MAX = 1024,
	EGRESS_NAME_MAX = 128,           /* of a secret */
	EGRESS_ADDRESSES_MAX = 32,       /* in one answer; real ones have up to 13 */
	EGRESS_CHAIN_MAX = 8,            /* CNAMEs followed */
	EGRESS_TTL_MAX_S = 86400,        /* a pin lives for a day at most */
	EGRESS_WINDOW_BYTES = 256 << 10, /* what each half of a stream may send at first */
	EGRESS_CREDIT_MAX = 1 << 20,     /* and have unspent at any time */
	EGRESS_STREAMS_MAX = 16384,      /* open at once: 10 000 connections and their requests */
};
