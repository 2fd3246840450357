#include "base/clock.h"
#include "base/units.h"
#include "cli/json_out.h"
#include "cli/review_json.h"
#include "cli/verbs.h"
#include "lib/work_session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_QUIET = 1, OPT_PENDING };

enum { ROW_BYTES_MAX = 24 << 10, CELL_MAX = 64 };

static const struct opt sessions_opts[] = {
	{ OPT_PENDING, 'p', "pending", NULL, COMPLETE_NONE, "only those that wait for a decision" },
	{ OPT_QUIET, 'q', "quiet", NULL, COMPLETE_NONE, "print ids only" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

/* A column: outside text, escaped, cut and padded. */
static void put_column(struct buf *b, const char *text, size_t width)
{
	size_t before = b->len;

	buf_put_escaped(b, span_of(text, strnlen(text, width)));
	for (size_t at = b->len - before; at < width; at++)
		buf_put_str(b, " ");
	buf_put_str(b, "  ");
}

/* One whose session.json cannot be read has no state, and says why. */
static const char *state_of(const struct work_session_info *info)
{
	return info->state == SESSION_NONE ? "damaged" : work_session_state_name(info->state);
}

/* As its user would write it: a path in the home directory begins with ~. */
static void put_root(struct buf *b, const char *home, const char *root)
{
	size_t len = home ? strlen(home) : 0;

	if (len > 1 && home[0] == '/' && strncmp(root, home, len) == 0 && root[len] == '/') {
		buf_put_str(b, "~");
		root += len;
	}
	buf_put_escaped(b, span_str(root));
}

static void put_row(struct buf *b, const struct cli *c, const struct work_session_info *info,
                    uint64_t disk_bytes)
{
	char storage[CELL_MAX];
	struct buf cell;

	put_column(b, info->id, SESSION_ID_LEN);
	put_column(b, *info->agent ? info->agent : "-", 12);
	put_column(b, state_of(info), 11);
	buf_init(&cell, storage, sizeof(storage));
	if (info->undecided >= SESSION_UNKNOWN || info->state == SESSION_NONE)
		buf_put_str(&cell, "-");
	else
		buf_printf(&cell, "%llu", (unsigned long long)info->undecided);
	put_column(b, buf_cstr(&cell), 9);
	buf_reset(&cell);
	cli_put_age(&cell, info->created_ns, clock_real_ns());
	put_column(b, info->created_ns ? buf_cstr(&cell) : "-", 6);
	buf_reset(&cell);
	units_put_size(&cell, disk_bytes);
	put_column(b, buf_cstr(&cell), 9);
	if (info->state == SESSION_NONE)
		buf_put_escaped(b, span_str(info->why));
	else
		put_root(b, cli_env(c, "HOME"), info->root);
	buf_put_str(b, "\n");
}

static bool waits(const struct work_session_info *info)
{
	return info->state > SESSION_PACKED && info->state < SESSION_APPLIED;
}

static int print_all(struct cli *c, const struct work_session_list *l, const struct args *a,
                     struct err *e)
{
	_own_free_ char *room = malloc(REVIEW_JSON_SESSION_MAX + ROW_BYTES_MAX);
	bool first = true;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < l->count; i++) {
		struct buf b;

		if (args_has(a, OPT_PENDING) && !waits(&l->items[i]))
			continue;
		buf_init(&b, room, REVIEW_JSON_SESSION_MAX + ROW_BYTES_MAX);
		if (c->json) {
			buf_put_str(&b, first ? "" : ",\n ");
			review_json_put_session(&b, &l->items[i], l->disk_bytes[i]);
		} else if (args_has(a, OPT_QUIET)) {
			buf_printf(&b, "%s\n", l->items[i].id);
		} else {
			put_row(&b, c, &l->items[i], l->disk_bytes[i]);
		}
		first = false;
		(void)fwrite(b.at, 1, b.len, stdout);
	}
	return 0;
}

static int run_sessions(struct cli *c, const struct args *a)
{
	_own_(work_session_list_free) struct work_session_list *l = NULL;
	struct err e = { 0 };
	int r;

	if (a->word_count > 0 && strcmp(a->words[0], "ls") != 0)
		return cli_usage(a, "'%.60s': it lists sessions, and takes no more than 'ls'",
		                 a->words[0]);
	r = cli_state(c, &e);
	if (r == 0)
		r = work_session_list(c->state_fd, &l, &e);
	if (r != 0)
		return cli_fail(&e);
	if (c->json)
		(void)fputs("[", stdout);
	else if (!args_has(a, OPT_QUIET))
		(void)printf("%-12s  %-12s  %-11s  %-9s  %-6s  %-9s  %s\n", "ID", "AGENT", "STATE",
		             "UNDECIDED", "AGE", "SIZE", "WORKSPACE");
	r = print_all(c, l, a, &e);
	if (c->json)
		(void)fputs("]\n", stdout);
	return r < 0 ? cli_fail(&e) : 0;
}

const struct verb verb_sessions = {
	.name = "sessions",
	.summary = "List the sessions of agents: what waits for a decision, its age and size",
	.args = "[ls]",
	.about =
		"A session is one agent's work on one workspace. It stays, with its size, until it is\n"
		"removed by berm discard; nothing of it expires. Only what the workspace was, of one of\n"
		"which all was applied, may be packed over by the next: then it can still be undone.\n"
		"Sessions of a workspace that has not changed in between share what was packed, and SIZE\n"
		"is a session's part of that.\n"
		"\n"
		"States: running and collecting (the guest is at it), uncollected (the guest is gone,\n"
		"its work is fetched by the next review), spooled and pending (wait for a decision),\n"
		"applying (was interrupted; the next command ends it), applied (all is decided),\n"
		"unchanged (no work of anybody's: the packed workspace is kept for the next session, of\n"
		"up to four workspaces, for a week).\n",
	.examples = "berm sessions\n"
		    "berm sessions --pending\n"
		    "berm review $(berm sessions -pq | head -1)\n",
	.opts = sessions_opts,
	.run = run_sessions,
	.words_max = 1,
};
