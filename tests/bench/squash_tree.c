/*
 * squash_tree: a directory into an uncompressed squashfs, by the code that writes images: the peer
 * of packing a workspace (ADR 0008). It walks and reads as plainly as can be: no second look, no
 * report, no manifest.
 *
 *     squash_tree ROOT OUT
 */
#include "base/fdio.h"
#include "image/squash.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { OPEN_DIRS_MAX = 64, PIECE_BYTES = 512 << 10, TARGET_MAX = 4096 };

/* nftw() has no argument for it. */
static struct {
	struct squash *s;
	struct tree *t;
	size_t root_len;
	struct err e;
	uint8_t piece[PIECE_BYTES];
} job;

static int put_file(const char *path, struct tree_inode *in, uint64_t size)
{
	_own_fd_ int fd = -1;
	int r = fd_open(path, O_RDONLY, 0, &fd, &job.e);

	if (r == 0)
		r = squash_begin(job.s, job.t, in, size, &job.e);
	while (r == 0) {
		ssize_t n = read(fd, job.piece, sizeof(job.piece));

		if (n < 0)
			r = err_sys(&job.e, "read");
		if (n <= 0)
			break;
		r = squash_data(job.s, job.piece, (size_t)n, &job.e);
	}
	return r < 0 ? r : squash_end(job.s, &job.e);
}

static int each(const char *path, const struct stat *st, int flag, struct FTW *at)
{
	struct tree_meta m = { .mode = st->st_mode & 0777,
		               .mtime_s = (uint32_t)st->st_mtim.tv_sec };
	struct tree_inode *in = NULL;
	char target[TARGET_MAX];
	int r;

	(void)at;
	if (strlen(path) <= job.root_len)
		return 0;
	m.kind = flag == FTW_F ? TREE_FILE : flag == FTW_SL ? TREE_SYMLINK : TREE_DIR;
	if (flag == FTW_SL) {
		ssize_t n = readlink(path, target, sizeof(target));

		if (n < 0)
			return err_sys(&job.e, "readlink");
		m.target = span_of(target, (size_t)n);
	}
	r = tree_add(job.t, span_str(path + job.root_len + 1), &m, 0, &in, &job.e);
	if (r == 0 && in && flag == FTW_F)
		r = put_file(path, in, (uint64_t)st->st_size);
	return r;
}

static int run(const char *root, const char *out)
{
	static const uint64_t seed[2] = { 1, 2 };
	_own_fd_ int fd = -1;
	uint64_t bytes = 0;
	int r = fd_open(out, O_RDWR | O_CREAT | O_TRUNC, 0600, &fd, &job.e);

	if (r == 0)
		r = tree_new(seed, &job.t, &job.e);
	if (r == 0)
		r = squash_new(fd, &job.s, &job.e);
	if (r < 0)
		return r;
	job.root_len = strlen(root);
	tree_begin_layer(job.t, 0);
	r = nftw(root, each, OPEN_DIRS_MAX, FTW_PHYS);
	if (r == 0)
		r = tree_finish(job.t, &job.e);
	if (r == 0)
		r = squash_finish(job.s, job.t, &bytes, &job.e);
	if (r == 0)
		(void)printf("{\"image_bytes\": %llu}\n", (unsigned long long)bytes);
	return r;
}

int main(int argc, char **argv)
{
	int r = argc == 3 ? run(argv[1], argv[2]) : err_set(&job.e, -EINVAL, "ROOT OUT");

	squash_free(job.s);
	tree_free(job.t);
	if (r != 0)
		(void)fprintf(stderr, "squash_tree: %s\n", job.e.text);
	return r == 0 ? 0 : 1;
}
