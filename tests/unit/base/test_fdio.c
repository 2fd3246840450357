#include "base/fdio.h"

#include "base/kernel_gaps.h"
#include "failalloc.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static int tmpdir_fd(void)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	return fd;
}

static void put_file(int dir, const char *name, const char *text)
{
	struct err e = { 0 };
	_own_fd_ int fd = -1;

	CHECK_OK(fd_openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0644, &fd, &e), &e);
	CHECK_OK(fd_write_all(fd, text, strlen(text), &e), &e);
}

static unsigned count_entries(int dir)
{
	int fd = dup(dir);
	DIR *d = fdopendir(fd);
	unsigned n = 0;

	CHECK(d);
	rewinddir(d);
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n - 2; /* "." and ".." */
}

static bool is_cloexec(int fd)
{
	return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

TEST(open_is_cloexec_and_says_what_failed)
{
	_own_fd_ int dir = tmpdir_fd();
	struct err e = { 0 };
	int fd = -7;

	CHECK(is_cloexec(dir));
	CHECK_EQ(fd_openat(dir, "missing", O_RDONLY, 0, &fd, &e), -ENOENT);
	CHECK_EQ(fd, -7);
	CHECK_STR(e.text, "open 'missing': No such file or directory");
}

/* What a hostile tree holds, and that none of it leads out. */
TEST(beneath_stays_beneath)
{
	static const struct {
		const char *path;
		uint64_t resolve;
		int r;
	} rows[] = {
		{ "in/file", 0, 0 },
		{ "in/../in/file", 0, 0 },
		{ "link", 0, 0 },
		{ "link", RESOLVE_NO_SYMLINKS, -ELOOP },
		{ "..", 0, -EXDEV },
		{ "in/../../box", 0, -EXDEV },
		{ "/etc/passwd", 0, -EXDEV },
		{ "absolute", 0, -EXDEV },
		{ "up", 0, -EXDEV },
		{ "in/deep-up", 0, -EXDEV },
		{ "magic/root", 0, -EXDEV },
		{ "missing", 0, -ENOENT },
		{ "", 0, -ENOENT },
	};
	_own_fd_ int top = tmpdir_fd();
	_own_fd_ int box = -1;
	struct err e = { 0 };

	CHECK(mkdirat(top, "box", 0700) == 0);
	put_file(top, "outside", "secret");
	CHECK_OK(fd_openat(top, "box", O_RDONLY | O_DIRECTORY, 0, &box, &e), &e);
	CHECK(mkdirat(box, "in", 0700) == 0);
	put_file(box, "in/file", "x");
	CHECK(symlinkat("in/file", box, "link") == 0);
	CHECK(symlinkat("/etc/passwd", box, "absolute") == 0);
	CHECK(symlinkat("../outside", box, "up") == 0);
	CHECK(symlinkat("../../outside", box, "in/deep-up") == 0);
	CHECK(symlinkat("/proc/self", box, "magic") == 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int fd = -7;
		int r = fd_open_beneath(box, rows[i].path, O_RDONLY, 0, rows[i].resolve, &fd, &e);

		if (r != rows[i].r)
			test_fail(__FILE__, __LINE__, "'%s' gives %d", rows[i].path, r);
		CHECK_EQ(fd >= 0, r == 0);
		if (r == 0) {
			CHECK(is_cloexec(fd));
			(void)close(fd);
		} else {
			CHECK_EQ(fd, -7);
		}
	}
}

TEST(beneath_creates_with_the_mode_given)
{
	_own_fd_ int dir = tmpdir_fd();
	_own_fd_ int fd = -1;
	_own_fd_ int nameless = -1;
	struct err e = { 0 };
	struct stat st;

	(void)umask(022);
	CHECK_OK(fd_open_beneath(dir, "new", O_WRONLY | O_CREAT | O_EXCL, 0640, 0, &fd, &e), &e);
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_mode & 07777, 0640);
	CHECK_EQ(fd_open_beneath(dir, "new", O_WRONLY | O_CREAT | O_EXCL, 0640, 0, &nameless, &e),
	         -EEXIST);
	/* O_TMPFILE holds the bits of O_DIRECTORY: an O_DIRECTORY open takes no mode */
	CHECK_OK(fd_open_beneath(dir, ".", O_RDONLY | O_DIRECTORY, 0700, 0, &nameless, &e), &e);
}

