#include "cli/reach.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "state/jread.h"
#include "state/result.h"

#include <errno.h>

enum { ATTACH_STREAM = 1 };

enum { OPT_NO_STDIN = 1 };

static const struct opt attach_opts[] = {
	{ OPT_NO_STDIN, 0, "no-stdin", NULL, COMPLETE_NONE, "only watch" },
	OPT_END_ROW,
};

static int attach_status(const struct session *s)
{
	struct result res;
	struct err e = { 0 };

	if (s->relay.ended == RELAY_DETACHED || s->relay.ended == RELAY_LEFT || !s->relay.end_json)
		return session_status(s, "the main command");
	if (result_parse_json(span_of(s->relay.end_json, s->relay.end_bytes), &res, &e) < 0)
		return cli_fail(&e);
	session_explain(&res);
	return (int)res.exit_code;
}

/* Has the main command a terminal of its own? Then ours goes raw. */
static int asks_tty(struct session *s, bool *ret, struct err *e)
{
	_own_(jread_free) json_t *o = NULL;
	_own_free_ char *json = NULL;
	int r = reach_info(s->client, &json, e);

	if (r == 0)
		r = jread_object(span_str(json), &o, e);
	if (r == 0)
		*ret = json_is_true(json_object_get(o, "tty"));
	return r;
}

static int run_attach(struct cli *c, const struct args *a)
{
	__attribute__((cleanup(session_fini))) struct session s = { .signal_fd = -1 };
	bool want_stdin = session_wants_stdin(c, false, args_has(a, OPT_NO_STDIN));
	struct err e = { 0 };
	bool tty = false;
	int fd;

	if (reach_dial(c, a->words[0], NULL, &fd, &e) < 0 ||
	    session_init(&s, c, SESSION_ATTACH, &e) < 0 || session_connect(&s, fd, &e) < 0 ||
	    asks_tty(&s, &tty, &e) < 0)
		return cli_fail(&e);
	s.tty = tty && want_stdin && c->in_tty && c->out_tty;
	s.relay.stream = ATTACH_STREAM;
	s.relay.in_fd = want_stdin ? STDIN_FILENO : -1;
	s.relay.out.fd = STDOUT_FILENO;
	s.relay.err.fd = STDERR_FILENO;
	s.relay.want_end = true;
	s.relay.detach_keys = s.tty;
	wire_put_u8(&s.client->out, WIRE_ATTACH, ATTACH_STREAM, CLIENT_EPOCH, want_stdin);
	if (session_run(&s, &e) < 0)
		return cli_fail(&e);
	return attach_status(&s);
}

const struct verb verb_attach = {
	.name = "attach",
	.summary = "Take over stdin and stdout of a running guest's main command",
	.args = "SANDBOX",
	.about = "If it has a terminal, ctrl-p ctrl-q leaves it running. Closing stdin ends the\n"
		 "command's stdin. A second ctrl-c within two seconds leaves it running.\n",
	.examples = "berm attach web\n"
		    "berm attach --no-stdin web\n",
	.opts = attach_opts,
	.run = run_attach,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_SANDBOX,
};
