/*
 * pack_internal: the packer's parts, shared by its files.
 */
#pragma once

#include "work/base_internal.h"
#include "work/erofs.h"
#include "work/pack.h"

enum {
	OUT_BYTES = 64 << 10,          /* of a file that is written from front to back */
	LIST_READ_BYTES = 256 << 10,   /* of names in one call: thousands */
	SPARSE_LEAST_BYTES = 64 << 10, /* fewer bytes of holes are stored as zeros */
	SHARED_MAX = 1 << 18,          /* files with several names that are remembered: 24 MiB */
	PACK_REPORT_HEADER_BYTES = 1024,
};

/* A file written from front to back behind a header that is put in last. */
struct out {
	int fd; /* borrowed */
	uint64_t at;
	size_t len;
	uint8_t bytes[OUT_BYTES];
};

_must_ int out_put(struct out *o, const void *data, size_t len, struct err *e);
_must_ int out_flush(struct out *o, struct err *e);
_must_ int out_head(struct out *o, const void *data, size_t len, struct err *e);

/* A name of a directory. */
struct list_entry {
	uint64_t nid;  /* once it has entered; 0: it has not */
	uint32_t name; /* where in the names */
	int32_t graft; /* which child of the grafts, or -1 */
	uint8_t len;
	uint8_t type; /* DT_*; DT_UNKNOWN where the file system does not say */
};

struct list {
	struct list_entry *at;
	uint32_t count, room;
	char *names; /* each with a NUL behind it */
	uint32_t names_len, names_room;
	uint64_t names_bytes; /* without the NULs */
};

void list_free(struct list *l);

/*
 * All names of dir_fd (or none, of -1) and of the grafts, sorted; grafts hide what they replace.
 * -E2BIG: the directory has more than `max`, and reading it ended there.
 */
_must_ int list_read(struct list *l, int dir_fd, const struct pack_graft *grafts, size_t count,
                     uint32_t max, uint8_t *scratch, struct err *e);

static inline const char *list_name(const struct list *l, const struct list_entry *at)
{
	return l->names + at->name;
}

/* A directory that is being walked. */
struct level {
	int dir_fd; /* borrowed, or -1 */
	uint64_t dev;
	bool outside; /* of the workspace */
	const struct pack_graft *grafts;
	size_t graft_count;
	struct base_cursor *old; /* of the same path in the earlier base, or NULL */
	struct ahead_dir *ready; /* what pack_ahead.c has of it, or NULL */
	uint64_t nid;
	uint32_t dirs; /* that have entered */
	unsigned depth;
};

/* A file with several names: where its content is. */
struct shared {
	struct host_record record; /* nlink 0: empty */
	struct erofs_content content;
};

struct pack {
	const struct pack_options *opt;
	struct erofs *image;           /* NULL while only counting */
	struct out *manifest, *report; /* NULL likewise */
	uint32_t index;                /* of the next manifest record */
	struct manifest_header header;
	struct pack_totals totals;
	uint64_t told_at; /* what stood in `worked` when progress was told */
	uint64_t worked;
	bool try_clone;          /* the tree and the image are on one file system */
	struct ahead *ahead;     /* NULL: nothing is read ahead */
	const struct stat *look; /* of the file at work, seen when the clock had said look_ns */
	uint64_t look_ns;
	struct erofs_content stale; /* what an image that is written over has of the file at work */
	struct shared *shared;
	uint32_t shared_count;
	uint8_t *scratch; /* LIST_READ_BYTES, for one call at a time */
	uint64_t report_count;
	size_t path_len;
	uint8_t path[WPATH_MAX + 1 + WPATH_NAME_MAX + 1];
};

static inline struct span pack_path(const struct pack *p)
{
	return span_of(p->path, p->path_len);
}

/* -- pack_report.c */

/* What is at the path now does not enter. */
_must_ int pack_leave_out(struct pack *p, const struct pack_record *r, struct err *e);
_must_ int pack_report_end(struct pack *p, struct err *e);

/* -- pack_file.c */

/* The thing enters and *ret_nid is its inode, or it does not and that is 0. */
_must_ int pack_file(struct pack *p, const struct level *in, const char *name, uint64_t *ret_nid,
                     struct err *e);
_must_ int pack_link(struct pack *p, const struct level *in, const char *name, uint64_t *ret_nid,
                     struct err *e);
_must_ int pack_graft_file(struct pack *p, const struct pack_graft *g, uint64_t *ret_nid,
                           struct err *e);
void pack_count_file(struct pack *p, const struct stat *st);

/* -- pack_same.c: with `same`, the place of what packs. -ESTALE: it is not in the earlier base. */

_must_ int pack_differs(struct err *e);
/* 1: the base has no such file, so it must not enter; whether it would is the caller's to see. */
_must_ int pack_same_file(struct pack *p, const struct level *in, const char *name,
                          uint64_t *ret_nid, struct err *e);
_must_ int pack_same_link(struct pack *p, const struct level *in, const char *name,
                          uint64_t *ret_nid, struct err *e);
_must_ int pack_same_graft(struct pack *p, const struct level *in, const char *name,
                           const struct pack_graft *g, uint64_t *ret_nid, struct err *e);
/* Itself, not what is in it. */
_must_ int pack_same_dir(struct pack *p, const struct level *l, const struct host_record *now,
                         struct err *e);
_must_ int pack_same_end(struct pack *p, struct err *e);

/* -- pack_read.c */

/*
 * A file's content into the image, between two looks at it. *st is the first, taken when the clock
 * of clock_stamp_ns() had said stamp_ns; it becomes the one that the content belongs to. 0 and
 * neither `torn` nor `trouble` (the file's own errno): the content is begun and whole, and
 * erofs_end() is the caller's. With one of them nothing is begun. Below 0: the image's error.
 */
struct read_result {
	bool torn;
	int trouble;
};
bool pack_settled(const struct stat *st, uint64_t stamp_ns);
_must_ int pack_read(struct pack *p, int fd, struct stat *st, uint64_t stamp_ns,
                     struct read_result *ret, struct err *e);

/* -- pack_ahead.c */

/* A directory that was opened and listed, its files looked at; before, the clock said stamp_ns. */
struct ahead_dir {
	int fd; /* -1: none */
	uint64_t stamp_ns;
	struct stat st;
	struct list names;
	struct stat *looks; /* one each, of files; st_nlink 0: not looked at. Or NULL */
};

void ahead_dir_free(struct ahead_dir *d);

/* NULL: there is no second thread, and all goes on without one. */
struct ahead *ahead_new(void);
void ahead_free(struct ahead *a);

/*
 * A directory that the walk comes to soon. False: there are too many. The level and the name are
 * borrowed until ahead_take() or ahead_drop(). Whoever has pushed has the helper woken.
 */
bool ahead_push(struct ahead *a, const struct level *l, const char *name);
/* Has the helper, should it sleep, look at what was pushed; if that are `least` or more. */
void ahead_wake(struct ahead *a, unsigned least);
/* The same pointers again. False: the caller reads it for himself. */
bool ahead_take(struct ahead *a, const struct level *l, const char *name, struct ahead_dir *ret);
/* Nothing of this level is wanted any more. */
void ahead_drop(struct ahead *a, const struct level *l);

/* -- pack_walk.c */

/* A record of the manifest; ret_attr gets its number. */
_must_ int pack_record(struct pack *p, const struct host_record *r, struct erofs_attr *ret_attr,
                       struct err *e);
_must_ int pack_progress(struct pack *p, uint64_t work, struct err *e);
_must_ int pack_walk(struct pack *p, int root_fd, const struct stat *st, struct err *e);