TEST(make_dirs_makes_parents_privately)
{
	_own_fd_ int fd = -1;
	_own_fd_ int again = -1;
	struct err e = { 0 };
	char path[512];
	struct stat st;

	(void)umask(0);
	(void)snprintf(path, sizeof(path), "%s/a//b/c/", test_tmpdir());
	CHECK_OK(fd_make_dirs(path, &fd, &e), &e);
	CHECK_OK(fd_make_dirs(path, &again, &e), &e);
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_mode & 07777, 0700);
	CHECK(is_cloexec(fd));
}

TEST(make_dirs_refuses_what_is_in_its_way)
{
	_own_fd_ int dir = tmpdir_fd();
	struct err e = { 0 };
	char path[512];
	int fd = -7;

	put_file(dir, "file", "x");
	(void)snprintf(path, sizeof(path), "%s/file", test_tmpdir());
	CHECK_EQ(fd_make_dirs(path, &fd, &e), -ENOTDIR);
	(void)snprintf(path, sizeof(path), "%s/file/below", test_tmpdir());
	CHECK_EQ(fd_make_dirs(path, &fd, &e), -ENOTDIR);
	CHECK_EQ(fd_make_dirs("", &fd, &e), -EINVAL);
	CHECK_EQ(fd, -7);
	(void)snprintf(path, sizeof(path), "%s/x", test_tmpdir());
	FAILALLOC_EACH()
	{
		int got = -1;
		int r;

		(void)rmdir(path);
		r = fd_make_dirs(path, &got, &e);
		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK_EQ(got, -1);
		} else {
			CHECK_OK(r, &e);
			(void)close(got);
		}
	}
}

TEST(read_all_wants_it_all)
{
	struct err e = { 0 };
	char room[8] = "";
	int fds[2];

	CHECK_OK(fd_socketpair(fds, &e), &e);
	CHECK(is_cloexec(fds[0]) && is_cloexec(fds[1]));
	CHECK_OK(fd_write_all(fds[0], "abc", 3, &e), &e);
	CHECK_OK(fd_read_all(fds[1], room, 2, &e), &e);
	CHECK_STR(room, "ab");
	(void)close(fds[0]);
	CHECK_EQ(fd_read_all(fds[1], room, 2, &e), -ENODATA);
	CHECK_EQ(fd_read_all(-1, room, 2, &e), -EBADF);
	CHECK_EQ(fd_write_all(-1, room, 2, &e), -EBADF);
	CHECK_OK(fd_read_all(-1, room, 0, &e), &e);
	(void)close(fds[1]);
}

TEST(read_at_is_short_at_the_end_only)
{
	_own_fd_ int dir = tmpdir_fd();
	_own_fd_ int fd = -1;
	struct err e = { 0 };
	char room[8] = { 0 };
	size_t got = 99;

	put_file(dir, "f", "12345");
	CHECK_OK(fd_openat(dir, "f", O_RDONLY, 0, &fd, &e), &e);
	CHECK(fd_read_at(fd, 1, room, 3, &got) == 0 && got == 3);
	CHECK_STR(room, "234");
	CHECK(fd_read_at(fd, 4, room, 3, &got) == 0 && got == 1);
	CHECK(fd_read_at(fd, 5, room, 3, &got) == 0 && got == 0);
	CHECK(lseek(fd, 0, SEEK_CUR) == 0); /* where others read on is as it was */
	got = 99;
	CHECK(fd_read_at(-1, 0, room, 3, &got) == -EBADF && errno == EBADF && got == 99);
	CHECK(fd_read_at(-1, 0, room, 0, &got) == 0 && got == 0);
}

