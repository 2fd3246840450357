#include "base/clock.h"
#include "cli/reach.h"
#include "cli/verbs.h"
#include "state/result.h"
#include "term/columns.h"
#include "term/term.h"

#include <stdio.h>
#include <string.h>

enum { OPT_ALL = 1, OPT_QUIET };

enum { ROW_BYTES_MAX = 8 << 10, STATUS_BYTES_MAX = 64 };

static const struct column heads[] = {
	{ .head = "ID", .least = SPEC_ID_LEN },
	{ .head = "NAME", .least = 8 },
	{ .head = "IMAGE", .least = 8 },
	{ .head = "AGE", .least = 6 },
	{ .head = "LEVEL", .least = 8 },
	{ .head = "STATUS", .least = 8 },
	{ .head = "COMMAND" },
};

enum { HEADS = sizeof(heads) / sizeof(heads[0]) };

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

static int add_row(struct columns *t, const struct state_info *info, const struct result *res,
                   struct err *e)
{
	char age_room[STATUS_BYTES_MAX];
	char status_room[STATUS_BYTES_MAX];
	struct buf age;
	struct buf status;

	buf_init(&age, age_room, sizeof(age_room));
	cli_put_age(&age, info->created_ns, clock_real_ns());
	buf_init(&status, status_room, sizeof(status_room));
	put_status(&status, info, res);
	return columns_add(t,
	                   (const char *[HEADS]){
				   info->id,
				   info->name[0] ? info->name : "-",
				   info->image,
				   buf_cstr(&age),
				   info->level ? level_name(info->level) : "-",
				   buf_cstr(&status),
				   info->command,
			   },
	                   e);
}

static void print_json(struct cli *c, const struct state_list *list)
{
	(void)fputs("[", stdout);
	for (size_t i = 0; i < list->count; i++) {
		char storage[ROW_BYTES_MAX];
		struct result res;
		bool known = read_result(c, &list->items[i], &res);
		struct buf b;

		buf_init(&b, storage, sizeof(storage));
		buf_put_str(&b, i == 0 ? "" : ",\n ");
		put_json(&b, &list->items[i], known ? &res : NULL);
		(void)fwrite(b.at, 1, b.len, stdout);
	}
	(void)fputs("]\n", stdout);
}

static int print_rows(struct cli *c, const struct state_list *list, struct err *e)
{
	_own_(columns_free) struct columns *t = NULL;
	int r = columns_new(heads, HEADS, &t, e);

	for (size_t i = 0; r == 0 && i < list->count; i++) {
		struct result res;
		bool known = read_result(c, &list->items[i], &res);

		r = add_row(t, &list->items[i], known ? &res : NULL, e);
	}
	return r < 0 ? r : columns_print(t, cli_columns(c), e);
}

static int run_ps(struct cli *c, const struct args *a)
{
	_own_(state_list_free) struct state_list *list = NULL;
	bool quiet = args_has(a, OPT_QUIET);
	struct err e = { 0 };

	if (cli_state(c, &e) < 0 || state_list(c->state_fd, args_has(a, OPT_ALL), &list, &e) < 0)
		return cli_fail(&e);
	if (c->json)
		print_json(c, list);
	else if (!quiet)
		return print_rows(c, list, &e) < 0 ? cli_fail(&e) : 0;
	for (size_t i = 0; quiet && !c->json && i < list->count; i++)
		(void)printf("%s\n", list->items[i].id);
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
