#include "agent/files.h"

#include "agent/report.h"
#include "agent/user.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "wire/entry.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Theory of operation: the target's parent must exist, and is opened as any path of the guest is.
 * From there on nothing is followed: the first entry is made by name in that parent, and everything
 * in it is opened beneath it with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, so that a link that is
 * in the tree, or was there before, leads nowhere. A file replaces what has its name unless that is
 * a directory; a directory is merged into one that is there.
 *
 * A directory's time changes with each child, so it is set when the walk has left it. The open ones
 * are always the parents of the entry at hand: a stack of lengths of one path.
 */
struct put_dir {
	size_t path_len;
	struct timespec mtime;
};

struct putter {
	int parent_fd;                /* holds the first entry */
	int root_fd;                  /* the first entry, if it is a directory; else -1 */
	char name[WIRE_NAME_MAX + 1]; /* of the first entry in parent_fd */
	bool own;                     /* `user` owns what is made */
	struct user user;
	uint8_t *in;
	size_t at, end;
	uint32_t count;
	char path[WIRE_PATH_MAX + 1]; /* of the deepest open directory */
	struct put_dir dirs[ENTRY_DEPTH_MAX + 1];
	unsigned depth;
};

_Noreturn static void fail_at(struct span path, const char *what)
{
	struct err e = { 0 };

	(void)err_sys(&e, "%s '%.*s'", what, (int)path.len, (const char *)path.at);
	report_err(&e, WIRE_AT_PATH);
}

/* More input behind what is there; false at its end. */
static bool fill(struct putter *p)
{
	ssize_t n;

	memmove(p->in, p->in + p->at, p->end - p->at);
	p->end -= p->at;
	p->at = 0;
	do
		n = read(STDIN_FILENO, p->in + p->end, FILES_BUF_BYTES - p->end);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	p->end += (size_t)n;
	return true;
}

static void next_entry(struct putter *p, struct entry *ret)
{
	for (;;) {
		struct span in = span_of(p->in + p->at, p->end - p->at);
		int r = entry_parse(&in, ret);

		if (r == 0) {
			p->at = p->end - in.len;
			break;
		}
		if (r == -EBADMSG)
			report_end(EBADMSG, WIRE_AT_SYSTEM, "the stream of files is malformed");
		if (!fill(p))
			report_end(EBADMSG, WIRE_AT_SYSTEM, "the stream of files ends early");
	}
	if (++p->count > ENTRY_COUNT_MAX)
		report_end(EOVERFLOW, WIRE_AT_SYSTEM, "the stream has too many files");
}

/* The directory an entry is to be made in, and its name there. The fd is the caller's to close. */
static int open_parent(const struct putter *p, struct span path, char name[WIRE_NAME_MAX + 1])
{
	char dir[WIRE_PATH_MAX + 1];
	struct err e = { 0 };
	const char *base;
	char *slash;
	int fd = -1;

	memcpy(dir, path.at, path.len);
	dir[path.len] = '\0';
	slash = strrchr(dir, '/');
	base = slash ? slash + 1 : dir;
	memcpy(name, base, strlen(base) + 1); /* the parser saw to it that no part is longer */
	if (slash)
		*slash = '\0';
	if (fd_open_beneath(p->root_fd, slash ? dir : ".", O_RDONLY | O_DIRECTORY, 0,
	                    RESOLVE_NO_SYMLINKS, &fd, &e) < 0)
		report_err(&e, WIRE_AT_PATH);
	return fd;
}

static void set_owner(const struct putter *p, int dir_fd, const char *name, const struct entry *en)
{
	uid_t uid = p->own ? p->user.uid : en->uid;
	gid_t gid = p->own ? p->user.gid : en->gid;

	if (fchownat(dir_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		fail_at(en->path, "set the owner of");
}

static void set_time(int dir_fd, const char *name, const struct timespec *mtime)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, *mtime };

	/* a time the file system cannot hold is no reason to lose the file */
	(void)utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW);
}

/* Makes way for a file or link: whatever has the name, but no directory. */
static void remove_old(int dir_fd, const char *name, const struct entry *en)
{
	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		fail_at(en->path, "replace");
}

static void copy_content(struct putter *p, int fd, const struct entry *en)
{
	uint64_t left = en->size;
	struct err e = { 0 };

	while (left > 0) {
		size_t n = p->end - p->at;

		if (n == 0) {
			if (!fill(p))
				report_end(EBADMSG, WIRE_AT_SYSTEM,
				           "the stream of files ends early");
			continue;
		}
		if (n > left)
			n = (size_t)left;
		if (fd_write_all(fd, p->in + p->at, n, &e) < 0)
			report_err(&e, WIRE_AT_PATH);
		p->at += n;
		left -= n;
	}
}

/* The entry's path is copied by the caller: reading content moves the buffer it lies in. */
static void put_file(struct putter *p, int dir_fd, const char *name, const struct entry *en)
{
	struct timespec mtime = { .tv_sec = en->mtime_s, .tv_nsec = en->mtime_ns };
	_own_fd_ int fd = -1;
	struct err e = { 0 };

	remove_old(dir_fd, name, en);
	if (fd_openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, &fd, &e) < 0)
		report_err(&e, WIRE_AT_PATH);
	copy_content(p, fd, en);
	set_owner(p, dir_fd, name, en);
	if (fchmod(fd, en->mode) < 0) /* after the owner, which takes setuid bits away */
		fail_at(en->path, "set the mode of");
	set_time(dir_fd, name, &mtime);
}

