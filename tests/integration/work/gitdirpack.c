/*
 * gitdirpack: packs a workspace as a session does, for the tests of gitdir.
 *
 *     gitdirpack pack ROOT OUT [--no-history] [--guest-at PATH] [--secret PATTERN]...
 *     gitdirpack extract OUT DIR      makes the base a tree: other inodes, the same times
 *     gitdirpack env | config         what git in the guest is told
 *
 * OUT is a directory: base.erofs, base.manifest, base.report, as basetool reads them. Notes are
 * lines: number, path, text, with tabs between and \xNN for what is not printable.
 */
#include "base/fdio.h"
#include "work/exclude.h"
#include "work/gitdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { COPY_BYTES = 1 << 16, TEXT_MAX = 4 * (WPATH_MAX + GITDIR_NOTE_TEXT_MAX) };

static const char *const names[3] = { "base.erofs", "base.manifest", "base.report" };

static int print_note(void *arg, enum gitdir_note note, struct span path, struct span text,
                      struct err *e)
{
	char line[TEXT_MAX];
	struct buf b;

	(void)arg;
	(void)e;
	buf_init(&b, line, sizeof(line));
	buf_printf(&b, "%d\t", (int)note);
	buf_put_escaped(&b, path);
	buf_put_u8(&b, '\t');
	buf_put_escaped(&b, text);
	(void)puts(buf_cstr(&b));
	return 0;
}

static int take_options(struct gitdir_options *opt, struct exclude *x, char **argv, struct err *e)
{
	int r = 0;

	for (; r == 0 && *argv; argv++) {
		if (strcmp(*argv, "--no-history") == 0)
			opt->history = false;
		else if (!argv[1])
			return err_set(e, -EINVAL, "%s wants a value", *argv);
		else if (strcmp(*argv, "--guest-at") == 0)
			opt->guest_at = span_str(*++argv);
		else if (strcmp(*argv, "--secret") == 0)
			r = exclude_add(x, EXCLUDE_SECRET, "test", span_str(*++argv), e);
		else
			return err_set(e, -EINVAL, "no option %s", *argv);
	}
	return r;
}

static int run(int root, const struct pack_options *opt, int dir, struct err *e)
{
	struct pack_totals totals;
	int fds[3] = { -1, -1, -1 };
	int r = 0;

	for (int i = 0; r == 0 && i < 3; i++)
		r = fd_openat(dir, names[i], O_RDWR | O_CREAT | O_TRUNC, 0600, &fds[i], e);
	if (r == 0)
		r = pack_run(root, opt, fds[0], fds[1], fds[2], &totals, e);
	for (int i = 0; i < 3; i++)
		own_close_fd(&fds[i]);
	return r;
}

static int pack(char **argv, struct err *e)
{
	_own_(exclude_free) struct exclude *x = NULL;
	_own_(gitdir_free) struct gitdir *g = NULL;
	_own_fd_ int root = -1, dir = -1;
	struct gitdir_options opt = { .history = true, .next = exclude_judge };
	struct pack_options packing = { .uid = 1000, .gid = 1000, .judge = gitdir_judge };
	int r = fd_open(argv[0], O_RDONLY | O_DIRECTORY, 0, &root, e);

	if (r == 0)
		r = fd_make_dirs(argv[1], &dir, e);
	if (r == 0)
		r = exclude_new(&x, e);
	if (r == 0)
		r = take_options(&opt, x, argv + 2, e);
	if (r == 0)
		r = exclude_begin(x, root, e);
	opt.next_arg = x;
	if (r == 0)
		r = gitdir_new(root, &opt, &g, e);
	packing.judge_arg = g;
	if (r == 0)
		r = run(root, &packing, dir, e);
	return r < 0 ? r : gitdir_each_note(g, print_note, NULL, e);
}

/* -- extract */

struct maker {
	struct base *base;
	int dir_fd;
};

static int make_one(void *arg, struct span name, const struct base_node *node, struct err *e);

