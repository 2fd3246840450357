#include "base/log.h"
#include "cli/egress/live_egress.h"
#include "cli/verbs.h"
#include "lib/egress_ask.h"
#include "lib/secret_source.h"
#include "term/term.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	OPT_ENV = 1,
	OPT_FILE,
	OPT_KEYRING,
	TYPED_MAX = 4095, /* bytes of a line of a terminal */
};

/* --- set --- */

/* clang-format off */
static const struct opt set_opts[] = {
	{ OPT_ENV, 0, "env", "NAME", COMPLETE_NONE, "take it from this variable" },
	{ OPT_FILE, 0, "file", "FILE", COMPLETE_FILE, "take it from this file" },
	{ OPT_KEYRING, 0, "keyring", "ITEM", COMPLETE_NONE, "take it from the desktop's keyring" },
	OPT_END_ROW,
};
/* clang-format on */

static int check_name(const char *name, struct err *e)
{
	size_t len = strlen(name);

	if (len > 0 && len <= CONTROL_SECRET_NAME_MAX && control_parse_name_ok(span_str(name)))
		return 0;
	return err_set(e, -EINVAL,
	               "'%.64s' is no secret's name: 1 to %d letters, digits and '_', the first no "
	               "digit",
	               name, CONTROL_SECRET_NAME_MAX);
}

/* A line typed blind. Until it is whole, a signal gives the terminal back and then ends us. */
static int read_typed(const char *name, struct secret_value *ret, struct err *e)
{
	struct term t = { .fd = STDIN_FILENO };
	_own_fd_ int signals = -1;
	sigset_t before;
	sigset_t set;
	int r;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGQUIT);
	(void)sigaddset(&set, SIGTSTP);
	(void)sigprocmask(SIG_BLOCK, &set, &before);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	r = term_blind(&t, STDIN_FILENO, e);
	if (r == 0) {
		struct pollfd p[] = { { .fd = STDIN_FILENO, .events = POLLIN },
			              { .fd = signals, .events = POLLIN } };

		(void)fprintf(stderr, "value of %s: ", name);
		while (poll(p, 2, -1) < 0 && errno == EINTR)
			continue;
		r = p[1].revents ? err_set(e, -EINTR, "interrupted")
		                 : secret_source_read(name, STDIN_FILENO, true, ret, e);
		(void)fputc('\n', stderr);
	}
	term_restore(&t);
	(void)sigprocmask(SIG_SETMASK, &before, NULL); /* what is pending ends us here */
	return r;
}

/* A terminal drops what is beyond, and says nothing: tty_ioctl(4), canonical mode. */
static int check_typed(int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "what was typed");
	if (st.st_size < TYPED_MAX)
		return 0;
	return err_set(e, -EINVAL, "a terminal takes lines of %d bytes: pipe the value in",
	               TYPED_MAX);
}

static int read_value(struct cli *c, const struct args *a, struct secret_value *ret, struct err *e)
{
	static const struct {
		int opt;
		enum secret_from from;
	} sources[] = { { OPT_ENV, SECRET_ENV },
		        { OPT_FILE, SECRET_FILE },
		        { OPT_KEYRING, SECRET_KEYRING } };
	const char *name = a->words[1];

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		const char *value = args_value(a, sources[i].opt);
		struct policy_source s = { name, sources[i].from, { 0 } };

		if (!value)
			continue;
		s.what = span_str(value);
		return secret_source_open(&s, c->envp, ret, e);
	}
	return c->in_tty ? read_typed(name, ret, e)
	                 : secret_source_read(name, STDIN_FILENO, false, ret, e);
}

static int set(struct cli *c, const struct args *a, struct err *e)
{
	struct secret_value value = { .fd = -1 };
	_own_fd_ int value_fd = -1;
	_own_fd_ int fd = -1;
	struct state_info who;
	int r = live_egress_find(c, a->words[0], false, &who, e);

	if (r == 0)
		r = live_egress_open(c, who.id, &fd, e);
	if (r == 0)
		r = read_value(c, a, &value, e);
	if (r < 0)
		return r;
	value_fd = value.fd;
	if (a->opt_count == 0 && c->in_tty)
		r = check_typed(value_fd, e);
	if (r < 0)
		return r;
	if (value.trimmed && !c->in_tty)
		log_info("the line break at the end is left out");
	r = egress_ask_secret(fd, a->words[1], value_fd, egress_ask_deadline(), e);
	return r < 0 ? err_wrap(e, "the secret %s", a->words[1]) : 0;
}

static int run_set(struct cli *c, const struct args *a)
{
	struct err e = { 0 };

	if (a->opt_count > 1)
		return cli_usage(a, "one of --env, --file and --keyring, not two");
	if (check_name(a->words[1], &e) < 0)
		return cli_usage(a, "%s", e.text);
	return set(c, a, &e) < 0 ? live_egress_fail(&e) : 0;
}

static const struct verb verb_set = {
	.name = "set",
	.summary = "Give a secret of a running sandbox a value, or another one",
	.args = "SANDBOX NAME",
	.about =
		"The value is read from stdin: typed unseen at a terminal, else to the end, without line\n"
		"breaks behind it. It is never a word of the command line. From the next request on the\n"
		"new value is sent; commands that run keep the placeholder they have. Where it may be\n"
		"used is the policy's to say (berm policy set).\n"
		"\n" LIVE_EGRESS_EXITS,
	.examples = "berm secret set web API_KEY\n"
		    "pass show api | berm secret set web API_KEY\n"
		    "berm secret set web API_KEY --file ~/.config/api-key\n",
	.opts = set_opts,
	.run = run_set,
	.words_min = 2,
	.words_max = 2,
	.words = COMPLETE_SANDBOX,
};

