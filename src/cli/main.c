#include "base/fdio.h"
#include "base/log.h"
#include "cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

enum {
	VERB_PATH_MAX = 64,
	DEPTH_MAX = 2, /* "image ls" */
};

/* What is not there could be a flag of berm's own, as other tools have them. */
static int unknown_verb(const struct verb *const *table, const char *path, const char *typed)
{
	const char *nearest = verb_nearest(table, typed);
	const char *gap = path[0] ? " " : "";

	if (nearest)
		log_error("unknown verb '%s%s%s': did you mean 'berm %s%s%s'?", path, gap, typed,
		          path, gap, nearest);
	else
		log_error("unknown verb '%s%s%s' (see berm help%s%s)", path, gap, typed, gap, path);
	return CLI_EXIT_ERROR;
}

static int show_verb_help(const char *path, const struct verb *v)
{
	char storage[CLI_HELP_MAX];
	struct err e = { 0 };
	struct buf out;

	buf_init(&out, storage, sizeof(storage));
	help_put_verb(&out, path, v);
	if (cli_out(out.at, out.len, &e) < 0)
		return cli_fail(&e);
	return 0;
}

/* argv[0] is the verb's name, argv[1] its first own word. */
static int run_verb(struct cli *c, const char *path, const struct verb *v, int argc,
                    char *const *argv)
{
	_own_(args_free) struct args *a = NULL;
	struct err e = { 0 };
	int r = args_parse(v, argc - 1, argv + 1, &a, &e);

	if (r == ARGS_HELP)
		return show_verb_help(path, v);
	if (r < 0) {
		log_error("%s: %s (see berm help %s)", path, e.text, path);
		return CLI_EXIT_ERROR;
	}
	a->path = path;
	c->json = args_has(a, OPT_JSON);
	return v->run(c, a);
}

/* Descends through `berm image ls` to the verb that does something. */
static int dispatch(struct cli *c, int argc, char *const *argv)
{
	const struct verb *const *table = cli_verbs;
	char storage[VERB_PATH_MAX];
	struct buf path;

	buf_init(&path, storage, sizeof(storage));
	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		const struct verb *v = verb_find(table, argv[0]);

		if (!v)
			return unknown_verb(table, buf_cstr(&path), argv[0]);
		buf_printf(&path, "%s%s", depth ? " " : "", v->name);
		if (!v->subs || (v->run && argc > 1 && !verb_find(v->subs, argv[1])))
			return run_verb(c, buf_cstr(&path), v, argc, argv);
		if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
			return show_verb_help(buf_cstr(&path), v);
		table = v->subs;
		argc--;
		argv++;
	}
	return unknown_verb(table, buf_cstr(&path), argv[0]);
}

/* `berm`, `berm --help`, `berm --version` and what else begins with a dash. */
static int run_bare(struct cli *c, int argc, char *const *argv)
{
	static char help[] = "help";
	static char version[] = "version";
	char *const as_help[] = { help, NULL };
	char *const as_version[] = { version, NULL };
	char storage[CLI_HELP_MAX];
	struct err e = { 0 };
	struct buf out;

	if (argc < 2) {
		buf_init(&out, storage, sizeof(storage));
		help_put_short(&out);
		return cli_out(out.at, out.len, &e) < 0 ? cli_fail(&e) : 0;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return dispatch(c, 1, as_help);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return dispatch(c, 1, as_version);
	log_error("unknown option '%s': flags stand behind a verb, as in 'berm run %s' (see berm "
	          "help)",
	          argv[1], argv[1]);
	return CLI_EXIT_ERROR;
}

/* A closed one becomes /dev/null: or else the next file opened would be taken for it. */
static int look_at(int fd, bool *ret_tty)
{
	int got;

	*ret_tty = isatty(fd);
	if (*ret_tty || errno != EBADF)
		return 0;
	return fd_open("/dev/null", O_RDWR, 0, &got, NULL);
}

int main(int argc, char **argv, char **envp)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct cli c = { .state_fd = -1, .envp = (const char *const *)envp };
	int r;

	log_init("berm");
	/* a reader that leaves is an errno: guest and terminal are still to be looked after */
	(void)sigaction(SIGPIPE, &ignore, NULL);
	if (look_at(STDIN_FILENO, &c.in_tty) < 0 || look_at(STDOUT_FILENO, &c.out_tty) < 0 ||
	    look_at(STDERR_FILENO, &c.err_tty) < 0)
		return CLI_EXIT_ERROR;
	if (argc < 2 || argv[1][0] == '-')
		r = run_bare(&c, argc, argv);
	else
		r = dispatch(&c, argc - 1, argv + 1);
	if (fflush(stdout) != 0 && errno != EPIPE && r == 0) {
		log_error("cannot write the output: %s", strerror(errno));
		r = CLI_EXIT_ERROR;
	}
	if (c.state_fd >= 0)
		(void)close(c.state_fd);
	return r;
}
