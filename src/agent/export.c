#include "agent/export.h"

#include "agent/export_tar.h"
#include "base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { ATTR_NAME_MAX = 64, NAMES_ROOM = 4096, PART_MAX = 255, NS_MAX = 999999999 };

struct exporter {
	struct export_tar tar;
	const char *attrs;
	char path[EXPORT_PATH_MAX + 1]; /* of the present entry; "" is the root */
	size_t len;
	uint64_t zeros_left; /* see EXPORT_ZEROS_MAX */
	struct export_extent extents[EXPORT_EXTENTS_MAX];
};

/* A directory on the way. */
struct place {
	int fd;
	unsigned depth;
	bool xwhiteouts; /* it may hold whiteouts that are files */
	bool lower;      /* it has a directory in the base: */
	char base[EXPORT_PATH_MAX + 1];
};

/* The names in one directory, by bytes. */
struct names {
	char *bytes; /* each with its NUL */
	size_t len, room;
	size_t count;
	char **sorted;
};

static int fail_here(const struct exporter *x, struct err *e, const char *what)
{
	return err_sys(e, "%s '%s'", what, x->len > 0 ? x->path : ".");
}

/* --- names --- */

static void names_fini(struct names *n)
{
	free(n->bytes);
	free(n->sorted);
}

