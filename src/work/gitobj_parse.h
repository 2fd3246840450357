/*
 * gitobj_parse: git's objects, packs, indices and refs, as pure functions over bytes.
 *
 * Hostile   every byte: a guest wrote it. An object's form is that which git itself writes; what
 *           git's fsck calls an error is refused here, and so are a few things it only warns of
 * Errors    -EBADMSG: not that form; outputs are as they were
 * Source    gitformat-pack(5), gitformat-index(5), git-check-ref-format(1), git-fsck(1); the loose
 *           object's header: gitcore-tutorial, "type length NUL"
 * Owns      nothing; every span returned points into the one given
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"

enum {
	GITOBJ_ID_BYTES = 20, /* SHA-1; repositories of SHA-256 are refused by name */
	GITOBJ_HEX_BYTES = 40,
	GITOBJ_BYTES_MAX = 64 << 20,      /* of one object: three of them are held for a delta */
	GITOBJ_META_BYTES_MAX = 16 << 20, /* of a tree, commit or tag: 400,000 names */
	GITOBJ_NAME_MAX = 255,            /* of a name in a tree: what a directory holds */
	GITOBJ_PARENTS_MAX = 256,         /* of a commit */
	GITOBJ_REF_MAX = 1024,            /* bytes of a ref's name */
	GITOBJ_HEADS_BYTES = 11,          /* "refs/heads/" */
	GITOBJ_REF_PART_MAX = 250,        /* of a part of it: with ".lock" it is a file's name */
	GITOBJ_LOOSE_HEAD_MAX = 32,       /* "commit 18446744073709551615" and a NUL */
	GITOBJ_ENTRY_HEAD_MAX = 10 + 20,  /* of a pack's entry: a size, then an id or an offset */
	GITOBJ_PACK_HEAD_BYTES = 12,
	GITOBJ_IDX_HEAD_BYTES = 8 + 256 * 4,
	GITOBJ_PACKED_OBJECTS_MAX = 1 << 26, /* of one pack: fits every number below in 32 bits */
};

enum gitobj_type {
	GITOBJ_COMMIT = 1, /* the numbers of packs */
	GITOBJ_TREE = 2,
	GITOBJ_BLOB = 3,
	GITOBJ_TAG = 4,
	GITOBJ_OFS_DELTA = 6,
	GITOBJ_REF_DELTA = 7,
};

/* "commit", ...; "" for what is no object by itself. */
const char *gitobj_type_name(enum gitobj_type t);

struct gitobj_id {
	uint8_t b[GITOBJ_ID_BYTES];
};

bool gitobj_id_equal(const struct gitobj_id *a, const struct gitobj_id *b);
_must_ int gitobj_parse_hex(struct span hex, struct gitobj_id *ret); /* 40 small letters */
void gitobj_put_hex(struct buf *out, const struct gitobj_id *id);

/* -- objects ---------------------------------------------------------------------------------- */

/*
 * "blob 12" and a NUL, off the front of an inflated loose object. -EAGAIN: no NUL in what is here,
 * which is less than GITOBJ_LOOSE_HEAD_MAX.
 */
_must_ int gitobj_parse_loose_head(struct span *in, enum gitobj_type *ret_type, uint64_t *ret_len);

/* Why an object is refused. */
enum gitobj_bad {
	GITOBJ_BAD_NONE = 0,
	GITOBJ_BAD_TREE_FORM, /* cut, or no entries where there should be */
	GITOBJ_BAD_MODE,
	GITOBJ_BAD_NAME_EMPTY,
	GITOBJ_BAD_NAME_SLASH,
	GITOBJ_BAD_NAME_DOT,
	GITOBJ_BAD_NAME_GIT,
	GITOBJ_BAD_NAME_LONG,
	GITOBJ_BAD_MODULES_LINK,
	GITOBJ_BAD_ORDER,
	GITOBJ_BAD_DUPLICATE,
	GITOBJ_BAD_NULL_ID,
	GITOBJ_BAD_COMMIT_TREE,
	GITOBJ_BAD_COMMIT_PARENT,
	GITOBJ_BAD_COMMIT_PARENTS,
	GITOBJ_BAD_COMMIT_AUTHOR,
	GITOBJ_BAD_COMMIT_COMMITTER,
	GITOBJ_BAD_COMMIT_HEADER,
	GITOBJ_BAD_COUNT,
};

