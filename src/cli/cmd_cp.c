#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/reach.h"
#include "cli/verbs.h"
#include "lib/copy.h"
#include "term/term.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Theory of operation
 *
 * Names mean what they mean to `docker cp`: into a directory that is there, onto a file, or to a
 * new name; a source that ends in "/." is the directory's content. Where the guest is the
 * destination it is asked what is there first. Where the host is, everything is decided and opened
 * before the guest sends a byte, and then Landlock shuts the rest of the file system.
 */

enum { OPT_ARCHIVE = 1, OPT_FOLLOW, OPT_USER, OPT_LINKS, OPT_MAX };

enum { PROBE_STREAM = 1, COPY_STREAM = 2, QUIET_MS = 1000, TELL_MS = 100 };

/* clang-format off */
static const struct opt cp_opts[] = {
	{ OPT_ARCHIVE, 'a', "archive", NULL, COMPLETE_NONE, "keep owners (on the host: root only)" },
	{ OPT_FOLLOW, 'L', "follow-link", NULL, COMPLETE_NONE, "copy what a link SRC points to" },
	{ OPT_USER, 'u', "user", "USER[:GROUP]", COMPLETE_NONE, "who owns it in the guest (root)" },
	{ OPT_LINKS, 0, "all-links", NULL, COMPLETE_NONE, "from a guest: also links that lead out of the copy" },
	{ OPT_MAX, 0, "max", "SIZE", COMPLETE_NONE, "from a guest: no more than this (16GiB)" },
	OPT_END_ROW,
};
/* clang-format on */

/* SRC or DST as typed, taken apart. */
struct side {
	char sandbox[SPEC_NAME_MAX + 1]; /* "": the host */
	char path[WIRE_PATH_MAX + 1];    /* in a guest absolute; no '/' at its end but for "/" */
	bool content;                    /* ended in "/." */
	bool want_dir;                   /* ended in "/" */
};

struct cp {
	struct cli *c;
	const struct args *a;
	struct side src, dst;
	struct spinner spinner;
	uint64_t begun_ms, told_ms;
	struct copy_progress progress;
};

/* A colon makes a sandbox of what is before it, unless that looks like a path. */
static const char *sandbox_colon(const char *word)
{
	const char *colon = strchr(word, ':');
	const char *slash = strchr(word, '/');

	if (!colon || colon == word || word[0] == '.' || (slash && slash < colon))
		return NULL;
	return colon;
}

static int take_side(const char *word, struct side *ret, struct err *e)
{
	const char *colon = sandbox_colon(word);
	const char *path = colon ? colon + 1 : word;
	size_t len = strlen(path);
	struct side got = { 0 };
	size_t skip = 0;

	if (colon && (size_t)(colon - word) > SPEC_NAME_MAX)
		return err_set(e, -EINVAL, "'%s': no sandbox has so long a name", word);
	if (colon)
		memcpy(got.sandbox, word, (size_t)(colon - word));
	if (!colon && len == 0)
		return err_set(e, -EINVAL, "an empty path is no file");
	if (strcmp(path, "-") == 0)
		return err_set(e, -EINVAL, "'-' is not supported: copy to a directory");
	if (colon && path[0] != '/')
		got.path[skip++] = '/'; /* a guest has no directory we would be in */
	if (len + skip > WIRE_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "the path is longer than %d bytes", WIRE_PATH_MAX);
	memcpy(got.path + skip, path, len + 1);
	len += skip;
	got.content = len >= 2 && strcmp(got.path + len - 2, "/.") == 0;
	if (got.content)
		got.path[--len] = '\0';
	got.want_dir = len > 0 && got.path[len - 1] == '/';
	while (len > 1 && got.path[len - 1] == '/')
		got.path[--len] = '\0';
	*ret = got;
	return 0;
}

/* The last component; "" for "/", "." and "..", whose own name nobody typed. */
static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;

	return strcmp(base, ".") == 0 || strcmp(base, "..") == 0 ? "" : base;
}

static void tell(void *ctx, const struct copy_stats *s)
{
	struct cp *cp = ctx;
	uint64_t now = clock_mono_ms();
	char storage[80];
	struct buf b;

	if (now - cp->begun_ms < QUIET_MS || now - cp->told_ms < TELL_MS)
		return;
	cp->told_ms = now;
	buf_init(&b, storage, sizeof(storage));
	units_put_size(&b, s->bytes);
	buf_printf(&b, ", %llu files", (unsigned long long)s->files);
	spinner_say(&cp->spinner, buf_span(&b));
}

