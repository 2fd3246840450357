/*
 * proposal_parse: the tar in which a guest's agent sends the upper layer, entry by entry.
 *
 * Theory of operation
 *
 * It is a pax archive that any tar can list, of which only one form is taken: ours (agent/export.h
 * writes it). Each entry is an extended header ('x'), its records, then the header proper ('0', '2'
 * or '5') and the content. What counts is in the records. The old fields beside them must be what
 * our writer makes of those: so there is no second name, size or owner that another reader of the
 * same bytes could take for the truth, and no room for what we do not know.
 *
 * Every block is judged as soon as it is there, and the order of the entries (parents first,
 * children by bytes) is a rule: a path that comes twice, an entry below a link, and one whose
 * directory is missing all break it, and nothing has to be remembered but one path.
 *
 * Hostile   every byte
 * Shape     blocks of 512 bytes: header 'x' | records, padded with zeros | header | content, padded
 *           with zeros; at the end an entry with `entries` and `sha256`, two blocks of zeros, and
 *           nothing. Records are "LENGTH KEY=VALUE\n", any order, each key at most once:
 *             path           canonical; "." is the root, which comes first
 *             BERM.version   of this form, on the root alone
 *             mtime          SECONDS.NNNNNNNNN, not negative
 *             size           FILE: bytes of content in the stream
 *             linkpath       LINK: its text
 *             BERM.whiteout  1: what the base has here was removed
 *             BERM.opaque    1: the directory hides the base's
 *             BERM.redirect  DIR: the base's directory that it was renamed from
 *             BERM.sparse    FILE: N:OFF,LEN;OFF,LEN... the content is these bytes of the file
 *             BERM.size      FILE with BERM.sparse: how long it is
 *             BERM.skipped   fifo, socket, device, metacopy, sparse: an entry without content, its
 *                            reason; deep: a directory with things below it that have no place here
 *             BERM.entries   how many entries came before
 *             BERM.sha256    of all bytes before the extended header of this entry, in hex
 * Source    POSIX.1-2017, pax: "ustar Interchange Format", "pax Extended Header"
 */
#pragma once

#include "work/path.h"
#include "work/proposal.h"

enum {
	PROPOSAL_TAR_VERSION = 1,
	PROPOSAL_BLOCK_BYTES = 512,
	PROPOSAL_TARGET_MAX = 4095,       /* of a link: PATH_MAX without its NUL */
	PROPOSAL_RECORDS_MAX = 256 << 10, /* a map of PROPOSAL_EXTENTS_MAX has 172 KiB at most */
	/* always enough for an answer other than -EAGAIN */
	PROPOSAL_HEAD_MAX = PROPOSAL_RECORDS_MAX + 2 * PROPOSAL_BLOCK_BYTES,
	PROPOSAL_END_BYTES = 2 * PROPOSAL_BLOCK_BYTES,
};

/* Why a stream is no proposal. */
enum proposal_bad {
	PROPOSAL_BAD_NONE = 0,
	PROPOSAL_BAD_CHECKSUM,
	PROPOSAL_BAD_TYPE,
	PROPOSAL_BAD_MAGIC,
	PROPOSAL_BAD_NAME_FIELD,
	PROPOSAL_BAD_MODE_FIELD,
	PROPOSAL_BAD_SIZE_FIELD,
	PROPOSAL_BAD_LINK_FIELD,
	PROPOSAL_BAD_OTHER_FIELD,
	PROPOSAL_BAD_RECORDS_SIZE,
	PROPOSAL_BAD_RECORD,
	PROPOSAL_BAD_KEY,
	PROPOSAL_BAD_KEY_TWICE,
	PROPOSAL_BAD_VALUE,
	PROPOSAL_BAD_COMBINATION,
	PROPOSAL_BAD_PATH,
	PROPOSAL_BAD_SPARSE,
	PROPOSAL_BAD_FILE_SIZE,
	PROPOSAL_BAD_PADDING,
	PROPOSAL_BAD_VERSION,
	PROPOSAL_BAD_ROOT,
	PROPOSAL_BAD_TWICE,
	PROPOSAL_BAD_ORDER,
	PROPOSAL_BAD_PARENT,
	PROPOSAL_BAD_BELOW,
	PROPOSAL_BAD_ENTRIES,
	PROPOSAL_BAD_REDIRECTS,
	PROPOSAL_BAD_CUT,
	PROPOSAL_BAD_COUNT,
	PROPOSAL_BAD_SHA256,
	PROPOSAL_BAD_AFTER,
	PROPOSAL_BAD_REASONS, /* how many there are */
};

