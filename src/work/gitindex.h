/*
 * gitindex: which paths a git repository tracks.
 *
 * Theory of operation
 *
 * .gitignore files say nothing of a file that git tracks already, so who asks what git ignores has
 * to ask the index as well. The index is read once, whole: every entry is judged, its order and its
 * sum too, and every GITINDEX_STEP-th name is kept. A question is a binary search among those and a
 * few entries from there on, so the memory is the file's size and a little, and a question does not
 * cost by the number of entries.
 *
 * Versions 2, 3 and 4 are read, of SHA-1 and of SHA-256 repositories: which of both is found by
 * what is whole and by the sum. Two forms are named and not read: a split index (extension "link"),
 * whose other half is another file, and one with an extension that a reader must know and we do
 * not. A sparse index (extension "sdir") is read; of what lies in a directory that it holds as one
 * entry the answer is "not known".
 *
 * Truth     git's Documentation/gitformat-index.txt
 * Hostile   the whole file: it came out of a workspace
 * Errors    -EBADMSG: damaged; -EPROTO: a form that is not read; -EXDEV: split
 */
#pragma once

#include "base/err.h"
#include "work/path.h"

enum {
	GITINDEX_BYTES_MAX = 256 << 20, /* two million entries of 128 bytes; git's own takes 100 */
	GITINDEX_STEP = 32,             /* entries for each name that is kept */
	GITINDEX_SHA1_BYTES = 20,
	GITINDEX_SHA256_BYTES = 32,
};

/* -- pure parts, gitindex_parse.c -- */

enum gitindex_kind {
	GITINDEX_FILE = 1,   /* or a link */
	GITINDEX_MODULE = 2, /* another repository, of which the commit is known */
	GITINDEX_DIR = 3,    /* of a sparse index: all that is in it; the name ends with a slash */
};

/*
 * Where a reader is, and the entry it read last. A plain value: a copy goes on from where the copy
 * was made.
 */
struct gitindex_reader {
	struct span all;
	size_t at; /* of the next entry */
	uint32_t version;
	uint32_t left; /* entries still to come */
	uint16_t hash_bytes;
	uint16_t name_len;
	uint8_t kind;  /* enum gitindex_kind */
	uint8_t stage; /* 1 to 3 of a merge that is not done */
	bool nameless; /* an entry without a name came: only a split index has them */
	uint8_t name[WPATH_MAX];
};

/*
 * Begins with a file's bytes, which live as long as the reader. hash_bytes is one of
 * GITINDEX_SHA*_BYTES. -EBADMSG: no index; -EPROTO: of another version.
 */
_must_ int gitindex_begin(struct gitindex_reader *ret, struct span all, unsigned hash_bytes);

/* Takes the next entry; r->left is not 0. -EBADMSG: it is none, or out of order; r stays. */
_must_ int gitindex_next(struct gitindex_reader *r);

/* What follows the last entry; r->left is 0. -EBADMSG; -EPROTO and -EXDEV with what is not read. */
_must_ int gitindex_end(const struct gitindex_reader *r, const char **ret_what);

/* -- gitindex.c -- */

struct gitindex;

/* all comes from malloc() and is the index's from now on, whatever the answer is. */
_must_ int gitindex_new(uint8_t *all, size_t len, struct gitindex **ret, struct err *e);
void gitindex_free(struct gitindex *x);
OWN_DEFINE(struct gitindex, gitindex_free)

enum gitindex_answer {
	GITINDEX_UNTRACKED = 0,
	GITINDEX_TRACKED,
	GITINDEX_NOT_KNOWN, /* in a directory of which a sparse index has nothing but the name */
};

/*
 * Is the path tracked, or, with is_dir, anything in it? The path is canonical (path.h), relative to
 * the repository's working tree, and not "".
 */
enum gitindex_answer gitindex_ask(const struct gitindex *x, struct span path, bool is_dir);