static int add_name(struct names *n, const char *name, struct err *e)
{
	size_t len = strlen(name) + 1;

	if (n->room - n->len < len) {
		size_t room = n->room ? 2 * n->room : NAMES_ROOM;
		char *more = realloc(n->bytes, room);

		if (!more)
			return err_set(e, -ENOMEM, "out of memory: a directory is too large");
		n->bytes = more;
		n->room = room;
	}
	memcpy(n->bytes + n->len, name, len);
	n->len += len;
	n->count++;
	return 0;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int sort_names(struct names *n, struct err *e)
{
	char *at = n->bytes;

	if (n->count == 0)
		return 0;
	n->sorted = calloc(n->count, sizeof(*n->sorted));
	if (!n->sorted)
		return err_set(e, -ENOMEM, "out of memory: a directory is too large");
	for (size_t i = 0; i < n->count; i++) {
		n->sorted[i] = at;
		at += strlen(at) + 1;
	}
	qsort(n->sorted, n->count, sizeof(*n->sorted), by_bytes);
	return 0;
}

static int read_names(const struct exporter *x, int dir_fd, struct names *n, struct err *e)
{
	const struct dirent *d;
	_own_fd_ int fd = -1;
	int r = fd_openat(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0, &fd, e);
	DIR *dir;

	if (r < 0)
		return r;
	dir = fdopendir(fd);
	if (!dir)
		return fail_here(x, e, "read directory");
	fd = -1;
	for (errno = 0; r == 0 && (d = readdir(dir)); errno = 0)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			r = add_name(n, d->d_name, e);
	if (r == 0 && errno != 0)
		r = fail_here(x, e, "read directory");
	(void)closedir(dir);
	return r == 0 ? sort_names(n, e) : r;
}

/* --- attributes --- */

/* Length of the value, 0 if there is none; ret is NUL-ended. One longer than any path is "/". */
static int attr(const struct exporter *x, int fd, const char *name, char ret[EXPORT_ATTR_MAX],
                size_t *ret_len, struct err *e)
{
	char whole[ATTR_NAME_MAX];
	struct buf b;
	ssize_t n;

	buf_init(&b, whole, sizeof(whole));
	buf_put_str(&b, x->attrs);
	buf_put_str(&b, name);
	n = fgetxattr(fd, buf_cstr(&b), ret, EXPORT_ATTR_MAX - 1);
	if (n < 0 && errno == ERANGE) {
		ret[0] = '/';
		n = 1;
	}
	if (n < 0 && errno != ENODATA && errno != EOPNOTSUPP)
		return fail_here(x, e, "read the attributes of");
	*ret_len = n > 0 ? (size_t)n : 0;
	ret[*ret_len] = '\0';
	return 0;
}

static int has_attr(const struct exporter *x, int fd, const char *name, bool *ret, struct err *e)
{
	char whole[ATTR_NAME_MAX];
	struct buf b;

	buf_init(&b, whole, sizeof(whole));
	buf_put_str(&b, x->attrs);
	buf_put_str(&b, name);
	*ret = fgetxattr(fd, buf_cstr(&b), NULL, 0) >= 0;
	return *ret || errno == ENODATA || errno == EOPNOTSUPP
	               ? 0
	               : fail_here(x, e, "read the attributes of");
}

/* base = parent's/name; one that is too long is in no base. */
static void lower_of(const struct place *parent, const char *name, struct place *p)
{
	struct buf b;

	buf_init(&b, p->base, sizeof(p->base));
	buf_put_str(&b, parent->base);
	if (b.len > 0)
		buf_put_u8(&b, '/');
	buf_put_str(&b, name);
	(void)buf_cstr(&b);
	p->lower = parent->lower && buf_ok(&b);
}

/* Could a base have a directory there? */
static bool is_base_path(const char *path)
{
	unsigned parts = 0;

	for (;;) {
		size_t len = strcspn(path, "/");

		if (len == 0 || len > PART_MAX || ++parts > EXPORT_DEPTH_MAX ||
		    (path[0] == '.' && (len == 1 || (len == 2 && path[1] == '.'))))
			return false;
		path += len;
		if (!*path)
			return true;
		path++;
	}
}

/*
 * base = where a redirect leads. The guest's root may have written anything there: what the kernel
 * would not take leads nowhere.
 */
static void redirected(const struct place *parent, struct span redirect, struct place *p)
{
	const struct place base = { .lower = true };
	const char *text = (const char *)redirect.at;
	bool whole = text[0] == '/';

	p->lower = false;
	if (strlen(text) != redirect.len || (!whole && (!parent || strchr(text, '/'))))
		return;
	lower_of(whole ? &base : parent, whole ? text + 1 : text, p);
	p->lower = p->lower && is_base_path(p->base);
}

/* What the directory hides, or where it came from. */
static int read_marks(const struct exporter *x, const struct place *parent, const char *name,
                      struct place *p, struct export_entry *en, struct err *e)
{
	char opaque[EXPORT_ATTR_MAX];
	char redirect[EXPORT_ATTR_MAX];
	size_t opaque_len = 0;
	size_t redirect_len = 0;
	int r = attr(x, p->fd, "opaque", opaque, &opaque_len, e);

	if (r == 0)
		r = attr(x, p->fd, "redirect", redirect, &redirect_len, e);
	if (r < 0)
		return r;
	p->xwhiteouts = opaque_len == 1 && opaque[0] == 'x';
	en->opaque = opaque_len == 1 && opaque[0] == 'y';
	if (en->opaque)
		p->lower = false;
	else if (redirect_len > 0)
		redirected(parent, span_of(redirect, redirect_len), p);
	else if (parent)
		lower_of(parent, name, p);
	else
		p->lower = true;             /* the root's is the base itself */
	if (!en->opaque && redirect_len > 0) /* "." is what no directory can come from */
		en->redirect = p->lower ? p->base : ".";
	return 0;
}

/* --- files --- */

/* The holes below `gap` are given up, and become zeros that are sent. */
static size_t merge(struct export_extent *v, size_t count, uint64_t gap)
{
	size_t n = 1;

	for (size_t i = 1; i < count; i++) {
		if (v[i].off - (v[n - 1].off + v[n - 1].len) < gap)
			v[n - 1].len = v[i].off + v[i].len - v[n - 1].off;
		else
			v[n++] = v[i];
	}
	return n;
}

static void add_extent(struct export_extent *v, size_t *count, uint64_t *gap, uint64_t from,
                       uint64_t end)
{
	struct export_extent *last = *count > 0 ? &v[*count - 1] : NULL;

	if (last && from - (last->off + last->len) < *gap) {
		last->len = end - last->off;
		return;
	}
	while (*count == EXPORT_EXTENTS_MAX) {
		*gap *= 2;
		*count = merge(v, *count, *gap);
	}
	v[(*count)++] = (struct export_extent){ .off = from, .len = end - from };
}

/* May these extents be sent, of which `data` bytes are no zeros in place of holes? */
static bool may_fill(struct exporter *x, const struct export_entry *en, uint64_t data)
{
	uint64_t stored = 0;

	for (size_t i = 0; i < en->extent_count; i++)
		stored += en->extents[i].len;
	if (stored - data <= data)
		return true;
	if (stored - data > x->zeros_left)
		return false;
	x->zeros_left -= stored - data;
	return true;
}

/*
 * Where a file has data. One that is all data has one extent, or none if it is empty; one whose
 * holes cannot be told, and are too much to be sent, becomes a word.
 */
static int map_file(struct exporter *x, int fd, const struct stat *st, struct export_entry *en,
                    struct err *e)
{
	off_t size = st->st_size;
	uint64_t data = 0;
	uint64_t gap = 1;
	off_t at = 0;

	en->extents = x->extents;
	en->extent_count = size > 0;
	x->extents[0] = (struct export_extent){ .len = (uint64_t)size };
	if (size == 0 || st->st_blocks >= size / 512 + (size % 512 != 0))
		return 0;
	en->extent_count = 0;
	while (at < size) {
		off_t from = lseek(fd, at, SEEK_DATA);
		off_t end;

		if (from < 0 && errno == ENXIO)
			break;
		end = from < 0 ? -1 : lseek(fd, from, SEEK_HOLE);
		if (end < 0)
			return fail_here(x, e, "find the holes of");
		if (from >= size)
			break;
		end = end < size ? end : size;
		add_extent(x->extents, &en->extent_count, &gap, (uint64_t)from, (uint64_t)end);
		data += (uint64_t)(end - from);
		at = end;
	}
	if (!may_fill(x, en, data)) {
		en->kind = EXPORT_OTHER;
		en->skipped = "sparse";
		en->extent_count = 0;
	}
	return 0;
}

static int send_content(struct exporter *x, int fd, const struct export_entry *en, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < en->extent_count; i++)
		r = export_tar_content(&x->tar, fd, &en->extents[i], e);
	if (r < 0)
		return err_wrap(e, "read '%s'", x->path);
	return export_tar_pad(&x->tar, e);
}

