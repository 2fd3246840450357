#include "lib/copy.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Theory of operation
 *
 * Everything is made by name in a directory fd we hold: the first entry in opt.parent_fd, the rest
 * beneath the first, each parent opened with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS. So no link,
 * whether the guest sent it or it was there before, leads anywhere.
 *
 * A file is written under a name of ours and renamed when it is whole: what was there before is
 * replaced at once or not at all, a link with the file's name is replaced and not written through.
 * Set-user-id, set-group-id and sticky bits are dropped. A link that would lead out of the copy is
 * left out: nobody expects `cat copy/notes` to print /etc/shadow.
 *
 * A directory gets its mode and time when the walk leaves it: it may be one that even its owner
 * cannot write to. The open ones are the parents of the entry at hand: lengths of one path.
 */

enum { ASIDE_NAME_MAX = 40, MODE_KEPT = 0777 };

struct in_dir {
	size_t path_len;
	uint32_t mode;
	struct timespec mtime;
	bool made; /* by us; one that was there keeps its mode and time */
};

struct copy_in {
	struct copy_in_opt opt;
	struct copy_stats stats;
	uint32_t count;
	bool done;

	/* the header being gathered */
	uint8_t head[ENTRY_HEADER_MAX];
	size_t head_len;

	/* the file being written */
	int file_fd, file_dir_fd;
	uint64_t file_left;
	char aside[ASIDE_NAME_MAX];
	char file_name[WIRE_NAME_MAX + 1];
	struct entry file; /* its spans are not used */

	/* the directories being filled */
	int root_fd; /* of the first entry; -1: it is no directory */
	char path[WIRE_PATH_MAX + 1];
	struct in_dir dirs[ENTRY_DEPTH_MAX + 1];
	unsigned depth; /* of dirs in use */
};

bool copy_link_stays(struct span path, struct span target)
{
	size_t depth = 0; /* of the directory the link is in */
	bool down = false;
	struct span part;

	if (target.len == 0 || target.at[0] == '/')
		return false;
	if (path.len == 0)
		return false; /* the copy is only this link: all else is outside */
	for (size_t i = 0; i < path.len; i++)
		depth += path.at[i] == '/';
	while (take_until(&target, '/', &part)) {
		if (part.len == 0 || span_is(part, "."))
			continue;
		if (!span_is(part, "..")) {
			down = true;
			continue;
		}
		/* behind a name ".." leads up from wherever that name, perhaps a link, led */
		if (down || depth == 0)
			return false;
		depth--;
	}
	return true;
}

int copy_in_jail(int dir_fd, struct err *e)
{
	static const struct jail_profile profile = {
		.name = "copy",
		.landlock = true,
		.landlock_abi_min = 1,
	};
	const struct jail_path paths[] = { {
		.fd = dir_fd,
		.access = JAIL_READ | JAIL_WRITE | JAIL_MAKE,
		.why = "the copy's destination",
	} };
	struct jail_params params = { .paths = paths, .path_count = 1 };
	struct jail_report report = { 0 };
	int r = jail_no_new_privs(e);

	return r == 0 ? jail_landlock(&profile, &params, &report, e) : r;
}

int copy_in_new(const struct copy_in_opt *opt, struct copy_in **ret, struct err *e)
{
	struct copy_in *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->opt = *opt;
	c->file_fd = -1;
	c->file_dir_fd = -1;
	c->root_fd = -1;
	*ret = c;
	return 0;
}

static void drop_file(struct copy_in *c)
{
	if (c->file_fd < 0)
		return;
	(void)unlinkat(c->file_dir_fd, c->aside, 0);
	(void)close(steal_fd(&c->file_fd));
	(void)close(steal_fd(&c->file_dir_fd));
}

void copy_in_free(struct copy_in *c)
{
	if (!c)
		return;
	drop_file(c);
	if (c->root_fd >= 0)
		(void)close(c->root_fd);
	free(c);
}

bool copy_in_done(const struct copy_in *c)
{
	return c->done;
}

const struct copy_stats *copy_in_stats(const struct copy_in *c)
{
	return &c->stats;
}