static void put_link(const struct putter *p, int dir_fd, const char *name, const struct entry *en)
{
	struct timespec mtime = { .tv_sec = en->mtime_s, .tv_nsec = en->mtime_ns };
	char target[WIRE_PATH_MAX + 1];

	memcpy(target, en->target.at, en->target.len);
	target[en->target.len] = '\0';
	remove_old(dir_fd, name, en);
	if (symlinkat(target, dir_fd, name) < 0)
		fail_at(en->path, "make link");
	set_owner(p, dir_fd, name, en);
	set_time(dir_fd, name, &mtime);
}

/* Returns the new directory's fd. */
static int put_dir(const struct putter *p, int dir_fd, const char *name, const struct entry *en)
{
	struct err e = { 0 };
	int fd;

	if (mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
		fail_at(en->path, "make directory");
	if (fd_openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, &e) < 0)
		report_err(&e, WIRE_AT_PATH);
	set_owner(p, dir_fd, name, en);
	if (fchmod(fd, en->mode) < 0)
		fail_at(en->path, "set the mode of");
	return fd;
}

/* Leaves directories until the deepest open one is a parent of `path`. */
static void leave_dirs(struct putter *p, struct span path)
{
	while (p->depth > 0) {
		const struct put_dir *d = &p->dirs[p->depth - 1];

		if (path.len > d->path_len && memcmp(path.at, p->path, d->path_len) == 0 &&
		    (d->path_len == 0 || path.at[d->path_len] == '/'))
			return;
		p->path[d->path_len] = '\0';
		set_time(p->root_fd, d->path_len ? p->path : ".", &d->mtime);
		p->depth--;
	}
}

static void enter_dir(struct putter *p, const struct entry *en)
{
	if (p->depth > ENTRY_DEPTH_MAX)
		report_end(ELOOP, WIRE_AT_SYSTEM, "the stream of files is too deep");
	if (en->path.len)
		memcpy(p->path, en->path.at, en->path.len);
	p->dirs[p->depth++] =
		(struct put_dir){ .path_len = en->path.len,
		                  .mtime = { .tv_sec = en->mtime_s, .tv_nsec = en->mtime_ns } };
}

static void put_first(struct putter *p, const struct entry *en)
{
	if (en->path.len > 0 || en->kind == ENTRY_END)
		report_end(EBADMSG, WIRE_AT_SYSTEM, "the stream of files has no first entry");
	if (en->kind == ENTRY_DIR) {
		p->root_fd = put_dir(p, p->parent_fd, p->name, en);
		enter_dir(p, en);
	} else if (en->kind == ENTRY_FILE) {
		put_file(p, p->parent_fd, p->name, en);
	} else {
		put_link(p, p->parent_fd, p->name, en);
	}
}

static void put_child(struct putter *p, struct entry *en)
{
	char name[WIRE_NAME_MAX + 1];
	char path[WIRE_PATH_MAX + 1];
	_own_fd_ int dir_fd = -1;

	if (en->path.len == 0 || p->root_fd < 0)
		report_end(EBADMSG, WIRE_AT_SYSTEM, "the stream of files has a second first entry");
	leave_dirs(p, en->path);
	dir_fd = open_parent(p, en->path, name);
	memcpy(path, en->path.at, en->path.len);
	en->path.at = (const uint8_t *)path;
	if (en->kind == ENTRY_FILE) {
		put_file(p, dir_fd, name, en);
	} else if (en->kind == ENTRY_LINK) {
		put_link(p, dir_fd, name, en);
	} else {
		int fd = put_dir(p, dir_fd, name, en);

		(void)close(fd);
		enter_dir(p, en);
	}
}

/* Splits the target into an open parent and a name. */
static void open_target(struct putter *p, struct span target)
{
	char path[WIRE_PATH_MAX + 1] = { 0 };
	struct err e = { 0 };
	char *slash;

	if (target.len == 0 || target.at[0] != '/')
		report_end(EINVAL, WIRE_AT_PATH, "the path must be absolute");
	memcpy(path, target.at, target.len);
	while (target.len > 1 && path[target.len - 1] == '/')
		path[--target.len] = '\0';
	slash = strrchr(path, '/');
	if (strlen(slash + 1) > WIRE_NAME_MAX)
		report_end(ENAMETOOLONG, WIRE_AT_PATH, "the last part of the path is too long");
	memcpy(p->name, slash + 1, strlen(slash + 1) + 1);
	if (!p->name[0])
		p->name[0] = '.'; /* the root itself: the rest is NUL already */
	if (strcmp(p->name, "..") == 0)
		report_end(EINVAL, WIRE_AT_PATH, "the path must not end in '..'");
	slash[slash == path] = '\0';
	if (fd_open(path, O_RDONLY | O_DIRECTORY, 0, &p->parent_fd, &e) < 0)
		report_err(&e, WIRE_AT_PATH);
}

void files_put_main(struct span payload)
{
	struct putter *p = calloc(1, sizeof(*p));
	struct err e = { 0 };
	struct wire_file f;
	struct entry en;

	if (p)
		p->in = malloc(FILES_BUF_BYTES);
	if (!p || !p->in)
		report_end(ENOMEM, WIRE_AT_SYSTEM, "out of memory");
	p->root_fd = -1;
	if (wire_parse_file(payload, &f) < 0)
		report_end(EINVAL, WIRE_AT_SYSTEM, "the request is malformed");
	p->own = f.user.len > 0;
	if (p->own && user_find(f.user, &p->user, &e) < 0)
		report_err(&e, WIRE_AT_USER);
	(void)umask(0);
	open_target(p, f.path);
	next_entry(p, &en);
	put_first(p, &en);
	for (;;) {
		next_entry(p, &en);
		if (en.kind == ENTRY_END)
			break;
		put_child(p, &en);
	}
	if (p->root_fd >= 0)
		leave_dirs(p, span_of("", 0));
	report_end(0, WIRE_AT_NONE, "");
}
