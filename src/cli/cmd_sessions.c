#include "base/clock.h"
#include "base/units.h"
#include "cli/verbs.h"
#include "session/review_json.h"
#include "state/work_session.h"
#include "term/columns.h"
#include "term/json_out.h"

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

static const struct column heads[] = {
	{ .head = "ID", .least = SESSION_ID_LEN },
	{ .head = "AGENT", .least = 8 },
	{ .head = "STATE", .least = 8 },
	{ .head = "UNDECIDED", .least = 6 },
	{ .head = "AGE", .least = 6 },
	{ .head = "SIZE", .least = 9 },
	{ .head = "WORKSPACE", .tail = true },
};

enum { HEADS = sizeof(heads) / sizeof(heads[0]) };

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
	buf_put_str(b, root);
}

static int add_row(struct columns *t, const struct cli *c, const struct work_session_info *info,
                   uint64_t disk_bytes, struct err *e)
{
	char age_room[CELL_MAX];
	char size_room[CELL_MAX];
	char undecided[CELL_MAX] = "-";
	char root_room[sizeof(info->root) + 2];
	struct buf age;
	struct buf size;
	struct buf root;

	if (info->undecided < SESSION_UNKNOWN && info->state != SESSION_NONE)
		(void)snprintf(undecided, sizeof(undecided), "%llu",
		               (unsigned long long)info->undecided);
	buf_init(&age, age_room, sizeof(age_room));
	cli_put_age(&age, info->created_ns, clock_real_ns());
	buf_init(&size, size_room, sizeof(size_room));
	units_put_size(&size, disk_bytes);
	buf_init(&root, root_room, sizeof(root_room));
	put_root(&root, cli_env(c, "HOME"), info->root);
	return columns_add(t,
	                   (const char *[HEADS]){
				   info->id,
				   *info->agent ? info->agent : "-",
				   state_of(info),
				   undecided,
				   info->created_ns ? buf_cstr(&age) : "-",
				   buf_cstr(&size),
				   info->state == SESSION_NONE ? info->why : buf_cstr(&root),
			   },
	                   e);
}

static bool waits(const struct work_session_info *info)
{
	return info->state > SESSION_PACKED && info->state < SESSION_APPLIED;
}

static int print_all(struct cli *c, const struct work_session_list *l, const struct args *a,
                     struct err *e)
{
	_own_free_ char *room = malloc(REVIEW_JSON_SESSION_MAX + ROW_BYTES_MAX);
	_own_(columns_free) struct columns *t = NULL;
	bool whole = !c->json && !args_has(a, OPT_QUIET);
	bool first = true;
	int r = room ? columns_new(heads, HEADS, &t, e) : err_set(e, -ENOMEM, "out of memory");

	for (size_t i = 0; r == 0 && i < l->count; i++) {
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
			r = add_row(t, c, &l->items[i], l->disk_bytes[i], e);
		}
		first = false;
		(void)fwrite(b.at, 1, b.len, stdout);
	}
	return r < 0 || !whole ? r : columns_print(t, cli_columns(c), e);
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
