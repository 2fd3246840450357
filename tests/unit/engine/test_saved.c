#include "base/clock.h"
#include "base/fdio.h"
#include "engine/saved.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { RAM_BYTES = 8 << 20, DISK_BYTES = 4 << 20 };

static const char note[] = "what it was\nwith a \0 in it\n";

static struct span the_note(void)
{
	return span_of(note, sizeof(note) - 1);
}

static int folder(void)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	return fd;
}

/* A sealed draft with some bytes in each file. */
static void make(int dir, struct draft *ret, const char *state)
{
	struct err e = { 0 };

	CHECK_OK(draft_new(dir, RAM_BYTES, DISK_BYTES, ret, &e), &e);
	CHECK_EQ(pwrite(ret->scratch_fd, "disk", 4, 1 << 20), 4);
	CHECK_EQ(pwrite(ret->state_fd, state, strlen(state), 0), strlen(state));
	CHECK_OK(draft_seal(ret, the_note(), &e), &e);
}

static void save(int dir, const char *name)
{
	_own_(draft_close) struct draft d;
	struct err e = { 0 };

	draft_init(&d);
	make(dir, &d, "device state");
	CHECK_OK(draft_publish(dir, &d, name, false, &e), &e);
}

static int open_it(int dir, const char *name, enum saved_trust trust, struct err *e)
{
	_own_(saved_close) struct saved s;
	_own_free_ char *got = NULL;
	size_t len = 0;
	int r;

	saved_init(&s);
	r = saved_open(dir, name, trust, &s, &got, &len, e);
	if (r == 0)
		CHECK_MEM(span_of(got, len), the_note());
	else
		CHECK(s.ram_fd == -1 && s.state_fd == -1 && s.scratch_fd == -1 && !got);
	return r;
}

static size_t entries(int dir)
{
	_own_fd_ int copy = -1;
	struct err e = { 0 };
	size_t count = 0;
	DIR *stream;

	CHECK_OK(fd_openat(dir, ".", O_RDONLY | O_DIRECTORY, 0, &copy, &e), &e);
	stream = fdopendir(steal_fd(&copy));
	CHECK(stream != NULL);
	while (readdir(stream))
		count++;
	(void)closedir(stream);
	return count - 2;
}

TEST(what_was_saved_is_opened_with_its_note)
{
	_own_fd_ int dir = folder();
	_own_free_ char *got = NULL;
	struct err e = { 0 };
	size_t len = 0;

	CHECK_EQ(open_it(dir, "base", SAVED_STRICT, &e), -ENOENT);
	save(dir, "base");
	CHECK_OK(open_it(dir, "base", SAVED_STRICT, &e), &e);
	CHECK_OK(saved_note(dir, "base", &got, &len, &e), &e);
	CHECK_MEM(span_of(got, len), the_note());
	CHECK(saved_disk_bytes(dir, "base") >= 2 * 4096);
	CHECK(saved_disk_bytes(dir, "base") < RAM_BYTES);
	CHECK_EQ(saved_disk_bytes(dir, "other"), 0);
}

/* Whatever changes one of the files from now on gives it another time: the tick is over. */
static void check_tick_is_over(int dir, const char *name)
{
	static const char *const files[] = { "ram", "state", "scratch" };

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char path[64];
		struct stat st;

		(void)snprintf(path, sizeof(path), "%s/%s", name, files[i]);
		CHECK_EQ(fstatat(dir, path, &st, 0), 0);
		CHECK(clock_stamp_ns() > (uint64_t)st.st_ctim.tv_sec * UINT64_C(1000000000) +
		                                 (uint64_t)st.st_ctim.tv_nsec);
	}
}

TEST(a_change_in_the_tick_of_the_save_would_show)
{
	_own_fd_ int dir = folder();

	for (int i = 0; i < 10; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "no%d", i);
		save(dir, name);
		check_tick_is_over(dir, name);
	}
}

