/*
 * squash: one squashfs, written from a stream of contents and then a finished tree.
 *
 * Contents are stored as they are, in blocks of SQUASH_BLOCK_BYTES; blocks of zeros are holes. The
 * guest's processor may be software, and copying costs it less than any decompression (ADR 0004).
 * Same contents in the same order and same tree: same bytes.
 *
 * Errors    -ENOSPC: the disk is full; -E2BIG: more than squashfs can hold
 * Source    linux/fs/squashfs/squashfs_fs.h; the tables are libsquashfs's work
 */
#pragma once

#include "image/tree.h"

enum { SQUASH_BLOCK_BYTES = 128 << 10 };

struct squash;

/* fd: an empty file open for reading and writing, borrowed until squash_free(). */
_must_ int squash_new(int fd, struct squash **ret, struct err *e);
void squash_free(struct squash *s);
OWN_DEFINE(struct squash, squash_free)

/* A file's content: begin, data in order, end. `size` is binding; what is missing is a hole. */
_must_ int squash_begin(struct squash *s, struct tree *t, struct tree_inode *in, uint64_t size,
                        struct err *e);
_must_ int squash_data(struct squash *s, const void *data, size_t len, struct err *e);
_must_ int squash_hole(struct squash *s, uint64_t len, struct err *e);
_must_ int squash_end(struct squash *s, struct err *e);

/* An inode's extended attributes: begin, any number, end. */
_must_ int squash_xattr_begin(struct squash *s, struct err *e);
_must_ int squash_xattr(struct squash *s, const char *key, const void *value, size_t len,
                        struct err *e);
_must_ int squash_xattr_end(struct squash *s, struct tree_inode *in, struct err *e);

/* Can squashfs hold an attribute of this name? (user., trusted., security.) */
bool squash_xattr_fits(const char *key);

/* Inodes, directories and tables of a tree that is finished. ret_bytes: the image's size. */
_must_ int squash_finish(struct squash *s, struct tree *t, uint64_t *ret_bytes, struct err *e);
