/*
 * entry: a tree of files as a byte stream, inside the DATA of a PUT or GET.
 *
 * Shape     a header, then for a regular file exactly `size` bytes of content; at the end one
 *           header of kind END. The first entry is the thing itself, with an empty path; what is
 *           in a directory follows with its path relative to it. All numbers are little endian.
 *             u8 kind, and unless it is END:
 *             u32 mode | u32 uid | u32 gid | u64 mtime_s (two's complement) | u32 mtime_ns |
 *             u64 size | str16 path | str16 target
 * Hostile   to the host in a GET, to nobody in a PUT. Paths are relative, without empty, "." or
 *           ".." parts and without NUL; parents come before children; whoever writes them to disk
 *           still resolves beneath a directory fd.
 * Limits    WIRE_PATH_MAX, WIRE_NAME_MAX for one part, ENTRY_DEPTH_MAX parts, ENTRY_COUNT_MAX
 *           entries (which the reader counts: the parser keeps no state)
 */
#pragma once

#include "wire/wire.h"

enum {
	ENTRY_HEADER_MAX = 64 + 2 * (2 + WIRE_PATH_MAX),
	ENTRY_DEPTH_MAX = 128,     /* deeper trees are not met, and a walk holds an fd a level */
	ENTRY_COUNT_MAX = 1 << 20, /* node_modules of a large project is a tenth of it */
};

enum entry_kind { ENTRY_END = 0, ENTRY_FILE = 1, ENTRY_DIR = 2, ENTRY_LINK = 3 };

struct entry {
	uint8_t kind;
	uint32_t mode; /* permission bits only, 07777 */
	uint32_t uid, gid;
	int64_t mtime_s;
	uint32_t mtime_ns;  /* < 1 000 000 000 */
	uint64_t size;      /* FILE only, else 0; at most INT64_MAX */
	struct span path;   /* empty for the first entry and END */
	struct span target; /* LINK only: what it points to, uninterpreted, not empty */
};

/*
 * Pure (entry_parse.c): 0 and `in` advanced past the header, -EAGAIN, or -EBADMSG. ENTRY_HEADER_MAX
 * bytes always suffice for an answer other than -EAGAIN. The spans are borrowed from `in`.
 */
_must_ int entry_parse(struct span *in, struct entry *ret);

/* Appends one whole header, or marks the buf as over. */
void entry_put(struct buf *out, const struct entry *en);
