/*
 * base_internal: the reader's parts, shared by its files.
 */
#pragma once

#include "work/base.h"
#include "work/erofs.h"

enum { BASE_RECORDS_CACHED = 64 };

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
	uint64_t records_first;
	size_t records_count;
	uint8_t records[BASE_RECORDS_CACHED * MANIFEST_RECORD_BYTES];
	struct base_block cache[BASE_CACHE_BLOCKS];
};

int base_damaged(struct err *e, const char *what);

/* One block of metadata; good until the next call. */
_must_ int base_block(struct base *b, uint64_t block, const uint8_t **ret, struct err *e);
_must_ int base_node_at(struct base *b, uint64_t nid, struct base_node *ret, struct err *e);

/* For packing from it again: borrowed. */
int base_image_fd(const struct base *b);
