#include "work/pack_internal.h"

#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * The report's file: a header with the totals, then records in the order of the walk, which is that
 * of wpath_cmp(). A record is its length (le32), then why, dir (u8 each), error (le32), bytes
 * (le64), path and rule (le16 and bytes each).
 */
enum {
	REPORT_VERSION = 1,
	RECORD_FIXED = 1 + 1 + 4 + 8 + 2 + 2,
	RECORD_MAX = RECORD_FIXED + WPATH_MAX + PACK_RULE_MAX,
	STRIDE = 64, /* one place in memory for as many records */
	TOTALS_COUNT = 9,
};

static const uint8_t magic[8] = { 'b', 'e', 'r', 'm', 'r', 'e', 'p', 0 };

const char *pack_why_text(enum pack_why why)
{
	static const char *const texts[PACK_WHY_COUNT] = {
		[PACK_WHY_NONE] = "has entered",
		[PACK_WHY_SECRET] = "may be a secret",
		[PACK_WHY_HOSTONLY] = "is for the host only",
		[PACK_WHY_COST] = "is excluded for its size",
		[PACK_WHY_USER] = "is excluded by a pattern",
		[PACK_WHY_OURS] = "is berm's own state",
		[PACK_WHY_MOUNT] = "is on another file system",
		[PACK_WHY_FIFO] = "is a named pipe",
		[PACK_WHY_SOCKET] = "is a socket",
		[PACK_WHY_DEVICE] = "is a device",
		[PACK_WHY_UNREADABLE] = "cannot be read",
		[PACK_WHY_TORN] = "kept changing while it was read",
		[PACK_WHY_VANISHED] = "was removed during the packing",
		[PACK_WHY_LARGE] = "is too large",
		[PACK_WHY_DEEP] = "has a path that is too long or too deep",
	};

	return (unsigned)why < PACK_WHY_COUNT ? texts[why] : "is not known";
}

/* -- writing */

int out_flush(struct out *o, struct err *e)
{
	size_t done = 0;

	while (done < o->len) {
		ssize_t n = pwrite(o->fd, o->bytes + done, o->len - done, (off_t)o->at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "write the workspace's manifest or report");
		done += (size_t)n;
		o->at += (uint64_t)n;
	}
	o->len = 0;
	return 0;
}

int out_put(struct out *o, const void *data, size_t len, struct err *e)
{
	int r = len > OUT_BYTES - o->len ? out_flush(o, e) : 0;

	assert(len <= OUT_BYTES);
	if (r < 0)
		return r;
	memcpy(o->bytes + o->len, data, len);
	o->len += len;
	return 0;
}

int out_head(struct out *o, const void *data, size_t len, struct err *e)
{
	int r = out_flush(o, e);

	if (r < 0)
		return r;
	o->at = 0;
	r = out_put(o, data, len, e);
	return r < 0 ? r : out_flush(o, e);
}

int pack_leave_out(struct pack *p, const struct pack_record *r, struct err *e)
{
	uint8_t bytes[4 + RECORD_MAX];
	struct span rule = r->rule;
	struct buf b;

	p->totals.left_out[r->why]++;
	p->totals.left_out_bytes[r->why] += r->bytes;
	if (!p->report)
		return 0;
	rule.len = rule.len < PACK_RULE_MAX ? rule.len : PACK_RULE_MAX;
	buf_init(&b, bytes, sizeof(bytes));
	buf_put_le32(&b, (uint32_t)(RECORD_FIXED + r->path.len + rule.len));
	buf_put_u8(&b, (uint8_t)r->why);
	buf_put_u8(&b, r->dir ? 1 : 0);
	buf_put_le32(&b, (uint32_t)r->error);
	buf_put_le64(&b, r->bytes);
	buf_put_str16(&b, r->path);
	buf_put_str16(&b, rule);
	assert(buf_ok(&b));
	p->report_count++;
	return out_put(p->report, bytes, b.len, e);
}

static void put_totals(struct buf *b, const struct pack_totals *t)
{
	const uint64_t numbers[TOTALS_COUNT] = { t->files,       t->dirs,         t->links,
		                                 t->file_bytes,  t->reused_files, t->reused_bytes,
		                                 t->image_bytes, t->setid,        t->hard_links };

	for (size_t i = 0; i < TOTALS_COUNT; i++)
		buf_put_le64(b, numbers[i]);
	for (size_t i = 0; i < PACK_WHY_COUNT; i++) {
		buf_put_le64(b, t->left_out[i]);
		buf_put_le64(b, t->left_out_bytes[i]);
	}
}

