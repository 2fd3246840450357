#include "lib/copy.h"

#include "base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/*
 * The tree is the user's own and may change while it is read. What was opened is what is sent: its
 * kind and size are taken from the fd. A file that shrinks is filled up with zeros and one that
 * grows is cut, since its size was already said.
 */

enum { OUT_BUF_BYTES = ENTRY_HEADER_MAX + COPY_CHUNK_BYTES };

struct walk {
	const struct copy_sink *sink;
	struct copy_stats *stats;
	struct err *e;
	struct buf out;
	uint32_t count;
	size_t path_len;
	char path[WIRE_PATH_MAX + 1]; /* relative to the first entry */
	uint8_t storage[OUT_BUF_BYTES];
};

static int flush(struct walk *w)
{
	int r = w->out.len ? w->sink->put(w->sink->ctx, buf_span(&w->out), w->e) : 0;

	buf_reset(&w->out);
	return r;
}

static int put_header(struct walk *w, const struct entry *en)
{
	int r = 0;

	if (w->out.size - w->out.len < ENTRY_HEADER_MAX)
		r = flush(w);
	if (r < 0)
		return r;
	if (++w->count > ENTRY_COUNT_MAX)
		return err_set(w->e, -E2BIG, "more than %d files", ENTRY_COUNT_MAX);
	entry_put(&w->out, en);
	return 0;
}

static const char *shown(const struct walk *w)
{
	return w->path_len ? w->path : ".";
}

static int put_content(struct walk *w, int fd, uint64_t size)
{
	while (size > 0) {
		size_t room = w->out.size - w->out.len;
		size_t want = size < room ? (size_t)size : room;
		ssize_t n;

		if (want == 0) {
			int r = flush(w);

			if (r < 0)
				return r;
			continue;
		}
		n = read(fd, w->out.at + w->out.len, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(w->e, "read '%s'", shown(w));
		if (n == 0) {
			memset(w->out.at + w->out.len, 0, want);
			n = (ssize_t)want;
		}
		w->out.len += (size_t)n;
		w->stats->bytes += (uint64_t)n;
		size -= (uint64_t)n;
	}
	return 0;
}

static int visit(struct walk *w, int dir_fd, const char *name, bool follow, unsigned depth);

/* Appends "/name" to the path; the caller cuts it off again. */
static int descend(struct walk *w, const char *name)
{
	size_t len = strlen(name);

	if (w->path_len + 1 + len > WIRE_PATH_MAX)
		return err_set(w->e, -ENAMETOOLONG, "a path in '%s' is too long", shown(w));
	if (w->path_len)
		w->path[w->path_len++] = '/';
	memcpy(w->path + w->path_len, name, len + 1);
	w->path_len += len;
	return 0;
}

/* Takes fd. */
static int visit_children(struct walk *w, int fd, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *d;
	int r = 0;

	if (!dir) {
		r = err_sys(w->e, "read directory '%s'", shown(w));
		(void)close(fd);
		return r;
	}
	while (r == 0 && (d = readdir(dir))) {
		size_t before = w->path_len;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		r = descend(w, d->d_name);
		if (r == 0)
			r = visit(w, dirfd(dir), d->d_name, false, depth + 1);
		w->path_len = before;
		w->path[before] = '\0';
	}
	(void)closedir(dir);
	return r;
}

static void describe(struct entry *en, const struct walk *w, const struct stat *st)
{
	*en = (struct entry){ .mode = st->st_mode & 07777, .uid = st->st_uid, .gid = st->st_gid };
	en->mtime_s = st->st_mtim.tv_sec;
	en->mtime_ns = (uint32_t)st->st_mtim.tv_nsec;
	en->path = span_of(w->path, w->path_len);
}

static int visit_link(struct walk *w, int dir_fd, const char *name, const struct stat *st)
{
	char target[WIRE_PATH_MAX + 1];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target));
	struct entry en;

	if (n < 0)
		return err_sys(w->e, "read link '%s'", shown(w));
	if (n == 0 || n > WIRE_PATH_MAX)
		return err_set(w->e, -ENAMETOOLONG, "link '%s' is too long", shown(w));
	describe(&en, w, st);
	en.kind = ENTRY_LINK;
	en.target = span_of(target, (size_t)n);
	w->stats->links++;
	return put_header(w, &en);
}

static int visit_open(struct walk *w, int *fd, const struct stat *st, unsigned depth)
{
	struct entry en;
	int r;

	describe(&en, w, st);
	if (S_ISDIR(st->st_mode)) {
		en.kind = ENTRY_DIR;
		w->stats->dirs++;
		r = put_header(w, &en);
		return r < 0 ? r : visit_children(w, steal_fd(fd), depth);
	}
	en.kind = ENTRY_FILE;
	en.size = (uint64_t)st->st_size;
	w->stats->files++;
	r = put_header(w, &en);
	return r < 0 ? r : put_content(w, *fd, en.size);
}

static int visit(struct walk *w, int dir_fd, const char *name, bool follow, unsigned depth)
{
	int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW);
	_own_fd_ int fd = -1;
	struct stat st;
	int r;

	if (depth > ENTRY_DEPTH_MAX)
		return err_set(w->e, -ELOOP, "'%s' is too deep", shown(w));
	if (fstatat(dir_fd, name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT && depth > 0)
			return 0; /* removed while we walked */
		return err_sys(w->e, "'%s'", depth ? shown(w) : name);
	}
	if (S_ISLNK(st.st_mode))
		return visit_link(w, dir_fd, name, &st);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		w->stats->others_left++;
		if (depth == 0)
			return err_set(w->e, -EINVAL, "'%s' is no file, directory or link", name);
		return 0;
	}
	r = fd_openat(dir_fd, name, flags, 0, &fd, w->e);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_sys(w->e, "'%s'", shown(w));
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return err_set(w->e, -EINVAL, "'%s' changed while it was copied", shown(w));
	return visit_open(w, &fd, &st, depth);
}

int copy_out(int dir_fd, const char *src, bool follow, const struct copy_sink *sink,
             struct copy_stats *stats, struct err *e)
{
	static const struct entry end = { .kind = ENTRY_END };
	struct err own = { 0 };
	_own_free_ struct walk *w = malloc(sizeof(*w));
	int r;

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	*w = (struct walk){ .sink = sink, .stats = stats, .e = e ? e : &own };
	buf_init(&w->out, w->storage, sizeof(w->storage));
	r = visit(w, dir_fd, src, follow, 0);
	if (r == 0)
		r = put_header(w, &end);
	return r < 0 ? r : flush(w);
}
