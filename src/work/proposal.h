/*
 * proposal: what a guest made of its workspace, as compare, review and apply read it.
 *
 * Theory of operation
 *
 * The guest's agent streams the upper layer of the workspace's overlay as a tar (proposal_parse.h).
 * The host spools it and looks at no byte of it until the guest is dead. Then a jailed job
 * (proposal_job.h) reads the spool once and writes an index of it: one record an entry, in the
 * order of the paths. This here reads the index, and contents out of the spool.
 *
 * Hostile   the index too: what wrote it has been reading hostile bytes, so it may by now be the
 *           attacker. proposal_open() judges every record, and refuses the whole for one that is
 *           wrong; what stands in a struct proposal_node needs no second look for form. What only
 *           the base can tell (is there such a path?) compare asks the base itself. Hashes and the
 *           text flag are the job's word, good for showing; where they decide, hash again
 * Order     parents before children, children by bytes: the order in which '/' sorts before every
 *           other byte. Entry 0 is the root; the entries below entry i are i + 1 to end - 1
 * Meaning   of a directory of the upper layer, whose content is merged with a directory of the
 *           base: that of the same place below its parent's base directory, unless
 *               PROPOSAL_OPAQUE    it has none: all of it is in the proposal
 *               PROPOSAL_REDIRECT  it is the base's directory `target`, which was renamed to here.
 *                                  No two entries have the same target. It may be the same place:
 *                                  renamed there and back
 *           A WHITEOUT removes what the base has at that name of the parent's base directory. What
 *           is not mentioned is as in the base
 * Limits    the enums below, paths as in work/path.h; one mapping of the index, and no other memory
 *           that grows
 */
#pragma once

#include "base/err.h"
#include "base/own.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	PROPOSAL_VERSION = 1,           /* of the index */
	PROPOSAL_ENTRIES_MAX = 1 << 21, /* twice the largest tree of the catalogue */
	/* of one file; the guest sends more as fewer, with zeros, or as PROPOSAL_WHY_SPARSE */
	PROPOSAL_EXTENTS_MAX = 4096,
	PROPOSAL_REDIRECTS_MAX = 1 << 20,
	PROPOSAL_SHA256_BYTES = 32,
};

/* A file's size: what ext4 can hold. */
#define PROPOSAL_FILE_BYTES_MAX (UINT64_C(16) << 40)
/* Room for PROPOSAL_ENTRIES_MAX records with paths of 400 bytes. */
#define PROPOSAL_INDEX_BYTES_MAX (UINT64_C(1) << 30)

enum proposal_kind {
	PROPOSAL_FILE = 1,
	PROPOSAL_DIR = 2,
	PROPOSAL_LINK = 3,
	PROPOSAL_WHITEOUT = 4, /* what the base has here was removed */
	PROPOSAL_OTHER = 5,    /* something that is never taken: `why` says what */
};

enum {
	PROPOSAL_OPAQUE = 1,   /* DIR */
	PROPOSAL_REDIRECT = 2, /* DIR, never with OPAQUE */
	PROPOSAL_TEXT = 4,     /* FILE: no NUL in its first 8 KiB */
	PROPOSAL_MODE_CUT =
		8, /* it had bits outside 0777 (setuid, setgid, sticky); they are gone */
};

/*
 * Why an entry does not come back, or not as it was. Every node with one is to be listed. A DIR
 * with one is still walked into: without the mark that was refused, it stands as OPAQUE, unless it
 * is PROPOSAL_WHY_DEEP (only what is too deep is missing) or PROPOSAL_WHY_OURS.
 */