/* "'a/b'" of an entry, or what the user called the first one. */
static struct span shown(const struct copy_in *c, const struct entry *en)
{
	if (en->path.len)
		return en->path;
	return span_str(c->opt.name ? c->opt.name : ".");
}

static int fail_at(const struct copy_in *c, const struct entry *en, const char *what, struct err *e)
{
	struct span s = shown(c, en);

	return err_sys(e, "%s '%.*s'", what, (int)s.len, (const char *)s.at);
}

/* The directory an entry is made in, a dup or an open of its own, and its name there. */
static int open_parent(const struct copy_in *c, const struct entry *en, int *ret_fd,
                       char ret_name[WIRE_NAME_MAX + 1], struct err *e)
{
	char dir[WIRE_PATH_MAX + 1];
	const char *base = dir;
	char *slash;
	int fd;

	if (en->path.len == 0) {
		if (strlen(c->opt.name) > WIRE_NAME_MAX)
			return err_set(e, -ENAMETOOLONG, "'%s': name too long", c->opt.name);
		fd = fcntl(c->opt.parent_fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return err_sys(e, "dup");
		memcpy(ret_name, c->opt.name, strlen(c->opt.name) + 1);
		*ret_fd = fd;
		return 0;
	}
	memcpy(dir, en->path.at, en->path.len);
	dir[en->path.len] = '\0';
	slash = strrchr(dir, '/');
	if (slash) {
		*slash = '\0';
		base = slash + 1;
	}
	memcpy(ret_name, base, strlen(base) + 1); /* entry_parse() saw to it that it fits */
	return fd_open_beneath(c->root_fd, slash ? dir : ".", O_RDONLY | O_DIRECTORY, 0,
	                       RESOLVE_NO_SYMLINKS, ret_fd, e);
}

static int set_owner(const struct copy_in *c, int dir_fd, const char *name, const struct entry *en,
                     struct err *e)
{
	if (!c->opt.owners)
		return 0;
	if (fchownat(dir_fd, name, en->uid, en->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return fail_at(c, en, "set the owner of", e);
	return 0;
}

static struct timespec time_of(const struct entry *en)
{
	return (struct timespec){ .tv_sec = en->mtime_s, .tv_nsec = en->mtime_ns };
}

/* Odd times (before 1970 on some file systems) are no reason to fail a copy. */
static void set_time(int dir_fd, const char *name, struct timespec mtime)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, mtime };

	if (utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return;
}

/* --- directories --- */

static int leave_dir(struct copy_in *c, struct err *e)
{
	const struct in_dir *d = &c->dirs[--c->depth];
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, d->mtime };
	_own_fd_ int fd = -1;
	int r;

	c->path[d->path_len] = '\0';
	if (!d->made)
		return 0;
	r = fd_open_beneath(c->root_fd, d->path_len ? c->path : ".", O_RDONLY | O_DIRECTORY, 0,
	                    RESOLVE_NO_SYMLINKS, &fd, e);
	if (r < 0)
		return r;
	if (futimens(fd, times) < 0 && errno == EBADF)
		return err_sys(e, "set the time of '%s'", c->path);
	if (fchmod(fd, d->mode & MODE_KEPT) < 0)
		return err_sys(e, "set the mode of '%s'", c->path);
	return 0;
}

/* Is the open directory `d` a parent of the path? */
static bool holds(const struct copy_in *c, const struct in_dir *d, struct span path)
{
	if (d->path_len == 0)
		return true;
	return path.len > d->path_len && path.at[d->path_len] == '/' &&
	       memcmp(path.at, c->path, d->path_len) == 0;
}

/* Leaves those that are done, and sees to it that the entry's parent is the deepest left. */
static int settle(struct copy_in *c, const struct entry *en, struct err *e)
{
	const uint8_t *slash = en->path.len ? memrchr(en->path.at, '/', en->path.len) : NULL;
	size_t parent_len = slash ? (size_t)(slash - en->path.at) : 0;

	while (c->depth > 0 && !holds(c, &c->dirs[c->depth - 1], en->path)) {
		int r = leave_dir(c, e);

		if (r < 0)
			return r;
	}
	if (c->depth == 0 || c->dirs[c->depth - 1].path_len != parent_len)
		return err_set(e, -EBADMSG, "the guest sent '%.*s' before its directory",
		               (int)en->path.len, (const char *)en->path.at);
	return 0;
}

static int enter_dir(struct copy_in *c, const struct entry *en, bool made, struct err *e)
{
	struct in_dir *d = &c->dirs[c->depth];

	if (c->depth > ENTRY_DEPTH_MAX)
		return err_set(e, -EBADMSG, "the guest sent directories too deep");
	*d = (struct in_dir){ .path_len = en->path.len, .mode = en->mode, .made = made };
	d->mtime = time_of(en);
	if (en->path.len)
		memcpy(c->path, en->path.at, en->path.len);
	c->path[en->path.len] = '\0';
	c->depth++;
	c->stats.dirs++;
	return 0;
}

static int make_dir(struct copy_in *c, const struct entry *en, struct err *e)
{
	char name[WIRE_NAME_MAX + 1];
	_own_fd_ int parent = -1;
	bool made;
	int r;

	if (en->path.len == 0 && !c->opt.name) {
		c->root_fd = fcntl(c->opt.parent_fd, F_DUPFD_CLOEXEC, 3);
		return c->root_fd < 0 ? err_sys(e, "dup") : enter_dir(c, en, false, e);
	}
	r = open_parent(c, en, &parent, name, e);
	if (r < 0)
		return r;
	made = mkdirat(parent, name, 0700) == 0;
	if (!made && errno != EEXIST)
		return fail_at(c, en, "make directory", e);
	if (made)
		r = set_owner(c, parent, name, en, e);
	if (r == 0 && en->path.len == 0)
		r = fd_open_beneath(parent, name, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS,
		                    &c->root_fd, e);
	return r < 0 ? r : enter_dir(c, en, made, e);
}

/* --- links and files --- */

/* True when the name may be taken: a directory is never replaced. */
static int clear_name(const struct copy_in *c, int dir_fd, const char *name, const struct entry *en,
                      struct err *e)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
		errno = EISDIR;
		return fail_at(c, en, "replace", e);
	}
	return 0;
}