TEST(read_file_holds_its_maximum)
{
	_own_fd_ int dir = tmpdir_fd();
	struct err e = { 0 };
	char *text = NULL;
	size_t len = 99;

	put_file(dir, "f", "12345");
	CHECK_OK(fd_read_file(dir, "f", 5, &text, &len, &e), &e);
	CHECK_STR(text, "12345");
	CHECK_EQ(len, 5);
	free(text);
	text = NULL;
	CHECK_EQ(fd_read_file(dir, "f", 4, &text, &len, &e), -EFBIG);
	CHECK_STR(e.text, "'f': larger than 4 bytes");
	CHECK(!text && len == 5);
	CHECK_EQ(fd_read_file(dir, "missing", 4, &text, NULL, &e), -ENOENT);
	CHECK_EQ(fd_read_file(dir, ".", 4, &text, NULL, &e), -EISDIR);
	put_file(dir, "empty", "");
	CHECK_OK(fd_read_file(dir, "empty", 0, &text, &len, &e), &e);
	CHECK_STR(text, "");
	free(text);
}

/* A FIFO in place of a file must not hang the reader. */
TEST(read_file_does_not_wait_for_a_fifo)
{
	_own_fd_ int dir = tmpdir_fd();
	struct err e = { 0 };
	char *text = NULL;
	size_t len = 0;

	CHECK(mkfifoat(dir, "fifo", 0600) == 0);
	CHECK_OK(fd_read_file(dir, "fifo", 10, &text, &len, &e), &e);
	CHECK_EQ(len, 0);
	free(text);
}

TEST(read_file_survives_no_memory)
{
	_own_fd_ int dir = tmpdir_fd();
	struct err e = { 0 };

	put_file(dir, "f", "12345");
	FAILALLOC_EACH()
	{
		char *text = NULL;
		int r = fd_read_file(dir, "f", 16, &text, NULL, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!text);
		} else {
			CHECK_OK(r, &e);
			free(text);
		}
	}
}

TEST(replace_file_is_old_or_new)
{
	_own_fd_ int dir = tmpdir_fd();
	_own_fd_ int old = -1;
	_own_free_ char *text = NULL;
	struct err e = { 0 };
	struct stat st;
	char room[4] = "";

	(void)umask(022);
	CHECK_OK(fd_replace_file(dir, "f", "one", 3, 0600, &e), &e);
	CHECK_OK(fd_openat(dir, "f", O_RDONLY, 0, &old, &e), &e);
	CHECK_OK(fd_replace_file(dir, "f", "two", 3, 0640, &e), &e);
	CHECK_OK(fd_read_file(dir, "f", 16, &text, NULL, &e), &e);
	CHECK_STR(text, "two");
	CHECK_OK(fd_read_all(old, room, 3, &e), &e);
	CHECK_STR(room, "one"); /* who had it open keeps the whole old one */
	CHECK(fstatat(dir, "f", &st, 0) == 0);
	CHECK_EQ(st.st_mode & 07777, 0640);
	CHECK_EQ(count_entries(dir), 1);
}

TEST(replace_file_that_fails_leaves_nothing)
{
	_own_fd_ int dir = tmpdir_fd();
	struct err e = { 0 };
	char name[300];

	CHECK(mkdirat(dir, "d", 0700) == 0);
	CHECK(fd_replace_file(dir, "d", "x", 1, 0600, &e) < 0);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK_EQ(fd_replace_file(dir, name, "x", 1, 0600, &e), -ENAMETOOLONG);
	name[250] = '\0'; /* a legal name, but not with what is added to it */
	CHECK_EQ(fd_replace_file(dir, name, "x", 1, 0600, &e), -ENAMETOOLONG);
	CHECK_EQ(count_entries(dir), 1);
}

/* A reader that comes at any moment sees one whole version. */
TEST(replace_file_under_a_reader)
{
	enum { ROUNDS = 200, BYTES = 8192 };
	_own_fd_ int dir = tmpdir_fd();
	struct err e = { 0 };
	static char data[BYTES];
	pid_t pid;

	memset(data, 'a', sizeof(data));
	CHECK_OK(fd_replace_file(dir, "f", data, sizeof(data), 0600, &e), &e);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		for (int i = 0; i < ROUNDS; i++) {
			memset(data, 'a' + i % 26, sizeof(data));
			if (fd_replace_file(dir, "f", data, sizeof(data), 0600, NULL) < 0)
				_exit(1);
		}
		_exit(0);
	}
	for (int i = 0; i < ROUNDS; i++) {
		_own_free_ char *text = NULL;
		size_t len;

		CHECK_OK(fd_read_file(dir, "f", BYTES, &text, &len, &e), &e);
		CHECK_EQ(len, BYTES);
		for (size_t k = 1; k < len; k++)
			CHECK_EQ(text[k], text[0]);
	}
}

