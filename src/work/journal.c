#include "work/journal.h"
#include "base/ck.h"
#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { JOURNAL_CHUNK_BYTES = 256 << 10 }; /* records gathered for one write */

struct journal {
	int fd;
	uint64_t at; /* where the next records go */
	struct journal_sum sum;
	uint32_t steps;
	struct buf out;
	uint8_t room[JOURNAL_CHUNK_BYTES];
};

void journal_free(struct journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		(void)close(j->fd);
	free(j);
}

static int write_at(int fd, uint64_t at, const void *data, size_t len, struct err *e)
{
	const uint8_t *from = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, from, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "write the journal");
		from += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Takes *fd; NULL: out of memory. */
static struct journal *journal_over(int *fd)
{
	struct journal *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->fd = steal_fd(fd);
	j->at = JOURNAL_STEPS_AT;
	buf_init(&j->out, j->room, sizeof(j->room));
	return j;
}

int journal_new(int dir_fd, const char *name, const struct journal_head *h, struct journal **ret,
                struct err *e)
{
	_own_(journal_free) struct journal *j = NULL;
	_own_fd_ int fd = -1;
	int r = fd_openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, &fd, e);

	if (r < 0)
		return r;
	j = journal_over(&fd);
	if (!j)
		return err_set(e, -ENOMEM, "out of memory");
	/* the rest of the room is zeros: marks are written where room exists already */
	journal_put_head(&j->out, h);
	if (!buf_ok(&j->out))
		return err_set(e, -EINVAL, "the session's name is too long for a journal");
	r = write_at(j->fd, 0, j->room, JOURNAL_STEPS_AT, e);
	if (r < 0)
		return r;
	buf_reset(&j->out);
	*ret = steal_ptr(&j);
	return 0;
}

int journal_sync(struct journal *j, struct err *e)
{
	return fsync(j->fd) < 0 ? err_sys(e, "sync the journal") : 0;
}

static int flush(struct journal *j, struct err *e)
{
	struct span s = buf_span(&j->out);
	int r;

	if (s.len > JOURNAL_BYTES_MAX - j->sum.bytes)
		return err_set(e, -EFBIG, "the journal is over %d bytes", JOURNAL_BYTES_MAX);
	r = write_at(j->fd, j->at, s.at, s.len, e);
	if (r < 0)
		return r;
	j->at += s.len;
	j->sum.bytes += (uint32_t)s.len;
	j->sum.crc = journal_crc(j->sum.crc, s);
	buf_reset(&j->out);
	return 0;
}

int journal_add(struct journal *j, const struct journal_step *s, struct err *e)
{
	int r = 0;

	if (j->steps >= JOURNAL_STEPS_MAX)
		return err_set(e, -EFBIG, "over %d steps", JOURNAL_STEPS_MAX);
	if (j->out.size - j->out.len < JOURNAL_PREFIX_BYTES + JOURNAL_RECORD_MAX)
		r = flush(j, e);
	if (r < 0)
		return r;
	journal_put_step(&j->out, s);
	if (!buf_ok(&j->out))
		return err_set(e, -ENAMETOOLONG, "a path is too long for the journal");
	j->steps++;
	return 0;
}

int journal_end(struct journal *j, struct err *e)
{
	int r = 0;

	if (j->out.size - j->out.len < JOURNAL_PREFIX_BYTES + JOURNAL_RECORD_MAX)
		r = flush(j, e);
	if (r < 0)
		return r;
	journal_put_end(&j->out, j->steps);
	return flush(j, e);
}

int journal_mark(struct journal *j, enum journal_mark m, struct err *e)
{
	uint8_t room[JOURNAL_MARK_BYTES];
	struct buf out;

	buf_init(&out, room, sizeof(room));
	journal_put_mark(&out, m, j->sum);
	return write_at(j->fd, JOURNAL_HEAD_BYTES + (uint64_t)m * JOURNAL_MARK_BYTES, room,
	                sizeof(room), e);
}

