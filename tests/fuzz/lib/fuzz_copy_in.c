#include "base/fdio.h"
#include "lib/copy.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/*
 * What a guest sends becomes files. The first byte chooses the pieces it comes in and the options.
 * Whatever came: nothing appears beside the destination, no file keeps a bit that would run it as
 * somebody else, and the limit holds.
 */

enum { BYTES_MAX = 64 << 10, DEPTH_SHOWN = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int place = -1; /* holds "in", the destination, and nothing else */

static void open_place(void)
{
	char path[64];
	struct err e = { 0 };

	(void)snprintf(path, sizeof(path), "/tmp/fuzz-copy-in-%d", (int)getpid());
	if (place < 0 && fd_make_dirs(path, &place, &e) < 0)
		abort();
}

__attribute__((destructor)) static void close_place(void)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/tmp/fuzz-copy-in-%d", (int)getpid());
	(void)rmdir(path);
}

static void judge_tree(int dir_fd, unsigned depth);

static void judge(int dir_fd, const char *name, unsigned depth)
{
	struct stat st;
	int fd = -1;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		assert(errno == EACCES && geteuid() != 0); /* a directory came without its x bit */
		return;
	}
	assert(!(st.st_mode & (S_ISUID | S_ISGID | S_ISVTX)) || S_ISLNK(st.st_mode));
	if (S_ISDIR(st.st_mode) && depth < DEPTH_SHOWN &&
	    fd_openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, NULL) == 0)
		judge_tree(fd, depth + 1);
}

/* Takes dir_fd. */
static void judge_tree(int dir_fd, unsigned depth)
{
	DIR *dir = fdopendir(dir_fd);
	const struct dirent *d;

	assert(dir);
	while ((d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			judge(dirfd(dir), d->d_name, depth);
	(void)closedir(dir);
}

static void feed(struct copy_in *in, const uint8_t *data, size_t len, size_t piece)
{
	struct err e = { 0 };

	while (len > 0) {
		size_t n = len < piece ? len : piece;

		if (copy_in_take(in, span_of(data, n), &e) < 0)
			return;
		data += n;
		len -= n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct copy_in_opt opt = { .bytes_max = BYTES_MAX };
	struct copy_in *in = NULL;
	struct err e = { 0 };
	struct stat st;
	int dir = -1;

	if (len == 0)
		return 0;
	open_place();
	if (mkdirat(place, "in", 0700) < 0 ||
	    fd_openat(place, "in", O_RDONLY | O_DIRECTORY, 0, &dir, &e) < 0)
		abort();
	opt.parent_fd = dir;
	opt.name = data[0] & 1 ? NULL : "top";
	opt.all_links = data[0] & 2;
	opt.want_dir = data[0] & 4;
	if (copy_in_new(&opt, &in, &e) < 0)
		abort();
	feed(in, data + 1, len - 1, 1 + (data[0] >> 3));
	assert(copy_in_stats(in)->bytes <= BYTES_MAX);
	copy_in_free(in);
	judge_tree(dir, 0);
	assert(fstat(place, &st) == 0 && st.st_nlink <= 3); /* ".", its name, and "in" */
	if (fd_remove_tree(place, "in", &e) < 0)
		abort();
	return 0;
}
