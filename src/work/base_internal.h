/*
 * base_internal: the reader's parts, shared by its files.
 */
#pragma once

#include "work/base.h"
#include "work/erofs.h"

enum {
	BASE_RECORDS_CACHED = 512, /* 32 KiB: a walk asks for one after another */
	BASE_BLOCKS_AHEAD = 8,     /* read at once where the block before was the last one read */
};

struct base_block {
	uint64_t block; /* UINT64_MAX: empty */
	uint8_t at[EROFS_BLOCK_BYTES];
};

struct base {
	int image_fd, manifest_fd; /* owned; the second may be -1 */
	struct erofs_super super;
	struct base_node root;
	struct manifest_header manifest;
	uint8_t sum[4];
	uint64_t next_block; /* behind the last one that was read */
	uint64_t records_first;
	size_t records_count;
	uint8_t records[BASE_RECORDS_CACHED * MANIFEST_RECORD_BYTES];
	struct base_block cache[BASE_CACHE_BLOCKS];
};

/* Where an inode is whose number base_node_at() has checked. */
static inline uint64_t base_inode_at(const struct base *b, const struct base_node *node)
{
	return b->super.meta_at + node->nid * EROFS_SLOT_BYTES;
}

int base_damaged(struct err *e, const char *what);

/* One block of metadata; good until the next call. */
_must_ int base_block(struct base *b, uint64_t block, const uint8_t **ret, struct err *e);
_must_ int base_node_at(struct base *b, uint64_t nid, struct base_node *ret, struct err *e);

/*
 * A place in a directory, for somebody who asks for names in their order: together the questions
 * cost one pass through it. `dir` is copied.
 */
struct base_cursor {
	struct base_node dir;
	uint64_t block; /* of the directory: where the next name to look at is */
	uint32_t entry;
};

static inline struct base_cursor base_cursor_of(const struct base_node *dir)
{
	return (struct base_cursor){ .dir = *dir };
}

/* As base_lookup_at(). After a name none before it is found any more. */
_must_ int base_cursor_find(struct base *b, struct base_cursor *c, struct span name,
                            struct base_node *ret, struct err *e);

/* Where its parts are; false: the manifest does not say. */
_must_ bool base_places(const struct base *b, struct erofs_places *ret);
