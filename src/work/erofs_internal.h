/*
 * erofs_internal: the writer's parts, shared by its files.
 */
#pragma once

#include "work/erofs.h"

#include <openssl/evp.h>

enum {
	META_WINDOW_BYTES = 1 << 20,  /* metadata not yet written: one large write at a time */
	DATA_WINDOW_BYTES = 64 << 10, /* stays in a cache between reading and writing */
};

/* Bytes on their way to one place of the file that only grows. */
struct window {
	uint8_t *at;
	size_t size;
	uint64_t base; /* where at[0] goes */
	size_t len;
};

/* Blocks of another file that are to be copied, not yet done. */
struct copy_run {
	uint64_t from, to, len;
	int fd;
};

struct erofs_dir_block {
	uint8_t heads[EROFS_BLOCK_BYTES];
	uint8_t names[EROFS_BLOCK_BYTES];
	size_t names_len;
	uint32_t count;
};

/* The earlier image in the same file. */
struct erofs_over {
	struct erofs_places old;
	uint8_t *kept;   /* a bit for each block of its contents; NULL: there is no earlier image */
	uint8_t *taken;  /* likewise: this image's own content is there */
	uint64_t blocks; /* that there are bits for */
	uint64_t kept_bytes;
	uint64_t away; /* a content is at work in an old place: where new ones go on; else 0 */
};

struct erofs {
	int fd; /* borrowed */
	uint64_t disk_bytes;
	uint64_t meta_at, meta_max; /* nids count from one; inodes end before the other */
	uint64_t data_at;           /* where new contents begin */
	struct erofs_over over;
	uint32_t uid, gid;
	EVP_MD_CTX *sha; /* of all metadata, in the order in which it was finished */
	uint64_t inodes;
	uint64_t root_nid;
	struct window meta, data;
	uint64_t data_end; /* of all written data, what was dropped included */
	uint64_t holes;    /* bytes of data places that were never written */
	struct copy_run run;
	bool no_reflink; /* the file system said so once */

	/* the file at work */
	uint64_t file_size, file_at;
	uint32_t *chunks; /* a sparse one's table, else NULL */
	uint32_t chunk_count;
	unsigned chunk_bits;
	uint64_t chunk_written; /* bytes put into its chunks */

	/* the directory at work */
	struct erofs_slot slot;
	uint64_t parent_nid, dir_at, dir_size;
	unsigned dots; /* of "." and "..", how many were added */
	struct erofs_dir_block block;
};

/* What the earlier image had and this one has not is gone from the file. */
_must_ int erofs_punch_rest(struct erofs *w, struct err *e);

/* Of erofs_begin_over(): the content is whole and enters, or does not; then all is as before. */
_must_ int erofs_over_end(struct erofs *w, bool enters, struct err *e);

/* Where the next byte of a window goes. */
static inline uint64_t window_end(const struct window *w)
{
	return w->base + w->len;
}

_must_ int erofs_flush(struct erofs *w, struct window *win, struct err *e);

/* Appends to the data, whatever its length. */
_must_ int erofs_put_data(struct erofs *w, const void *data, size_t len, struct err *e);
_must_ int erofs_pad_data(struct erofs *w, struct err *e);

/* All at once at a place in the file. */
_must_ int erofs_pwrite(struct erofs *w, const void *data, size_t len, uint64_t at, struct err *e);

/* Appends one inode with what stands behind it to the metadata. */
_must_ int erofs_put_inode(struct erofs *w, const uint8_t inode[EROFS_INODE_BYTES],
                           const void *behind, size_t len, uint64_t *ret_nid, struct err *e);

/* Room in the metadata: `len` bytes, within one block if they fit one. ret_at in the file. */
_must_ int erofs_take_meta(struct erofs *w, size_t len, uint64_t *ret_at, struct err *e);

/* Puts bytes to where erofs_take_meta() made room, however long ago. */
_must_ int erofs_set_meta(struct erofs *w, uint64_t at, const void *data, size_t len,
                          struct err *e);

void erofs_fill_inode(const struct erofs *w, const struct erofs_inode *in,
                      uint8_t out[EROFS_INODE_BYTES]);
