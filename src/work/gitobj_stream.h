/*
 * gitobj_stream: the file between the jailed job that read a guest's objects and who imports them.
 *
 * Hostile   to the reader all of it: what wrote it has read hostile bytes
 * Shape     numbers little endian: magic | records, each a byte and
 *             OBJECT   u8 type | id | u64 len | that many bytes
 *             REF      id | u16 length, name
 *             REFUSED  u16 length, name | u16 length, reason
 *             END      u32 objects | u32 refs | u32 refused; the file ends here
 * Order     an object after all it points to; then refs and refusals; then the end
 */
#pragma once

#include "work/gitobj_set.h"

enum {
	GITOBJ_STREAM_MAGIC_BYTES = 8,
	GITOBJ_STREAM_HEAD_MAX = 1 + GITOBJ_ID_BYTES + 4 + GITOBJ_REF_MAX + ERR_TEXT_MAX,
	GITOBJ_REFS_CHANGED_MAX = 1024, /* that come back, or are refused */
};

#define GITOBJ_STREAM_BYTES_MAX (UINT64_C(16) << 30)

enum gitobj_record_kind {
	GITOBJ_REC_OBJECT = 1,
	GITOBJ_REC_REF = 2,
	GITOBJ_REC_REFUSED = 3,
	GITOBJ_REC_END = 4,
};

struct gitobj_record {
	enum gitobj_record_kind kind;
	enum gitobj_type type;           /* OBJECT: not a tag */
	struct gitobj_id id;             /* OBJECT, REF */
	uint64_t len;                    /* OBJECT: <= GITOBJ_BYTES_MAX; follows the record */
	struct span name;                /* REF: "HEAD" or "refs/..."; REFUSED: any bytes */
	struct span reason;              /* REFUSED */
	uint32_t objects, refs, refused; /* END */
};

/* The magic of this version. */
_must_ int gitobj_parse_stream_head(struct span *in);
void gitobj_put_stream_head(struct buf *out);

/* Pure. One record off the front: 0, -EAGAIN (`in` ends within it) or -EBADMSG. */
_must_ int gitobj_parse_record(struct span *in, struct gitobj_record *ret);
void gitobj_put_record(struct buf *out, const struct gitobj_record *rec);

/* May a stream name this ref: a branch, a tag, the stash ..., or HEAD for a commit without one? */
bool gitobj_branch_ok(struct span name);
