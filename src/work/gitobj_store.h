/*
 * gitobj_store: where a repository's files are, and the objects in them.
 *
 * Theory of operation
 *
 * A repository is looked at in one of three places: in the base, as it was packed; in what the
 * guest made of it, which is the proposal over the base; and on the host, as it is now. Its objects
 * are files of their own, or lie in packs, and an index beside each pack says where. An index is
 * taken for a hint: what is read through it is hashed, and is the object only if that is its id.
 *
 * Hostile   the proposal: every byte of its objects, packs and indices. The base and the host are
 *           the user's own, and are read by the same code
 * Limits    those of gitobj_parse.h and below; a budget of inflated bytes for all that is read
 * Errors    -ENOENT: not there; -EBADMSG: malformed, or not what its id says; -E2BIG: over a limit;
 *           the disk's own
 */
#pragma once

#include "work/base.h"
#include "work/gitobj_parse.h"
#include "work/proposal.h"

enum {
	GITOBJ_PACKS_MAX = 512,        /* git itself gathers them at 50 */
	GITOBJ_DELTA_DEPTH_MAX = 4096, /* git makes none deeper than 4095 */
	GITOBJ_PATH_MAX = 160,         /* "objects/pack/" and a name of ours to look for */
	GITOBJ_PACK_NAME_MAX = 120,    /* git's are of 50 bytes */
};

/* Of one job, deltas and what they are applied to included. */
#define GITOBJ_INFLATED_BYTES_MAX (UINT64_C(32) << 30)

/* -- places */

struct gitobj_place {
	struct base *base;               /* or NULL: then it is on the host */
	const struct proposal *proposal; /* over the base, or NULL */
	struct span git_dir;             /* in the workspace: ".git" */
	int host_fd;                     /* the directory with objects and refs, borrowed */
};

/* A file that is open. Only on the host it holds an fd. */
struct gitobj_file {
	uint64_t size;
	struct base *base;
	const struct proposal *proposal; /* it is in the proposal, not in the base */
	struct base_node base_node;
	struct proposal_node node;
	int fd;
};

/* What is at a path below the git directory, links not followed. -ENOENT: no plain file. */
_must_ int gitobj_file_open(const struct gitobj_place *p, struct span path, struct gitobj_file *ret,
                            struct err *e);
void gitobj_file_close(struct gitobj_file *f);

/* Exactly len bytes from off; -EBADMSG if there are fewer. */
_must_ int gitobj_file_read(const struct gitobj_file *f, uint64_t off, void *ret, size_t len,
                            struct err *e);

/* All of it, for free(); with a NUL behind. -E2BIG over max. */
_must_ int gitobj_file_text(const struct gitobj_file *f, size_t max, uint8_t **ret, struct err *e);

/* Anything but 0 ends the listing. */
typedef int gitobj_list_fn(void *arg, struct span name, bool is_dir, struct err *e);

/* The names in a directory; none if there is no such directory. In no particular order. */
_must_ int gitobj_list(const struct gitobj_place *p, struct span path, gitobj_list_fn *each,
                       void *arg, struct err *e);

/* Of them, what the proposal has: what the guest made, or changed. */
_must_ int gitobj_list_new(const struct gitobj_place *p, struct span path, gitobj_list_fn *each,
                           void *arg, struct err *e);

/* -- inflating */

/* Bytes that may still be inflated; shared by all that a job does. */
struct gitobj_budget {
	uint64_t bytes;
};

struct gitobj_inflate;

/* A zlib stream in the file, from `at`, ending before `end`. f and budget are borrowed. */
_must_ int gitobj_inflate_new(const struct gitobj_file *f, uint64_t at, uint64_t end,
                              struct gitobj_budget *budget, struct gitobj_inflate **ret,
                              struct err *e);
void gitobj_inflate_free(struct gitobj_inflate *z);
OWN_DEFINE(struct gitobj_inflate, gitobj_inflate_free)

/* Up to len bytes; fewer only at the end of the stream. */
_must_ int gitobj_inflate_read(struct gitobj_inflate *z, uint8_t *ret, size_t len, size_t *ret_got,
                               struct err *e);

/* The stream ends here, with its checksum right; with `whole` the file (up to `end`) too. */
_must_ int gitobj_inflate_end(struct gitobj_inflate *z, bool whole, struct err *e);

/* -- objects */

struct gitobj_object {
	enum gitobj_type type;
	uint8_t *data; /* for free() */
	size_t len;
};

struct gitobj_store;

/*
 * Opens the object store of the place, which is copied. budget is borrowed. Indices that are not of
 * version 2 count as not there. -E2BIG: too many packs.
 */
_must_ int gitobj_store_open(const struct gitobj_place *p, struct gitobj_budget *budget,
                             struct gitobj_store **ret, struct err *e);
void gitobj_store_free(struct gitobj_store *s);
OWN_DEFINE(struct gitobj_store, gitobj_store_free)

/* Is it there, and of what type? Nothing is hashed: for stores that are the user's own. */
_must_ int gitobj_store_type(struct gitobj_store *s, const struct gitobj_id *id,
                             enum gitobj_type *ret, struct err *e);

/* Anything but 0 ends it. */
typedef int gitobj_id_fn(void *arg, const struct gitobj_id *id, struct err *e);

/* The ids of all objects in files that the guest made: by name, and by the packs' indices. */
_must_ int gitobj_store_new(struct gitobj_store *s, gitobj_id_fn *each, void *arg, struct err *e);

/* The object; its bytes have that id. */
_must_ int gitobj_store_read(struct gitobj_store *s, const struct gitobj_id *id,
                             struct gitobj_object *ret, struct err *e);

/* The id of such an object. -EIO: SHA-1 is not available. */
_must_ int gitobj_hash(enum gitobj_type type, struct span data, struct gitobj_id *ret,
                       struct err *e);

/* For messages: the first 12 digits of an id. */
struct gitobj_brief {
	char text[13];
};
struct gitobj_brief gitobj_brief(const struct gitobj_id *id);
