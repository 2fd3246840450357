#include "state/outlog.h"

#include "base/buf.h"
#include "base/fdio.h"
#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

static int open_dir(void)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	return fd;
}

static struct outlog writer(int dir_fd)
{
	struct err e = { 0 };
	struct outlog l;

	CHECK_OK(outlog_open(dir_fd, &l, &e), &e);
	return l;
}

static void say(struct outlog *l, const char *text)
{
	outlog_append(l, OUTLOG_OUT, 1000, span_str(text));
}

static struct outlog_reader *reader(int dir_fd)
{
	struct outlog_reader *r = NULL;
	struct err e = { 0 };

	CHECK_OK(outlog_reader_new(dir_fd, &r, &e), &e);
	return r;
}

/* All that can be read now, records joined by '|'. */
static const char *rest(struct outlog_reader *r)
{
	static char text[4096];
	struct outlog_record rec;
	struct err e = { 0 };
	struct buf b;
	int code;

	buf_init(&b, text, sizeof(text));
	while ((code = outlog_reader_next(r, &rec, &e)) == 0) {
		if (b.len > 0)
			buf_put_u8(&b, '|');
		if (rec.channel == OUTLOG_GAP)
			buf_printf(&b, "gap %llu", (unsigned long long)outlog_gap_bytes(&rec));
		else
			buf_put_span(&b, rec.data);
	}
	if (code != -EAGAIN)
		test_fail(__FILE__, __LINE__, "%d: %s", code, e.text);
	return buf_cstr(&b);
}

TEST(what_is_written_is_read)
{
	_own_fd_ int dir_fd = open_dir();
	struct outlog l = writer(dir_fd);
	_own_(outlog_reader_free) struct outlog_reader *r = reader(dir_fd);
	struct outlog_record rec;
	struct err e = { 0 };

	CHECK_STR(rest(r), "");
	outlog_append(&l, OUTLOG_ERR, UINT64_C(1790000000123), span_of("a\0b", 3));
	outlog_append(&l, OUTLOG_OUT, 5, span_of(NULL, 0));
	CHECK_OK(outlog_reader_next(r, &rec, &e), &e);
	CHECK_EQ(rec.channel, OUTLOG_ERR);
	CHECK_EQ(rec.realtime_ms, 1790000000123);
	CHECK_MEM(rec.data, span_of("a\0b", 3));
	CHECK_EQ(outlog_reader_next(r, &rec, &e), -EAGAIN);
	say(&l, "more");
	CHECK_STR(rest(r), "more");
	outlog_close(&l);
	CHECK_STR(rest(r), "");
}

TEST(a_reader_before_the_file_waits_for_it)
{
	_own_fd_ int dir_fd = open_dir();
	_own_(outlog_reader_free) struct outlog_reader *r = reader(dir_fd);
	struct outlog l;

	CHECK_STR(rest(r), "");
	l = writer(dir_fd);
	say(&l, "x");
	CHECK_STR(rest(r), "x");
	outlog_close(&l);
}

TEST(large_data_becomes_several_records)
{
	static uint8_t big[3 * OUTLOG_DATA_MAX + 1];
	_own_fd_ int dir_fd = open_dir();
	struct outlog l = writer(dir_fd);
	_own_(outlog_reader_free) struct outlog_reader *r = reader(dir_fd);
	struct outlog_record rec;
	size_t got = 0;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 31 >> 3);
	outlog_append(&l, OUTLOG_OUT, 1, span_of(big, sizeof(big)));
	while (outlog_reader_next(r, &rec, NULL) == 0) {
		CHECK(rec.data.len <= sizeof(big) - got);
		CHECK(memcmp(rec.data.at, big + got, rec.data.len) == 0);
		got += rec.data.len;
	}
	CHECK_EQ(got, sizeof(big));
	outlog_close(&l);
}

static off_t size_of(int dir_fd, const char *name)
{
	struct stat st;

	return fstatat(dir_fd, name, &st, 0) < 0 ? -1 : st.st_size;
}

/* One numbered record of 64 KiB. */
static void say_big(struct outlog *l, uint32_t number)
{
	static uint8_t block[OUTLOG_DATA_MAX];

	memset(block, '.', sizeof(block));
	memcpy(block, &number, sizeof(number));
	outlog_append(l, OUTLOG_OUT, number, span_of(block, sizeof(block)));
}

static uint32_t next_number(struct outlog_reader *r)
{
	struct outlog_record rec;
	uint32_t number;
	int code = outlog_reader_next(r, &rec, NULL);

	if (code == -EAGAIN)
		return UINT32_MAX;
	CHECK_EQ(code, 0);
	CHECK(take_le32(&rec.data, &number));
	return number;
}

