/*
 * erofs: a read-only file system in one pass, and what a reader of it needs to know.
 *
 * Theory of operation
 *
 * The image is one sparse file with two places that only grow. Metadata starts in the second block:
 * inodes of 64 bytes, each followed by its content if that is tiny, and a directory's names if they
 * fit the rest of the block. Data starts at EROFS_DATA_AT: contents of files, one after another in
 * the order of the walk, each on a block of its own and with zeros behind its end. So a guest that
 * looks at all inodes reads little, and a guest that reads the tree reads forwards.
 *
 * A directory names its parent by number, and is finished only after its children. So its place is
 * reserved before them, with room for all the names it may come to hold.
 *
 * An image can be written over an earlier one, in the same file: contents that stay are named and
 * not moved, new ones come behind all that is there, and the metadata goes to the other half of its
 * place, so that the earlier one can be read meanwhile. In the end whatever the new image does not
 * name is punched out of the file: a guest reads no byte of it.
 *
 * Only what we need of the format is used: no compression, no attributes, inodes of the extended
 * form, flat files, flat directories, and chunks where a file has holes.
 *
 * Hostile   a reader takes nothing for granted but the length of what it was given
 * Units     block: EROFS_BLOCK_BYTES. nid: byte offset of an inode over EROFS_SLOT_BYTES
 * Errors    -E2BIG: full, by the format; -ENOSPC and the like: the disk's
 * Source    Linux, Documentation/filesystems/erofs.rst, "On-disk details"; the layouts of the
 *           version 1.0 super block, extended inode, directory entry and 4-byte chunk table
 */
#pragma once

#include "work/path.h"

#include "base/err.h"

enum {
	EROFS_BLOCK_BITS = 12,
	EROFS_BLOCK_BYTES = 1 << EROFS_BLOCK_BITS,
	EROFS_SLOT_BYTES = 32,
	EROFS_SUPER_AT = 1024,
	EROFS_SUPER_BYTES = 128,
	EROFS_INODE_BYTES = 64,
	EROFS_DIRENT_BYTES = 12,
	EROFS_ID_BYTES = 16,
	/* Longer contents have blocks: few bytes behind inodes keep those close together. */
	EROFS_INLINE_MAX = 192,
	/* Names that fit beside their directory's inode in one block stand there. */
	EROFS_DIR_INLINE_MAX = EROFS_BLOCK_BYTES - EROFS_INODE_BYTES,
	/* Of a file with holes: 256 KiB of table, chunks of 16 MiB in a file of 1 TiB. */
	EROFS_CHUNKS_MAX = 1 << 16,
	EROFS_CHUNK_BITS_MAX = 31, /* the format's own, in blocks */
	EROFS_LINK_MAX = 4095,
};

/* Metadata ends and data begins here; 2^28 inodes with names of 150 bytes fit before it. */
#define EROFS_DATA_AT (UINT64_C(64) << 30)
/* Where the inodes of an image are counted from that was written over one in the first half. */
#define EROFS_OTHER_AT (EROFS_DATA_AT / 2)
#define EROFS_MAGIC    UINT32_C(0xe0f5e1e2)
#define EROFS_NO_BLOCK UINT32_MAX /* a chunk that is a hole */

enum erofs_layout {
	EROFS_PLAIN = 0,  /* blocks from `where` on */
	EROFS_INLINE = 2, /* the last part behind the inode, blocks from `where` on before it */
	EROFS_CHUNKS = 4, /* `where` says how large, a table of blocks behind the inode */
};

struct erofs_super {
	uint64_t root_nid;
	uint64_t meta_at; /* nids count from here: 0 or EROFS_OTHER_AT */
	uint64_t inodes;
	uint64_t blocks;
	uint8_t id[EROFS_ID_BYTES];
};

struct erofs_inode {
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t index; /* its number, for the manifest */
	uint32_t where;
	uint32_t uid, gid, nlink;
	uint16_t mode; /* within 0777 */
	uint8_t kind;  /* enum work_kind */
	uint8_t layout;
};

struct erofs_dirent {
	struct span name;
	uint64_t nid;
	uint8_t kind;
};

/*
 * Pure. The super block is EROFS_SUPER_BYTES, an inode EROFS_INODE_BYTES. What our writer would not
 * write is refused, valid or not. 0, -EBADMSG, or -EPROTO for a super block of other features.
 */
_must_ int erofs_parse_super(struct span in, struct erofs_super *ret);
_must_ int erofs_parse_inode(struct span in, struct erofs_inode *ret);

/*
 * Pure. One block of a directory, or the shorter last one: how many entries, and entry i. An
 * entry's name is well formed or "." or ".."; the order of names is the caller's to check.
 */
_must_ int erofs_parse_dir(struct span block, uint32_t *ret_count);
_must_ int erofs_parse_dirent(struct span block, uint32_t i, struct erofs_dirent *ret);

/* Where chunk tables begin behind the inode: at once. How many chunks `size` bytes have. */
uint64_t erofs_chunk_count(uint64_t size, unsigned chunk_bits);

/* CRC-32C as the super block has it: not inverted, begun with all ones. */
uint32_t erofs_parse_crc(struct span in);

/* -- writing ---------------------------------------------------------------------------------- */

struct erofs;

/* What an inode says of a thing, other than its content. */
struct erofs_attr {
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t index;
	uint16_t mode; /* only 0777 of it is taken */
};

struct erofs_slot {
	uint64_t nid;
	uint32_t room; /* bytes behind the inode */
};

