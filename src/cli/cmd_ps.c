#include "base/clock.h"
#include "cli/reach.h"
#include "cli/verbs.h"
#include "lib/result.h"

#include <stdio.h>
#include <string.h>

enum { OPT_ALL = 1, OPT_QUIET };

enum { ROW_BYTES_MAX = 8 << 10, STATUS_BYTES_MAX = 64, COMMAND_SHOWN_MAX = 40 };

static const struct opt ps_opts[] = {
	{ OPT_ALL, 'a', "all", NULL, COMPLETE_NONE, "also those that ended and left a record" },
	{ OPT_QUIET, 'q', "quiet", NULL, COMPLETE_NONE, "print ids only" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

/* How an ended one ended; false when its record is gone or damaged by now. */
static bool read_result(struct cli *c, const struct state_info *info, struct result *ret)
{
	_own_free_ char *json = NULL;

	return info->ended && reach_record(c, info->id, &json, NULL) == 0 &&
	       result_parse_json(span_str(json), ret, NULL) == 0;
}

static void put_status(struct buf *b, const struct state_info *info, const struct result *res)
{
	if (!info->ended)
		buf_put_str(b, info->paused ? "paused" : info->level ? "running" : "starting");
	else if (!res)
		buf_put_str(b, "ended");
	else if (res->reason == RESULT_EXITED || res->reason == RESULT_SIGNALED)
		buf_printf(b, "exited %u", (unsigned)res->exit_code);
	else
		buf_printf(b, "%s (%u)", result_reason_name(res->reason), (unsigned)res->exit_code);
}

static void put_known(struct buf *b, const char *text)
{
	if (*text)
		buf_put_json_str(b, span_str(text));
	else
		buf_put_str(b, "null");
}

static void put_json(struct buf *b, const struct state_info *info, const struct result *res)
{
	buf_printf(b, "{\"id\":\"%s\",\"name\":", info->id);
	buf_put_json_str(b, span_str(info->name[0] ? info->name : info->id));
	buf_put_str(b, ",\"image\":");
	buf_put_json_str(b, span_str(info->image));
	buf_put_str(b, ",\"command\":");
	buf_put_json_str(b, span_str(info->command));
	buf_printf(b, ",\"created_ns\":%llu,\"engine\":", (unsigned long long)info->created_ns);
	put_known(b, info->engine);
	buf_put_str(b, ",\"level\":");
	put_known(b, info->level ? level_name(info->level) : "");
	buf_printf(b, ",\"supervisor_pid\":%d,\"paused\":%s,\"ended\":%s,\"reason\":",
	           info->supervisor_pid, info->paused && !info->ended ? "true" : "false",
	           info->ended ? "true" : "false");
	if (res)
		buf_printf(b, "\"%s\",\"exit_code\":%u}", result_reason_name(res->reason),
		           (unsigned)res->exit_code);
	else
		buf_put_str(b, "null,\"exit_code\":null}");
}

/* A column: outside text, escaped, cut and padded. */
static void put_column(struct buf *b, const char *text, size_t width)
{
	size_t before = b->len;
	size_t len = strlen(text);

	buf_put_escaped(b, span_of(text, len < width ? len : width));
	for (size_t at = b->len - before; at < width; at++)
		buf_put_str(b, " ");
	buf_put_str(b, "  ");
}

static void put_row(struct buf *b, const struct state_info *info, const struct result *res)
{
	char storage[STATUS_BYTES_MAX];
	struct buf cell;

	put_column(b, info->id, SPEC_ID_LEN);
	put_column(b, info->name[0] ? info->name : "-", 12);
	put_column(b, info->image, 16);
	buf_init(&cell, storage, sizeof(storage));
	cli_put_age(&cell, info->created_ns, clock_real_ns());
	put_column(b, buf_cstr(&cell), 6);
	put_column(b, info->level ? level_name(info->level) : "-", 8);
	buf_reset(&cell);
	put_status(&cell, info, res);
	put_column(b, buf_cstr(&cell), 12);
	buf_put_escaped(b, span_of(info->command, strnlen(info->command, COMMAND_SHOWN_MAX)));
	buf_put_str(b, "\n");
}

static void print_one(struct cli *c, const struct state_info *info, bool quiet, bool first)
{
	char storage[ROW_BYTES_MAX];
	const struct result *shown = NULL;
	struct result res;
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	if (quiet && !c->json) {
		buf_printf(&b, "%s\n", info->id);
	} else {
		if (read_result(c, info, &res))
			shown = &res;
		if (c->json) {
			buf_put_str(&b, first ? "" : ",\n ");
			put_json(&b, info, shown);
		} else {
			put_row(&b, info, shown);
		}
	}
	(void)fwrite(b.at, 1, b.len, stdout);
}

static int run_ps(struct cli *c, const struct args *a)
{
	_own_(state_list_free) struct state_list *list = NULL;
	bool quiet = args_has(a, OPT_QUIET);
	struct err e = { 0 };

	if (cli_state(c, &e) < 0 || state_list(c->state_fd, args_has(a, OPT_ALL), &list, &e) < 0)
		return cli_fail(&e);
	if (c->json)
		(void)fputs("[", stdout);
	else if (!quiet)
		(void)printf("%-12s  %-12s  %-16s  %-6s  %-8s  %-12s  %s\n", "ID", "NAME", "IMAGE",
		             "AGE", "LEVEL", "STATUS", "COMMAND");
	for (size_t i = 0; i < list->count; i++)
		print_one(c, &list->items[i], quiet, i == 0);
	if (c->json)
		(void)fputs("]\n", stdout);
	return 0;
}

const struct verb verb_ps = {
	.name = "ps",
	.summary = "List sandboxes",
	.args = "",
	.about =
		"Live ones; with -a also those that were started with -d, ended by themselves and\n"
		"have not been removed.\n",
	.examples = "berm ps\n"
		    "berm ps -a --json | jq '.[] | select(.exit_code != 0)'\n"
		    "berm stop $(berm ps -q)\n",
	.opts = ps_opts,
	.run = run_ps,
};