enum proposal_why {
	PROPOSAL_WHY_NONE = 0,
	PROPOSAL_WHY_FIFO,
	PROPOSAL_WHY_SOCKET,
	PROPOSAL_WHY_DEVICE,
	PROPOSAL_WHY_METACOPY,     /* the guest's file has no content of its own */
	PROPOSAL_WHY_DEEP,         /* DIR: things below it are too deep or their paths too long */
	PROPOSAL_WHY_NOT_IN_BASE,  /* WHITEOUT of what the base does not have */
	PROPOSAL_WHY_ROOT,         /* the root cannot be OPAQUE or REDIRECT; neither was taken */
	PROPOSAL_WHY_NO_SOURCE,    /* REDIRECT to what is no directory of the base, or its root */
	PROPOSAL_WHY_SOURCE_TWICE, /* REDIRECT to where another one came from already */
	PROPOSAL_WHY_OURS,         /* a name at the root that berm keeps for itself, and below it */
	PROPOSAL_WHY_SPARSE,       /* a file of too many pieces, too far apart */
	PROPOSAL_WHY_COUNT,
};

/* For people: "is a named pipe", ... Never NULL. */
const char *proposal_why_text(enum proposal_why why);

struct proposal_node {
	uint32_t index;
	uint32_t parent; /* its index; the root's is its own */
	uint32_t end;    /* first index that is not below it */
	uint8_t kind;    /* enum proposal_kind */
	uint8_t flags;
	uint8_t why;   /* enum proposal_why */
	uint16_t mode; /* within 0777; 0 of a WHITEOUT and OTHER */
	uint32_t mtime_ns;
	int64_t mtime_s;
	uint64_t size;           /* FILE, as it reads; a LINK's is its target's length; else 0 */
	uint64_t stored_bytes;   /* FILE: without its holes */
	uint32_t extent_count;   /* FILE */
	struct span path;        /* canonical (work/path.h); "" is the root */
	struct span name;        /* its last part */
	struct span target;      /* LINK: its text; REDIRECT: a path in the base, never "" */
	const uint8_t *sha256;   /* PROPOSAL_SHA256_BYTES of a FILE; NULL: too many holes */
	const uint8_t *extents_; /* proposal_extent() */
};

/* Bytes that are there; what lies between extents, or after the last, is zeros. */
struct proposal_extent {
	uint64_t at; /* in the file; ascending, and never overlapping */
	uint64_t len;
	uint64_t spool; /* where in the spool */
};

struct proposal_totals {
	uint32_t entries; /* the root included */
	uint32_t refused; /* with a `why` */
	uint64_t stored_bytes;
	uint64_t spool_bytes;
	const uint8_t *sha256; /* of the spooled stream: what names this proposal */
};

struct proposal;

/*
 * Maps and judges an index. Both fds are borrowed until return; the spool's is kept as a duplicate.
 * Neither file may be written any more. -EBADMSG: malformed, or of another spool; -EPROTO: of
 * another version of berm (both numbers are said); -EFBIG.
 */
_must_ int proposal_open(int index_fd, int spool_fd, struct proposal **ret, struct err *e);
void proposal_free(struct proposal *p);
OWN_DEFINE(struct proposal, proposal_free)

/* The spans in it live as long as p. */
void proposal_totals(const struct proposal *p, struct proposal_totals *ret);

/* index < entries. The spans in it live as long as p. */
void proposal_node(const struct proposal *p, uint32_t index, struct proposal_node *ret);

/* Extent i of a FILE, i < extent_count. */
void proposal_extent(const struct proposal_node *n, uint32_t i, struct proposal_extent *ret);

/*
 * Children of directory `dir`: start with *next = dir + 1, until false.
 *     for (uint32_t i = dir.index + 1; proposal_child(p, &dir, &i, &node);)
 */
bool proposal_child(const struct proposal *p, const struct proposal_node *dir, uint32_t *next,
                    struct proposal_node *ret);

/* By binary search; false if it is not mentioned. */
bool proposal_find(const struct proposal *p, struct span path, struct proposal_node *ret);

/*
 * Exactly `len` bytes of a FILE from `off`, holes as zeros; off + len within its size, or -EINVAL.
 * -EIO: the spool cannot be read, or was cut; what is in ret then is nobody's.
 */
_must_ int proposal_read(const struct proposal *p, const struct proposal_node *n, uint64_t off,
                         void *ret, size_t len, struct err *e);
