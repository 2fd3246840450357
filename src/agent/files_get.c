#include "agent/files.h"

#include "agent/report.h"
#include "base/fdio.h"
#include "wire/entry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/*
 * A walk of one tree, depth first, parents before children. Links are sent, never followed;
 * sockets, pipes and devices have no content to send and are passed over. A file that shrinks while
 * it is read is filled up with zeros, one that grows is cut: its size was already said.
 */
struct getter {
	struct buf out; /* not yet written to stdout */
	uint32_t count;
	char path[WIRE_PATH_MAX + 1]; /* relative to the first entry */
	size_t path_len;
	struct err e;
};

static uint8_t *flush(struct getter *g)
{
	if (fd_write_all(STDOUT_FILENO, g->out.at, g->out.len, &g->e) < 0)
		report_err(&g->e, WIRE_AT_SYSTEM);
	buf_reset(&g->out);
	return g->out.at;
}

static void put_header(struct getter *g, const struct entry *en)
{
	if (g->out.size - g->out.len < ENTRY_HEADER_MAX)
		(void)flush(g);
	if (++g->count > ENTRY_COUNT_MAX)
		report_end(EOVERFLOW, WIRE_AT_PATH, "the tree has too many entries to copy");
	entry_put(&g->out, en);
}

_Noreturn static void fail_here(const struct getter *g, const char *what)
{
	struct err e = { 0 };

	(void)err_sys(&e, "%s '%s'", what, g->path_len ? g->path : ".");
	report_err(&e, WIRE_AT_PATH);
}

static void put_content(struct getter *g, int fd, uint64_t size)
{
	while (size > 0) {
		size_t room = g->out.size - g->out.len;
		size_t want;
		ssize_t n;

		if (room < FILES_CHUNK_BYTES) {
			(void)flush(g);
			room = g->out.size;
		}
		want = size < room ? (size_t)size : room;
		n = read(fd, g->out.at + g->out.len, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			fail_here(g, "read");
		if (n == 0) {
			memset(g->out.at + g->out.len, 0, want);
			n = (ssize_t)want;
		}
		g->out.len += (size_t)n;
		size -= (uint64_t)n;
	}
}

static void visit(struct getter *g, int dir_fd, const char *name, bool follow, unsigned depth);

/* Takes fd. */
static void visit_children(struct getter *g, int fd, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *d;

	if (!dir)
		fail_here(g, "read directory");
	while ((d = readdir(dir))) {
		size_t before = g->path_len;
		size_t len = strlen(d->d_name);

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (before + 1 + len > WIRE_PATH_MAX)
			report_end(ENAMETOOLONG, WIRE_AT_PATH, "a path in the tree is too long");
		if (before)
			g->path[g->path_len++] = '/';
		memcpy(g->path + g->path_len, d->d_name, len + 1);
		g->path_len += len;
		visit(g, dirfd(dir), d->d_name, false, depth + 1);
		g->path_len = before;
		g->path[before] = '\0';
	}
	(void)closedir(dir);
}

static void visit_link(struct getter *g, int dir_fd, const char *name, struct entry *en)
{
	char target[WIRE_PATH_MAX + 1];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target));

	if (n <= 0 || n > WIRE_PATH_MAX)
		fail_here(g, "read link");
	en->kind = ENTRY_LINK;
	en->target = span_of(target, (size_t)n);
	put_header(g, en);
}

static void visit(struct getter *g, int dir_fd, const char *name, bool follow, unsigned depth)
{
	int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW);
	_own_fd_ int fd = -1;
	struct entry en = { 0 };
	struct stat st;

	if (depth > ENTRY_DEPTH_MAX)
		report_end(ELOOP, WIRE_AT_PATH, "the tree is too deep to copy");
	if (fstatat(dir_fd, name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0) {
		if (depth > 0 && errno == ENOENT)
			return; /* removed while we walked */
		fail_here(g, "find");
	}
	en.mode = st.st_mode & 07777;
	en.uid = st.st_uid;
	en.gid = st.st_gid;
	en.mtime_s = st.st_mtim.tv_sec;
	en.mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
	en.path = span_of(g->path, g->path_len);
	if (S_ISLNK(st.st_mode)) {
		visit_link(g, dir_fd, name, &en);
		return;
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		if (depth == 0)
			report_end(EINVAL, WIRE_AT_PATH,
			           "neither a file nor a directory nor a link");
		return;
	}
	/* what was judged above may be something else by now: the opened one is what counts */
	if (fd_openat(dir_fd, name, flags, 0, &fd, NULL) < 0 || fstat(fd, &st) < 0)
		fail_here(g, "open");
	if (S_ISDIR(st.st_mode)) {
		en.kind = ENTRY_DIR;
		put_header(g, &en);
		visit_children(g, steal_fd(&fd), depth);
	} else if (S_ISREG(st.st_mode)) {
		en.kind = ENTRY_FILE;
		en.size = (uint64_t)st.st_size;
		put_header(g, &en);
		put_content(g, fd, en.size);
	}
}

void files_get_main(struct span payload)
{
	static const struct entry end = { .kind = ENTRY_END };
	char path[WIRE_PATH_MAX + 1] = { 0 };
	struct getter *g = calloc(1, sizeof(*g));
	uint8_t *room = malloc(FILES_BUF_BYTES);
	struct wire_file f;

	if (!g || !room)
		report_end(ENOMEM, WIRE_AT_SYSTEM, "out of memory");
	buf_init(&g->out, room, FILES_BUF_BYTES);
	if (wire_parse_file(payload, &f) < 0 || f.path.len == 0 || f.path.at[0] != '/')
		report_end(EINVAL, WIRE_AT_PATH, "the path must be absolute");
	memcpy(path, f.path.at, f.path.len);
	visit(g, AT_FDCWD, path, f.follow, 0);
	put_header(g, &end);
	(void)flush(g);
	report_end(0, WIRE_AT_NONE, "");
}
