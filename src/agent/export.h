/*
 * export: the upper layer of a workspace, as the tar that leaves the guest.
 *
 * Theory of operation
 *
 * What the guest made of its workspace is the upper layer of an overlay: files it wrote, devices
 * 0:0 for what it removed (whiteouts), and attributes on directories that hide or were renamed.
 * All of it is sent as a pax archive of one form, in the order of paths, with typed records for
 * what a tar has no word for. The form is the host's to define: work/proposal_parse.h there. It
 * takes no other, so every name and number here is written as there.
 *
 * The workload stands still and everything is written out, so a file that changes while it is read
 * is an error, as is one that cannot be read: what is sent is whole, or it is no proposal. What
 * cannot be sent at all (a socket, a path that is too long) is sent as a word that says so. So is
 * a file with more pieces than can be told whose holes, sent as zeros, would be too much.
 *
 * Redirects come as the kernel writes them, "/from/the/root" or "name", the latter in the base's
 * directory of the parent; they are sent as the whole path in the base. What else is there was
 * written by the guest's root, on the disk itself, and is sent as a rename from nowhere.
 *
 * Memory    the names of each directory on the way, and one buffer; a child of the agent pays it
 * Source    Documentation/filesystems/overlayfs.rst of Linux; xattrs seen with getfattr(1)
 */
#pragma once

#include "base/err.h"

enum {
	EXPORT_VERSION = 1,
	EXPORT_PATH_MAX = 4095,
	EXPORT_DEPTH_MAX = 256,
	EXPORT_EXTENTS_MAX = 4096, /* of one file; the smallest holes are sent as zeros first */
	EXPORT_BUF_BYTES = 512 << 10,
	EXPORT_RECORDS_MAX = 256 << 10,
	EXPORT_ATTR_MAX = 4096, /* PATH_MAX: a redirect */
};

/*
 * Zeros in place of holes, in all; a file's own data may double beyond it. So the stream is never
 * longer than this, twice the disk, and the headers: a disk full of scattered files is no way to
 * break the quota of what is fetched.
 */
#define EXPORT_ZEROS_MAX (UINT64_C(1) << 30)

/*
 * Writes all of the directory to out_fd. attrs: "trusted.overlay." as the kernel's, or
 * "user.overlay.".
 */
_must_ int export_tree(int dir_fd, int out_fd, const char *attrs, struct err *e);

/* How many bytes that would write, if nothing changes meanwhile. No content is read. */
_must_ int export_measure(int dir_fd, const char *attrs, uint64_t *ret_bytes, struct err *e);

/*
 * In a child: the agent's own descriptor of the upper layer, to stdout; the result as a report. How
 * long it will be is in *answer before the first byte of it is out; atomic.
 */
_Noreturn void export_main(int agents_fd, uint64_t *answer);
