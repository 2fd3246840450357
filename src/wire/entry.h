/*
 * entry: a tree of files as a byte stream, inside the DATA of a PUT or GET.
 *
 * Shape     a header, then for a regular file exactly `size` bytes of content; at the end one
 * header of kind END. The first entry is the thing itself, with an empty path; what is in a
 * directory follows with its path relative to it. Hostile   to the host in a GET, to nobody in a
 * PUT. Paths are relative, without empty, "." or ".." parts, parents come before children; whoever
 * writes them to disk still resolves beneath a directory fd. Limits    WIRE_PATH_MAX,
 * ENTRY_DEPTH_MAX, ENTRY_COUNT_MAX
 */
#pragma once

#include "wire/wire.h"

enum {
	ENTRY_HEADER_MAX = 64 + 2 * (2 + WIRE_PATH_MAX),
	ENTRY_DEPTH_MAX = 128,
	ENTRY_COUNT_MAX = 1 << 20,
};

enum entry_kind { ENTRY_END = 0, ENTRY_FILE = 1, ENTRY_DIR = 2, ENTRY_LINK = 3 };

struct entry {
	uint8_t kind;
	uint32_t mode; /* permission bits only, 07777 */
	uint32_t uid, gid;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint64_t size;      /* FILE only, else 0 */
	struct span path;   /* empty for the first entry and END */
	struct span target; /* LINK only */
};

/* Pure (entry_parse.c): 0 and `in` advanced past the header, -EAGAIN, or -EBADMSG. */
_must_ int entry_parse(struct span *in, struct entry *ret);
void entry_put(struct buf *out, const struct entry *en);