TEST(a_name_is_taken_once)
{
	_own_(draft_close) struct draft d;
	_own_(saved_close) struct saved s;
	_own_fd_ int dir = folder();
	_own_free_ char *got = NULL;
	struct err e = { 0 };
	char text[16] = "";
	size_t len;

	saved_init(&s);
	draft_init(&d);
	save(dir, "base");
	make(dir, &d, "a newer one");
	CHECK_EQ(draft_publish(dir, &d, "base", false, &e), -EEXIST);
	CHECK_EQ(entries(dir), 2);
	CHECK_OK(draft_publish(dir, &d, "base", true, &e), &e);
	CHECK_EQ(entries(dir), 1);
	CHECK_OK(saved_open(dir, "base", SAVED_STRICT, &s, &got, &len, &e), &e);
	CHECK_EQ(read(s.state_fd, text, sizeof(text) - 1), 11);
	CHECK_STR(text, "a newer one");
	/* its lock was the draft's, and is gone; discarding now removes nothing */
	draft_discard(dir, &d);
	CHECK_OK(open_it(dir, "base", SAVED_STRICT, &e), &e);
}

TEST(replacing_what_is_not_there)
{
	_own_(draft_close) struct draft d;
	_own_fd_ int dir = folder();
	struct err e = { 0 };

	draft_init(&d);
	make(dir, &d, "x");
	CHECK_OK(draft_publish(dir, &d, "base", true, &e), &e);
	CHECK_OK(open_it(dir, "base", SAVED_STRICT, &e), &e);
}

TEST(each_reader_has_an_offset_of_its_own)
{
	_own_(saved_close) struct saved a;
	_own_(saved_close) struct saved b;
	_own_fd_ int dir = folder();
	_own_free_ char *got = NULL;
	struct err e = { 0 };
	char text[8] = "";
	size_t len;

	saved_init(&a);
	saved_init(&b);
	save(dir, "base");
	CHECK_OK(saved_open(dir, "base", SAVED_STRICT, &a, &got, &len, &e), &e);
	CHECK_OK(saved_remove(dir, "base", &e), &e);
	CHECK_EQ(entries(dir), 0);
	CHECK_OK(saved_reopen(&a, &b, &e), &e); /* also of files that are gone */
	CHECK_EQ(read(a.state_fd, text, 6), 6);
	CHECK_EQ(read(b.state_fd, text, 6), 6);
	CHECK_STR(text, "device");
	CHECK_EQ(pwrite(b.ram_fd, "x", 1, 0), -1);
}

/* The directory moved to another disk, or came back from a backup. */
TEST(contents_decide_for_what_may_be_moved)
{
	_own_fd_ int dir = folder();
	_own_fd_ int at = -1;
	_own_fd_ int old = -1;
	_own_fd_ int new = -1;
	struct err e = { 0 };

	save(dir, "base");
	CHECK_OK(fd_openat(dir, "base", O_RDONLY | O_DIRECTORY, 0, &at, &e), &e);
	CHECK_OK(fd_openat(at, "scratch", O_RDONLY, 0, &old, &e), &e);
	CHECK_OK(fd_openat(at, "copy", O_RDWR | O_CREAT, 0600, &new, &e), &e);
	CHECK_OK(fd_copy_sparse(old, new, &e), &e);
	CHECK_EQ(renameat(at, "copy", at, "scratch"), 0);
	CHECK_EQ(open_it(dir, "base", SAVED_STRICT, &e), -ESTALE);
	CHECK_OK(open_it(dir, "base", SAVED_BY_HASH, &e), &e);
	CHECK_OK(open_it(dir, "base", SAVED_STRICT, &e), &e); /* it is known by its new inode now */
	CHECK_EQ(pwrite(new, "d", 1, 3 << 20), 1);
	CHECK_EQ(open_it(dir, "base", SAVED_BY_HASH, &e), -ESTALE);
	CHECK(strstr(e.text, "'scratch' is damaged") != NULL);
}