int pack_report_end(struct pack *p, struct err *e)
{
	uint8_t head[PACK_REPORT_HEADER_BYTES] = { 0 };
	struct buf b;

	buf_init(&b, head, sizeof(head));
	buf_put(&b, magic, sizeof(magic));
	buf_put_le32(&b, REPORT_VERSION);
	buf_put_le32(&b, PACK_WHY_COUNT);
	buf_put_le64(&b, p->report_count);
	put_totals(&b, &p->totals);
	assert(buf_ok(&b));
	return out_head(p->report, head, sizeof(head), e);
}

/* -- reading */

struct pack_report {
	int fd; /* owned */
	uint64_t bytes, count;
	struct pack_totals totals;
	uint64_t *index; /* where every STRIDE-th record begins */
	size_t index_len;
	uint64_t at; /* of the record in `record`, or of the next one */
	uint8_t record[4 + RECORD_MAX];
};

static bool take_totals(struct span *in, struct pack_totals *ret)
{
	uint64_t *const numbers[TOTALS_COUNT] = { &ret->files,        &ret->dirs,
		                                  &ret->links,        &ret->file_bytes,
		                                  &ret->reused_files, &ret->reused_bytes,
		                                  &ret->image_bytes,  &ret->setid,
		                                  &ret->hard_links };

	for (size_t i = 0; i < TOTALS_COUNT; i++)
		if (!take_le64(in, numbers[i]))
			return false;
	for (size_t i = 0; i < PACK_WHY_COUNT; i++)
		if (!take_le64(in, &ret->left_out[i]) || !take_le64(in, &ret->left_out_bytes[i]))
			return false;
	return true;
}

static int damaged(struct err *e)
{
	return err_set(e, -EBADMSG, "the workspace's packing report is damaged");
}

/* Up to len bytes, fewer at the end. */
static int read_some(int fd, uint64_t at, void *ret, size_t len, size_t *ret_len, struct err *e)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, (uint8_t *)ret + got, len - got, (off_t)(at + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read the workspace's packing report");
		if (n == 0)
			break;
		got += (size_t)n;
	}
	*ret_len = got;
	return 0;
}

static bool parse_record(struct span in, struct pack_record *ret)
{
	struct pack_record got = { 0 };
	uint8_t why, dir;
	uint32_t error;

	if (!take_u8(&in, &why) || !take_u8(&in, &dir) || !take_le32(&in, &error) ||
	    !take_le64(&in, &got.bytes) || !take_str16(&in, WPATH_MAX, &got.path) ||
	    !take_str16(&in, PACK_RULE_MAX, &got.rule) || in.len != 0)
		return false;
	if (why == PACK_WHY_NONE || why >= PACK_WHY_COUNT || dir > 1 || error > INT32_MAX ||
	    wpath_parse(got.path, NULL) < 0)
		return false;
	got.why = why;
	got.dir = dir == 1;
	got.error = (int)error;
	*ret = got;
	return true;
}

/* The record at r->at, which then is the next one's place. 1, 0 at the end, or below 0. */
static int next(struct pack_report *r, struct pack_record *ret, struct err *e)
{
	struct span head;
	uint32_t len;
	size_t got = 0;
	int fault;

	if (r->at == r->bytes)
		return 0;
	fault = read_some(r->fd, r->at, r->record, sizeof(r->record), &got, e);
	if (fault < 0)
		return fault;
	head = span_of(r->record, got);
	if (!take_le32(&head, &len) || len > head.len || !parse_record(span_of(head.at, len), ret))
		return damaged(e);
	r->at += 4 + (uint64_t)len;
	return 1;
}

static int read_head(struct pack_report *r, struct err *e)
{
	uint8_t head[PACK_REPORT_HEADER_BYTES], mark[sizeof(magic)];
	struct span in = span_of(head, sizeof(head));
	uint32_t version, whys;
	size_t got = 0;
	int fault = read_some(r->fd, 0, head, sizeof(head), &got, e);

	if (fault < 0)
		return fault;
	if (got != sizeof(head) || !take_bytes(&in, mark, sizeof(mark)) ||
	    memcmp(mark, magic, sizeof(mark)) != 0 || !take_le32(&in, &version) ||
	    !take_le32(&in, &whys))
		return damaged(e);
	if (version != REPORT_VERSION || whys != PACK_WHY_COUNT)
		return err_set(
			e, -EPROTO,
			"the workspace's packing report was written by another version of berm");
	if (!take_le64(&in, &r->count) || !take_totals(&in, &r->totals))
		return damaged(e);
	return 0;
}

