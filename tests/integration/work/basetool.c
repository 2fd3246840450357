/*
 * basetool: packs and reads bases for the tests and benches.
 *
 *     basetool pack ROOT OUT [--earlier DIR] [--skip NAME]... [--stop-after N] [--cross]
 *                            [--never PATH] [--graft NAME=TEXT] [--over]
 *                            [--rules FILE] [--same] [--uid N]
 *     basetool count ROOT [--skip NAME]...
 *     basetool check ROOT HOME STATE [--wide]
 *     basetool list OUT               one line a thing: kind mode mtime size digest path
 *     basetool record OUT PATH        the host record of a path
 *     basetool cat OUT PATH OFF LEN   bytes of a file
 *     basetool report OUT             what did not enter: why dir error bytes path rule
 *     basetool find OUT PATH          why a path is not there
 *
 * A NAME to skip may begin with cost: and is of that tier then. OUT is a directory: base.erofs,
 * base.manifest, base.report. With --over the image of --earlier is moved to OUT and written over.
 * With --rules paths are judged as a session does: git directories, and the patterns of FILE as the
 * secret tier. Paths are printed with \xNN for what is not printable. Totals are one JSON object.
 * With --same nothing is packed: exit 4 if ROOT is not what --earlier has. Exit 1 with a line on a
 * failure, 3 when stopped.
 */
#include "base/buf.h"
#include "base/fdio.h"
#include "base/units.h"
#include "work/base.h"
#include "work/exclude.h"
#include "work/gitdir.h"
#include "work/ignore.h"
#include "work/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SKIPS_MAX = 16, GRAFTS_MAX = 4, TEXT_MAX = 4 * WPATH_MAX + 8 };

struct tool {
	const char *const *skips;
	size_t skip_count;
	uint64_t stop_after, told;
};

static const char *const names[3] = { "base.erofs", "base.manifest", "base.report" };