static void summary(struct cp *cp, const struct copy_stats *s)
{
	spinner_clear(&cp->spinner);
	if (s->links_left)
		log_warn("links left out because they lead out of the copy: %llu (--all-links "
		         "keeps them)",
		         (unsigned long long)s->links_left);
	if (s->others_left)
		log_warn("sockets, pipes and devices left out: %llu",
		         (unsigned long long)s->others_left);
}

/* --- into a guest --- */

static int join(char ret[WIRE_PATH_MAX + 1], const char *dir, const char *name, struct err *e)
{
	const char *gap = strcmp(dir, "/") == 0 ? "" : "/";
	int n = snprintf(ret, WIRE_PATH_MAX + 1, "%s%s%s", dir, gap, name);

	if (n < 0 || n > WIRE_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "'%s/%s' is longer than %d bytes", dir, name,
		               WIRE_PATH_MAX);
	return 0;
}

/* Where in the guest the first entry goes. */
static int guest_target(const struct cp *cp, uint8_t there, bool src_is_dir,
                        char ret[WIRE_PATH_MAX + 1], struct err *e)
{
	const struct side *dst = &cp->dst;
	const char *name = base_name(cp->src.path);
	char *real = NULL;
	int r;

	if (there == ENTRY_FILE && (src_is_dir || dst->want_dir))
		return err_set(e, -ENOTDIR, "'%s' is a file in the guest", dst->path);
	if (there == ENTRY_END && dst->want_dir && !src_is_dir)
		return err_set(e, -ENOENT, "no directory '%s' in the guest", dst->path);
	if (there != ENTRY_DIR || cp->src.content)
		return join(ret, "", dst->path + 1, e);
	if (name[0])
		return join(ret, dst->path, name, e);
	/* "." or "..": its name is what it resolves to */
	real = realpath(cp->src.path, NULL);
	if (!real)
		return err_sys(e, "'%s'", cp->src.path);
	r = base_name(real)[0] ? join(ret, dst->path, base_name(real), e)
	                       : join(ret, "", dst->path + 1, e);
	free(real);
	return r;
}

