/*
 * copy: trees of files in and out of a running guest, as entry streams (wire/entry.h).
 *
 * Hostile   all that a GET brings: names, kinds, sizes, link targets, amounts. copy_in.c writes it
 *           beneath one directory, and copy_in_jail() makes the kernel hold us to that
 * Limits    the enums below, ENTRY_* of entry.h, WIRE_WINDOW_BYTES under way
 * Errors    -EBADMSG: the guest sent no entry stream; -EFBIG: over bytes_max; -EPROTO; the errno of
 *           the file at hand, whose name is in the text
 */
#pragma once

#include "base/err.h"
#include "lib/client.h"
#include "wire/entry.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	COPY_CHUNK_BYTES = WIRE_DATA_MAX,
	COPY_STALL_MS = 60000, /* nothing moved for so long: the guest is stuck, or frozen */
};

#define COPY_BYTES_DEFAULT (UINT64_C(16) << 30) /* a hostile guest must not fill the host's disk */

/* What was done, for a line to a person. */
struct copy_stats {
	uint64_t files, dirs, links, bytes;
	uint64_t links_left;  /* pointed outside of the copy */
	uint64_t others_left; /* sockets, pipes, devices */
};

/* Told now and then; NULL is allowed. */
struct copy_progress {
	void (*tell)(void *ctx, const struct copy_stats *s);
	void *ctx;
};

/* --- copy_in.c: an entry stream becomes files --- */

struct copy_in_opt {
	int parent_fd;    /* borrowed: the directory the first entry is made in */
	const char *name; /* its name there: one component; NULL: the first entry IS parent_fd */
	bool want_dir;    /* refuse a first entry that is no directory */
	bool refuse_dir;  /* refuse one that is */
	bool owners;      /* set the entries' uid and gid (root only) */
	bool all_links;   /* also make links that point outside of the copy */
	uint64_t bytes_max;
};

struct copy_in;

_must_ int copy_in_new(const struct copy_in_opt *opt, struct copy_in **ret, struct err *e);

/* Removes the file that was being written, if any. What was finished stays. */
void copy_in_free(struct copy_in *c);
OWN_DEFINE(struct copy_in, copy_in_free)

/* Takes the next bytes of the stream, whatever their boundaries. */
_must_ int copy_in_take(struct copy_in *c, struct span data, struct err *e);

/* Has the END entry been taken? */
bool copy_in_done(const struct copy_in *c);
const struct copy_stats *copy_in_stats(const struct copy_in *c);

/*
 * Does a link at `path` with this target stay beneath the first entry, whatever else is there? It
 * does if it is relative and goes up only at its beginning and never above the top. Pure.
 */
bool copy_link_stays(struct span path, struct span target);

/* Lets this process write beneath dir_fd only, for good. Fails where the kernel cannot. */
_must_ int copy_in_jail(int dir_fd, struct err *e);

/* --- copy.c: the two directions over a stream --- */

/*
 * What is at `path` in the guest (links followed): ENTRY_FILE, ENTRY_DIR, or ENTRY_END for nothing.
 * Uses up the stream id.
 */
_must_ int copy_probe(struct client *c, uint32_t stream, const char *path, uint8_t *ret_kind,
                      struct err *e);

/* Guest to host. `follow`: the link in the path's last component. */
_must_ int copy_get(struct client *c, uint32_t stream, const char *path, bool follow,
                    struct copy_in *in, const struct copy_progress *p, struct err *e);

/* Beside a file's content in copy_get_file()'s storage: its header, and the end. */
enum { COPY_FILE_EXTRA = ENTRY_HEADER_MAX + 64 };

/*
 * One regular file into memory, a link in its last component not followed. The size of storage, at
 * most WIRE_WINDOW_BYTES, less COPY_FILE_EXTRA is what a file may have. ret lies in it. -ENOENT:
 * there is none; -EINVAL: it is no file; -EFBIG.
 */
_must_ int copy_get_file(struct client *c, uint32_t stream, const char *path, struct buf *storage,
                         struct span *ret, struct err *e);

struct copy_put_opt {
	int dir_fd;       /* borrowed: where src is looked up; AT_FDCWD */
	const char *src;  /* on the host */
	bool follow;      /* the link in src's last component */
	const char *path; /* in the guest; absolute */
	const char *user; /* who owns it there; "" keeps the numbers */
};

/* Host to guest. */
_must_ int copy_put(struct client *c, uint32_t stream, const struct copy_put_opt *opt,
                    const struct copy_progress *p, struct copy_stats *ret_stats, struct err *e);

/* Host to guest, an entry stream that lies in memory, END and all. user as in copy_put_opt. */
_must_ int copy_put_entries(struct client *c, uint32_t stream, const char *path, const char *user,
                            struct span entries, struct err *e);

/* --- copy_out.c: files become an entry stream --- */

struct copy_sink {
	int (*put)(void *ctx, struct span data, struct err *e); /* takes all of it, or fails */
	void *ctx;
};

/* Walks src depth first and ends the stream. Links are sent, never followed (but see `follow`). */
_must_ int copy_out(int dir_fd, const char *src, bool follow, const struct copy_sink *sink,
                    struct copy_stats *stats, struct err *e);