/* Once through all of it: each record well formed, all in order, as many as the header says. */
static int read_index(struct pack_report *r, struct err *e)
{
	_own_free_ uint8_t *last = malloc(WPATH_MAX);
	uint64_t places = r->count / STRIDE + 1, seen = 0;
	struct pack_record record;
	size_t last_len = 0;
	int more;

	/* RECORD_FIXED is the least a record takes, so a lying count ends here */
	if (r->count > r->bytes / RECORD_FIXED)
		return damaged(e);
	r->index = calloc(places, sizeof(*r->index));
	if (!r->index || !last)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint64_t at = r->at; (more = next(r, &record, e)) == 1; at = r->at) {
		if (seen >= r->count ||
		    (seen > 0 && wpath_cmp(span_of(last, last_len), record.path) >= 0))
			return damaged(e);
		if (seen % STRIDE == 0)
			r->index[r->index_len++] = at;
		memcpy(last, record.path.at, record.path.len);
		last_len = record.path.len;
		seen++;
	}
	if (more < 0)
		return more;
	return seen == r->count ? 0 : damaged(e);
}

int pack_report_open(int fd, struct pack_report **ret, struct err *e)
{
	_own_(pack_report_free) struct pack_report *r = calloc(1, sizeof(*r));
	struct stat st;
	int fault;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	r->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (r->fd < 0)
		return err_sys(e, "duplicate an fd");
	if (fstat(r->fd, &st) < 0)
		return err_sys(e, "look at the workspace's packing report");
	if (st.st_size < PACK_REPORT_HEADER_BYTES)
		return damaged(e);
	r->bytes = (uint64_t)st.st_size;
	r->at = PACK_REPORT_HEADER_BYTES;
	fault = read_head(r, e);
	if (fault == 0)
		fault = read_index(r, e);
	if (fault < 0)
		return fault;
	*ret = steal_ptr(&r);
	return 0;
}

void pack_report_free(struct pack_report *r)
{
	if (!r)
		return;
	own_close_fd(&r->fd);
	free(r->index);
	free(r);
}

void pack_report_totals(const struct pack_report *r, struct pack_totals *ret)
{
	*ret = r->totals;
}

int pack_report_each(struct pack_report *r, pack_report_fn *each, void *arg, struct err *e)
{
	struct pack_record record;
	uint64_t at = PACK_REPORT_HEADER_BYTES;
	int more;

	for (;;) {
		int fault;

		r->at = at; /* the callback may have searched */
		more = next(r, &record, e);
		if (more <= 0)
			return more;
		at = r->at;
		fault = each(arg, &record, e);
		if (fault != 0)
			return fault;
	}
}

/* The record of exactly this path. 1, 0, or below 0. */
static int find(struct pack_report *r, struct span path, struct pack_record *ret, struct err *e)
{
	size_t low = 0, high = r->index_len;
	int more;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		r->at = r->index[middle];
		more = next(r, ret, e);
		if (more <= 0)
			return more < 0 ? more : damaged(e);
		if (wpath_cmp(ret->path, path) <= 0)
			low = middle;
		else
			high = middle;
	}
	if (r->index_len == 0)
		return 0;
	r->at = r->index[low];
	for (int i = 0; i < STRIDE; i++) {
		int order;

		more = next(r, ret, e);
		if (more <= 0)
			return more;
		order = wpath_cmp(ret->path, path);
		if (order >= 0)
			return order == 0;
	}
	return 0;
}

int pack_report_find(struct pack_report *r, struct span path, struct pack_record *ret,
                     struct err *e)
{
	for (struct span at = path;; at = wpath_parent(at)) {
		struct pack_record record;
		int got = find(r, at, &record, e);

		if (got < 0)
			return got;
		if (got == 1 && (at.len == path.len || record.dir)) {
			*ret = record;
			return 0;
		}
		if (at.len == 0)
			return -ENOENT;
	}
}