/* For people: "a tree has a name that git takes for its own directory". Never NULL. */
const char *gitobj_bad_text(enum gitobj_bad bad);

struct gitobj_entry {
	uint32_t mode; /* 0100644, 0100755, 0120000, 040000 or 0160000 */
	struct span name;
	struct gitobj_id id;
};

/* What an entry is of; false for a commit of another repository, which is not looked for. */
bool gitobj_entry_type(const struct gitobj_entry *en, enum gitobj_type *ret);

/* One entry off the front of a tree, by itself well formed. ret_bad says why it is not. */
_must_ int gitobj_parse_entry(struct span *in, struct gitobj_entry *ret, enum gitobj_bad *ret_bad);

/* All of a tree: every entry, their order, and that no name is there twice. */
_must_ int gitobj_parse_tree(struct span in, enum gitobj_bad *ret_bad);

/* Does git, on some file system, take this name for ".git"? By case, by what HFS+ passes over, by
 * NTFS's short names, streams, and dots and spaces at the end. */
bool gitobj_is_git_name(struct span name);

struct gitobj_commit {
	struct gitobj_id tree;
	uint32_t parent_count;
	struct span parents;           /* their lines; gitobj_parent() */
	struct span author, committer; /* "Name <mail> seconds zone" */
	struct span message;
};

_must_ int gitobj_parse_commit(struct span in, struct gitobj_commit *ret, enum gitobj_bad *ret_bad);
void gitobj_parent(const struct gitobj_commit *c, uint32_t i, struct gitobj_id *ret);

/* What a tag is of: its first two lines; the rest is passed over. */
_must_ int gitobj_parse_tag(struct span in, struct gitobj_id *ret, enum gitobj_type *ret_type);

/* -- packs ------------------------------------------------------------------------------------ */

/* "PACK", version 2, and how many objects. */
_must_ int gitobj_parse_pack_head(struct span in, uint32_t *ret_objects);

struct gitobj_packed {
	enum gitobj_type type;
	uint64_t len;          /* inflated: of the object, or of the delta */
	uint64_t back;         /* of OFS_DELTA: how far before this entry its base is; not 0 */
	struct gitobj_id base; /* of REF_DELTA */
	size_t head_bytes;     /* the zlib stream begins here */
};

/* The head of an entry. -EAGAIN: `in` ends within it and is less than GITOBJ_ENTRY_HEAD_MAX. */
_must_ int gitobj_parse_packed(struct span in, struct gitobj_packed *ret);

/* The sizes at the front of a delta. */
_must_ int gitobj_parse_delta_head(struct span *delta, uint64_t *ret_base_len,
                                   uint64_t *ret_result_len);

/*
 * Applies what follows that head: copies of the base and inserts, to exactly result_len bytes.
 * `ret` has that room; what is in it after a failure is nobody's.
 */
_must_ int gitobj_parse_delta(struct span delta, struct span base, uint8_t *ret, size_t result_len);

/* An index of version 2: how many ids have a first byte up to each, and where its tables are. */
struct gitobj_idx {
	uint32_t fanout[256];
	uint64_t ids_at, offsets_at, large_at;
	uint32_t large_count;
};

/* The first GITOBJ_IDX_HEAD_BYTES of a file of file_bytes. -EPROTO: another version. */
_must_ int gitobj_parse_idx_head(struct span in, uint64_t file_bytes, struct gitobj_idx *ret);

/* -- refs ------------------------------------------------------------------------------------- */

/* May a ref have this full name ("refs/heads/x")? git-check-ref-format's rules, and our limits. */
bool gitobj_parse_ref_name_ok(struct span name);

/* "refs/heads/x"? And is it one that comes home: not what git or berm keeps of another repository's
 * or session's refs (refs/remotes, refs/berm)? */
bool gitobj_parse_ref_is_branch(struct span name);
bool gitobj_parse_ref_comes(struct span name);

/* A loose ref's or HEAD's content: an id, or the ref it stands for (ret_target.len > 0). */
_must_ int gitobj_parse_ref(struct span in, struct gitobj_id *ret, struct span *ret_target);

/*
 * The next ref of a packed-refs file, by whatever name is there: gitobj_parse_ref_name_ok() says
 * whether it is one. -ENODATA at the end. Comments and the lines of what tags stand for are passed
 * over.
 */
_must_ int gitobj_parse_packed_ref(struct span *in, struct gitobj_id *ret, struct span *ret_name);