/* --- rm --- */

static int run_rm(struct cli *c, const struct args *a)
{
	_own_fd_ int fd = -1;
	struct state_info who;
	struct err e = { 0 };
	int status = 0;

	if (live_egress_find(c, a->words[0], false, &who, &e) < 0 ||
	    live_egress_open(c, who.id, &fd, &e) < 0)
		return live_egress_fail(&e);
	for (size_t i = 1; i < a->word_count; i++) {
		err_clear(&e);
		if (check_name(a->words[i], &e) == 0 &&
		    egress_ask_secret_rm(fd, a->words[i], egress_ask_deadline(), &e) < 0)
			(void)err_wrap(&e, "the secret %s", a->words[i]);
		if (e.code != 0)
			status = live_egress_fail(&e);
	}
	return status;
}

static const struct verb verb_rm_secret = {
	.name = "rm",
	.summary = "Take a secret from a running sandbox",
	.args = "SANDBOX NAME...",
	.about = "Requests that carry its placeholder are refused from then on.\n"
		 "\n" LIVE_EGRESS_EXITS,
	.examples = "berm secret rm web API_KEY\n",
	.run = run_rm,
	.words_min = 2,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_SANDBOX,
};

/* --- ls --- */

static const struct opt ls_opts[] = { OPT_JSON_ROW, OPT_END_ROW };

static bool has_value(const json_t *names, struct span name)
{
	for (size_t i = 0; i < json_array_size(names); i++) {
		const char *one = json_string_value(json_array_get(names, i));

		if (one && span_is(name, one))
			return true;
	}
	return false;
}

static int find_bound(const struct policy *p, const char *name)
{
	for (unsigned i = 0; i < policy_secrets(p); i++)
		if (span_is(policy_secret_at(p, i)->name, name))
			return (int)i;
	return -1;
}

struct list {
	const struct cli *c;
	const struct policy *policy;
	const json_t *names; /* of those that have a value */
	char *room;
	unsigned count;
};

/* bound: its number in the policy, or -1: it is bound to nothing. */
static int put_row(struct list *l, const char *name, int bound, bool value, struct err *e)
{
	struct buf b;

	buf_init(&b, l->room, POLICY_SHOWN_MAX);
	if (l->c->json) {
		buf_printf(&b, "%s{\"name\":", l->count > 0 ? "," : "");
		buf_put_json_str(&b, span_str(name));
		buf_printf(&b, ",\"value\":%s,\"use\":", value ? "true" : "false");
		if (bound >= 0)
			policy_put_secret_json(l->policy, (unsigned)bound, &b);
		else
			buf_put_str(&b, "null");
		buf_put_str(&b, "}");
	} else {
		buf_printf(&b, "%-8s  ", value ? "set" : "missing");
		if (bound >= 0)
			policy_put_secret(l->policy, (unsigned)bound, &b);
		else
			buf_printf(&b, "%s  to no host: the policy does not name it", name);
		buf_put_u8(&b, '\n');
	}
	l->count++;
	return cli_out(b.at, b.len, e);
}

static int put_rows(struct list *l, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < policy_secrets(l->policy); i++) {
		struct span name = policy_secret_at(l->policy, i)->name;
		char text[CONTROL_SECRET_NAME_MAX + 1];

		(void)snprintf(text, sizeof(text), "%.*s", (int)name.len, (const char *)name.at);
		r = put_row(l, text, (int)i, has_value(l->names, name), e);
	}
	for (size_t i = 0; r == 0 && i < json_array_size(l->names); i++) {
		const char *name = json_string_value(json_array_get(l->names, i));

		if (name && find_bound(l->policy, name) < 0)
			r = put_row(l, name, -1, true, e);
	}
	return r;
}

static int list(struct cli *c, const char *ref, struct err *e)
{
	_own_(policy_free) struct policy *policy = NULL;
	_own_(jread_free) json_t *info = NULL;
	_own_free_ char *room = malloc(POLICY_SHOWN_MAX);
	const json_t *egress = NULL;
	struct state_info who;
	struct list l = { .c = c, .room = room };
	int r = room ? live_egress_info(c, ref, &who, &info, &egress, e)
	             : err_set(e, -ENOMEM, "out of memory");

	if (r == 0)
		r = live_egress_policy(c, who.id, &policy, e);
	if (r < 0)
		return r;
	l.policy = policy;
	l.names = json_object_get(egress, "secrets");
	if (c->json)
		r = cli_out("[", 1, e);
	if (r == 0)
		r = put_rows(&l, e);
	return r == 0 && c->json ? cli_out("]\n", 2, e) : r;
}

static int run_ls(struct cli *c, const struct args *a)
{
	struct err e = { 0 };

	return list(c, a->words[0], &e) < 0 ? live_egress_fail(&e) : 0;
}

static const struct verb verb_ls = {
	.name = "ls",
	.summary = "List a running sandbox's secrets: names and where they may be used",
	.args = "SANDBOX",
	.about = "A value is shown nowhere: once it is set, no command gives it back.\n"
		 "\n" LIVE_EGRESS_EXITS,
	.examples = "berm secret ls web\n"
		    "berm secret ls web --json | jq -r '.[].name'\n",
	.opts = ls_opts,
	.run = run_ls,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_SANDBOX,
};

static const struct verb *const secret_verbs[] = { &verb_set, &verb_rm_secret, &verb_ls, NULL };

const struct verb verb_secret = {
	.name = "secret",
	.summary = "Set, remove and list the secrets of running sandboxes",
	.subs = secret_verbs,
};