static int send_file(struct exporter *x, const struct place *parent, const char *name,
                     struct export_entry *en, struct err *e)
{
	_own_fd_ int fd = -1;
	struct stat st = { 0 };
	bool metacopy = false;
	bool whiteout = false;
	int r = fd_openat(parent->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0, &fd,
	                  e);

	if (r == 0 && fstat(fd, &st) < 0)
		r = fail_here(x, e, "look at");
	if (r == 0 && !S_ISREG(st.st_mode))
		r = err_set(e, -EIO, "'%s' changed while it was read", x->path);
	if (r == 0)
		r = has_attr(x, fd, "metacopy", &metacopy, e);
	if (r == 0 && parent->xwhiteouts && st.st_size == 0)
		r = has_attr(x, fd, "whiteout", &whiteout, e);
	if (r < 0)
		return r;
	if (whiteout || metacopy) {
		en->kind = whiteout ? EXPORT_WHITEOUT : EXPORT_OTHER;
		en->skipped = whiteout ? NULL : "metacopy";
		return export_tar_entry(&x->tar, en, e);
	}
	en->size = (uint64_t)st.st_size;
	r = map_file(x, fd, &st, en, e);
	if (r == 0)
		r = export_tar_entry(&x->tar, en, e);
	return r == 0 && en->kind == EXPORT_FILE ? send_content(x, fd, en, e) : r;
}

static int send_link(struct exporter *x, const struct place *parent, const char *name,
                     struct export_entry *en, struct err *e)
{
	char target[EXPORT_PATH_MAX + 2];
	ssize_t n = readlinkat(parent->fd, name, target, sizeof(target));
	int r;

	if (n <= 0 || n > EXPORT_PATH_MAX)
		return n < 0 ? fail_here(x, e, "read the link")
		             : err_set(e, -EIO,
		                       "the link '%s' has no target, or a longer one "
		                       "than there can be",
		                       x->path);
	en->target = span_of(target, (size_t)n);
	r = export_tar_entry(&x->tar, en, e);
	en->target = span_of("", 0);
	return r;
}

/* --- the walk --- */

static int send_dir(struct exporter *x, const struct place *parent, const char *name,
                    struct export_entry *en, struct place *p, struct err *e);

static void entry_of(const struct stat *st, struct export_entry *en)
{
	*en = (struct export_entry){ .mode = st->st_mode & 07777, .mtime = st->st_mtim };
	if (en->mtime.tv_nsec < 0 || en->mtime.tv_nsec > NS_MAX) /* ext4 has 30 bits for them */
		en->mtime.tv_nsec = 0;
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		en->kind = EXPORT_FILE;
		return;
	case S_IFDIR:
		en->kind = EXPORT_DIR;
		return;
	case S_IFLNK:
		en->kind = EXPORT_LINK;
		return;
	case S_IFCHR:
		if (st->st_rdev == makedev(0, 0)) {
			en->kind = EXPORT_WHITEOUT;
			return;
		}
		break;
	default:
		break;
	}
	en->kind = EXPORT_OTHER;
	en->skipped = S_ISFIFO(st->st_mode) ? "fifo" : S_ISSOCK(st->st_mode) ? "socket" : "device";
}

