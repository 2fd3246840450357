/*
 * Files in and out. A copy has a connection of its own, so nobody holds the sandbox's lock
 * meanwhile and others go on with theirs.
 */
#include "api/berm_internal.h"

#include "base/fdio.h"
#include "lib/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

enum { FILES_STREAM = 1 };

/* The connection's words for what the program knows by others. */
static int explain(int r, struct err *e)
{
	if (r == -ENODATA || r == -ECONNRESET || r == -ESHUTDOWN)
		return err_set(e, -ESHUTDOWN, "the sandbox ended while files were copied");
	if (r == -ETIMEDOUT)
		return err_set(e, r, "the copy was not done in time");
	return r;
}

static int check_paths(const char *src, const char *dst, const char *guest, struct err *e)
{
	if (!src || !dst || !*src || !*dst)
		return err_set(e, -EINVAL, "src and dst must be names");
	if (guest[0] != '/')
		return err_set(e, -EINVAL, "'%.64s': a path in the guest begins with '/'", guest);
	if (strlen(guest) > WIRE_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "a path in the guest has at most %d bytes",
		               WIRE_PATH_MAX);
	return 0;
}

static int put(struct berm_sandbox *sb, const struct copy_put_opt *opt, int timeout_ms,
               struct err *e)
{
	_own_(client_free) struct client *c = NULL;
	struct copy_stats stats;
	int r = check_paths(opt->src, opt->path, opt->path ? opt->path : "", e);

	if (r == 0 && strlen(opt->user) > WIRE_USER_MAX)
		r = err_set(e, -EINVAL, "user: at most %d bytes", WIRE_USER_MAX);
	if (r == 0)
		r = sandbox_client(sb, timeout_ms, &c, e);
	if (r < 0)
		return r;
	return explain(copy_put(c, FILES_STREAM, opt, NULL, &stats, e), e);
}

int berm_put(struct berm_sandbox *sb, const char *src, const char *dst, const char *user,
             int timeout_ms, struct berm_err *e)
{
	const struct copy_put_opt opt = {
		.dir_fd = AT_FDCWD,
		.src = src,
		.path = dst,
		.user = user ? user : "root",
	};
	struct err why = { 0 };
	int r = put(sb, &opt, timeout_ms, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

/* --- out of the guest --- */

struct getting {
	struct client *client;
	const char *src;
	struct copy_in_opt opt;
	int r;
	struct err why;
};

/* Runs in a thread, which gives up all but the destination: a process cannot for one call. */
static void *get_jailed(void *arg)
{
	_own_(copy_in_free) struct copy_in *in = NULL;
	struct getting *g = arg;

	g->r = copy_in_jail(g->opt.parent_fd, &g->why);
	if (g->r == 0)
		g->r = copy_in_new(&g->opt, &in, &g->why);
	if (g->r == 0)
		g->r = copy_get(g->client, FILES_STREAM, g->src, false, in, NULL, &g->why);
	return NULL;
}

/* No signal of the program's is handled in our thread. */
static int run_thread(struct getting *g, struct err *e)
{
	sigset_t all;
	sigset_t before;
	pthread_t t;
	int r;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&t, NULL, get_jailed, g);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r != 0)
		return err_set(e, -r, "start a thread");
	(void)pthread_join(t, NULL);
	if (g->r < 0)
		*e = g->why;
	return g->r;
}

/* Where the copy goes: a directory, and a name in it. */
static int open_target(const char *dst, int *ret_fd, const char **ret_name, struct err *e)
{
	const char *slash = strrchr(dst, '/');
	const char *name = slash ? slash + 1 : dst;
	_own_free_ char *dir = NULL;

	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return err_set(e, -EINVAL, "'%.64s' names no file or directory to make", dst);
	dir = slash ? strndup(dst, slash == dst ? 1 : (size_t)(slash - dst)) : strdup(".");
	if (!dir)
		return err_set(e, -ENOMEM, "out of memory");
	*ret_name = name;
	return fd_open(dir, O_RDONLY | O_DIRECTORY, 0, ret_fd, e);
}

static int get(struct berm_sandbox *sb, const char *src, const char *dst, uint64_t bytes_max,
               int timeout_ms, struct err *e)
{
	_own_(client_free) struct client *c = NULL;
	_own_fd_ int dir = -1;
	struct getting g = {
		.src = src,
		.opt.bytes_max = bytes_max ? bytes_max : COPY_BYTES_DEFAULT,
	};
	int r = check_paths(src, dst, src ? src : "", e);

	if (r == 0)
		r = open_target(dst, &dir, &g.opt.name, e);
	if (r == 0)
		r = sandbox_client(sb, timeout_ms, &c, e);
	if (r < 0)
		return r;
	g.opt.parent_fd = dir;
	g.client = c;
	return explain(run_thread(&g, e), e);
}

int berm_get(struct berm_sandbox *sb, const char *src, const char *dst, uint64_t bytes_max,
             int timeout_ms, struct berm_err *e)
{
	struct err why = { 0 };
	int r = get(sb, src, dst, bytes_max, timeout_ms, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}