static void print_escaped(struct span s)
{
	char text[TEXT_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	buf_put_escaped(&b, s);
	(void)fputs(buf_cstr(&b), stdout);
}

static int fail(const struct err *e)
{
	(void)fprintf(stderr, "basetool: %s\n", e->text);
	return e->code == -ECANCELED ? 3 : e->code == -ESTALE ? 4 : 1;
}

static int judge(void *arg, const struct pack_entry *entry, struct pack_answer *ret, struct err *e)
{
	const struct tool *t = arg;

	(void)e;
	for (size_t i = 0; i < t->skip_count; i++) {
		bool cost = strncmp(t->skips[i], "cost:", 5) == 0;

		if (strcmp(t->skips[i] + (cost ? 5 : 0), entry->name) == 0) {
			ret->verdict = PACK_SKIP;
			ret->why = cost ? PACK_WHY_COST : PACK_WHY_USER;
			ret->rule = span_str(t->skips[i]);
		}
	}
	return 0;
}

static int progress(void *arg, const struct pack_totals *so_far)
{
	struct tool *t = arg;

	t->told = so_far->files;
	return t->stop_after > 0 && so_far->files >= t->stop_after;
}

static void print_totals(const struct pack_totals *t)
{
	(void)printf("{\"files\": %" PRIu64 ", \"dirs\": %" PRIu64 ", \"links\": %" PRIu64
	             ", \"file_bytes\": %" PRIu64 ", \"image_bytes\": %" PRIu64
	             ", \"reused_files\": %" PRIu64 ", \"reused_bytes\": %" PRIu64
	             ", \"setid\": %" PRIu64 ", \"hard_links\": %" PRIu64 ", \"left_out\": {",
	             t->files, t->dirs, t->links, t->file_bytes, t->image_bytes, t->reused_files,
	             t->reused_bytes, t->setid, t->hard_links);
	for (int i = 1, some = 0; i < PACK_WHY_COUNT; i++)
		if (t->left_out[i])
			(void)printf("%s\"%d\": %" PRIu64, some++ ? ", " : "", i, t->left_out[i]);
	(void)printf("}}\n");
}

static int open_base(const char *folder, struct base **ret, struct err *e)
{
	_own_fd_ int dir = -1, image = -1, manifest = -1;
	int r = fd_open(folder, O_RDONLY | O_DIRECTORY, 0, &dir, e);

	if (r == 0)
		r = fd_openat(dir, names[0], O_RDONLY, 0, &image, e);
	if (r == 0)
		r = fd_openat(dir, names[1], O_RDONLY, 0, &manifest, e);
	return r < 0 ? r : base_open(image, manifest, ret, e);
}

static int open_report(const char *folder, struct pack_report **ret, struct err *e)
{
	_own_fd_ int dir = -1, fd = -1;
	int r = fd_open(folder, O_RDONLY | O_DIRECTORY, 0, &dir, e);

	if (r == 0)
		r = fd_openat(dir, names[2], O_RDONLY, 0, &fd, e);
	return r < 0 ? r : pack_report_open(fd, ret, e);
}

/* -- pack */

struct plan {
	struct pack_options opt;
	struct tool tool;
	struct pack_graft grafts[GRAFTS_MAX];
	const char *skips[SKIPS_MAX];
	struct base *earlier;
	const char *earlier_folder, *rules;
	struct exclude *exclude;
	struct gitdir *gitdir;
	bool wide;
};

static int take_never(struct plan *p, const char *path, struct err *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(e, "stat %s", path);
	p->opt.never[p->opt.never_count].dev = st.st_dev;
	p->opt.never[p->opt.never_count++].ino = st.st_ino;
	return 0;
}

static int take_graft(struct plan *p, char *arg, struct err *e)
{
	char *value = strchr(arg, '=');

	if (!value || p->opt.graft_count == GRAFTS_MAX)
		return err_set(e, -EINVAL, "--graft NAME=TEXT");
	*value++ = 0;
	p->grafts[p->opt.graft_count++] = (struct pack_graft){ .name = span_str(arg),
		                                               .kind = WORK_FILE,
		                                               .mode = 0644,
		                                               .content = span_str(value),
		                                               .dir_fd = PACK_FD_NONE };
	return 0;
}

static int take_option(struct plan *p, const char *name, char *value, struct err *e)
{
	if (strcmp(name, "--earlier") == 0) {
		p->earlier_folder = value;
		return open_base(value, &p->earlier, e);
	}
	if (strcmp(name, "--skip") == 0 && p->tool.skip_count < SKIPS_MAX) {
		p->skips[p->tool.skip_count++] = value;
		return 0;
	}
	if (strcmp(name, "--stop-after") == 0)
		return units_parse_count(value, 1, UINT32_MAX, &p->tool.stop_after, e);
	if (strcmp(name, "--rules") == 0) {
		p->rules = value;
		return 0;
	}
	if (strcmp(name, "--never") == 0)
		return take_never(p, value, e);
	if (strcmp(name, "--graft") == 0)
		return take_graft(p, value, e);
	return err_set(e, -EINVAL, "no option %s", name);
}

static int take_options(struct plan *p, char **argv, struct err *e)
{
	uint64_t uid = 1000;
	int r = 0;

	for (; r == 0 && *argv; argv++) {
		if (strcmp(*argv, "--cross") == 0)
			p->opt.cross_mounts = true;
		else if (strcmp(*argv, "--wide") == 0)
			p->wide = true;
		else if (strcmp(*argv, "--over") == 0)
			p->opt.over = true;
		else if (strcmp(*argv, "--same") == 0)
			p->opt.same = true;
		else if (!argv[1])
			r = err_set(e, -EINVAL, "%s wants a value", *argv);
		else if (strcmp(*argv, "--uid") == 0)
			r = units_parse_count(argv[1], 0, UINT32_MAX, &uid, e), argv++;
		else
			r = take_option(p, argv[0], argv[1], e), argv++;
	}
	p->tool.skips = p->skips;
	p->opt.uid = p->opt.gid = (uint32_t)uid;
	p->opt.judge = judge;
	p->opt.judge_arg = &p->tool;
	p->opt.progress = progress;
	p->opt.progress_arg = &p->tool;
	p->opt.earlier = p->earlier;
	p->opt.grafts = p->grafts;
	return r;
}

static int take_rules(struct plan *p, int root, struct err *e)
{
	struct gitdir_options how = { .history = true, .next = exclude_judge };
	_own_free_ char *text = NULL;
	_own_fd_ int fd = -1;
	size_t len = 0;
	int r = fd_open(p->rules, O_RDONLY, 0, &fd, e);

	if (r == 0)
		r = fd_read_text(fd, IGNORE_FILE_MAX, &text, &len, e);
	if (r == 0)
		r = exclude_new(&p->exclude, e);
	if (r == 0)
		r = exclude_add(p->exclude, EXCLUDE_SECRET, "rules", span_of(text, len), e);
	if (r == 0)
		r = exclude_begin(p->exclude, root, e);
	how.next_arg = p->exclude;
	if (r == 0)
		r = gitdir_new(root, &how, &p->gitdir, e);
	p->opt.judge = gitdir_judge;
	p->opt.judge_arg = p->gitdir;
	return r;
}

static int take_over(struct plan *p, int dir, int *ret_image, struct err *e)
{
	_own_fd_ int from = -1;
	int r = p->earlier && pack_over_ok(p->earlier) ? 0
	                                               : err_set(e, -EINVAL, "nothing to be over");

	if (r == 0)
		r = fd_open(p->earlier_folder, O_RDONLY | O_DIRECTORY, 0, &from, e);
	if (r == 0 && renameat(from, names[0], dir, names[0]) < 0)
		r = err_sys(e, "rename the image");
	return r < 0 ? r : fd_openat(dir, names[0], O_RDWR, 0, ret_image, e);
}

static int pack(const char *root, const char *folder, struct plan *p, struct err *e)
{
	_own_fd_ int root_fd = -1, dir = -1;
	struct pack_totals totals;
	int fds[3] = { -1, -1, -1 };
	int r = fd_open(root, O_RDONLY | O_DIRECTORY, 0, &root_fd, e);

	if (r == 0 && folder)
		r = fd_make_dirs(folder, &dir, e);
	if (r == 0 && folder && p->opt.over)
		r = take_over(p, dir, &fds[0], e);
	for (int i = p->opt.same ? 2 : 0; r == 0 && folder && i < 3; i++)
		if (fds[i] < 0)
			r = fd_openat(dir, names[i], O_RDWR | O_CREAT | O_TRUNC, 0600, &fds[i], e);
	if (r == 0 && p->rules)
		r = take_rules(p, root_fd, e);
	p->opt.count_only = !folder;
	if (r == 0)
		r = pack_run(root_fd, &p->opt, fds[0], fds[1], fds[2], &totals, e);
	for (int i = 0; i < 3; i++)
		own_close_fd(&fds[i]);
	if (r == 0)
		print_totals(&totals);
	return r;
}

static int check(char **argv, struct plan *p, struct err *e)
{
	_own_fd_ int root = -1, home = -1, state = -1;
	int r = fd_open(argv[0], O_RDONLY | O_DIRECTORY, 0, &root, e);

	if (r == 0)
		r = fd_open(argv[1], O_RDONLY | O_DIRECTORY, 0, &home, e);
	if (r == 0)
		r = fd_open(argv[2], O_RDONLY | O_DIRECTORY, 0, &state, e);
	return r < 0 ? r : pack_check_root(root, home, state, p->wide, e);
}

/* -- reading */

struct listing {
	struct base *base;
	size_t len;
	uint8_t path[WPATH_MAX + 1];
};

static int list_one(void *arg, struct span name, const struct base_node *node, struct err *e)
{
	struct listing *l = arg;
	uint8_t digest[BASE_SHA256_BYTES] = { 0 };
	size_t before = l->len;
	struct buf b;
	int r = 0;

	buf_init(&b, l->path, sizeof(l->path));
	b.len = l->len;
	if (l->len > 0)
		buf_put_u8(&b, '/');
	buf_put_span(&b, name);
	l->len = b.len;
	if (node->kind != WORK_DIR)
		r = base_digest(l->base, node, digest, e);
	if (r < 0)
		return r;
	(void)printf("%c %o %" PRId64 ".%09u %" PRIu64 " ",
	             node->kind == WORK_FILE  ? 'f'
	             : node->kind == WORK_DIR ? 'd'
	                                      : 'l',
	             node->mode, node->mtime_s, node->mtime_ns, node->size);
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)printf("%02x", digest[i]);
	(void)putchar(' ');
	print_escaped(span_of(l->path, l->len));
	(void)putchar('\n');
	if (node->kind == WORK_DIR)
		r = base_list(l->base, node, list_one, l, e);
	l->len = before;
	return r;
}