static int make_link(struct copy_in *c, const struct entry *en, struct err *e)
{
	char target[WIRE_PATH_MAX + 1];
	char name[WIRE_NAME_MAX + 1];
	_own_fd_ int parent = -1;
	int r;

	if (!c->opt.all_links && !copy_link_stays(en->path, en->target)) {
		c->stats.links_left++;
		return 0;
	}
	r = open_parent(c, en, &parent, name, e);
	if (r == 0)
		r = clear_name(c, parent, name, en, e);
	if (r < 0)
		return r;
	memcpy(target, en->target.at, en->target.len);
	target[en->target.len] = '\0';
	if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
		return fail_at(c, en, "replace", e);
	if (symlinkat(target, parent, name) < 0)
		return fail_at(c, en, "make link", e);
	set_time(parent, name, time_of(en));
	c->stats.links++;
	return set_owner(c, parent, name, en, e);
}

static int finish_file(struct copy_in *c, struct err *e)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, time_of(&c->file) };
	int r = 0;

	if (c->opt.owners && fchown(c->file_fd, c->file.uid, c->file.gid) < 0)
		r = err_sys(e, "set the owner of '%s'", c->file_name);
	if (r == 0 && fchmod(c->file_fd, c->file.mode & MODE_KEPT) < 0)
		r = err_sys(e, "set the mode of '%s'", c->file_name);
	if (futimens(c->file_fd, times) < 0)
		c->file.mtime_s = 0; /* as set_time(): no reason to fail */
	if (r == 0 && renameat(c->file_dir_fd, c->aside, c->file_dir_fd, c->file_name) < 0)
		r = err_sys(e, "write '%s'", c->file_name);
	if (r < 0)
		return r; /* copy_in_free() removes it */
	(void)close(steal_fd(&c->file_fd));
	(void)close(steal_fd(&c->file_dir_fd));
	c->stats.files++;
	return 0;
}

