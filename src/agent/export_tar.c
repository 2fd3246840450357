#include "agent/export_tar.h"

#include "base/fdio.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* POSIX.1-2017, pax, "ustar Interchange Format". */
enum {
	BLOCK_BYTES = 512,
	NAME_BYTES = 100,
	MODE_OFF = 100,
	UID_OFF = 108,
	GID_OFF = 116,
	SIZE_OFF = 124,
	MTIME_OFF = 136,
	SUM_OFF = 148,
	SUM_BYTES = 8,
	TYPE_OFF = 156,
	LINK_OFF = 157,
	MAGIC_OFF = 257,
};

#define SIZE_FIELD_MAX UINT64_C(077777777777)

static const uint8_t types[] = { [EXPORT_FILE] = '0',
	                         [EXPORT_DIR] = '5',
	                         [EXPORT_LINK] = '2',
	                         [EXPORT_WHITEOUT] = '0',
	                         [EXPORT_OTHER] = '0' };

void export_tar_init(struct export_tar *t, int out_fd)
{
	t->out_fd = out_fd;
	t->entries = 0;
	t->content_bytes = 0;
	t->bytes = 0;
	sha256_init(&t->sum);
	buf_init(&t->out, t->storage, sizeof(t->storage));
	buf_init(&t->records, t->record_storage, sizeof(t->record_storage));
}

static int flush(struct export_tar *t, struct err *e)
{
	int r = 0;

	t->bytes += t->out.len;
	if (t->out_fd >= 0) {
		r = fd_write_all(t->out_fd, t->out.at, t->out.len, e);
		sha256_add(&t->sum, t->out.at, t->out.len);
	}
	buf_reset(&t->out);
	return r;
}

static int make_room(struct export_tar *t, size_t bytes, struct err *e)
{
	return t->out.size - t->out.len < bytes ? flush(t, e) : 0;
}

static size_t padding(uint64_t bytes)
{
	return (size_t)(-bytes % BLOCK_BYTES);
}

static void put_zeros(struct buf *b, size_t count)
{
	static const uint8_t zeros[BLOCK_BYTES];

	buf_put(b, zeros, count);
}

/* --- headers --- */

static void put_text(uint8_t *at, size_t size, struct span text)
{
	if (text.len > 0)
		memcpy(at, text.at, text.len < size ? text.len : size);
}

static void put_octal(uint8_t *at, unsigned digits, uint64_t v)
{
	for (unsigned i = digits; i-- > 0; v >>= 3)
		at[i] = (uint8_t)('0' + (v & 7));
}

static void put_header(struct export_tar *t, uint8_t type, uint32_t mode, uint64_t size,
                       struct span name, struct span target)
{
	static const uint8_t magic[] = { 'u', 's', 't', 'a', 'r', 0, '0', '0' };
	uint8_t h[BLOCK_BYTES] = { 0 };
	uint64_t sum = 0;

	put_text(h, NAME_BYTES, name);
	put_octal(h + MODE_OFF, 7, mode);
	put_octal(h + UID_OFF, 7, 0);
	put_octal(h + GID_OFF, 7, 0);
	put_octal(h + SIZE_OFF, 11, size <= SIZE_FIELD_MAX ? size : 0);
	put_octal(h + MTIME_OFF, 11, 0);
	h[TYPE_OFF] = type;
	put_text(h + LINK_OFF, NAME_BYTES, target);
	memcpy(h + MAGIC_OFF, magic, sizeof(magic));
	memset(h + SUM_OFF, ' ', SUM_BYTES);
	for (unsigned i = 0; i < BLOCK_BYTES; i++)
		sum += h[i];
	put_octal(h + SUM_OFF, 6, sum);
	h[SUM_OFF + 6] = 0;
	buf_put(&t->out, h, sizeof(h));
}

/* --- records --- */

static unsigned digits_of(size_t v)
{
	unsigned n = 1;

	while (v >= 10) {
		v /= 10;
		n++;
	}
	return n;
}

/* "LENGTH KEY=VALUE\n"; the length counts its own digits. */
static void put_record(struct export_tar *t, const char *key, struct span value)
{
	size_t rest = 1 + strlen(key) + 1 + value.len + 1;
	size_t len = rest + digits_of(rest);

	if (digits_of(len) > digits_of(rest))
		len = rest + digits_of(len);
	buf_printf(&t->records, "%zu %s=", len, key);
	buf_put_span(&t->records, value);
	buf_put_u8(&t->records, '\n');
}

static void put_number(struct export_tar *t, const char *key, uint64_t v)
{
	char text[24];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	buf_printf(&b, "%" PRIu64, v);
	put_record(t, key, buf_span(&b));
}

/* Times before 1970 have no place in it. */
static void put_time(struct export_tar *t, const struct timespec *when)
{
	char text[40];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	if (when->tv_sec < 0)
		buf_put_str(&b, "0.000000000");
	else
		buf_printf(&b, "%lld.%09ld", (long long)when->tv_sec, when->tv_nsec);
	put_record(t, "mtime", buf_span(&b));
}

static uint64_t stored_bytes(const struct export_entry *en)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < en->extent_count; i++)
		sum += en->extents[i].len;
	return sum;
}