TEST(rotation_keeps_the_newest_within_the_bound)
{
	_own_fd_ int dir_fd = open_dir();
	struct outlog l = writer(dir_fd);
	_own_(outlog_reader_free) struct outlog_reader *r = reader(dir_fd);
	uint32_t first;
	uint32_t n;

	for (uint32_t i = 0; i < 300; i++) {
		say_big(&l, i);
		CHECK(size_of(dir_fd, OUTLOG_FILE) + size_of(dir_fd, OUTLOG_FILE_OLD) <=
		      OUTLOG_BYTES_MAX);
	}
	first = next_number(r);
	CHECK(first >= 300 - 128 && first < 300 - 60);
	for (n = first + 1; n < 300; n++)
		CHECK_EQ(next_number(r), n);
	CHECK_EQ(next_number(r), UINT32_MAX);
	CHECK_EQ(l.lost_bytes, 0);
	outlog_close(&l);
}

/* A follower that keeps up loses nothing, over any number of rotations. */
TEST(a_follower_crosses_rotations)
{
	_own_fd_ int dir_fd = open_dir();
	struct outlog l = writer(dir_fd);
	_own_(outlog_reader_free) struct outlog_reader *r = reader(dir_fd);
	uint32_t read = 0;

	for (uint32_t i = 0; i < 400; i++) {
		say_big(&l, i);
		if (i % 50 != 49)
			continue;
		while (read <= i)
			CHECK_EQ(next_number(r), read++);
		CHECK_EQ(next_number(r), UINT32_MAX);
	}
	outlog_close(&l);
}

/* One that does not loses a middle, but no order and no record boundary. */
TEST(a_slow_follower_goes_on_with_what_is_left)
{
	_own_fd_ int dir_fd = open_dir();
	struct outlog l = writer(dir_fd);
	_own_(outlog_reader_free) struct outlog_reader *r = reader(dir_fd);
	uint32_t last = 0;
	uint32_t n;

	say_big(&l, 0);
	CHECK_EQ(next_number(r), 0);
	for (uint32_t i = 1; i < 500; i++)
		say_big(&l, i);
	while ((n = next_number(r)) != UINT32_MAX) {
		CHECK(n > last);
		last = n;
	}
	CHECK_EQ(last, 499);
	outlog_close(&l);
}

TEST(a_move_keeps_the_place)
{
	_own_fd_ int dir_fd = open_dir();
	_own_fd_ int new_fd = -1;
	struct outlog l = writer(dir_fd);
	_own_(outlog_reader_free) struct outlog_reader *r = reader(dir_fd);
	struct err e = { 0 };

	say_big(&l, 0);
	CHECK_EQ(next_number(r), 0);
	for (uint32_t i = 1; i < 70; i++) /* one rotation */
		say_big(&l, i);
	outlog_close(&l);
	CHECK_EQ(mkdirat(dir_fd, "new", 0700), 0);
	CHECK_OK(fd_openat(dir_fd, "new", O_RDONLY | O_DIRECTORY, 0, &new_fd, &e), &e);
	CHECK_EQ(renameat(dir_fd, OUTLOG_FILE, new_fd, OUTLOG_FILE), 0);
	CHECK_EQ(renameat(dir_fd, OUTLOG_FILE_OLD, new_fd, OUTLOG_FILE_OLD), 0);
	for (uint32_t i = 1; i < 63; i++)
		CHECK_EQ(next_number(r), i);
	CHECK_EQ(next_number(r), UINT32_MAX);
	outlog_reader_move(r, new_fd);
	for (uint32_t i = 63; i < 70; i++)
		CHECK_EQ(next_number(r), i);
	CHECK_EQ(next_number(r), UINT32_MAX);
}

static void check_tail(int dir_fd, uint64_t lines, const char *expected)
{
	_own_(outlog_reader_free) struct outlog_reader *r = reader(dir_fd);
	struct err e = { 0 };

	CHECK_OK(outlog_reader_tail(r, lines, &e), &e);
	CHECK_STR(rest(r), expected);
}

TEST(tail_counts_lines_not_records)
{
	_own_fd_ int dir_fd = open_dir();
	struct outlog l = writer(dir_fd);

	check_tail(dir_fd, 3, "");
	say(&l, "one\ntw");
	say(&l, "o\nthree\n");
	check_tail(dir_fd, 0, "");
	check_tail(dir_fd, 1, "three\n");
	check_tail(dir_fd, 2, "tw|o\nthree\n");
	check_tail(dir_fd, 3, "one\ntw|o\nthree\n");
	check_tail(dir_fd, UINT64_MAX, "one\ntw|o\nthree\n");
	say(&l, "half");
	check_tail(dir_fd, 1, "half");
	check_tail(dir_fd, 2, "three\n|half");
	check_tail(dir_fd, 0, "");
	outlog_close(&l);
}

