/*
 * tar: libarchive's tar reader over a stream or a part of a file, with its failures made ours.
 *
 * Hostile   every byte. Names, link targets and attributes come as the archive has them
 * Errors    -EBADMSG: damaged or no tar at all; what the stream says
 */
#pragma once

#include "image/stream.h"

struct tar;
struct archive_entry;

/*
 * The stream is borrowed until tar_free(). The first header is looked at: -EBADMSG if it is none.
 */
_must_ int tar_open(struct stream *in, struct tar **ret, struct err *e);

/* Over an uncompressed tar in a file; contents that are not asked for are not read. */
_must_ int tar_open_blob(struct blob b, struct tar **ret, struct err *e);
void tar_free(struct tar *t);
OWN_DEFINE(struct tar, tar_free)

/* The next entry, valid until the next call; NULL at the end. */
_must_ int tar_next(struct tar *t, struct archive_entry **ret, struct err *e);

/*
 * The current entry's content: a piece at `ret_off` of it; a gap before it is a hole. len 0: end.
 */
_must_ int tar_data(struct tar *t, const void **ret_data, size_t *ret_len, uint64_t *ret_off,
                    struct err *e);

/* Of a tar_open_blob(): where in it the current entry's content begins. */
uint64_t tar_data_offset(const struct tar *t);