/* A file's content, to be named once more. */
struct erofs_content {
	uint64_t size;
	uint32_t block;
};

/*
 * fd: an empty file, open for reading and writing, borrowed until erofs_free(). disk_bytes: what
 * the finished file will be, over EROFS_DATA_AT and whole blocks. uid, gid: of all that is in it.
 */
_must_ int erofs_new(int fd, uint64_t disk_bytes, uint32_t uid, uint32_t gid, struct erofs **ret,
                     struct err *e);
void erofs_free(struct erofs *w);
OWN_DEFINE(struct erofs, erofs_free)

/* What of the file an image takes: inodes from one place on, contents from EROFS_DATA_AT. */
struct erofs_places {
	uint64_t meta_at;  /* as in its super block */
	uint64_t meta_end; /* behind the last inode */
	uint64_t data_end; /* behind the last content; in whole blocks */
};

/*
 * The same over the image that the file holds: it can be read until erofs_finish(). Of its contents
 * stays what erofs_keep() says. -E2BIG: its places leave no room; nothing is done.
 */
bool erofs_over_ok(const struct erofs_places *old);
_must_ int erofs_new_over(int fd, uint64_t disk_bytes, uint32_t uid, uint32_t gid,
                          const struct erofs_places *old, struct erofs **ret, struct err *e);
/*
 * A content of the earlier image stays; erofs_share() names it. -EBADMSG: it had none there;
 * -ESTALE: another content has its place by now.
 */
_must_ int erofs_keep(struct erofs *w, const struct erofs_content *c, struct err *e);

/*
 * erofs_begin() at the place of a content of the earlier image that does not stay, if `size` fits
 * there and nobody has it: false otherwise, with nothing begun. It may be read no more.
 */
_must_ int erofs_begin_over(struct erofs *w, uint64_t size, const struct erofs_content *old,
                            bool *ret_begun, struct err *e);

/*
 * A file's content in pieces: begin; then any of room and filled, clone, copy; then end or drop.
 * Room is at least a byte and belongs to the writer: what is read into it must be declared with
 * erofs_filled() before the next call. The content must come to exactly `size` bytes.
 */
void erofs_begin(struct erofs *w, uint64_t size);
_must_ int erofs_room(struct erofs *w, uint8_t **ret_at, size_t *ret_len, struct err *e);
void erofs_filled(struct erofs *w, size_t len);

/*
 * `len` bytes, whole blocks, from a file: shared by reflink, or not at all: -EOPNOTSUPP, with
 * nothing done.
 */
_must_ int erofs_clone(struct erofs *w, int fd, uint64_t off, uint64_t len);

/*
 * The whole content from blocks of an earlier image, the end's zeros included: by reflink,
 * copy_file_range, or reading; neighbours are taken together, so the fd must stay open until
 * erofs_copies_end().
 */
_must_ int erofs_copy(struct erofs *w, int fd, uint64_t off, struct err *e);
_must_ int erofs_copies_end(struct erofs *w, struct err *e);

/* ret_content, which may be NULL, gets block 0 where the content stands inline. */
_must_ int erofs_end(struct erofs *w, const struct erofs_attr *a, uint64_t *ret_nid,
                     struct erofs_content *ret_content, struct err *e);

/* What was begun never enters: no byte of it stays in the image. */
_must_ int erofs_drop(struct erofs *w, struct err *e);

/* Another file with the same content. */
_must_ int erofs_share(struct erofs *w, const struct erofs_attr *a, const struct erofs_content *c,
                       uint64_t *ret_nid, struct err *e);

/*
 * A file with holes, in place of begin. erofs_extent() makes place for bytes [off, off + len),
 * ascending; then erofs_put_at() writes what is in them. Ends by erofs_end() or erofs_drop().
 */
_must_ int erofs_begin_sparse(struct erofs *w, uint64_t size, struct err *e);
_must_ int erofs_extent(struct erofs *w, uint64_t off, uint64_t len, struct err *e);
_must_ int erofs_put_at(struct erofs *w, uint64_t off, const void *data, size_t len, struct err *e);

/* target: 1 to EROFS_LINK_MAX bytes. */
_must_ int erofs_link(struct erofs *w, const struct erofs_attr *a, struct span target,
                      uint64_t *ret_nid, struct err *e);

/*
 * A directory: reserve, its children, then begin, add and end. names_bytes: of all names it may
 * hold, count of them. The first directory reserved is the root. Names are added by
 * wpath_name_cmp(), without "." and "..".
 */
_must_ int erofs_reserve(struct erofs *w, uint64_t names_bytes, uint64_t count,
                         struct erofs_slot *ret, struct err *e);
void erofs_dir_begin(struct erofs *w, const struct erofs_slot *slot, uint64_t parent_nid);
_must_ int erofs_dir_add(struct erofs *w, struct span name, uint64_t nid, enum work_kind kind,
                         struct err *e);
_must_ int erofs_dir_end(struct erofs *w, const struct erofs_attr *a, uint32_t dirs_in_it,
                         struct err *e);

/* What the image takes on disk by now, about. */
uint64_t erofs_bytes(const struct erofs *w);

/*
 * The super block, and the file at its full length. ret_id names the image by its metadata. Of what
 * the file held before, nothing is left but what was kept. ret_places may be NULL.
 */
_must_ int erofs_finish(struct erofs *w, uint8_t ret_id[EROFS_ID_BYTES],
                        struct erofs_places *ret_places, struct err *e);