static int list(const char *folder, struct err *e)
{
	_own_(base_free) struct base *b = NULL;
	struct listing l = { .len = 0 };
	struct base_node root;
	int r = open_base(folder, &b, e);

	if (r < 0)
		return r;
	l.base = b;
	base_root(b, &root);
	return base_list(b, &root, list_one, &l, e);
}

static int record(const char *folder, const char *path, struct err *e)
{
	_own_(base_free) struct base *b = NULL;
	struct host_record h;
	struct base_node node;
	int r = open_base(folder, &b, e);

	if (r == 0)
		r = base_lookup(b, span_str(path), &node, e);
	if (r == 0)
		r = base_host_record(b, &node, &h, e);
	if (r == 0)
		(void)printf("{\"ino\": %" PRIu64 ", \"size\": %" PRIu64
		             ", \"mode\": %u, \"nlink\": %u, \"flags\": %u, \"kind\": %u}\n",
		             h.ino, h.size, h.mode, h.nlink, h.flags, h.kind);
	return r;
}

static int cat(char **argv, struct err *e)
{
	_own_(base_free) struct base *b = NULL;
	_own_free_ uint8_t *data = NULL;
	struct base_node node;
	uint64_t off, len;
	int r = open_base(argv[0], &b, e);

	if (r == 0)
		r = base_lookup(b, span_str(argv[1]), &node, e);
	if (r == 0)
		r = units_parse_count(argv[2], 0, INT64_MAX, &off, e);
	if (r == 0)
		r = units_parse_count(argv[3], 0, INT32_MAX, &len, e);
	if (r < 0)
		return r;
	data = malloc(len + 1);
	if (!data)
		return err_set(e, -ENOMEM, "out of memory");
	r = base_read(b, &node, off, data, len, e);
	return r < 0 ? r : fd_write_all(STDOUT_FILENO, data, len, e);
}