static int make_file(struct maker *m, const char *name, const struct base_node *node, struct err *e)
{
	static char bytes[COPY_BYTES];
	_own_fd_ int fd = -1;
	int r = fd_openat(m->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL, node->mode, &fd, e);

	for (uint64_t at = 0; r == 0 && at < node->size;) {
		size_t n = node->size - at < COPY_BYTES ? (size_t)(node->size - at) : COPY_BYTES;

		r = base_read(m->base, node, at, bytes, n, e);
		if (r == 0)
			r = fd_write_all(fd, bytes, n, e);
		at += n;
	}
	if (r == 0 && fchmod(fd, node->mode) < 0)
		return err_sys(e, "chmod");
	return r;
}

static int make_dir(struct maker *m, const char *name, const struct base_node *node, struct err *e)
{
	struct maker in = { .base = m->base, .dir_fd = -1 };
	int r;

	if (mkdirat(m->dir_fd, name, 0700) < 0)
		return err_sys(e, "mkdir %s", name);
	r = fd_openat(m->dir_fd, name, O_RDONLY | O_DIRECTORY, 0, &in.dir_fd, e);
	if (r == 0)
		r = base_list(m->base, node, make_one, &in, e);
	if (r == 0 && fchmod(in.dir_fd, node->mode | 0700) < 0)
		r = err_sys(e, "chmod");
	own_close_fd(&in.dir_fd);
	return r;
}

static int make_one(void *arg, struct span name, const struct base_node *node, struct err *e)
{
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = node->mtime_s, .tv_nsec = (long)node->mtime_ns },
	};
	char text[WPATH_NAME_MAX + 1], target[BASE_LINK_MAX + 1];
	struct maker *m = arg;
	size_t len;
	int r = 0;

	memcpy(text, name.at, name.len);
	text[name.len] = '\0';
	if (node->kind == WORK_DIR)
		r = make_dir(m, text, node, e);
	else if (node->kind == WORK_FILE)
		r = make_file(m, text, node, e);
	else
		r = base_read_link(m->base, node, target, &len, e);
	if (r == 0 && node->kind == WORK_LINK && symlinkat(target, m->dir_fd, text) < 0)
		r = err_sys(e, "link %s", text);
	if (r == 0 && utimensat(m->dir_fd, text, times, AT_SYMLINK_NOFOLLOW) < 0)
		r = err_sys(e, "time of %s", text);
	return r;
}

static int extract(char **argv, struct err *e)
{
	_own_(base_free) struct base *b = NULL;
	_own_fd_ int from = -1, image = -1, to = -1;
	struct maker m;
	struct base_node root;
	int r = fd_open(argv[0], O_RDONLY | O_DIRECTORY, 0, &from, e);

	if (r == 0)
		r = fd_openat(from, names[0], O_RDONLY, 0, &image, e);
	if (r == 0)
		r = base_open(image, -1, &b, e);
	if (r == 0)
		r = fd_make_dirs(argv[1], &to, e);
	if (r < 0)
		return r;
	m = (struct maker){ .base = b, .dir_fd = to };
	base_root(b, &root);
	return base_list(b, &root, make_one, &m, e);
}

static void print_told(bool env)
{
	char text[GITDIR_GUEST_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	if (env)
		gitdir_put_guest_env(&b);
	else
		gitdir_put_guest_config(&b);
	(void)fwrite(b.at, 1, b.len, stdout);
}

int main(int argc, char **argv)
{
	struct err e = { 0 };
	int r = 0;

	if (argc == 2)
		print_told(strcmp(argv[1], "env") == 0);
	else if (argc >= 4 && strcmp(argv[1], "pack") == 0)
		r = pack(argv + 2, &e);
	else if (argc == 4 && strcmp(argv[1], "extract") == 0)
		r = extract(argv + 2, &e);
	else
		r = err_set(&e, -EINVAL, "see the head of gitdirpack.c");
	if (r < 0)
		(void)fprintf(stderr, "gitdirpack: %s\n", e.text);
	return r < 0;
}