/* For people: "its header's checksum is wrong". Never NULL. */
const char *proposal_bad_text(enum proposal_bad bad);

struct proposal_entry {
	bool end;      /* the last one: only entries and sha256 are set */
	uint8_t kind;  /* enum proposal_kind */
	uint8_t flags; /* PROPOSAL_OPAQUE, _REDIRECT, _MODE_CUT */
	uint8_t why;   /* of OTHER, and DEEP */
	uint16_t mode; /* within 0777 */
	uint32_t mtime_ns;
	int64_t mtime_s;
	uint64_t size;         /* as the file reads */
	uint64_t stored_bytes; /* of content in the stream, without padding */
	uint32_t extent_count;
	bool sparse;        /* else content is one extent, or none */
	struct span map;    /* of BERM.sparse: proposal_map_next() */
	struct span path;   /* canonical */
	struct span target; /* LINK, REDIRECT */
	uint32_t version;   /* 0: not said */
	uint64_t entries;
	uint8_t sha256[PROPOSAL_SHA256_BYTES];
};

/*
 * Pure. Takes the headers and records of one entry, up to its content, off the front of `in`: 0,
 * -EAGAIN or -EBADMSG with the reason. The spans are borrowed from `in`, which advances only on 0.
 */
_must_ int proposal_parse_entry(struct span *in, struct proposal_entry *ret,
                                enum proposal_bad *ret_bad);

/* Next extent of a map that proposal_parse_entry() took; `spool` is not set. False at its end. */
bool proposal_map_next(struct span *map, struct proposal_extent *ret);

/* Where the stream stands, as far as the order of entries goes. All zeros at its start. */
struct proposal_order {
	uint64_t entries;
	bool dir; /* the last one was a directory */
	bool over;
	uint16_t len;
	uint8_t path[WPATH_MAX]; /* of the last one */
};

/* May this entry come now? 0, and it is the last one then, or -EBADMSG with the reason. */
_must_ int proposal_order_next(struct proposal_order *o, const struct proposal_entry *en,
                               enum proposal_bad *ret_bad);

/* --- parts of it, for proposal_parse.c and the tests --- */

enum proposal_key {
	PROPOSAL_KEY_PATH,
	PROPOSAL_KEY_VERSION,
	PROPOSAL_KEY_MTIME,
	PROPOSAL_KEY_SIZE,
	PROPOSAL_KEY_LINKPATH,
	PROPOSAL_KEY_WHITEOUT,
	PROPOSAL_KEY_OPAQUE,
	PROPOSAL_KEY_REDIRECT,
	PROPOSAL_KEY_SPARSE,
	PROPOSAL_KEY_FULL_SIZE,
	PROPOSAL_KEY_SKIPPED,
	PROPOSAL_KEY_ENTRIES,
	PROPOSAL_KEY_SHA256,
	PROPOSAL_KEY_COUNT,
};

struct proposal_pax {
	uint32_t seen; /* bit of each key */
	struct span value[PROPOSAL_KEY_COUNT];
};

/* All records of one extended header, without the padding. 0 or -EBADMSG. */
_must_ int proposal_parse_pax(struct span in, struct proposal_pax *ret, enum proposal_bad *ret_bad);

struct proposal_tar {
	uint8_t type;
	uint16_t mode; /* within 07777 */
	uint64_t size;
};

/* One block by itself: checksum, form of its numbers, all that is the same in every header. */
_must_ int proposal_parse_tar(struct span block, struct proposal_tar *ret,
                              enum proposal_bad *ret_bad);

/* Are the fields for names what our writer makes of these? */
bool proposal_tar_name_is(struct span block, struct span path);
bool proposal_tar_link_is(struct span block, struct span target);

bool proposal_all_zero(struct span s);
