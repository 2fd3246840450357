/*
 * base: the tree as it was packed, to look things up in.
 *
 * Theory of operation
 *
 * The base is two files that pack.h wrote and nobody changes: an EROFS image, which the guest has
 * as a disk too, and the host manifest, which it never sees. All questions go to the image's own
 * sorted directories, so opening costs two small reads, a lookup a few, and memory does not depend
 * on the size of the tree. Blocks of metadata go through a small cache; contents do not.
 *
 * Hostile   nothing: both files are ours, and the guest's disk is read-only. Still nothing in them
 *           is believed unchecked: every number is held against the file's size, walks have an end,
 *           and a directory out of order is refused
 * Errors    -ENOENT: no such path; -ENOTDIR: a part on the way is no directory; -EBADMSG: the image
 *           or manifest is damaged; -ENODATA: read past the end; -EIO and the like: the disk's
 * Threads   one caller at a time per base
 * Owns      duplicates of both fds
 */
#pragma once

#include "work/manifest.h"
#include "work/path.h"

enum {
	BASE_CACHE_BLOCKS = 64,       /* 256 KiB: the directories of a few lookups side by side */
	BASE_LINK_MAX = 4095,         /* bytes of a symbolic link's target: PATH_MAX */
	BASE_DIR_BYTES_MAX = 1 << 30, /* of one directory: ten million names of 100 bytes */
	BASE_SHA256_BYTES = 32,
};

struct base;

/* A thing in the base; a plain value, good as long as its base. */
struct base_node {
	uint64_t nid;  /* where its inode is, in slots of 32 bytes; unique in this base */
	uint64_t size; /* bytes of a file or a target; a directory's own size else */
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t index;    /* of its record in the manifest */
	uint32_t uid, gid; /* in the guest */
	uint16_t mode;     /* within 0777 */
	uint8_t kind;      /* enum work_kind */
	uint8_t layout_;
	uint32_t where_; /* block, or form of its chunks */
};

struct base_totals {
	uint64_t inodes;      /* files, directories, links, the root included */
	uint64_t image_bytes; /* of the disk the guest sees; most of it is a hole */
	uint64_t packed_ns;   /* when packing began, since 1970; 0 without a manifest */
	uint64_t root_dev, root_ino;
	uint8_t id[MANIFEST_ID_BYTES];
};

/*
 * Opens a finished base. Both fds are borrowed; duplicates are kept. manifest_fd may be -1: then
 * base_host_record() answers -ENOENT. -EPROTO: written by another version of berm.
 */
_must_ int base_open(int image_fd, int manifest_fd, struct base **ret, struct err *e);
void base_free(struct base *b);
OWN_DEFINE(struct base, base_free)

void base_totals(const struct base *b, struct base_totals *ret);

/* The open files, borrowed; the second may be -1. */
int base_image_fd(const struct base *b);
int base_manifest_fd(const struct base *b);

/* The root directory. */
void base_root(const struct base *b, struct base_node *ret);

/* What stands at a canonical path (work/path.h); "" is the root. Links are not followed. */
_must_ int base_lookup(struct base *b, struct span path, struct base_node *ret, struct err *e);

/* The same for one name in a directory. e may be NULL where absence is no failure. */
_must_ int base_lookup_at(struct base *b, const struct base_node *dir, struct span name,
                          struct base_node *ret, struct err *e);

/* Anything but 0 ends the listing and is what base_list() returns. `name` lives for this call. */
typedef int base_list_fn(void *arg, struct span name, const struct base_node *node, struct err *e);

/*
 * Every name in a directory without "." and "..", by bytes, so that with a walk into each
 * directory as it comes the order is that of wpath_cmp(). The callback may use b.
 */
_must_ int base_list(struct base *b, const struct base_node *dir, base_list_fn *each, void *arg,
                     struct err *e);

/* Exactly len bytes of a file or a link's target, from `off`. -ENODATA when it has fewer. */
_must_ int base_read(struct base *b, const struct base_node *node, uint64_t off, void *ret,
                     size_t len, struct err *e);

/* A link's target; ret_len <= BASE_LINK_MAX, and there is a NUL behind it. */
_must_ int base_read_link(struct base *b, const struct base_node *node, char ret[BASE_LINK_MAX + 1],
                          size_t *ret_len, struct err *e);

/* SHA-256 of a file's or a link's bytes. Reads all of it. */
_must_ int base_digest(struct base *b, const struct base_node *node, uint8_t ret[BASE_SHA256_BYTES],
                       struct err *e);

/* What the thing was on the host. -ENOENT: this base was opened without a manifest. */
_must_ int base_host_record(struct base *b, const struct base_node *node, struct host_record *ret,
                            struct err *e);

/*
 * Does what an open file holds now equal what was packed? Both are read as far as they agree. 1
 * yes, 0 no, or below 0. For what host_record_same() could not tell.
 */
_must_ int base_same_content(struct base *b, const struct base_node *node, int fd, struct err *e);
