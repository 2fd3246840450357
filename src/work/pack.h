/*
 * pack: one pass from a directory to the base image, its manifest and a report.
 *
 * Theory of operation
 *
 * The walk takes directories depth first and names by their bytes. Each file is opened beneath its
 * directory without following a link or crossing a mount, read between two looks at its inode, and
 * taken only if both agree and its change time was already past when the first was taken; so a
 * change in between would have shown. What cannot be had like that after some tries is torn.
 * Nothing that is left out is left out silently: each such path is one record of the report.
 *
 * The image is written in the same pass (erofs.h), and holds exactly what entered: no other byte,
 * neither behind the end of a file nor of what was given up half-way. The same tree gives the same
 * bytes. An earlier base saves reading what has not changed since; and where nobody needs that one
 * any more, the image is written over its image, which saves copying it as well.
 *
 * Hostile   names, contents, links and whoever changes the tree meanwhile
 * Limits    those of work/path.h and below; memory is under 256 MiB at a million files, fds are
 *           those of one path (WPATH_DEPTH_MAX and fifty)
 * Threads   beside an earlier base a second one reads directories ahead, and is gone when
 *           pack_run() returns; all callbacks are the caller's thread
 * Errors    -ENOSPC: the message says how many bytes are needed; -ECANCELED: the caller's stop;
 *           -E2BIG: over a limit; -ESTALE: not `same`; -EXDEV and the like: the root itself. A
 *           file's own trouble is no error but a record. After an error the files hold rubbish
 */
#pragma once

#include "work/base.h"

enum {
	PACK_TRIES = 10,                   /* reads of a file that keeps changing */
	PACK_TRIES_LARGE = 3,              /* of one over PACK_LARGE_BYTES */
	PACK_RULE_MAX = 1024,              /* bytes of a rule's text in the report */
	PACK_GRAFT_CONTENT_MAX = 16 << 20, /* a sanitised file: an index of a large repository */
	PACK_NEVER_MAX = 8,
};

#define PACK_LARGE_BYTES (UINT64_C(64) << 20)
/* What the guest sees as the disk's size, whatever is in it, so that a template fits any base. */
#define WORK_DISK_BYTES (UINT64_C(1) << 40)
#define PACK_FILE_BYTES_MAX                                                                        \
	(WORK_DISK_BYTES / 2) /* larger ones, holes included, are refused by name */
#define PACK_INODES_MAX (UINT32_C(1) << 26)

/* Why something did not enter. The numbers are in files: only ever add. */
enum pack_why {
	PACK_WHY_NONE = 0,
	PACK_WHY_SECRET,   /* excluded by the secret tier */
	PACK_WHY_HOSTONLY, /* excluded by the host-only tier */
	PACK_WHY_COST,     /* excluded by the cost tier */
	PACK_WHY_USER,     /* excluded by the user's or the policy's pattern */
	PACK_WHY_OURS,     /* berm's own state */
	PACK_WHY_MOUNT,    /* another file system */
	PACK_WHY_FIFO,
	PACK_WHY_SOCKET,
	PACK_WHY_DEVICE,
	PACK_WHY_UNREADABLE, /* `error` says why */
	PACK_WHY_TORN,       /* changed while it was read, each time */
	PACK_WHY_VANISHED,   /* was listed and then gone */
	PACK_WHY_LARGE,      /* over PACK_FILE_BYTES_MAX */
	PACK_WHY_DEEP,       /* path too long or too deep; for a directory: all beneath it */
	PACK_WHY_COUNT,
};

/* For people: "is on another file system", ... Never NULL. */
const char *pack_why_text(enum pack_why why);

/* One thing the walk has met, before it is opened. */
struct pack_entry {
	struct span path;    /* in the image */
	enum work_kind kind; /* by the directory's word; what is none of these never gets here */
	int dir_fd;          /* of its directory, borrowed */
	const char *name;    /* its last part */
};

/*
 * Content that takes the place of what the host has, or comes in addition: how sanitised git
 * configuration and a worktree's repository enter. All of it is borrowed until pack_run() returns,
 * but a judge's only until it is asked about something that is neither it nor beneath it.
 */
struct pack_graft {
	struct span name;
	enum work_kind kind;
	uint16_t mode; /* within 0777 */
	int64_t mtime_s;
	struct span content; /* of a file; a link's target */
	int dir_fd;          /* of a directory: its entries come from here, or PACK_FD_*  */
	const struct pack_graft
		*children; /* a directory's: in place of, or added to, those entries */
	size_t count;      /* of children, sorted by wpath_name_cmp(), none twice */
};

enum {
	PACK_FD_NONE = -1, /* the directory has its children alone */
	PACK_FD_HOST = -2, /* what the host has at this place, if it is a directory */
};

enum pack_verdict {
	PACK_ENTER = 0,
	PACK_SKIP,    /* does not enter; of a directory nothing beneath it is looked at */
	PACK_REPLACE, /* `graft` enters in its place, under the same name */
};