TEST(damage_is_told_by_file)
{
	static const char *const files[] = { "ram", "state", "scratch" };

	for (size_t i = 0; i < 3; i++) {
		_own_fd_ int dir = folder();
		_own_fd_ int at = -1;
		_own_fd_ int fd = -1;
		struct err e = { 0 };

		save(dir, "base");
		CHECK_OK(fd_openat(dir, "base", O_RDONLY | O_DIRECTORY, 0, &at, &e), &e);
		CHECK_OK(fd_openat(at, files[i], O_RDWR, 0, &fd, &e), &e);
		CHECK_EQ(pwrite(fd, "!", 1, 5), 1);
		CHECK_EQ(open_it(dir, "base", SAVED_BY_HASH, &e), -ESTALE);
		CHECK(strstr(e.text, files[i]) != NULL);
		CHECK_EQ(ftruncate(fd, 3), 0);
		CHECK_EQ(open_it(dir, "base", SAVED_BY_HASH, &e), -ESTALE);
		CHECK_EQ(unlinkat(at, files[i], 0), 0);
		CHECK_EQ(open_it(dir, "base", SAVED_BY_HASH, &e), -ESTALE);
		CHECK_EQ(symlinkat("/dev/zero", at, files[i]), 0);
		CHECK_EQ(open_it(dir, "base", SAVED_BY_HASH, &e), -ESTALE);
		CHECK_OK(saved_remove(dir, "base", &e), &e);
	}
}

TEST(a_meta_that_is_cut_or_strange_is_refused)
{
	_own_fd_ int dir = folder();
	_own_fd_ int at = -1;
	_own_free_ char *meta = NULL;
	struct err e = { 0 };
	size_t len;

	save(dir, "base");
	CHECK_OK(fd_openat(dir, "base", O_RDONLY | O_DIRECTORY, 0, &at, &e), &e);
	CHECK_OK(fd_read_file(at, "meta", SAVED_META_MAX, &meta, &len, &e), &e);
	for (size_t cut = 0; cut < len; cut++) {
		CHECK_OK(fd_replace_file(at, "meta", meta, cut, 0600, &e), &e);
		CHECK_EQ(open_it(dir, "base", SAVED_BY_HASH, &e), -ESTALE);
	}
	for (size_t i = 0; i < 2; i++) { /* "berm-saved 2", and another note */
		meta[i == 0 ? 11 : len - 3] ^= 3;
		CHECK_OK(fd_replace_file(at, "meta", meta, len, 0600, &e), &e);
		CHECK_EQ(open_it(dir, "base", SAVED_BY_HASH, &e), -ESTALE);
		meta[i == 0 ? 11 : len - 3] ^= 3;
	}
	CHECK_OK(fd_replace_file(at, "meta", meta, len, 0600, &e), &e);
	CHECK_OK(open_it(dir, "base", SAVED_BY_HASH, &e), &e);
	CHECK_EQ(unlinkat(at, "meta", 0), 0);
	CHECK_EQ(open_it(dir, "base", SAVED_BY_HASH, &e), -ESTALE);
}

TEST(what_is_no_directory_is_refused)
{
	_own_fd_ int dir = folder();
	struct err e = { 0 };

	CHECK_EQ(symlinkat("..", dir, "link"), 0);
	CHECK_EQ(open_it(dir, "link", SAVED_BY_HASH, &e), -ESTALE);
	CHECK_OK(fd_replace_file(dir, "file", "x", 1, 0600, &e), &e);
	CHECK_EQ(open_it(dir, "file", SAVED_BY_HASH, &e), -ESTALE);
}

TEST(a_draft_is_locked_and_leaves_nothing)
{
	_own_fd_ int dir = folder();
	_own_fd_ int lock = -1;
	char path[SAVED_NAME_MAX + 8];
	struct err e = { 0 };
	struct draft d;

	draft_init(&d);
	CHECK_OK(draft_new(dir, RAM_BYTES, DISK_BYTES, &d, &e), &e);
	CHECK_EQ(strncmp(d.dir, ".tmp-", 5), 0);
	(void)snprintf(path, sizeof(path), "%s/lock", d.dir);
	CHECK_OK(fd_openat(dir, path, O_RDWR, 0, &lock, &e), &e);
	CHECK_EQ(flock(lock, LOCK_SH | LOCK_NB), -1);
	draft_discard(dir, &d);
	CHECK_EQ(entries(dir), 0);
	CHECK_EQ(draft_new(-1, 0, 0, &d, &e), -EBADF);
}

TEST_MAIN()
