/*
 * limits: every maximum of src/http, with its reason.
 */
#pragma once

enum {
	HTTP_HEAD_MAX = 32 << 10, /* bytes from the first to the empty line's end; over it is 431 */
	HTTP_TARGET_MAX = 4096,   /* the request target as sent, and the path we make of it: 414 */
	HTTP_METHOD_MAX = 32,     /* the longest in the registry has 17 */
	HTTP_NAME_MAX = 256,      /* a field's name; real ones stay under 64 */
	HTTP_FIELDS_MAX = 128,    /* in a head; browsers send 30, APIs answer with 60 */
	HTTP_HOST_MAX = 253,      /* a name in the DNS */
	HTTP_LABEL_MAX = 63,
	HTTP_OPTIONS_MAX = 16, /* names listed in Connection */
	HTTP_INFO_MAX = 16,    /* 1xx answers before the final one */

	HTTP_TRAILER_BYTES_MAX = 8 << 10, /* like grpc-message and its details */
	HTTP_TRAILER_FIELDS_MAX = 32,

	HTTP_CHUNK_DIGITS_MAX = 8, /* 4 GiB in one chunk */
	HTTP_CHUNK_LINE_MAX = 256, /* extensions of one chunk; nobody uses them */
	HTTP_CHUNK_EXTS_MAX = 4 << 10 /* and of all chunks of one body: they carry no payload */,

	/* connections */
	HTTP_OUT_HIGH = 64 << 10, /* bytes unsent, from which on a body has to wait */
	/* and with the head or trailers that may come on top; the vault's secrets make it longer */
	HTTP_OUT_MAX = HTTP_OUT_HIGH + 3 * HTTP_HEAD_MAX,
	HTTP_WINDOW_BYTES = 64 << 10, /* of a body, received and not yet consumed */
	HTTP_WINDOW_MAX = 1 << 20,

	/* HTTP/2, one connection */
	HTTP2_STREAMS_MAX = 100,     /* the least RFC 9113 recommends */
	HTTP2_SEND_BYTES = 64 << 10, /* of a body, taken from the caller and not yet framed */
	HTTP2_CONNECTION_WINDOW = 1 << 20,
	HTTP2_TABLE_BYTES = 4096,     /* HPACK, each way: the protocol's default */
	HTTP2_PIECE_BYTES = 16 << 10, /* parsed before its answers are looked at */
	HTTP2_QUEUE_MAX = 512,        /* frames unsent, from which on nothing is read */
	HTTP2_ACKS_MAX = 64,          /* of them answers to PING and SETTINGS */
	HTTP2_SETTINGS_MAX = 32,      /* entries of one frame */
	HTTP2_CONTINUATIONS_MAX = 8,  /* our head's maximum needs two */
	HTTP2_RESET_BURST = 200,      /* RST_STREAM received at once, */
	HTTP2_RESET_PER_S = 50,       /* and again each second: CVE-2023-44487 */
	HTTP2_CONTROL_BURST = 400,    /* frames that carry no message, either way, */
	HTTP2_CONTROL_PER_S = 100,    /* and again each second */
};