TEST(tmpfile_has_no_name)
{
	_own_fd_ int dir = tmpdir_fd();
	_own_fd_ int fd = -1;
	struct err e = { 0 };
	struct stat st;

	CHECK_OK(fd_tmpfile(dir, 0600, &fd, &e), &e);
	CHECK(is_cloexec(fd));
	CHECK_EQ(count_entries(dir), 0);
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_nlink, 0);
	CHECK_OK(fd_write_all(fd, "x", 1, &e), &e);
}

static void check_same(int a, int b, off_t bytes)
{
	static char buf_a[1 << 16];
	static char buf_b[1 << 16];

	for (off_t at = 0; at < bytes; at += (off_t)sizeof(buf_a)) {
		ssize_t n = pread(a, buf_a, sizeof(buf_a), at);

		CHECK(n > 0);
		CHECK_EQ(pread(b, buf_b, sizeof(buf_b), at), n);
		CHECK(memcmp(buf_a, buf_b, (size_t)n) == 0);
	}
}

/* Data at the front, in the middle and at the end, each with holes around it. */
TEST(copy_sparse_keeps_data_and_holes)
{
	static const off_t sizes[] = { 0, 1, 4096, 5000, 3 << 20, (64 << 20) + 17 };
	_own_fd_ int dir = tmpdir_fd();
	struct err e = { 0 };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (unsigned where = 0; where < 8; where++) {
			_own_fd_ int src = -1;
			_own_fd_ int dst = -1;
			off_t size = sizes[i];
			struct stat a;
			struct stat b;

			CHECK_OK(fd_tmpfile(dir, 0600, &src, &e), &e);
			CHECK_OK(fd_tmpfile(dir, 0600, &dst, &e), &e);
			CHECK(ftruncate(src, size) == 0);
			if (size && (where & 1))
				CHECK_EQ(pwrite(src, "f", 1, 0), 1);
			if (size && (where & 2))
				CHECK_EQ(pwrite(src, "m", 1, size / 2), 1);
			if (size && (where & 4))
				CHECK_EQ(pwrite(src, "e", 1, size - 1), 1);
			CHECK_OK(fd_copy_sparse(src, dst, &e), &e);
			CHECK(fstat(src, &a) == 0 && fstat(dst, &b) == 0);
			CHECK_EQ(b.st_size, size);
			CHECK(b.st_blocks <= a.st_blocks + 8);
			check_same(src, dst, size);
		}
	}
}

/* Between two kinds of file system the kernel does not copy: then it goes through memory. */
TEST(copy_sparse_between_file_systems)
{
	_own_fd_ int src_dir = -1;
	_own_fd_ int dst_dir = tmpdir_fd();
	_own_fd_ int src = -1;
	_own_fd_ int dst = -1;
	struct err e = { 0 };
	static char data[200000];

	if (fd_open("/dev/shm", O_RDONLY | O_DIRECTORY, 0, &src_dir, &e) < 0)
		TEST_SKIP("no /dev/shm on this machine");
	memset(data, 'd', sizeof(data));
	CHECK_OK(fd_tmpfile(src_dir, 0600, &src, &e), &e);
	CHECK_OK(fd_tmpfile(dst_dir, 0600, &dst, &e), &e);
	CHECK_EQ(pwrite(src, data, sizeof(data), 5 << 20), (ssize_t)sizeof(data));
	CHECK_OK(fd_copy_sparse(src, dst, &e), &e);
	check_same(src, dst, (5 << 20) + (off_t)sizeof(data));
}

TEST(copy_sparse_to_what_cannot_be_written_is_an_error)
{
	_own_fd_ int dir = tmpdir_fd();
	_own_fd_ int src = -1;
	_own_fd_ int dst = -1;
	struct err e = { 0 };

	put_file(dir, "f", "12345");
	put_file(dir, "g", "");
	CHECK_OK(fd_openat(dir, "f", O_RDONLY, 0, &src, &e), &e);
	CHECK_OK(fd_openat(dir, "g", O_RDONLY, 0, &dst, &e), &e);
	CHECK(fd_copy_sparse(src, dst, &e) < 0);
	CHECK(e.len > 0);
}

