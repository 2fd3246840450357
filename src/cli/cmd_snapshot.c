#include "base/clock.h"
#include "base/units.h"
#include "cli/reach.h"
#include "cli/verbs.h"
#include "lib/snapshot.h"
#include "term/term.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What scripts tell apart, as with images; the help says the same. */
enum {
	EXIT_NO_SNAPSHOT = 3,
	EXIT_TAKEN = 4,
	EXIT_DAMAGED = 6,
	EXIT_SPACE = 10,
};

enum { LINE_BYTES_MAX = 8 << 10, JSON_BYTES_MAX = 1 << 20, SHORT_ID_LEN = 12 };

#define SNAPSHOT_EXITS                                                                             \
	"Exit status: 0 done; 3 no such snapshot; 4 the name is taken; 6 damaged;\n"               \
	"10 the disk is full; 125 anything else.\n"

static int fail(const struct err *e)
{
	(void)cli_fail(e);
	switch (e->code) {
	case -ENOENT:
		return EXIT_NO_SNAPSHOT;
	case -EEXIST:
		return EXIT_TAKEN;
	case -ESTALE:
	case -ENOTSUP:
		return EXIT_DAMAGED;
	case -ENOSPC:
	case -EDQUOT:
		return EXIT_SPACE;
	default:
		return CLI_EXIT_ERROR;
	}
}

/* --- taking one --- */

enum { OPT_FORCE = 1, OPT_QUIET };

