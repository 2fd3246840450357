#include "test.h"

#include "base/fdio.h"
#include "failalloc.h"
#include "guardpage.h"
#include "work/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static const struct journal_head head = {
	.kind = JOURNAL_APPLY,
	.generation = 7,
	.root = { .dev = 0xfe00000001, .ino = 2, .btime_ns = 1790000000123456789 },
	.session = "0123456789ab",
};

static const struct journal_step steps[] = {
	{ .type = STEP_CHMOD,
	  .flags = STEP_LATE,
	  .slot = 3,
	  .was = { .kind = APPLY_DIR, .mode = 0700, .nlink = 2, .ino = 9, .mtime_ns = -1 },
	  .now = { .kind = APPLY_DIR, .mode = 0500, .nlink = 2, .ino = 9, .mtime_ns = -1 },
	  .path = "a/b",
	  .other = "a/b" },
	{ .type = STEP_OUT, .flags = STEP_SOFT, .was.kind = APPLY_DIR, .path = "d", .other = "" },
	{ .type = STEP_MOVE, .path = "from", .other = "to \xe9\x1b" },
	{ .type = STEP_SWAP,
	  .slot = UINT32_MAX,
	  .now.size = 1ULL << 43,
	  .path = "x",
	  .other = "y" },
};
enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

static struct span put_steps(uint8_t *room, size_t size)
{
	struct buf b;

	buf_init(&b, room, size);
	for (unsigned i = 0; i < STEPS; i++)
		journal_put_step(&b, &steps[i]);
	journal_put_end(&b, STEPS);
	CHECK(buf_ok(&b));
	return buf_span(&b);
}

static void check_step(const struct journal_step *got, const struct journal_step *want)
{
	CHECK_EQ(got->type, want->type);
	CHECK_EQ(got->flags, want->flags);
	CHECK_EQ(got->slot, want->slot);
	CHECK_EQ(got->was.ino, want->was.ino);
	CHECK_EQ(got->was.mtime_ns, want->was.mtime_ns);
	CHECK_EQ(got->now.size, want->now.size);
	CHECK_EQ(got->now.mode, want->now.mode);
	CHECK_STR(got->path, want->path);
	CHECK_STR(got->other, want->other);
}

TEST(checksum_is_the_known_one)
{
	CHECK_EQ(journal_crc(0, span_str("123456789")), 0xcbf43926);
	CHECK_EQ(journal_crc(journal_crc(0, span_str("1234")), span_str("56789")), 0xcbf43926);
}

TEST(head_is_read_back_and_no_other)
{
	static uint8_t room[JOURNAL_HEAD_BYTES];
	struct journal_head got;
	struct buf b;

	buf_init(&b, room, sizeof(room));
	journal_put_head(&b, &head);
	CHECK(buf_ok(&b));
	CHECK_EQ(b.len, JOURNAL_HEAD_BYTES);
	CHECK_EQ(journal_parse_head(guard_span(room, sizeof(room)), &got), 0);
	CHECK_EQ(got.generation, 7);
	CHECK_EQ(got.root.ino, 2);
	CHECK_EQ(got.root.btime_ns, head.root.btime_ns);
	CHECK_STR(got.session, head.session);
	for (size_t n = 0; n < sizeof(room); n += 97)
		CHECK_EQ(journal_parse_head(guard_span(room, n), &got), -EAGAIN);
	for (size_t n = 0; n < sizeof(room); n++) {
		room[n] ^= 0x10;
		memset(&got, 0xa5, sizeof(got));
		CHECK_EQ(journal_parse_head(span_of(room, sizeof(room)), &got), -EBADMSG);
		CHECK_EQ(got.generation, 0xa5a5a5a5);
		room[n] ^= 0x10;
	}
}