TEST(the_parser_wants_whole_records)
{
	static const char good[] = "\x01"
				   "\x08\x07\x06\x05\x04\x03\x02\x01"
				   "\x03\0\0\0"
				   "abc";
	struct outlog_record rec;
	struct span in = guard_span(good, sizeof(good) - 1);

	CHECK_EQ(outlog_parse(&in, &rec), 0);
	CHECK_EQ(in.len, 0);
	CHECK_EQ(rec.realtime_ms, 0x0102030405060708);
	CHECK_SPAN(rec.data, "abc");
	memset(&rec, 0xa5, sizeof(rec));
	for (size_t len = 0; len < sizeof(good) - 1; len++) {
		struct span before;

		in = before = guard_span(good, len);
		CHECK_EQ(outlog_parse(&in, &rec), -EAGAIN);
		CHECK(in.at == before.at && in.len == before.len);
		CHECK_EQ(rec.channel, 0xa5);
	}
}

#define BAD(text)                                                                                  \
	do {                                                                                       \
		struct span in = guard_span(text, sizeof(text) - 1);                               \
		struct outlog_record rec;                                                          \
		CHECK_EQ(outlog_parse(&in, &rec), -EBADMSG);                                       \
	} while (0)

TEST(the_parser_refuses_lies)
{
	BAD("\x00");
	BAD("\x04");
	BAD("\x01zzzzzzzz\x00\x00\x00\x00");
	BAD("\x01zzzzzzzz\x01\x00\x01\x00"); /* 64 KiB + 1 */
	BAD("\x02zzzzzzzz\xff\xff\xff\xff");
	BAD("\x03zzzzzzzz\x07\x00\x00\x00");
}

TEST(damage_is_said_with_its_place)
{
	_own_fd_ int dir_fd = open_dir();
	struct outlog l = writer(dir_fd);
	_own_(outlog_reader_free) struct outlog_reader *r = reader(dir_fd);
	struct outlog_record rec;
	struct err e = { 0 };

	say(&l, "abc");
	say(&l, "abc");
	CHECK_EQ(pwrite(l.fd, "\xff", 1, 16), 1);
	CHECK_OK(outlog_reader_next(r, &rec, &e), &e);
	CHECK_EQ(outlog_reader_next(r, &rec, &e), -EBADMSG);
	CHECK_STR(e.text, "the log is damaged from byte 16 on");
	outlog_close(&l);
}

/* A disk of 256 KiB: what does not fit is counted, and told once there is room. */
TEST(a_full_disk_drops_and_says_so)
{
	_own_fd_ int dir_fd = -1;
	_own_fd_ int filler = -1;
	_own_(outlog_reader_free) struct outlog_reader *r = NULL;
	struct err e = { 0 };
	struct outlog l;
	uint8_t block[4096] = { 0 };

	if (unshare(CLONE_NEWNS) < 0)
		TEST_SKIP("needs root to mount");
	CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	CHECK_EQ(mount("none", test_tmpdir(), "tmpfs", 0, "size=256k"), 0);
	dir_fd = open_dir();
	l = writer(dir_fd);
	say(&l, "before");
	CHECK_OK(fd_openat(dir_fd, "filler", O_WRONLY | O_CREAT, 0600, &filler, &e), &e);
	while (write(filler, block, sizeof(block)) > 0)
		continue;
	memset(block, 'x', sizeof(block));
	outlog_append(&l, OUTLOG_OUT, 1, span_of(block, sizeof(block))); /* a part may fit */
	outlog_append(&l, OUTLOG_OUT, 1, span_of(block, sizeof(block)));
	CHECK_EQ(l.lost_bytes, 2 * sizeof(block));
	r = reader(dir_fd);
	CHECK_STR(rest(r), "before|gap 4096"); /* in the rest of the page that was there */
	CHECK_EQ(ftruncate(filler, 0), 0);
	say(&l, "after");
	CHECK_STR(rest(r), "gap 4096|after");
	CHECK_EQ(l.dropped_bytes, 0);
	outlog_close(&l);
}

/* The directory may go away under a writer: that is no failure of the sandbox. */
TEST(a_removed_directory_only_drops)
{
	_own_fd_ int dir_fd = open_dir();
	struct outlog l = writer(dir_fd);
	struct err e = { 0 };

	for (uint32_t i = 0; i < 10; i++)
		say_big(&l, i);
	CHECK_OK(fd_remove_tree(AT_FDCWD, test_tmpdir(), &e), &e);
	for (uint32_t i = 0; i < 100; i++)
		say_big(&l, i);
	CHECK(l.lost_bytes > 0);
	outlog_close(&l);
}

TEST_MAIN()