static int begin_file(struct copy_in *c, const struct entry *en, struct err *e)
{
	_own_fd_ int parent = -1;
	_own_fd_ int fd = -1;
	uint64_t salt;
	int r;

	if (en->size > c->opt.bytes_max - c->stats.bytes)
		return err_set(e, -EFBIG,
		               "'%.*s' would bring the copy over its limit of %llu bytes",
		               (int)shown(c, en).len, (const char *)shown(c, en).at,
		               (unsigned long long)c->opt.bytes_max);
	r = open_parent(c, en, &parent, c->file_name, e);
	if (r == 0)
		r = clear_name(c, parent, c->file_name, en, e);
	if (r < 0)
		return r;
	random_bytes(&salt, sizeof(salt));
	(void)snprintf(c->aside, sizeof(c->aside), ".berm-cp-%016llx", (unsigned long long)salt);
	r = fd_openat(parent, c->aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, &fd, e);
	if (r < 0)
		return r;
	c->file = *en;
	c->file_left = en->size;
	c->file_fd = steal_fd(&fd);
	c->file_dir_fd = steal_fd(&parent);
	return c->file_left ? 0 : finish_file(c, e);
}

/* --- the stream --- */

static int judge_first(const struct copy_in *c, const struct entry *en, struct err *e)
{
	if (en->path.len != 0)
		return err_set(e, -EBADMSG,
		               "the guest's stream of files does not begin at its top");
	if (en->kind != ENTRY_DIR && (c->opt.want_dir || !c->opt.name))
		return err_set(e, -ENOTDIR, "what the guest sends is no directory");
	if (en->kind == ENTRY_DIR && c->opt.refuse_dir)
		return err_set(e, -EISDIR,
		               "the guest sends a directory, and the destination is a file");
	return 0;
}

static int take_entry(struct copy_in *c, const struct entry *en, struct err *e)
{
	int r = 0;

	if (en->kind == ENTRY_END) {
		while (r == 0 && c->depth > 0)
			r = leave_dir(c, e);
		c->done = r == 0;
		if (c->count == 0)
			return err_set(e, -EBADMSG, "the guest sent nothing");
		return r;
	}
	if (++c->count > ENTRY_COUNT_MAX)
		return err_set(e, -EBADMSG, "the guest sent more than %d files", ENTRY_COUNT_MAX);
	if (c->count == 1)
		r = judge_first(c, en, e);
	else if (c->root_fd < 0 || en->path.len == 0)
		r = err_set(e, -EBADMSG, "the guest sent files without a directory");
	else
		r = settle(c, en, e);
	if (r < 0)
		return r;
	if (en->kind == ENTRY_DIR)
		return make_dir(c, en, e);
	if (en->kind == ENTRY_LINK)
		return make_link(c, en, e);
	return begin_file(c, en, e);
}

static int take_content(struct copy_in *c, struct span *data, struct err *e)
{
	size_t n = data->len < c->file_left ? data->len : (size_t)c->file_left;
	int r = fd_write_all(c->file_fd, data->at, n, e);

	if (r < 0)
		return err_wrap(e, "'%s'", c->file_name);
	data->at += n;
	data->len -= n;
	c->stats.bytes += n;
	c->file_left -= n;
	return c->file_left ? 0 : finish_file(c, e);
}

/* A header may come in pieces: it is gathered, and what was gathered too much is given back. */
static int take_header(struct copy_in *c, struct span *data, struct err *e)
{
	size_t before = c->head_len;
	size_t n = sizeof(c->head) - before;
	struct entry en;
	struct span in;
	int r;

	if (n > data->len)
		n = data->len;
	memcpy(c->head + before, data->at, n);
	in = span_of(c->head, before + n);
	r = entry_parse(&in, &en);
	if (r == -EAGAIN && before + n < sizeof(c->head)) {
		c->head_len += n;
		data->at += n;
		data->len -= n;
		return 0;
	}
	if (r < 0)
		return err_set(e, -EBADMSG, "the guest's stream of files is malformed");
	n -= in.len; /* of `data`, up to the header's end */
	data->at += n;
	data->len -= n;
	c->head_len = 0;
	return take_entry(c, &en, e);
}

int copy_in_take(struct copy_in *c, struct span data, struct err *e)
{
	while (data.len > 0) {
		int r;

		if (c->done)
			return err_set(e, -EBADMSG, "the guest sent more behind the end");
		r = c->file_fd >= 0 ? take_content(c, &data, e) : take_header(c, &data, e);
		if (r < 0)
			return r;
	}
	return 0;
}
