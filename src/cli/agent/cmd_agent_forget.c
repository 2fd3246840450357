#include "cli/agent/agent_state.h"
#include "cli/verbs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_WORKSPACE = 1, LINE_BYTES_MAX = 256 };

static const struct opt forget_opts[] = {
	{ OPT_WORKSPACE, 0, "workspace", "DIR", COMPLETE_FILE, "only of this one" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

/* The path it was kept under; of a folder that is gone the words as they are. */
static int real_root(const char *given, char ret[PATH_MAX], struct err *e)
{
	char *got;

	if (!given)
		return 0;
	got = realpath(given, ret);
	if (got)
		return 0;
	if (errno != ENOENT || given[0] != '/' || strlen(given) >= PATH_MAX)
		return err_sys(e, "the workspace '%s'", given);
	memcpy(ret, given, strlen(given) + 1);
	return 0;
}

static int say(const struct cli *c, const char *agent, unsigned count, struct err *e)
{
	char room[LINE_BYTES_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	if (c->json)
		buf_printf(&b, "{\"agent\":\"%s\",\"workspaces\":%u}\n", agent, count);
	else if (count == 0)
		buf_printf(&b, "%s: there was nothing to forget\n", agent);
	else
		buf_printf(&b, "%s: forgot its login in %u workspace%s\n", agent, count,
		           count == 1 ? "" : "s");
	return cli_out(b.at, b.len, e);
}

static int run_forget(struct cli *c, const struct args *a)
{
	const char *given = args_value(a, OPT_WORKSPACE);
	const char *agent = a->words[0];
	char root[PATH_MAX];
	struct err e = { 0 };
	unsigned count = 0;
	int r;

	/* the profile may be gone: what was kept is not */
	if (!agent_name_ok(agent))
		return cli_usage(a, "'%.80s' is no agent's name: a-z, 0-9 and '-'", agent);
	r = real_root(given, root, &e);
	if (r == 0)
		r = cli_state(c, &e);
	if (r == 0)
		r = agent_state_forget(c->state_fd, agent, given ? root : NULL, &count, &e);
	if (r == 0)
		r = say(c, agent, count, &e);
	return r < 0 ? cli_fail(&e) : 0;
}

const struct verb verb_agent_forget = {
	.name = "forget",
	.summary = "Remove what is kept of an agent's logins",
	.args = "AGENT",
	.about =
		"Of all workspaces, or of one: the token files that the profile names under state:. A\n"
		"session that runs keeps its own, and they are kept again when it ends. What was given\n"
		"out with them is still valid: log out with the service as well.\n"
		"\n"
		"Exit status: 0 done, also where nothing was kept; 125 anything else.\n",
	.examples = "berm agent forget claude-code\n"
		    "berm agent forget codex --workspace ~/src/project\n",
	.opts = forget_opts,
	.run = run_forget,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_AGENT,
};