static void make_chain(int dir, unsigned depth)
{
	struct err e = { 0 };
	_own_fd_ int at = dup(dir);

	for (unsigned i = 0; i < depth; i++) {
		int next = -1;

		CHECK(mkdirat(at, "d", 0700) == 0);
		CHECK_OK(fd_openat(at, "d", O_RDONLY | O_DIRECTORY, 0, &next, &e), &e);
		(void)close(at);
		at = next;
	}
	put_file(at, "leaf", "x");
}

TEST(remove_tree_follows_no_link)
{
	_own_fd_ int top = tmpdir_fd();
	_own_fd_ int dir = -1;
	struct err e = { 0 };

	put_file(top, "kept", "x");
	CHECK(mkdirat(top, "kept-dir", 0700) == 0);
	put_file(top, "kept-dir/file", "x");
	CHECK(mkdirat(top, "gone", 0700) == 0);
	CHECK_OK(fd_openat(top, "gone", O_RDONLY | O_DIRECTORY, 0, &dir, &e), &e);
	CHECK(symlinkat("../kept-dir", dir, "to-dir") == 0);
	CHECK(symlinkat("../kept", dir, "to-file") == 0);
	CHECK(mkfifoat(dir, "fifo", 0600) == 0);
	make_chain(dir, 20);
	CHECK_OK(fd_remove_tree(top, "gone", &e), &e);
	CHECK_EQ(count_entries(top), 2);
	CHECK_EQ(faccessat(top, "kept-dir/file", F_OK, 0), 0);
	CHECK(symlinkat("kept-dir", top, "link") == 0);
	CHECK_OK(fd_remove_tree(top, "link", &e), &e);
	CHECK_EQ(faccessat(top, "kept-dir/file", F_OK, 0), 0);
	CHECK_OK(fd_remove_tree(top, "missing", &e), &e);
	CHECK_OK(fd_remove_tree(top, "kept", &e), &e);
}

TEST(remove_tree_takes_the_rights_it_needs)
{
	_own_fd_ int top = tmpdir_fd();
	bool root = geteuid() == 0; /* who needs none */
	struct err e = { 0 };

	CHECK(!root || (fchown(top, 65534, 65534) == 0 && seteuid(65534) == 0));
	CHECK(mkdirat(top, "d", 0700) == 0);
	CHECK(mkdirat(top, "d/shut", 0700) == 0);
	put_file(top, "d/shut/file", "x");
	CHECK(fchmodat(top, "d/shut", 0, 0) == 0);
	CHECK(fchmodat(top, "d", 0500, 0) == 0);
	CHECK_OK(fd_remove_tree(top, "d", &e), &e);
	CHECK_EQ(count_entries(top), 0);
	CHECK(!root || seteuid(0) == 0);
}

TEST(remove_tree_ends_at_its_depth)
{
	_own_fd_ int top = tmpdir_fd();
	struct err e = { 0 };
	unsigned left = 0;

	make_chain(top, FD_TREE_DEPTH_MAX + 40);
	CHECK_EQ(fd_remove_tree(top, "d", &e), -ELOOP);
	/* a part at a time is fine: the limit is of one call */
	CHECK(chdir(test_tmpdir()) == 0);
	for (; left < 60; left++)
		CHECK(chdir("d") == 0);
	CHECK_OK(fd_remove_tree(AT_FDCWD, "d", &e), &e);
	CHECK_OK(fd_remove_tree(top, "d", &e), &e);
	CHECK_EQ(count_entries(top), 0);
}

