/*
 * source: what was given to import, as named blobs: an OCI layout directory, an archive of one or
 * of `docker save`, or a tar that is itself the root file system.
 *
 * Hostile   all of it: member names, sizes, links between members; in a directory also its links
 * Errors    -ENOEXEC: none of these; -EBADMSG: damaged; -EPERM: a name that leads out of it
 */
#pragma once

#include "image/stream.h"

enum source_kind {
	SOURCE_LAYOUT_DIR, /* a directory with index.json and blobs/ */
	SOURCE_ARCHIVE,    /* a tar of such a directory, or with a manifest.json */
	SOURCE_ROOTFS,     /* a tar of files */
};

struct source;

/*
 * fd (borrowed) is a directory, a regular file or a pipe. A pipe, and an archive that came
 * compressed as a whole, are first written to an unnamed file in the staging directory: their parts
 * are needed in another order than they come in.
 */
_must_ int source_open(struct job *j, int fd, int staging_fd, struct source **ret, struct err *e);
void source_free(struct source *s);
OWN_DEFINE(struct source, source_free)

enum source_kind source_kind(const struct source *s);

/* SOURCE_ROOTFS: the whole tar, perhaps compressed. */
struct blob source_rootfs(const struct source *s);

/* A member by its path. The blob's fd belongs to the source. -ENOENT when there is none. */
_must_ int source_find(struct source *s, struct span name, struct blob *ret, struct err *e);

/* A small member, whole and NUL-ended; the caller frees. -E2BIG over max bytes. */
_must_ int source_read(struct source *s, struct span name, size_t max, char **ret_text,
                       size_t *ret_len, struct err *e);

/* "blobs/sha256/<hex>" of a descriptor's digest "sha256:<hex>". -EPERM for another algorithm. */
_must_ int source_blob_name(struct span digest, struct buf *out, struct err *e);