struct pack_answer {
	enum pack_verdict verdict;
	enum pack_why why; /* of PACK_SKIP */
	struct span rule;  /* of PACK_SKIP: the pattern and where it stands, as text; copied */
	const struct pack_graft *graft; /* of PACK_REPLACE; its name is not looked at */
};

/*
 * Asked once for everything, before it is opened; a directory before what is in it, in the order of
 * wpath_cmp(). Not asked for the root and for grafts, but for what a graft's dir_fd holds.
 * *ret_answer is zeroed before. Not 0 ends the packing with it.
 */
typedef int pack_judge_fn(void *arg, const struct pack_entry *entry, struct pack_answer *ret_answer,
                          struct err *e);

struct pack_totals {
	uint64_t files, dirs, links; /* that entered */
	uint64_t file_bytes;         /* of files, as they read */
	uint64_t reused_files, reused_bytes;
	uint64_t image_bytes;                    /* that the image takes on disk */
	uint64_t left_out[PACK_WHY_COUNT];       /* records by reason */
	uint64_t left_out_bytes[PACK_WHY_COUNT]; /* sizes of files among them, where known */
	uint64_t setid;      /* files whose setuid, setgid or sticky bit did not enter */
	uint64_t hard_links; /* names beyond the first of a file; each is a file of its own */
};

/* Told now and then, from the walk. Not 0 ends the packing with it (-ECANCELED). */
typedef int pack_progress_fn(void *arg, const struct pack_totals *so_far);

struct pack_options {
	uint32_t uid, gid;    /* of everything in the guest */
	bool cross_mounts;    /* other file systems beneath the root enter as well */
	bool count_only;      /* nothing is written or read, all is counted; the fds may be -1 */
	pack_judge_fn *judge; /* NULL: everything enters */
	void *judge_arg;
	pack_progress_fn *progress; /* may be NULL */
	void *progress_arg;
	struct base *earlier; /* an earlier base of the same directory, or NULL */
	/*
	 * image_fd is that base's own image, which is written over: what has not changed stays
	 * where it is, and all else of it is gone in the end. The tree in it is the same as ever,
	 * its bytes are not. Only with pack_over_ok(), and if nobody else reads it.
	 */
	bool over;
	/*
	 * Nothing is packed: what would enter is held against `earlier`, and all of it has to be
	 * there as it is, and no more. Only the report is written; the other fds may be -1. At the
	 * first difference -ESTALE.
	 */
	bool same;
	const struct pack_graft *grafts; /* children of the root, in place of or in addition */
	size_t graft_count;
	size_t never_count; /* directories that never enter: berm's own state */
	struct {
		uint64_t dev, ino;
	} never[PACK_NEVER_MAX];
};

/*
 * Packs.
 *
 * root_fd      the directory, open for reading
 * image_fd     an empty file, for reading and writing; WORK_DISK_BYTES long afterwards, sparse.
 *              With `over` the earlier base's; on a failure it holds rubbish as well
 * manifest_fd  an empty file, for writing
 * report_fd    an empty file, for writing; pack_report_open() reads it
 * ret          what entered and what did not; written on success only
 *
 * All fds are borrowed. Nothing is synced: a base that is lost with the machine is packed again.
 */
_must_ int pack_run(int root_fd, const struct pack_options *opt, int image_fd, int manifest_fd,
                    int report_fd, struct pack_totals *ret, struct err *e);

/* Has this base's image room for another one to be written over it? */
bool pack_over_ok(const struct base *b);

/*
 * Is this a directory to be packed without a second thought? -EPERM for the root of the file
 * system, for home_fd (or -1) and what it lies in, and for state_fd (or -1) and what lies in it,
 * which no flag permits; -ENOTDIR. With `wide` the first two are allowed.
 */
_must_ int pack_check_root(int root_fd, int home_fd, int state_fd, bool wide, struct err *e);

/* -- the report ------------------------------------------------------------------------------- */

struct pack_record {
	struct span path;
	struct span rule; /* "" where no pattern was at work */
	uint64_t bytes;   /* a file's size, where it is known */
	enum pack_why why;
	bool dir;  /* a directory: all beneath it did not enter either */
	int error; /* of PACK_WHY_UNREADABLE: a positive errno */
};

struct pack_report;

/*
 * Opens a finished report; the fd is borrowed, a duplicate is kept. Memory is a small part of the
 * file. -EBADMSG, -EPROTO.
 */
_must_ int pack_report_open(int fd, struct pack_report **ret, struct err *e);
void pack_report_free(struct pack_report *r);
OWN_DEFINE(struct pack_report, pack_report_free)

void pack_report_totals(const struct pack_report *r, struct pack_totals *ret);

/*
 * Why `path` is not in the base: its own record, or that of a directory above it. -ENOENT: it is
 * not in the report, so nothing kept it out. The spans live until the next call on r.
 */
_must_ int pack_report_find(struct pack_report *r, struct span path, struct pack_record *ret,
                            struct err *e);

/* Every record, in the order of wpath_cmp(). The spans live for the call. */
typedef int pack_report_fn(void *arg, const struct pack_record *record, struct err *e);
_must_ int pack_report_each(struct pack_report *r, pack_report_fn *each, void *arg, struct err *e);