TEST(marks_are_whole_or_none)
{
	uint8_t room[JOURNAL_MARK_BYTES] = { 0 };
	const struct journal_sum sum = { .bytes = 1234, .crc = 0xdeadbeef };
	struct journal_sum got;
	struct buf b;

	CHECK_EQ(journal_parse_mark(span_of(room, sizeof(room)), JOURNAL_COMMIT, &got), -ENOENT);
	buf_init(&b, room, sizeof(room));
	journal_put_mark(&b, JOURNAL_ABORT, sum);
	CHECK(buf_ok(&b));
	CHECK_EQ(journal_parse_mark(guard_span(room, sizeof(room)), JOURNAL_ABORT, &got), 0);
	CHECK_EQ(got.bytes, 1234);
	CHECK_EQ(got.crc, 0xdeadbeef);
	CHECK_EQ(journal_parse_mark(span_of(room, sizeof(room)), JOURNAL_DONE, &got), -EBADMSG);
	for (size_t n = 0; n < sizeof(room); n++) {
		CHECK_EQ(journal_parse_mark(guard_span(room, n), JOURNAL_ABORT, &got), -EAGAIN);
		room[n] ^= 1;
		CHECK_EQ(journal_parse_mark(span_of(room, sizeof(room)), JOURNAL_ABORT, &got),
		         -EBADMSG);
		room[n] ^= 1;
	}
}

TEST(steps_are_read_back)
{
	static uint8_t room[16 << 10];
	struct span all = put_steps(room, sizeof(room));
	struct span in = guard_span(all.at, all.len);
	struct journal_step got;
	bool end;

	for (unsigned i = 0; i < STEPS; i++) {
		CHECK_EQ(journal_parse_step(&in, &got, &end), 0);
		CHECK(!end);
		check_step(&got, &steps[i]);
	}
	CHECK_EQ(journal_parse_step(&in, &got, &end), 0);
	CHECK(end);
	CHECK_EQ(got.slot, STEPS);
	CHECK_EQ(in.len, 0);
	CHECK_EQ(journal_parse_step(&in, &got, &end), -EAGAIN);
}

/* The first record alone: each prefix asks for more, each flipped byte is refused or asks. */
TEST(steps_in_every_prefix_and_with_every_flip)
{
	static uint8_t room[16 << 10];
	struct journal_step got;
	struct buf b;
	bool end;

	buf_init(&b, room, sizeof(room));
	journal_put_step(&b, &steps[0]);
	for (size_t n = 0; n < b.len; n++) {
		struct span in = guard_span(room, n);

		memset(&got, 0xa5, sizeof(got));
		CHECK_EQ(journal_parse_step(&in, &got, &end), -EAGAIN);
		CHECK_EQ(in.len, n);
		CHECK_EQ(got.slot, 0xa5a5a5a5);
		for (unsigned bit = 0; bit < 8; bit++) {
			in = buf_span(&b);
			room[n] ^= (uint8_t)(1U << bit);
			CHECK(journal_parse_step(&in, &got, &end) < 0);
			room[n] ^= (uint8_t)(1U << bit);
		}
	}
}

static int session_dir(void)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	return fd;
}

static void write_journal(int dir, bool commit)
{
	_own_(journal_free) struct journal *j = NULL;
	struct err e = { 0 };

	(void)unlinkat(dir, "journal", 0);
	CHECK_OK(journal_new(dir, "journal", &head, &j, &e), &e);
	for (unsigned i = 0; i < STEPS; i++)
		CHECK_OK(journal_add(j, &steps[i], &e), &e);
	CHECK_OK(journal_end(j, &e), &e);
	CHECK_OK(journal_sync(j, &e), &e);
	if (commit)
		CHECK_OK(journal_mark(j, JOURNAL_COMMIT, &e), &e);
}