static int copy_to_guest(struct cp *cp, struct err *e)
{
	bool follow = args_has(cp->a, OPT_FOLLOW) || cp->src.content || cp->src.want_dir;
	const char *user = args_value(cp->a, OPT_USER);
	_own_(client_free) struct client *client = NULL;
	struct copy_put_opt opt = { .dir_fd = AT_FDCWD, .src = cp->src.path, .follow = follow };
	char path[WIRE_PATH_MAX + 1];
	struct copy_stats stats;
	struct stat st;
	uint8_t there;
	int r;

	if (fstatat(AT_FDCWD, cp->src.path, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "'%s'", cp->src.path);
	if ((cp->src.content || cp->src.want_dir) && !S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "'%s' is no directory", cp->src.path);
	r = reach_client(cp->c, cp->dst.sandbox, NULL, &client, e);
	if (r == 0)
		r = copy_probe(client, PROBE_STREAM, cp->dst.path, &there, e);
	if (r == 0)
		r = guest_target(cp, there, S_ISDIR(st.st_mode), path, e);
	if (r < 0)
		return r;
	opt.path = path;
	opt.user = args_has(cp->a, OPT_ARCHIVE) ? "" : user ? user : "root";
	r = copy_put(client, COPY_STREAM, &opt, &cp->progress, &stats, e);
	if (r == 0)
		summary(cp, &stats);
	return r;
}

/* --- out of a guest --- */

/* The destination, opened; `name` borrows from cp. */
struct target {
	int dir_fd;
	char dir[WIRE_PATH_MAX + 1];
	struct copy_in_opt opt;
};

/* DST's own directory and name, where DST is a file or is not there. */
static int target_by_name(const struct cp *cp, struct target *t, struct err *e)
{
	const char *path = cp->dst.path;
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	int r;

	if (!base_name(path)[0])
		return err_set(e, -ENOENT, "'%s': no such directory", path);
	memcpy(t->dir, path, len);
	t->dir[len] = '\0';
	r = fd_open(slash ? (len ? t->dir : "/") : ".", O_RDONLY | O_DIRECTORY, 0, &t->dir_fd, e);
	t->opt.name = base_name(path);
	return r;
}

static int find_target(const struct cp *cp, struct target *t, struct err *e)
{
	const char *path = cp->dst.path;
	struct stat st;
	bool there = stat(path, &st) == 0;

	if (!there && errno != ENOENT)
		return err_sys(e, "'%s'", path);
	if (there && S_ISDIR(st.st_mode)) {
		const char *name = base_name(cp->src.path);

		/* the root of a guest has no name: its content it is */
		t->opt.name = cp->src.content || !name[0] ? NULL : name;
		return fd_open(path, O_RDONLY | O_DIRECTORY, 0, &t->dir_fd, e);
	}
	if (there && (cp->dst.want_dir || cp->src.content))
		return err_set(e, -ENOTDIR, "'%s' is no directory", path);
	t->opt.refuse_dir = there;
	t->opt.want_dir = cp->dst.want_dir || cp->src.content;
	return target_by_name(cp, t, e);
}

static int receive(struct cp *cp, struct client *client, struct target *t, struct err *e)
{
	_own_(copy_in_free) struct copy_in *in = NULL;
	bool follow = args_has(cp->a, OPT_FOLLOW) || cp->src.content || cp->src.want_dir;
	int r;

	t->opt.parent_fd = t->dir_fd;
	t->opt.all_links = args_has(cp->a, OPT_LINKS);
	t->opt.owners = args_has(cp->a, OPT_ARCHIVE);
	/* from here on nothing but the destination can be written, whatever the guest sends */
	r = copy_in_jail(t->dir_fd, e);
	if (r == 0)
		r = copy_in_new(&t->opt, &in, e);
	if (r == 0)
		r = copy_get(client, COPY_STREAM, cp->src.path, follow, in, &cp->progress, e);
	if (r == 0)
		summary(cp, copy_in_stats(in));
	return r;
}

static int copy_from_guest(struct cp *cp, struct err *e)
{
	_own_(client_free) struct client *client = NULL;
	struct target t = { .dir_fd = -1, .opt = { .bytes_max = COPY_BYTES_DEFAULT } };
	const char *max = args_value(cp->a, OPT_MAX);
	int r = 0;

	if (args_has(cp->a, OPT_ARCHIVE) && geteuid() != 0)
		return err_set(e, -EPERM, "--archive sets owners, which only root can");
	if (max)
		r = units_parse_size(max, &t.opt.bytes_max, e);
	if (r < 0)
		return err_wrap(e, "--max");
	r = reach_client(cp->c, cp->src.sandbox, NULL, &client, e);
	if (r == 0)
		r = find_target(cp, &t, e);
	if (r == 0)
		r = receive(cp, client, &t, e);
	if (t.dir_fd >= 0)
		(void)close(t.dir_fd);
	return r;
}

static int run_cp(struct cli *c, const struct args *a)
{
	struct cp cp = { .c = c, .a = a, .spinner.enabled = cli_redraws(c, c->err_tty) };
	struct err e = { 0 };
	int r;

	cp.progress = (struct copy_progress){ .tell = tell, .ctx = &cp };
	cp.begun_ms = clock_mono_ms();
	if (take_side(a->words[0], &cp.src, &e) < 0 || take_side(a->words[1], &cp.dst, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (!cp.src.sandbox[0] == !cp.dst.sandbox[0])
		return cli_usage(a, "one of the two is to be in a sandbox: SANDBOX:PATH");
	r = cp.src.sandbox[0] ? copy_from_guest(&cp, &e) : copy_to_guest(&cp, &e);
	spinner_clear(&cp.spinner);
	return r < 0 ? reach_fail(&e) : 0;
}

const struct verb verb_cp = {
	.name = "cp",
	.summary = "Copy files into or out of a running guest",
	.args = "SRC DST (one of them SANDBOX:PATH)",
	.about =
		"Into a directory that is there, onto a file, or to a new name, as with docker cp; a\n"
		"source ending in /. is the directory's content. A guest's files arrive without\n"
		"set-user-id bits and belong to you. A file named a:b on the host is ./a:b.\n"
		"\n" REACH_EXITS,
	.examples = "berm cp ./src web:/srv\n"
		    "berm cp web:/var/log/app.log .\n"
		    "berm cp web:/out/. ./results\n",
	.opts = cp_opts,
	.run = run_cp,
	.words_min = 2,
	.words_max = 2,
	.words = COMPLETE_COPY,
};
