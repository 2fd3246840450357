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

	HTTP_CHUNK_DIGITS_MAX = 8,    /* 4 GiB in one chunk */
	HTTP_CHUNK_LINE_MAX = 256,    /* extensions of one chunk; nobody uses them */
	HTTP_CHUNK_EXTS_MAX = 4 << 10 /* and of all chunks of one body: they carry no payload */
};
