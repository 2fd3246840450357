/*
 * content: reads coded bodies: gzip, deflate (with or without the zlib wrapper), zstd, br.
 *
 * Hostile   every byte
 * Bounds    output may be CONTENT_GROWTH_MAX times the input and CONTENT_GROWTH_FREE on top, more
 *           is -E2BIG; windows of zstd up to 8 MiB (RFC 9659), of br up to 16 MiB (RFC 7932)
 * Memory    gzip and deflate about 40 KiB; zstd and br as their frames ask, up to the window
 * Source    RFC 1950, 1951, 1952, 8878, 7932; RFC 9110, 8.4
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "http/http.h"

enum content_coding {
	CONTENT_IDENTITY = 0,
	CONTENT_GZIP,
	CONTENT_DEFLATE,
	CONTENT_ZSTD,
	CONTENT_BR,
	CONTENT_UNKNOWN, /* another one, several on top of each other, or a part of a coded whole */
};

enum {
	CONTENT_GROWTH_MAX = 1100, /* deflate cannot grow by more than 1032 */
	CONTENT_GROWTH_FREE = 1 << 20,
	CONTENT_ZSTD_WINDOW_LOG = 23,
	CONTENT_PIECE_MAX = 64 << 10, /* in and out, of one step */
};

/* Of a request or response. A response without body, and a 206 of an uncoded one, are IDENTITY. */
enum content_coding content_of(const struct http_head *h);

struct content;

/* coding: one that can be read. -ENOMEM. */
_must_ int content_new(enum content_coding coding, struct content **ret, struct err *e);
void content_free(struct content *c);
OWN_DEFINE(struct content, content_free)

/*
 * Decodes from the front of *in into room, and says how many bytes it wrote. Call again while it
 * took or wrote something. -EBADMSG: damaged, or bytes behind the end; -E2BIG; -ENOMEM.
 */
_must_ int content_step(struct content *c, struct span *in, uint8_t *room, size_t size,
                        size_t *ret_len);

/* What it holds in memory now. */
size_t content_bytes(const struct content *c);

/* Is the coded stream whole? An empty one is. */
bool content_whole(const struct content *c);
