/*
 * proposal_index: the file between the job that read the spool and those who read its result.
 *
 * Hostile   to the reader all of it (proposal.h)
 * Shape     all numbers little endian, everything at a multiple of 8, unused bytes zero:
 *             head, INDEX_HEAD_BYTES: magic | u32 version | u32 entries | u64 table_at |
 *               u64 index_bytes | u64 spool_bytes | u64 stored_bytes | u32 refused | u32 0 |
 *               sha256 of the spooled stream
 *             records, one an entry, in the order of paths:
 *               u32 bytes, of the record | u32 end | u32 parent | u8 kind | u8 flags | u8 why |
 *               u8 hashed | u16 mode | u16 path_bytes | u16 target_bytes | u16 0 |
 *               u32 extent_count | u32 mtime_ns | u64 mtime_s | u64 size | u64 stored_bytes |
 *               sha256 of the file, if hashed | path | target | zeros to a multiple of 8 |
 *               extents, each u64 at | u64 len | u64 spool
 *             table: u64 offset of each record
 */
#pragma once

#include "base/buf.h"
#include "work/proposal_parse.h"

enum {
	INDEX_HEAD_BYTES = 8 + 4 + 4 + 4 * 8 + 4 + 4 + PROPOSAL_SHA256_BYTES,
	INDEX_FIXED_BYTES = 3 * 4 + 4 + 4 * 2 + 2 * 4 + 3 * 8 + PROPOSAL_SHA256_BYTES,
	INDEX_END_OFF = 4, /* of `end` in a record: a directory's is known late */
	INDEX_EXTENT_BYTES = 3 * 8,
	INDEX_RECORD_MAX = INDEX_FIXED_BYTES + WPATH_MAX + PROPOSAL_TARGET_MAX + 8 +
	                   PROPOSAL_EXTENTS_MAX * INDEX_EXTENT_BYTES,
	INDEX_SLOT_BYTES = 8, /* of the table */
};

struct index_head {
	uint32_t version;
	uint32_t entries, refused;
	uint64_t table_at, index_bytes, spool_bytes, stored_bytes;
	uint8_t sha256[PROPOSAL_SHA256_BYTES];
};

/*
 * Pure. 0, -EPROTO (another version: only that field is set then) or -EBADMSG. What it says about
 * places in the file goes together with index_bytes.
 */
_must_ int index_parse_head(struct span in, struct index_head *ret);
void index_put_head(struct buf *out, const struct index_head *h);

/*
 * Pure. One record off the front of `in`: 0, -EAGAIN (`in` ends within it) or -EBADMSG. By itself
 * it is whole then: form of its paths, kind with flags and reason, extents within the file and the
 * spool. `index` of the node is the caller's to set; the spans are borrowed.
 */
_must_ int index_parse_record(struct span *in, uint64_t spool_bytes, struct proposal_node *ret);

/* extents: n->extent_count of them, as index_put_extent() writes them. */
void index_put_record(struct buf *out, const struct proposal_node *n, struct span extents);
void index_put_extent(struct buf *out, const struct proposal_extent *x);

/* Does the node follow `last` (NULL: it is the first), and is its parent a directory above it? */
bool index_order_ok(const struct proposal_node *last, const struct proposal_node *parent,
                    const struct proposal_node *n);
