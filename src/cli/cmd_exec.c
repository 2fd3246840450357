#include "base/log.h"
#include "cli/reach.h"
#include "cli/run.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "state/result.h"

#include <errno.h>
#include <string.h>

enum { EXEC_STREAM = 1 };

enum {
	OPT_INTERACTIVE = 1,
	OPT_TTY,
	OPT_NO_TTY,
	OPT_NO_STDIN,
	OPT_ENV,
	OPT_ENV_FILE,
	OPT_WORKDIR,
	OPT_USER,
};

/* clang-format off */
static const struct opt exec_opts[] = {
	{ OPT_INTERACTIVE, 'i', "interactive", NULL, COMPLETE_NONE, "forward stdin also from the background" },
	{ OPT_TTY, 't', "tty", NULL, COMPLETE_NONE, "a terminal in the guest (default at a terminal)" },
	{ OPT_NO_TTY, 0, "no-tty", NULL, COMPLETE_NONE, "none, even at a terminal" },
	{ OPT_NO_STDIN, 0, "no-stdin", NULL, COMPLETE_NONE, "the command reads /dev/null" },
	{ OPT_ENV, 'e', "env", "NAME[=VALUE]", COMPLETE_NONE, "set a variable, or copy that one of the host" },
	{ OPT_ENV_FILE, 0, "env-file", "FILE", COMPLETE_FILE, "the same, a line each" },
	{ OPT_WORKDIR, 'w', "workdir", "DIR", COMPLETE_NONE, "where in the guest the command starts" },
	{ OPT_USER, 'u', "user", "USER[:GROUP]", COMPLETE_NONE, "who in the guest it runs as" },
	OPT_END_ROW,
};
/* clang-format on */

struct exec {
	struct wire_exec x;
	struct strings env;
	bool no_stdin, interactive, want_tty, no_tty;
};

static void exec_fini(struct exec *x)
{
	strings_fini(&x->env);
}

static int take_flag(struct exec *x, const struct cli *c, const struct arg *o, struct err *e)
{
	switch (o->id) {
	case OPT_INTERACTIVE:
		x->interactive = true;
		return 0;
	case OPT_TTY:
		x->want_tty = true;
		return 0;
	case OPT_NO_TTY:
		x->no_tty = true;
		return 0;
	case OPT_NO_STDIN:
		x->no_stdin = true;
		return 0;
	case OPT_ENV:
		return run_env(&x->env, c->envp, o->value, strlen(o->value), e);
	case OPT_ENV_FILE:
		return run_env_file(&x->env, c->envp, o->value, e);
	case OPT_WORKDIR:
		x->x.cwd = span_str(o->value);
		if (o->value[0] != '/')
			return err_set(e, -EINVAL, "--workdir '%s': it must start with '/'",
			               o->value);
		return 0;
	default:
		x->x.user = span_str(o->value);
		return 0;
	}
}

static int take_flags(struct exec *x, const struct cli *c, const struct args *a, struct err *e)
{
	bool person = c->in_tty && c->out_tty && c->err_tty;
	bool tty;

	for (size_t i = 0; i < a->opt_count; i++) {
		int r = take_flag(x, c, &a->opts[i], e);

		if (r < 0)
			return r;
	}
	if (x->want_tty && x->no_tty)
		return err_set(e, -EINVAL, "--tty and --no-tty exclude each other");
	tty = x->want_tty || (person && !x->no_tty && !x->no_stdin);
	if (session_wants_stdin(c, x->interactive, x->no_stdin))
		x->x.flags |= WIRE_EXEC_STDIN;
	if (tty) {
		x->x.flags |= WIRE_EXEC_TTY;
		x->x.rows = TERM_ROWS_DEFAULT;
		x->x.cols = TERM_COLS_DEFAULT;
		if (c->out_tty)
			(void)term_size(STDOUT_FILENO, &x->x.rows, &x->x.cols);
		return run_env_term(&x->env, c->envp, e);
	}
	return 0;
}

static void explain_end(const struct session *s)
{
	struct result res;
	struct err e = { 0 };

	if (result_parse_json(span_of(s->relay.end_json, s->relay.end_bytes), &res, &e) < 0)
		log_error("the sandbox ended");
	else
		log_error("the sandbox ended: %s",
		          res.message[0] ? res.message : result_reason_name(res.reason));
}

static int exec_in(struct session *s, struct exec *x, struct cli *c, const struct args *a)
{
	struct err e = { 0 };
	struct relay *r;
	int fd;

	if (reach_dial(c, a->words[0], NULL, &fd, &e) < 0 ||
	    session_init(s, c, SESSION_EXEC, &e) < 0 || session_connect(s, fd, &e) < 0)
		return cli_fail(&e);
	r = &s->relay;
	s->tty = (x->x.flags & WIRE_EXEC_TTY) && c->in_tty;
	r->stream = EXEC_STREAM;
	r->in_fd = x->x.flags & WIRE_EXEC_STDIN ? STDIN_FILENO : -1;
	r->out.fd = STDOUT_FILENO;
	r->err.fd = STDERR_FILENO;
	/* to be told why, should the sandbox end under the command */
	wire_put(&s->client->out, WIRE_WAIT, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	wire_put_exec(&s->client->out, EXEC_STREAM, CLIENT_EPOCH, &x->x, a->words + 1,
	              (const char *const *)x->env.items);
	if (!buf_ok(&s->client->out))
		return cli_usage(a, "the command and its environment are longer than %d KiB",
		                 WIRE_EXEC_MAX >> 10);
	if (session_run(s, &e) < 0)
		return cli_fail(&e);
	if (r->end_json && r->ended != RELAY_EXIT && r->ended != RELAY_FAILED)
		explain_end(s);
	return session_status(s, a->words[1]);
}

static int run_exec(struct cli *c, const struct args *a)
{
	__attribute__((cleanup(session_fini))) struct session s = { .signal_fd = -1 };
	__attribute__((cleanup(exec_fini))) struct exec x = { 0 };
	struct err e = { 0 };

	strings_init(&x.env, WIRE_ARGS_MAX);
	if (take_flags(&x, c, a, &e) < 0)
		return cli_usage(a, "%s", e.text);
	return exec_in(&s, &x, c, a);
}

const struct verb verb_exec = {
	.name = "exec",
	.summary = "Run one more command in a running guest",
	.args = "SANDBOX CMD [ARG...]",
	.about =
		"Stdin and the terminal are handled as in berm run. The command's environment is what\n"
		"the flags say; HOME, PATH, TERM and USER are added where missing.\n"
		"\n"
		"Exit status: the command's own; 125 berm's error; 126, 127, 128+N as in a shell;\n"
		"137 when the sandbox ended under it.\n",
	.examples = "berm exec web ls -l /srv\n"
		    "berm exec web -- sh -c 'cat > /tmp/in' < data.bin\n"
		    "berm exec -u nobody -w /tmp web sh\n",
	.opts = exec_opts,
	.run = run_exec,
	.words_min = 2,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_SANDBOX,
	.stop_at_word = true,
};
