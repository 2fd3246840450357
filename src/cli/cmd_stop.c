#include "base/log.h"
#include "base/units.h"
#include "cli/reach.h"
#include "cli/verbs.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { OPT_TIME = 1, OPT_SIGNAL };

enum {
	GRACE_DEFAULT_MS = 10000, /* docker's, which people's programs are used to */
	GRACE_MAX_MS = 3600 * 1000,
	SIGNALS_MAX = 64,
};

static const struct opt stop_opts[] = {
	{ OPT_TIME, 't', "time", "DURATION", COMPLETE_NONE, "between TERM and KILL (10s)" },
	{ OPT_SIGNAL, 0, "signal", "SIGNAL", COMPLETE_NONE, "only send this to the main command" },
	OPT_END_ROW,
};

/* "TERM", "SIGTERM" or "15". */
static int parse_signal(const char *text, uint32_t *ret, struct err *e)
{
	const char *name = strncmp(text, "SIG", 3) == 0 ? text + 3 : text;
	uint64_t number;

	if (span_to_u64(span_str(text), &number)) {
		if (number < 1 || number > SIGNALS_MAX)
			return err_set(e, -EINVAL, "--signal %s: signals are 1 to %d", text,
			               SIGNALS_MAX);
		*ret = (uint32_t)number;
		return 0;
	}
	for (int i = 1; i < NSIG; i++) {
		const char *known = sigabbrev_np(i);

		if (known && strcmp(known, name) == 0) {
			*ret = (uint32_t)i;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "--signal %s: no such signal: use TERM, KILL, ... or a number",
	               text);
}

static int send_signal(struct client *client, uint32_t sig, struct err *e)
{
	struct wire_frame f;

	wire_put_u32(&client->out, WIRE_KILL, 0, 0, CLIENT_EPOCH, sig);
	/* frames are taken in order: the answer to this one says that the signal was taken too */
	wire_put(&client->out, WIRE_INFO, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	return client_expect(client, WIRE_INFO_OK, CLIENT_ANSWER_MS, &f, e);
}

static int stop_one(struct cli *c, const char *ref, uint32_t grace_ms, uint32_t sig, struct err *e)
{
	_own_(client_free) struct client *client = NULL;
	int r = reach_client(c, ref, NULL, &client, e);

	if (r == 0)
		r = sig ? send_signal(client, sig, e) : reach_stop(client, grace_ms, e);
	return r;
}

static int run_stop(struct cli *c, const struct args *a)
{
	const char *time = args_value(a, OPT_TIME);
	const char *name = args_value(a, OPT_SIGNAL);
	uint64_t grace_ms = GRACE_DEFAULT_MS;
	struct err e = { 0 };
	uint32_t sig = 0;
	int status = 0;

	if (time && name)
		return cli_usage(a, "--time is for ending it, --signal is not: use one of them");
	if (time && units_parse_duration(time, &grace_ms, &e) < 0)
		return cli_usage(a, "--time: %s", e.text);
	if (grace_ms > GRACE_MAX_MS)
		return cli_usage(a, "--time %s: at most an hour", time);
	if (name && parse_signal(name, &sig, &e) < 0)
		return cli_usage(a, "%s", e.text);
	for (size_t i = 0; i < a->word_count; i++) {
		err_clear(&e);
		if (stop_one(c, a->words[i], (uint32_t)grace_ms, sig, &e) < 0) {
			(void)err_wrap(&e, "'%s'", a->words[i]);
			status = reach_fail(&e);
		} else {
			(void)printf("%s\n", a->words[i]);
		}
	}
	return status;
}

const struct verb verb_stop = {
	.name = "stop",
	.summary = "End running sandboxes",
	.args = "SANDBOX...",
	.about =
		"The main command gets TERM, and after a while KILL; then the guest is gone. With\n"
		"--signal the command gets that signal and what it does about it is its own matter.\n"
		"\n" REACH_EXITS,
	.examples = "berm stop web\n"
		    "berm stop -t 0 web\n"
		    "berm stop --signal HUP web\n",
	.opts = stop_opts,
	.run = run_stop,
	.words_min = 1,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_SANDBOX,
};