TEST(a_file_is_read_back)
{
	_own_fd_ int dir = session_dir();
	_own_(journal_read_free) struct journal_read *got = NULL;
	struct err e = { 0 };

	CHECK_EQ(journal_open(dir, "journal", &got, &e), -ENOENT);
	write_journal(dir, true);
	CHECK_OK(journal_open(dir, "journal", &got, &e), &e);
	CHECK(got->head_ok && got->steps_ok && !got->torn_mark);
	CHECK(got->marks[JOURNAL_COMMIT] && !got->marks[JOURNAL_ABORT] &&
	      !got->marks[JOURNAL_DONE]);
	CHECK_EQ(got->steps_count, STEPS);
	for (unsigned i = 0; i < STEPS; i++)
		check_step(&got->steps[i], &steps[i]);
	/* a mark set by who read it is over the same records */
	CHECK_OK(journal_mark(got->j, JOURNAL_DONE, &e), &e);
	journal_read_free(steal_ptr(&got));
	CHECK_OK(journal_open(dir, "journal", &got, &e), &e);
	CHECK(got->marks[JOURNAL_DONE]);
}

/* Without a mark every length is a crash's; with one, what is missing is a disk's fault. */
TEST(a_torn_file_has_no_steps)
{
	_own_fd_ int dir = session_dir();
	struct err e = { 0 };
	struct stat st;

	write_journal(dir, false);
	CHECK_EQ(fstatat(dir, "journal", &st, 0), 0);
	for (off_t n = st.st_size - 1; n >= 0; n -= n > JOURNAL_STEPS_AT ? 1 : 701) {
		_own_(journal_read_free) struct journal_read *got = NULL;
		_own_fd_ int fd = openat(dir, "journal", O_RDWR | O_CLOEXEC);

		CHECK_EQ(ftruncate(fd, n), 0);
		CHECK_OK(journal_open(dir, "journal", &got, &e), &e);
		CHECK(!got->steps_ok);
		CHECK_EQ(got->steps_count, 0);
		CHECK_EQ(got->head_ok, n >= JOURNAL_HEAD_BYTES);
	}
	write_journal(dir, true);
	for (off_t n = st.st_size - 1; n >= JOURNAL_STEPS_AT; n--) {
		_own_(journal_read_free) struct journal_read *got = NULL;
		_own_fd_ int fd = openat(dir, "journal", O_RDWR | O_CLOEXEC);

		CHECK_EQ(ftruncate(fd, n), 0);
		CHECK_EQ(journal_open(dir, "journal", &got, &e), -EBADMSG);
	}
}

TEST(many_steps_are_written_in_pieces)
{
	_own_fd_ int dir = session_dir();
	_own_(journal_read_free) struct journal_read *got = NULL;
	struct err e = { 0 };
	char path[WPATH_MAX + 1];

	memset(path, 'p', sizeof(path));
	for (size_t i = 200; i < sizeof(path); i += 200)
		path[i] = '/';
	path[WPATH_MAX] = '\0';
	{
		_own_(journal_free) struct journal *j = NULL;

		CHECK_OK(journal_new(dir, "journal", &head, &j, &e), &e);
		for (uint32_t i = 0; i < 300; i++) {
			struct journal_step s = {
				.type = STEP_MOVE, .slot = i, .path = path, .other = path
			};

			CHECK_OK(journal_add(j, &s, &e), &e);
		}
		CHECK_OK(journal_end(j, &e), &e);
		CHECK_OK(journal_mark(j, JOURNAL_COMMIT, &e), &e);
		CHECK_EQ(journal_new(dir, "journal", &head, &j, &e), -EEXIST);
	}
	CHECK_OK(journal_open(dir, "journal", &got, &e), &e);
	CHECK_EQ(got->steps_count, 300);
	CHECK_EQ(got->steps[299].slot, 299);
	CHECK_STR(got->steps[299].other, path);
}

TEST(every_allocation_may_fail)
{
	_own_fd_ int dir = session_dir();

	write_journal(dir, true);
	FAILALLOC_EACH()
	{
		struct journal_read *got = NULL;
		struct err e = { 0 };
		int r = journal_open(dir, "journal", &got, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!got);
		} else {
			CHECK_OK(r, &e);
			journal_read_free(got);
		}
	}
}

TEST_MAIN()