static int print_record(void *arg, const struct pack_record *r, struct err *e)
{
	(void)arg;
	(void)e;
	(void)printf("%d %d %d %" PRIu64 " ", (int)r->why, r->dir, r->error, r->bytes);
	print_escaped(r->path);
	(void)putchar('\t');
	print_escaped(r->rule);
	(void)putchar('\n');
	return 0;
}

static int report(const char *folder, struct err *e)
{
	_own_(pack_report_free) struct pack_report *r = NULL;
	int got = open_report(folder, &r, e);

	return got < 0 ? got : pack_report_each(r, print_record, NULL, e);
}

static int find(const char *folder, const char *path, struct err *e)
{
	_own_(pack_report_free) struct pack_report *r = NULL;
	struct pack_record found;
	int got = open_report(folder, &r, e);

	if (got == 0)
		got = pack_report_find(r, span_str(path), &found, e);
	if (got == -ENOENT)
		return err_set(e, got, "not in the report");
	return got < 0 ? got : print_record(NULL, &found, e);
}

static int dispatch(int argc, char **argv, struct plan *p, struct err *e)
{
	int words = argc > 1 && strcmp(argv[1], "check") == 0  ? 5
	            : argc > 1 && strcmp(argv[1], "pack") == 0 ? 4
	                                                       : 3;
	int r = argc >= words ? 0 : err_set(e, -EINVAL, "see the head of basetool.c");

	if (r < 0)
		return r;
	if (strcmp(argv[1], "list") == 0)
		return list(argv[2], e);
	if (strcmp(argv[1], "report") == 0)
		return report(argv[2], e);
	if (strcmp(argv[1], "record") == 0 && argc == 4)
		return record(argv[2], argv[3], e);
	if (strcmp(argv[1], "find") == 0 && argc == 4)
		return find(argv[2], argv[3], e);
	if (strcmp(argv[1], "cat") == 0 && argc == 6)
		return cat(argv + 2, e);
	r = take_options(p, argv + words, e);
	if (r < 0)
		return r;
	if (strcmp(argv[1], "check") == 0)
		return check(argv + 2, p, e);
	return pack(argv[2], words == 4 ? argv[3] : NULL, p, e);
}

int main(int argc, char **argv)
{
	struct plan p = { .wide = false };
	struct err e = { 0 };
	int r = dispatch(argc, argv, &p, &e);

	base_free(p.earlier);
	gitdir_free(p.gitdir);
	exclude_free(p.exclude);
	return r < 0 ? fail(&e) : 0;
}