static int send_name(struct exporter *x, const struct place *parent, const char *name,
                     struct err *e)
{
	struct export_entry en;
	struct place *p;
	struct stat st;
	int r;

	if (fstatat(parent->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail_here(x, e, "look at");
	entry_of(&st, &en);
	en.path = span_of(x->path, x->len);
	if (en.kind == EXPORT_FILE)
		return send_file(x, parent, name, &en, e);
	if (en.kind == EXPORT_LINK)
		return send_link(x, parent, name, &en, e);
	if (en.kind != EXPORT_DIR)
		return export_tar_entry(&x->tar, &en, e);
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->depth = parent->depth + 1;
	r = fd_openat(parent->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &p->fd, e);
	if (r == 0) {
		r = send_dir(x, parent, name, &en, p, e);
		(void)close(p->fd);
	}
	free(p);
	return r;
}

/* A disk that was tampered with may have a name twice: what it opens is the same. */
static bool came_before(const struct names *n, size_t i)
{
	return i > 0 && strcmp(n->sorted[i - 1], n->sorted[i]) == 0;
}

/* Has this child of a directory a place in a proposal? */
static bool has_place(const struct exporter *x, const struct place *p, const char *name)
{
	return p->depth < EXPORT_DEPTH_MAX &&
	       strlen(name) + (x->len > 0) <= EXPORT_PATH_MAX - x->len;
}

static int send_children(struct exporter *x, const struct place *p, const struct names *n,
                         struct err *e)
{
	size_t before = x->len;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n->count; i++) {
		size_t len = strlen(n->sorted[i]);

		if (!has_place(x, p, n->sorted[i]) || came_before(n, i))
			continue;
		if (before > 0)
			x->path[x->len++] = '/';
		memcpy(x->path + x->len, n->sorted[i], len + 1);
		x->len += len;
		r = send_name(x, p, n->sorted[i], e);
		x->len = before;
		x->path[before] = '\0';
	}
	return r;
}

/* parent is NULL for the root. */
static int send_dir(struct exporter *x, const struct place *parent, const char *name,
                    struct export_entry *en, struct place *p, struct err *e)
{
	struct names n = { 0 };
	int r = read_marks(x, parent, name, p, en, e);

	if (r == 0)
		r = read_names(x, p->fd, &n, e);
	for (size_t i = 0; r == 0 && i < n.count; i++)
		if (!has_place(x, p, n.sorted[i]))
			en->skipped = "deep";
	if (r == 0)
		r = export_tar_entry(&x->tar, en, e);
	if (r == 0)
		r = send_children(x, p, &n, e);
	names_fini(&n);
	return r;
}

/* out_fd -1: its length alone. */
static int walk(int dir_fd, int out_fd, const char *attrs, uint64_t *ret_bytes, struct err *e)
{
	_own_free_ struct exporter *x = calloc(1, sizeof(*x));
	_own_free_ struct place *root = calloc(1, sizeof(*root));
	struct export_entry en;
	struct stat st;
	int r;

	if (!x || !root)
		return err_set(e, -ENOMEM, "out of memory");
	x->attrs = attrs;
	x->zeros_left = EXPORT_ZEROS_MAX;
	export_tar_init(&x->tar, out_fd);
	if (syncfs(dir_fd) < 0) /* what cannot be written out is no work that was done */
		return err_sys(e, "write out the workspace");
	if (fstat(dir_fd, &st) < 0)
		return err_sys(e, "look at the workspace");
	entry_of(&st, &en);
	if (en.kind != EXPORT_DIR)
		return err_set(e, -ENOTDIR, "the workspace's upper layer is no directory");
	root->fd = dir_fd;
	r = send_dir(x, NULL, "", &en, root, e);
	if (r == 0)
		r = export_tar_end(&x->tar, e);
	if (r == 0)
		*ret_bytes = x->tar.bytes;
	return r;
}

int export_tree(int dir_fd, int out_fd, const char *attrs, struct err *e)
{
	uint64_t bytes;

	return walk(dir_fd, out_fd, attrs, &bytes, e);
}

int export_measure(int dir_fd, const char *attrs, uint64_t *ret_bytes, struct err *e)
{
	return walk(dir_fd, -1, attrs, ret_bytes, e);
}