static const struct opt take_opts[] = {
	{ OPT_FORCE, 'f', "force", NULL, COMPLETE_NONE, "replace a snapshot of that name" },
	{ OPT_QUIET, 'q', "quiet", NULL, COMPLETE_NONE, "print nothing" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

static int find_row(int state_fd, const char *name, struct snapshot_list **ret_list,
                    const struct snapshot_row **ret, struct err *e)
{
	int r = snapshot_list(state_fd, ret_list, e);

	for (size_t i = 0; r == 0 && i < (*ret_list)->count; i++) {
		if (strcmp((*ret_list)->rows[i].name, name) != 0)
			continue;
		*ret = &(*ret_list)->rows[i];
		return 0;
	}
	return r < 0 ? r
	             : err_set(e, -ENOENT, "there is no snapshot '%s' (berm snapshot ls)", name);
}

static int print_taken(const struct cli *c, const char *name, struct err *e)
{
	_own_(snapshot_list_free) struct snapshot_list *list = NULL;
	const struct snapshot_row *row = NULL;
	char storage[LINE_BYTES_MAX];
	struct buf b;
	int r = find_row(c->state_fd, name, &list, &row, e);

	if (r < 0)
		return r;
	buf_init(&b, storage, sizeof(storage));
	if (c->json) {
		buf_printf(&b, "{\"name\":\"%s\",\"disk_bytes\":%" PRIu64 ",\"id\":\"%s\"}\n", name,
		           row->disk_bytes, row->id);
	} else {
		buf_printf(&b, "%s  ", name);
		units_put_size(&b, row->disk_bytes);
		buf_put_str(&b, "\n");
	}
	return cli_out(b.at, b.len, e);
}

static int take(struct cli *c, const char *ref, const char *name, bool force, struct err *e)
{
	static const char words[] = "saving the sandbox";
	_own_(client_free) struct client *client = NULL;
	struct spinner spinner = { .enabled = cli_redraws(c, c->err_tty) };
	int r;

	if (!spec_name_ok(name))
		return err_set(e, -EINVAL,
		               "'%s' is no name for a snapshot: use 1 to %d letters, digits, '-', "
		               "'_' and '.', starting with a letter or digit",
		               name, SPEC_NAME_MAX);
	r = reach_client(c, ref, NULL, &client, e);
	if (r < 0)
		return r;
	spinner_say(&spinner, span_of(words, sizeof(words) - 1));
	r = snapshot_take(client, name, force, e);
	spinner_clear(&spinner);
	if (r == -EEXIST)
		return err_set(e, r,
		               "there is a snapshot '%s' already: use another name, or --force to "
		               "replace it",
		               name);
	return r < 0 ? err_wrap(e, "'%s' cannot be saved", ref) : 0;
}

static int run_take(struct cli *c, const struct args *a)
{
	struct err e = { 0 };

	if (take(c, a->words[0], a->words[1], args_has(a, OPT_FORCE), &e) < 0)
		return fail(&e);
	if (args_has(a, OPT_QUIET) && !c->json)
		return 0;
	return print_taken(c, a->words[1], &e) < 0 ? fail(&e) : 0;
}

/* --- ls --- */

static const struct opt ls_opts[] = {
	{ OPT_QUIET, 'q', "quiet", NULL, COMPLETE_NONE, "print names only" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

static const char *engine_name(uint8_t engine)
{
	return engine == SPEC_ENGINE_KVM ? "kvm" : "qemu";
}

static void put_row_json(struct buf *b, const struct snapshot_row *row)
{
	buf_printf(b,
	           "{\"name\":\"%s\",\"damaged\":%s,\"created_ns\":%" PRIu64
	           ",\"disk_bytes\":%" PRIu64,
	           row->name, row->damaged ? "true" : "false", row->created_ns, row->disk_bytes);
	if (!row->damaged) {
		buf_printf(b,
		           ",\"id\":\"%s\",\"engine\":\"%s\",\"memory_bytes\":%" PRIu64
		           ",\"image_id\":\"%s\",\"image\":",
		           row->id, engine_name(row->engine), row->memory_bytes, row->image_id);
		buf_put_json_str(b, span_str(row->image));
		buf_put_str(b, ",\"command\":");
		buf_put_json_str(b, span_str(row->command));
	}
	buf_put_str(b, "}");
}

static void put_row(struct buf *b, const struct snapshot_row *row)
{
	char storage[64];
	struct buf cell;

	buf_printf(b, "%-20s  ", row->name);
	buf_init(&cell, storage, sizeof(storage));
	units_put_size(&cell, row->disk_bytes);
	buf_printf(b, "%-9s  ", buf_cstr(&cell));
	buf_reset(&cell);
	cli_put_age(&cell, row->created_ns, clock_real_ns());
	buf_printf(b, "%-6s  ", buf_cstr(&cell));
	if (row->damaged) {
		buf_put_str(b, "damaged\n");
		return;
	}
	buf_printf(b, "%-6s  ", engine_name(row->engine));
	buf_put_escaped(b, span_str(row->image));
	buf_put_str(b, "  ");
	buf_put_escaped(b, span_str(row->command));
	buf_put_str(b, "\n");
}

static int run_ls(struct cli *c, const struct args *a)
{
	_own_(snapshot_list_free) struct snapshot_list *list = NULL;
	bool quiet = args_has(a, OPT_QUIET) && !c->json;
	struct err e = { 0 };

	if (cli_state(c, &e) < 0)
		return cli_fail(&e);
	state_sweep(c->state_fd);
	if (snapshot_list(c->state_fd, &list, &e) < 0)
		return cli_fail(&e);
	if (c->json)
		(void)fputs("[", stdout);
	else if (!quiet)
		(void)printf("%-20s  %-9s  %-6s  %-6s  %s\n", "NAME", "SIZE", "AGE", "ENGINE",
		             "IMAGE  COMMAND");
	for (size_t i = 0; i < list->count; i++) {
		char storage[LINE_BYTES_MAX];
		struct buf b;

		buf_init(&b, storage, sizeof(storage));
		if (c->json) {
			buf_put_str(&b, i > 0 ? ",\n " : "");
			put_row_json(&b, &list->rows[i]);
		} else if (quiet) {
			buf_printf(&b, "%s\n", list->rows[i].name);
		} else {
			put_row(&b, &list->rows[i]);
		}
		(void)fwrite(b.at, 1, b.len, stdout);
	}
	if (c->json)
		(void)fputs("]\n", stdout);
	return 0;
}

static const struct verb snapshot_ls_verb = {
	.name = "ls",
	.summary = "List the snapshots here",
	.args = "",
	.examples = "berm snapshot ls\n"
		    "berm snapshot ls --json | jq '.[].name'\n",
	.opts = ls_opts,
	.run = run_ls,
};

/* --- inspect --- */

static const struct opt inspect_opts[] = { OPT_JSON_ROW, OPT_END_ROW };

static void put_list(struct buf *b, const char *const *list)
{
	buf_put_u8(b, '[');
	for (size_t i = 0; list[i]; i++) {
		if (i > 0)
			buf_put_u8(b, ',');
		buf_put_json_str(b, span_str(list[i]));
	}
	buf_put_u8(b, ']');
}

static void put_inspect(struct buf *b, const struct snapshot *s, const struct snapshot_row *row,
                        const char *why)
{
	const struct spec_limits *l = &s->spec.limits;

	buf_printf(b,
	           "{\"name\":\"%s\",\"created_ns\":%" PRIu64 ",\"disk_bytes\":%" PRIu64
	           ",\"usable\":%s,\"why\":",
	           s->name, s->note.created_ns, row->disk_bytes, *why ? "false" : "true");
	buf_put_json_str(b, span_str(why));
	buf_put_str(b, ",\"of\":{\"id\":");
	buf_put_json_str(b, s->note.id);
	buf_put_str(b, ",\"name\":");
	buf_put_json_str(b, s->note.name);
	buf_printf(b, "},\"engine\":\"%s\",\"image_id\":\"%s\",\"image\":",
	           engine_name(s->spec.engine), s->spec.image_id);
	buf_put_json_str(b, span_str(s->spec.image));
	buf_put_str(b, ",\"command\":");
	put_list(b, s->spec.argv);
	buf_printf(b,
	           ",\"tty\":%s,\"limits\":{\"cpus\":%" PRIu32 ",\"memory_bytes\":%" PRIu64
	           ",\"disk_bytes\":%" PRIu64 ",\"pids\":%" PRIu64 ",\"time_ms\":%" PRIu64
	           ",\"idle_ms\":%" PRIu64 ",\"output_bytes\":%" PRIu64 "},\"machine\":",
	           s->spec.tty ? "true" : "false", l->cpus, l->memory_bytes, l->disk_bytes, l->pids,
	           l->time_ms, l->idle_ms, l->output_bytes);
	buf_put_json_str(b, s->note.machine);
	buf_put_str(b, "}\n");
}

static int inspect(struct cli *c, const char *name, struct err *e)
{
	_own_(snapshot_list_free) struct snapshot_list *list = NULL;
	_own_(snapshot_free) struct snapshot *s = NULL;
	_own_free_ uint8_t *storage = malloc(JSON_BYTES_MAX);
	const struct snapshot_row *row = NULL;
	struct err why = { 0 };
	struct buf b;
	int r;

	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	r = snapshot_open(c->state_fd, name, &s, e);
	if (r < 0)
		return r;
	r = find_row(c->state_fd, name, &list, &row, e);
	if (r < 0)
		return r;
	if (snapshot_check(s, &c->paths, &why) == 0)
		err_clear(&why);
	buf_init(&b, storage, JSON_BYTES_MAX);
	put_inspect(&b, s, row, why.text);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "its description is over %d bytes", JSON_BYTES_MAX);
	return cli_out(b.at, b.len, e);
}

static int run_inspect(struct cli *c, const struct args *a)
{
	struct err e = { 0 };
	int status = 0;

	if (cli_state(c, &e) < 0)
		return cli_fail(&e);
	for (size_t i = 0; i < a->word_count; i++) {
		err_clear(&e);
		if (inspect(c, a->words[i], &e) < 0)
			status = fail(&e);
	}
	return status;
}

static const struct verb snapshot_inspect_verb = {
	.name = "inspect",
	.summary = "Show all that is known of snapshots, as JSON",
	.args = "SNAPSHOT...",
	.about =
		"\"usable\" says whether it can be restored with what is installed here, and \"why\" not.\n"
		"Its files are checked for damage.\n" SNAPSHOT_EXITS,
	.examples = "berm snapshot inspect warm | jq .usable\n",
	.opts = inspect_opts,
	.run = run_inspect,
	.words_min = 1,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_SNAPSHOT,
};

/* --- rm --- */

static int run_rm(struct cli *c, const struct args *a)
{
	struct err e = { 0 };
	int status = 0;

	if (cli_state(c, &e) < 0)
		return cli_fail(&e);
	for (size_t i = 0; i < a->word_count; i++) {
		err_clear(&e);
		if (snapshot_remove(c->state_fd, a->words[i], &e) < 0)
			status = fail(&e);
		else if (c->json)
			(void)printf("{\"name\":\"%s\",\"removed\":true}\n", a->words[i]);
		else
			(void)printf("removed %s\n", a->words[i]);
	}
	return status;
}

static const struct verb snapshot_rm_verb = {
	.name = "rm",
	.summary = "Remove snapshots",
	.args = "SNAPSHOT...",
	.about = "Sandboxes that were started from one run on.\n" SNAPSHOT_EXITS,
	.examples = "berm snapshot rm warm\n",
	.opts = inspect_opts,
	.run = run_rm,
	.words_min = 1,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_SNAPSHOT,
};

static const struct verb *const snapshot_subs[] = {
	&snapshot_ls_verb,
	&snapshot_inspect_verb,
	&snapshot_rm_verb,
	NULL,
};

const struct verb verb_snapshot = {
	.name = "snapshot",
	.summary = "Save a running sandbox under a name, and look after what was saved",
	.args = "SANDBOX NAME",
	.about =
		"Memory, processes and disk are saved as they are at one moment; the sandbox stands still\n"
		"for it and goes on. A sandbox that is called like one of the verbs is named by its id.\n"
		"A snapshot holds all that was in memory and in the environment, secrets too. It can be\n"
		"restored with the same berm, guest kernel, engine and kind of processor.\n" SNAPSHOT_EXITS,
	.examples = "berm snapshot web before-upgrade\n"
		    "berm snapshot --force web latest\n"
		    "berm snapshot ls\n"
		    "berm restore -d before-upgrade\n",
	.opts = take_opts,
	.subs = snapshot_subs,
	.run = run_take,
	.words_min = 2,
	.words_max = 2,
	.words = COMPLETE_SANDBOX,
};
