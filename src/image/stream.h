/*
 * stream: a blob's bytes, decompressed, digested and counted as they pass.
 *
 * Hostile   every byte; gzip, bzip2, xz and zstd are told by their first bytes, not by what
 *           somebody says they are
 * Errors    -EBADMSG: cut short or damaged; -E2BIG: the limit on unpacked bytes, or a ratio of
 *           unpacked to packed that only a bomb has
 */
#pragma once

#include "image/job.h"

/* A part of a file. fd is borrowed. */
struct blob {
	int fd;
	uint64_t off, size;
};

struct stream;

enum stream_flags {
	STREAM_DIGEST = 1 << 0,    /* take both digests */
	STREAM_UNCOUNTED = 1 << 1, /* read before: does not count against the limit again */
};

/* The job is borrowed until stream_free(). */
_must_ int stream_open(struct job *j, struct blob b, unsigned flags, struct stream **ret,
                       struct err *e);
void stream_free(struct stream *s);
OWN_DEFINE(struct stream, stream_free)

/* The next bytes, valid until the next call. len 0: the end. */
_must_ int stream_next(struct stream *s, const void **ret_data, size_t *ret_len, struct err *e);

/* Did the blob come compressed? */
bool stream_packed(const struct stream *s);

/* Reads what is left, then gives the hex digests of the blob as it is and of what it unpacks to. */
_must_ int stream_finish(struct stream *s, char ret_packed[IMAGE_ID_LEN + 1],
                         char ret_plain[IMAGE_ID_LEN + 1], struct err *e);

/* sha256 in hex of bytes at hand. */
_must_ int digest_bytes(const void *data, size_t len, char ret[IMAGE_ID_LEN + 1], struct err *e);
