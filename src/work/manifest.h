/*
 * manifest: who each packed thing was on the host when it was packed.
 *
 * One record an inode of the base image, in a file of its own that never enters a guest. The
 * image's inode names its record by number (i_ino), so records need no path. It answers one
 * question later: is what stands there now still what was packed?
 *
 * Hostile   the file is ours; a reader still trusts no number in it
 * Shape     header of MANIFEST_HEADER_BYTES, then records of MANIFEST_RECORD_BYTES, little endian
 * Errors    -EBADMSG: malformed, or of another image; -EPROTO: of another version of berm
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

enum {
	MANIFEST_VERSION = 1,
	MANIFEST_HEADER_BYTES = 128,
	MANIFEST_RECORD_BYTES = 64,
	MANIFEST_ID_BYTES = 16, /* of the image it belongs to */
};

enum {
	/*
	 * The times were younger than MANIFEST_SETTLE_NS when it was read, so a later change could
	 * have left the same ones: they prove nothing, only the content does.
	 */
	HOST_RACY = 1,
	HOST_MADE = 2,    /* made by us (a sanitised file): the host has no such thing here */
	HOST_OUTSIDE = 4, /* from outside the workspace: the host's is elsewhere */
};

/* Coarsest clock of a file system we trust: FAT's two seconds. */
#define MANIFEST_SETTLE_NS UINT64_C(2000000000)

struct host_record {
	uint64_t dev, ino, size;
	int64_t mtime_s, ctime_s;
	uint32_t mtime_ns, ctime_ns;
	uint32_t mode; /* st_mode whole: kind and all twelve bits */
	uint32_t nlink;
	uint8_t kind; /* enum work_kind */
	uint8_t flags;
};

struct manifest_header {
	uint8_t image_id[MANIFEST_ID_BYTES];
	uint64_t count;     /* of records */
	uint64_t packed_ns; /* when packing began, since 1970 */
	uint64_t root_dev, root_ino;
	/* Where the image's inodes and contents end (erofs.h); 0: whoever wrote it did not say. */
	uint64_t meta_end, data_end;
};

/* What stat says now, as a record without flags. */
void host_record_of(const struct stat *st, struct host_record *ret);

/*
 * Is `now` the file that was packed, untouched? Device, inode, size, both times and mode are
 * compared. False where the record cannot tell (HOST_RACY, HOST_MADE, HOST_OUTSIDE): then only the
 * content can.
 */
bool host_record_same(const struct host_record *was, const struct stat *now);

/* The same for a thing that is looked at where it was packed from, be it outside the workspace. */
bool host_record_untouched(const struct host_record *was, const struct stat *st);

/* Pure; of MANIFEST_RECORD_BYTES and MANIFEST_HEADER_BYTES. 0, -EBADMSG or -EPROTO. */
_must_ int manifest_parse_record(struct span in, struct host_record *ret);
_must_ int manifest_parse_header(struct span in, struct manifest_header *ret);
void manifest_put_record(uint8_t out[MANIFEST_RECORD_BYTES], const struct host_record *r);
void manifest_put_header(uint8_t out[MANIFEST_HEADER_BYTES], const struct manifest_header *h);
