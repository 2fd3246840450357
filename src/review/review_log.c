/*
 * Theory of operation. The file only grows, and each write of it is synced before it counts. What a
 * crash tore is behind the last newline: it is passed over, and cut off before the next write. A
 * line that is whole and wrong was not made by a crash, so it is an error and nothing is guessed.
 */
#include "review/review_inner.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const char log_name[] = "decisions.jsonl";

int review_log_open(int session_fd, struct review_log *ret, struct err *e)
{
	_own_fd_ int fd = -1;
	struct stat st;
	int r = fd_open_file(session_fd, log_name, O_RDWR | O_CREAT, 0600, &fd, e);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat the session's '%s'", log_name);
	if (st.st_size == 0 && fsync(session_fd) < 0)
		return err_sys(e, "sync the session");
	if (st.st_size > REVIEW_DECISIONS_BYTES_MAX)
		return err_set(e, -EFBIG, "the session's '%s' is over %d MiB", log_name,
		               REVIEW_DECISIONS_BYTES_MAX >> 20);
	*ret = (struct review_log){ .fd = steal_fd(&fd) };
	return 0;
}

/* Where it is, for who has to look at it. Without that its name says which it is. */
static const char *where(const struct review_log *l, char room[PATH_MAX])
{
	return fd_path(l->fd, room) ? room : log_name;
}

static int wrong(const struct review_log *l, uint64_t line, const char *why, struct err *e)
{
	char room[PATH_MAX];

	return err_set(e, -EBADMSG,
	               "line %llu of its decisions %s; remove that file to decide anew: %s",
	               (unsigned long long)line, why, where(l, room));
}

static int one_line(const struct review_log *l, struct span text, uint64_t line,
                    review_log_fn *each, void *arg, struct err *e)
{
	uint8_t room[WPATH_MAX + 1];
	struct decision d;
	struct buf path;

	if (line == 1)
		return span_is(text, DECISION_HEAD) ? 0
		                                    : wrong(l, line, "is of another version", e);
	buf_init(&path, room, sizeof(room));
	if (decision_parse(text, &d) < 0 || !decision_path(d.path, &path))
		return wrong(l, line, "is no decision", e);
	return each(arg, &d, buf_span(&path), e);
}

static int each_line(const struct review_log *l, struct span all, review_log_fn *each, void *arg,
                     uint64_t *ret_bytes, struct err *e)
{
	const uint8_t *start = all.at;
	const uint8_t *nl;
	int r = 0;

	for (uint64_t line = 1; r == 0 && (nl = memchr(all.at, '\n', all.len)) != NULL; line++) {
		struct span text = span_of(all.at, (size_t)(nl - all.at));

		r = one_line(l, text, line, each, arg, e);
		all.len -= text.len + 1;
		all.at = nl + 1;
	}
	*ret_bytes = (uint64_t)(all.at - start);
	return r;
}

int review_log_each(struct review_log *l, review_log_fn *each, void *arg, struct err *e)
{
	char room[PATH_MAX];
	struct stat st;
	void *map;
	int r;

	if (fstat(l->fd, &st) < 0)
		return err_sys(e, "stat '%s'", where(l, room));
	l->bytes = 0;
	if (st.st_size == 0)
		return 0;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, l->fd, 0);
	if (map == MAP_FAILED)
		return err_sys(e, "read '%s'", where(l, room));
	r = each_line(l, span_of(map, (size_t)st.st_size), each, arg, &l->bytes, e);
	(void)munmap(map, (size_t)st.st_size);
	return r;
}

static int write_at(int fd, uint64_t at, struct span data, struct err *e)
{
	if (lseek(fd, (off_t)at, SEEK_SET) < 0)
		return err_sys(e, "seek");
	return fd_write_all(fd, data.at, data.len, e);
}

/* Behind `at`: the head, if there is none yet, and the lines. */
static int append(struct review_log *l, uint64_t at, struct span lines, struct err *e)
{
	static const char head[] = DECISION_HEAD "\n";
	int r = 0;

	if (lines.len > REVIEW_DECISIONS_BYTES_MAX - at)
		return err_set(e, -EFBIG, "it would be over %d MiB",
		               REVIEW_DECISIONS_BYTES_MAX >> 20);
	if (ftruncate(l->fd, (off_t)at) < 0)
		return err_sys(e, "cut it");
	if (at == 0) {
		r = write_at(l->fd, 0, span_of(head, sizeof(head) - 1), e);
		at = sizeof(head) - 1;
	}
	if (r == 0)
		r = write_at(l->fd, at, lines, e);
	if (r == 0 && fdatasync(l->fd) < 0)
		r = err_sys(e, "sync");
	if (r == 0)
		l->bytes = at + lines.len;
	return r;
}

int review_log_add(struct review_log *l, struct span lines, struct err *e)
{
	char room[PATH_MAX];
	int r = append(l, l->bytes, lines, e);

	if (r == 0)
		return 0;
	(void)!ftruncate(l->fd, (off_t)l->bytes); /* what counts is in front of it */
	return err_wrap(e, "keep the decision in '%s'", where(l, room));
}

int review_lines_add(struct review_lines *l, struct span path, const struct decision *d,
                     struct err *e)
{
	size_t need = 3 * path.len + d->hunks.len + 512;
	struct buf b;

	if (need > l->room - l->len) {
		size_t room = 2 * l->room > l->len + need ? 2 * l->room : l->len + need;
		uint8_t *more = realloc(l->at, room);

		if (more == NULL)
			return err_set(e, -ENOMEM, "no memory to write decisions down");
		l->at = more;
		l->room = room;
	}
	buf_init(&b, l->at + l->len, l->room - l->len);
	decision_put(&b, path, d);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "a decision is too long");
	l->len += b.len;
	return 0;
}

void review_lines_clear(struct review_lines *l)
{
	free(l->at);
	*l = (struct review_lines){ 0 };
}