/* Its length is in front of it, so it is put in place first and moved. */
static int put_map(struct export_tar *t, const struct export_entry *en, struct err *e)
{
	_own_free_ char *room = malloc(EXPORT_RECORDS_MAX);
	struct buf b;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, room, EXPORT_RECORDS_MAX);
	buf_printf(&b, "%zu:", en->extent_count);
	for (size_t i = 0; i < en->extent_count; i++)
		buf_printf(&b, "%s%" PRIu64 ",%" PRIu64, i > 0 ? ";" : "", en->extents[i].off,
		           en->extents[i].len);
	put_record(t, "BERM.sparse", buf_span(&b));
	return buf_ok(&b) ? 0 : err_set(e, -EMSGSIZE, "a file's map of holes is too long");
}

static int put_file(struct export_tar *t, const struct export_entry *en, struct err *e)
{
	uint64_t stored = stored_bytes(en);

	put_number(t, "size", stored);
	if (stored == en->size)
		return 0;
	put_number(t, "BERM.size", en->size);
	return put_map(t, en, e);
}

static int put_records(struct export_tar *t, const struct export_entry *en, struct err *e)
{
	buf_reset(&t->records);
	put_record(t, "path", en->path.len > 0 ? en->path : span_str("."));
	if (en->path.len == 0)
		put_number(t, "BERM.version", EXPORT_VERSION);
	if (en->kind <= EXPORT_LINK)
		put_time(t, &en->mtime);
	if (en->kind == EXPORT_LINK)
		put_record(t, "linkpath", en->target);
	if (en->kind == EXPORT_WHITEOUT)
		put_number(t, "BERM.whiteout", 1);
	if (en->opaque)
		put_number(t, "BERM.opaque", 1);
	if (en->redirect)
		put_record(t, "BERM.redirect", span_str(en->redirect));
	if (en->skipped)
		put_record(t, "BERM.skipped", span_str(en->skipped));
	return en->kind == EXPORT_FILE ? put_file(t, en, e) : 0;
}

/* The records that were put, as an extended header. */
static int put_extended(struct export_tar *t, struct err *e)
{
	int r = make_room(t, BLOCK_BYTES * (size_t)3 + t->records.len, e);

	if (r < 0)
		return r;
	if (!buf_ok(&t->records))
		return err_set(e, -EMSGSIZE, "an entry's records are too long");
	put_header(t, 'x', 0644, t->records.len, span_str(".berm-pax"), span_str(""));
	buf_put_span(&t->out, buf_span(&t->records));
	put_zeros(&t->out, padding(t->records.len));
	return 0;
}

int export_tar_entry(struct export_tar *t, const struct export_entry *en, struct err *e)
{
	bool mode = en->kind == EXPORT_FILE || en->kind == EXPORT_DIR;
	int r = put_records(t, en, e);

	if (r == 0)
		r = put_extended(t, e);
	if (r < 0)
		return r;
	put_header(t, types[en->kind], mode ? en->mode : 0,
	           en->kind == EXPORT_FILE ? stored_bytes(en) : 0,
	           en->path.len > 0 ? en->path : span_str("."), en->target);
	t->entries++;
	t->content_bytes = 0;
	return 0;
}

int export_tar_content(struct export_tar *t, int fd, const struct export_extent *x, struct err *e)
{
	uint64_t left = x->len;
	uint64_t off = x->off;

	if (t->out_fd < 0) {
		t->bytes += left;
		t->content_bytes += left;
		return 0;
	}
	while (left > 0) {
		size_t room = t->out.size - t->out.len;
		size_t want;
		ssize_t n;

		if (room < BLOCK_BYTES) {
			int r = flush(t, e);

			if (r < 0)
				return r;
			room = t->out.size;
		}
		want = left < room ? (size_t)left : room;
		n = pread(fd, t->out.at + t->out.len, want, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "its content");
		if (n == 0)
			return err_set(e, -EIO, "it became shorter meanwhile");
		t->out.len += (size_t)n;
		t->content_bytes += (uint64_t)n;
		off += (uint64_t)n;
		left -= (uint64_t)n;
	}
	return 0;
}

int export_tar_pad(struct export_tar *t, struct err *e)
{
	int r = make_room(t, BLOCK_BYTES, e);

	put_zeros(&t->out, padding(t->content_bytes));
	return r;
}

int export_tar_end(struct export_tar *t, struct err *e)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t sum[SHA256_BYTES];
	char hex[2 * SHA256_BYTES];
	int r = flush(t, e);

	if (r < 0)
		return r;
	sha256_sum(&t->sum, sum);
	for (size_t i = 0; i < SHA256_BYTES; i++) {
		hex[2 * i] = digits[sum[i] >> 4];
		hex[2 * i + 1] = digits[sum[i] & 15];
	}
	buf_reset(&t->records);
	put_record(t, "path", span_str(".berm-end"));
	put_number(t, "BERM.entries", t->entries);
	put_record(t, "BERM.sha256", span_of(hex, sizeof(hex)));
	r = put_extended(t, e);
	if (r < 0)
		return r;
	put_header(t, '0', 0, 0, span_str(".berm-end"), span_str(""));
	put_zeros(&t->out, BLOCK_BYTES);
	put_zeros(&t->out, BLOCK_BYTES);
	return flush(t, e);
}
