/*
 * export_tar: writes the blocks of the archive that export.h is about.
 *
 * Errors    what write(2) and read(2) say; -EIO: a file ended early
 */
#pragma once

#include "agent/export.h"
#include "agent/sha256.h"
#include "base/buf.h"

#include <time.h>

enum export_kind { EXPORT_FILE, EXPORT_DIR, EXPORT_LINK, EXPORT_WHITEOUT, EXPORT_OTHER };

struct export_extent {
	uint64_t off, len;
};

struct export_entry {
	enum export_kind kind;
	uint32_t mode; /* within 07777 */
	struct timespec mtime;
	struct span path;   /* "" is the root */
	struct span target; /* LINK */
	bool opaque;
	const char *redirect; /* DIR, or NULL */
	const char *skipped;  /* OTHER, and DIR: "deep"; or NULL */
	uint64_t size;        /* FILE */
	const struct export_extent *extents;
	size_t extent_count;
};

struct export_tar {
	int out_fd;
	uint64_t entries;
	uint64_t content_bytes; /* of the present entry, so far */
	uint64_t bytes;         /* written, or counted */
	struct sha256 sum;      /* of what was written */
	struct buf out;         /* not yet written */
	struct buf records;
	uint8_t storage[EXPORT_BUF_BYTES];
	uint8_t record_storage[EXPORT_RECORDS_MAX];
};

/* out_fd -1: nothing is written, and no content read; `bytes` is what it would be. */
void export_tar_init(struct export_tar *t, int out_fd);

/* Headers and records. A FILE's content is to follow: its extents in order, then the padding. */
_must_ int export_tar_entry(struct export_tar *t, const struct export_entry *en, struct err *e);
_must_ int export_tar_content(struct export_tar *t, int fd, const struct export_extent *x,
                              struct err *e);
_must_ int export_tar_pad(struct export_tar *t, struct err *e);

/* The trailer and the zeros; all of it is written then. */
_must_ int export_tar_end(struct export_tar *t, struct err *e);