/* 200 bytes of directory, where a socket address holds 108. */
TEST(unix_sockets_below_a_long_path)
{
	_own_fd_ int dir = -1;
	_own_fd_ int listener = -1;
	_own_fd_ int peer = -1;
	_own_fd_ int got = -1;
	struct err e = { 0 };
	char path[512];
	char room[3] = "";
	struct stat st;

	(void)umask(0);
	(void)snprintf(path, sizeof(path), "%s/%0100d/%0100d", test_tmpdir(), 1, 2);
	CHECK_OK(fd_make_dirs(path, &dir, &e), &e);
	CHECK_OK(fd_unix_listen(dir, "s.sock", 4, &listener, &e), &e);
	CHECK(fstatat(dir, "s.sock", &st, 0) == 0);
	CHECK_EQ(st.st_mode & 07777, 0600);
	CHECK_OK(fd_unix_connect(dir, "s.sock", &peer, &e), &e);
	CHECK(is_cloexec(listener) && is_cloexec(peer));
	got = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(got >= 0);
	CHECK_OK(fd_write_all(peer, "hi", 2, &e), &e);
	CHECK_OK(fd_read_all(got, room, 2, &e), &e);
	CHECK_STR(room, "hi");
}

TEST(a_packet_socket_keeps_packets_apart)
{
	_own_fd_ int dir = tmpdir_fd();
	_own_fd_ int listener = -1;
	_own_fd_ int peer = -1;
	_own_fd_ int got = -1;
	struct err e = { 0 };
	char room[8];
	struct stat st;

	CHECK_OK(fd_packet_listen(dir, "p.sock", 4, &listener, &e), &e);
	CHECK(fstatat(dir, "p.sock", &st, 0) == 0 && (st.st_mode & 07777) == 0600);
	CHECK_OK(fd_packet_connect(dir, "p.sock", &peer, &e), &e);
	CHECK(is_cloexec(listener) && is_cloexec(peer));
	got = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(got >= 0 && send(peer, "one", 3, 0) == 3 && send(peer, "two", 3, 0) == 3);
	CHECK_EQ(recv(got, room, sizeof(room), 0), 3);
	CHECK(fd_unix_connect(dir, "p.sock", &got, &e) < 0);
}

TEST(unix_socket_failures_are_named)
{
	_own_fd_ int dir = tmpdir_fd();
	struct err e = { 0 };
	char name[200];
	int fd = -7;

	CHECK_EQ(fd_unix_connect(dir, "none", &fd, &e), -ENOENT);
	CHECK_STR(e.text, "connect to 'none': No such file or directory");
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK_EQ(fd_unix_listen(dir, name, 1, &fd, &e), -ENAMETOOLONG);
	CHECK_EQ(fd_unix_connect(dir, name, &fd, &e), -ENAMETOOLONG);
	put_file(dir, "taken", "");
	CHECK_EQ(fd_unix_listen(dir, "taken", 1, &fd, &e), -EADDRINUSE);
	CHECK_EQ(fd, -7);
}

TEST(flags_are_set_and_cleared)
{
	struct err e = { 0 };
	int fds[2];
	char c;

	CHECK_OK(fd_socketpair(fds, &e), &e);
	CHECK_EQ(fd_set_nonblock(fds[0]), 0);
	CHECK_EQ(read(fds[0], &c, 1), -1);
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(fd_set_cloexec(fds[0], false), 0);
	CHECK(!is_cloexec(fds[0]));
	CHECK_EQ(fd_set_cloexec(fds[0], true), 0);
	CHECK(is_cloexec(fds[0]));
	CHECK_EQ(fd_set_nonblock(-1), -EBADF);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

TEST(the_path_of_an_open_file)
{
	char path[PATH_MAX] = "as it was";
	char want[PATH_MAX];
	_own_fd_ int top = tmpdir_fd();
	_own_fd_ int fd = -1;
	_own_fd_ int root = -1;
	struct err e = { 0 };
	int fds[2];

	(void)snprintf(want, sizeof(want), "%s/a path", test_tmpdir());
	CHECK_OK(fd_openat(top, "a path", O_RDWR | O_CREAT, 0600, &fd, &e), &e);
	CHECK(fd_path(fd, path));
	CHECK_STR(path, want);
	CHECK_EQ(unlinkat(top, "a path", 0), 0);
	CHECK(!fd_path(fd, path));
	CHECK_STR(path, want);
	CHECK(!fd_path(-1, path));
	CHECK_OK(fd_socketpair(fds, &e), &e);
	CHECK(!fd_path(fds[0], path));
	(void)close(fds[0]);
	(void)close(fds[1]);
	CHECK_OK(fd_open("/", O_RDONLY, 0, &root, &e), &e);
	CHECK(fd_path(root, path));
	CHECK_STR(path, "/");
}

TEST_MAIN()