void journal_read_free(struct journal_read *j)
{
	if (!j)
		return;
	journal_free(j->j);
	free(j->steps);
	free(j->bytes);
	free(j);
}

static int read_whole(struct journal_read *j, int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat the journal");
	if (!S_ISREG(st.st_mode) || st.st_size < 0 ||
	    st.st_size > (off_t)JOURNAL_STEPS_AT + JOURNAL_BYTES_MAX)
		return err_set(e, -EBADMSG, "the journal is no file of ours");
	return fd_read_text(fd, (size_t)st.st_size, &j->bytes, &j->len, e);
}

static int add_step(struct journal_read *j, const struct journal_step *s, uint32_t *room,
                    struct err *e)
{
	if (j->steps_count == *room) {
		uint32_t want = *room ? *room * 2 : 64;
		struct journal_step *more = reallocarray(j->steps, want, sizeof(*more));

		if (!more)
			return err_set(e, -ENOMEM, "out of memory");
		j->steps = more;
		*room = want;
	}
	j->steps[j->steps_count++] = *s;
	return 0;
}

/* All records up to the end record, or none: a part of them says nothing. */
static int read_steps(struct journal_read *j, struct err *e)
{
	struct span in = span_of(j->bytes + JOURNAL_STEPS_AT, j->len - JOURNAL_STEPS_AT);
	struct span all = in;
	uint32_t room = 0;

	for (;;) {
		struct journal_step s;
		bool end;
		int r = journal_parse_step(&in, &s, &end);

		if (r < 0 || (end && s.slot != j->steps_count) ||
		    j->steps_count >= JOURNAL_STEPS_MAX)
			break;
		if (end) {
			j->steps_ok = true;
			j->j->sum.bytes = (uint32_t)(all.len - in.len);
			j->j->sum.crc = journal_crc(0, span_of(all.at, all.len - in.len));
			return 0;
		}
		r = add_step(j, &s, &room, e);
		if (r < 0)
			return r;
	}
	j->steps_count = 0;
	return 0;
}

static int read_marks(struct journal_read *j, struct err *e)
{
	for (unsigned m = 0; m < JOURNAL_MARKS; m++) {
		const char *at = j->bytes + JOURNAL_HEAD_BYTES + (size_t)m * JOURNAL_MARK_BYTES;
		struct journal_sum sum;
		int r = journal_parse_mark(span_of(at, JOURNAL_MARK_BYTES), m, &sum);

		if (r == -EBADMSG)
			j->torn_mark = true;
		if (r < 0)
			continue;
		/* what a mark is set over was synced before it */
		if (!j->head_ok || !j->steps_ok || sum.bytes != j->j->sum.bytes ||
		    sum.crc != j->j->sum.crc)
			return err_set(e, -EBADMSG, "the journal is damaged: nothing was touched");
		j->marks[m] = true;
	}
	return 0;
}

int journal_open(int dir_fd, const char *name, struct journal_read **ret, struct err *e)
{
	_own_(journal_read_free) struct journal_read *j = calloc(1, sizeof(*j));
	_own_fd_ int fd = -1;
	int r;

	if (!j)
		return err_set(e, -ENOMEM, "out of memory");
	r = fd_open_file(dir_fd, name, O_RDWR, 0, &fd, e);
	if (r == 0)
		r = read_whole(j, fd, e);
	if (r < 0)
		return r;
	j->j = journal_over(&fd);
	if (!j->j)
		return err_set(e, -ENOMEM, "out of memory");
	j->head_ok = journal_parse_head(span_of(j->bytes, j->len), &j->head) == 0;
	if (j->len >= JOURNAL_STEPS_AT) {
		r = read_steps(j, e);
		if (r == 0)
			r = read_marks(j, e);
		if (r < 0)
			return r;
	}
	*ret = steal_ptr(&j);
	return 0;
}
