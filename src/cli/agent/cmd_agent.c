#include "base/fdio.h"
#include "base/log.h"
#include "cli/agent/agent_image.h"
#include "cli/agent/agents.h"
#include "cli/egress/egress.h"
#include "cli/verbs.h"
#include "policy/digest.h"
#include "term/columns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum {
	OPT_WORKSPACE = 1,
	OPT_NAME,
	OPT_FORCE,
	OPT_DIGEST,
	EXIT_UNKNOWN = 3,
	EXIT_EXISTS = 4,
	FIELD_COLUMN = 22,              /* the longest name of a field */
	SHOWN_MAX = 4 * AGENT_TEXT_MAX, /* all fields of a profile, escaped */
	DIGEST_TEXT_MAX = 7 + 2 * TLV_DIGEST_BYTES + 1,
};

static int fail(const struct err *e)
{
	(void)cli_fail(e);
	return e->code == -ENOENT ? EXIT_UNKNOWN : CLI_EXIT_ERROR;
}

static int put_out(struct buf *b, struct err *e)
{
	return buf_ok(b) ? cli_out(b->at, b->len, e)
	                 : err_set(e, -EMSGSIZE, "over %zu bytes to show", b->size);
}

/* --- ls --- */

static const struct opt ls_opts[] = { OPT_JSON_ROW, OPT_END_ROW };

static const char *whose(const struct agent_row *row)
{
	if (!row->user)
		return "installed";
	return row->installed ? "installed, changed by you" : "yours";
}

static const struct column heads[] = {
	{ .head = "NAME", .least = 12 },
	{ .head = "WHOSE", .least = 9 },
	{ .head = "IMAGE", .least = 7 },
	{ .head = "DESCRIPTION" },
};

enum { HEADS = sizeof(heads) / sizeof(heads[0]) };

static int add_row(struct columns *t, const struct agent_row *row, const char *image,
                   const char *text, bool valid, struct err *e)
{
	char shown[sizeof("not valid: ") + ERR_TEXT_MAX];

	(void)snprintf(shown, sizeof(shown), "%s%s", valid ? "" : "not valid: ", text);
	return columns_add(t, (const char *[HEADS]){ row->name, whose(row), image, shown }, e);
}

static void put_row_json(struct buf *b, const struct agent_row *row, const struct agent_image *i,
                         const char *text, bool valid, bool first)
{
	buf_printf(b, "%s{\"name\":\"%s\",\"installed\":%s,\"user\":%s,\"valid\":%s,",
	           first ? "" : ",", row->name, row->installed ? "true" : "false",
	           row->user ? "true" : "false", valid ? "true" : "false");
	buf_put_str(b, "\"image\":");
	if (i) {
		buf_put_u8(b, '{');
		agent_image_put_json(b, i);
		buf_put_u8(b, '}');
	} else {
		buf_put_str(b, "null");
	}
	buf_put_str(b, valid ? ",\"error\":null,\"description\":"
	                     : ",\"description\":null,\"error\":");
	buf_put_json_str(b, span_str(text));
	buf_put_str(b, "}");
}

static int list_one(struct cli *c, const struct agent_places *p, const struct agent_row *row,
                    struct columns *t, struct buf *b, struct err *e)
{
	_own_(agent_free) struct agent *a = NULL;
	struct agent_image image;
	struct err why = { 0 };
	bool valid = agent_load(&p->where, row->name, &a, &why) == 0;
	const char *text = valid ? a->description : why.text;
	struct err ignored = { 0 };
	bool looked = valid && agent_image_look_only(c, a, &image, &ignored) == 0;

	if (!c->json)
		return add_row(t, row, looked ? agent_image_word(image.is) : "-", text, valid, e);
	put_row_json(b, row, looked ? &image : NULL, text, valid, b->len == 1);
	return 0;
}

static int list(struct cli *c, const struct agent_places *p, struct err *e)
{
	_own_free_ struct agent_list *l = NULL;
	_own_(columns_free) struct columns *t = NULL;
	_own_free_ char *room = malloc(SHOWN_MAX);
	struct buf b;
	int r = room ? agent_list(&p->where, &l, e) : err_set(e, -ENOMEM, "out of memory");

	if (r < 0)
		return r;
	buf_init(&b, room, SHOWN_MAX);
	buf_put_str(&b, "[");
	r = columns_new(heads, HEADS, &t, e);
	for (unsigned i = 0; r == 0 && i < l->count; i++)
		r = list_one(c, p, &l->rows[i], t, &b, e);
	if (r < 0)
		return r;
	if (!c->json)
		return columns_print(t, cli_columns(c), e);
	buf_put_str(&b, "]\n");
	return put_out(&b, e);
}

static int run_ls(struct cli *c, const struct args *a)
{
	_own_(agent_places_close) struct agent_places p;
	struct err e = { 0 };
	int r = agent_places_open(&p, c, &e);

	(void)a;
	if (r == 0)
		r = list(c, &p, &e);
	return r < 0 ? fail(&e) : 0;
}

static const struct verb verb_agent_ls = {
	.name = "ls",
	.summary = "List the agents there are profiles of",
	.args = "",
	.about =
		"Those that are installed, and those in ~/.config/berm/agents. A profile that is not\n"
		"valid is listed with what is wrong with it. IMAGE says whether berm agent build has\n"
		"made its image, and whether the recipe or the base has changed since; an agent that\n"
		"needs no packages runs in its base.\n",
	.examples = "berm agent ls\n"
		    "berm agent ls --json | jq -r '.[] | select(.user) | .name'\n",
	.opts = ls_opts,
	.run = run_ls,
};

/* --- inspect --- */

static const struct opt inspect_opts[] = {
	{ OPT_WORKSPACE, 0, "workspace", "DIR", COMPLETE_FILE,
	  "with what this folder's .berm.yaml takes away" },
	AGENT_ROWS,
	OPT_JSON_ROW,
	OPT_END_ROW,
};

/* A value of several lines stands beneath its name. */
static void put_field(struct buf *b, const char *name, struct span value, const char *origin)
{
	struct span rest = value;
	struct span line;
	bool lines = value.len > 0 && memchr(value.at, '\n', value.len);

	buf_printf(b, "%-*s  ", FIELD_COLUMN, name);
	if (!lines) {
		buf_put_span(b, value);
		buf_put_str(b, value.len > 0 ? "  [" : "[");
	} else {
		buf_put_str(b, "[");
	}
	buf_put_escaped(b, span_str(origin));
	buf_put_str(b, "]\n");
	while (lines && take_until(&rest, '\n', &line)) {
		buf_put_str(b, "    ");
		buf_put_span(b, line);
		buf_put_u8(b, '\n');
	}
}

static void put_profile(const struct agent *a, const struct agent_image *image, struct buf *b,
                        char *room)
{
	buf_printf(b, "%s\nimage: ", a->name);
	agent_image_put(b, image);
	buf_put_str(b, "\n\n");
	for (unsigned f = 0; f < AGENT_FIELDS; f++) {
		struct buf value;

		buf_init(&value, room, AGENT_TEXT_MAX);
		agent_put_field(a, (enum agent_field)f, &value);
		if (value.len > 0 || strcmp(a->origin[f], "default") != 0)
			put_field(b, agent_field_name((enum agent_field)f), buf_span(&value),
			          a->origin[f]);
	}
	for (unsigned i = 0; i < a->exclude.count; i++)
		put_field(b, i == 0 ? "exclude" : "", span_str(a->exclude.at[i]),
		          AGENT_WORKSPACE_FILE);
}

static void put_list_json(struct buf *b, const char *name, const char *const *at, unsigned count)
{
	buf_printf(b, ",\"%s\":[", name);
	for (unsigned i = 0; i < count; i++) {
		buf_put_str(b, i > 0 ? "," : "");
		buf_put_json_str(b, span_str(at[i]));
	}
	buf_put_str(b, "]");
}

static void put_profile_json(const struct agent *a, const struct agent_image *i, struct buf *b)
{
	buf_printf(b, "{\"name\":\"%s\",\"user\":%s,\"image\":{", a->name,
	           a->user_own ? "true" : "false");
	agent_image_put_json(b, i);
	buf_put_str(b, "}");
	put_list_json(b, "sources", a->sources, a->sources_count);
	buf_put_str(b, ",\"fields\":{");
	for (unsigned f = 0; f < AGENT_FIELDS; f++) {
		buf_printf(b, "%s\"%s\":{\"value\":", f > 0 ? "," : "",
		           agent_field_name((enum agent_field)f));
		agent_put_field_json(a, (enum agent_field)f, b);
		buf_put_str(b, ",\"origin\":");
		buf_put_json_str(b, span_str(a->origin[f]));
		buf_put_str(b, "}");
	}
	buf_put_str(b, "}");
	put_list_json(b, "exclude", a->exclude.at, a->exclude.count);
	put_list_json(b, "notices", a->notices.at, a->notices.count);
	buf_put_str(b, "}\n");
}

static int show(const struct cli *c, const struct agent *a, struct err *e)
{
	_own_free_ char *room = malloc(SHOWN_MAX);
	_own_free_ char *field = malloc(AGENT_TEXT_MAX);
	struct agent_image image;
	struct buf b;
	int r = agent_image_look_only(c, a, &image, e);

	if (r < 0)
		return r;
	if (!room || !field)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, room, SHOWN_MAX);
	if (c->json)
		put_profile_json(a, &image, &b);
	else
		put_profile(a, &image, &b, field);
	return put_out(&b, e);
}

static int run_inspect(struct cli *c, const struct args *a)
{
	_own_(agent_places_close) struct agent_places p;
	_own_(agent_free) struct agent *agent = NULL;
	struct agent_flags flags = { 0 };
	struct err e = { 0 };
	int r = agent_places_open(&p, c, &e);

	if (r == 0 && agent_flags_read(a, &flags, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (r == 0)
		r = agent_find(&p, a->words[0], args_value(a, OPT_WORKSPACE), &flags, &agent, &e);
	if (r == 0)
		r = show(c, agent, &e);
	return r < 0 ? fail(&e) : 0;
}

static const struct verb verb_agent_inspect = {
	.name = "inspect",
	.summary = "Show an agent's profile, and where each field of it comes from",
	.args = "AGENT",
	.about =
		"The installed file, your own file of that name, with --workspace what the workspace's own\n"
		"file takes away, and the flags, in this order; later ones win. Behind each field stands\n"
		"its origin: a file and line, or a flag.\n"
		"\n"
		"Exit status: 0 shown; 3 there is no such agent; 125 the profile is not valid.\n",
	.examples = "berm agent inspect claude-code\n"
		    "berm agent inspect codex --workspace . --memory 8GiB\n"
		    "berm agent inspect gemini --json | jq '.fields.\"egress.locked\"'\n",
	.opts = inspect_opts,
	.run = run_inspect,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_AGENT,
};

/* --- add --- */

static const struct opt add_opts[] = {
	{ OPT_NAME, 0, "name", "NAME", COMPLETE_NONE, "instead of the file's own" },
	{ OPT_DIGEST, 0, "digest", "sha256:HEX", COMPLETE_NONE, "refuse a file that is another" },
	{ OPT_FORCE, 'f', "force", NULL, COMPLETE_NONE, "put it in the place of the one there is" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

/* FILE without its folder and without .yaml. */
static int name_from(const char *path, char ret[AGENT_NAME_MAX + 1], struct err *e)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;
	size_t len = strlen(base);

	if (len > 5 && strcmp(base + len - 5, ".yaml") == 0)
		len -= 5;
	if (len > AGENT_NAME_MAX)
		len = AGENT_NAME_MAX;
	memcpy(ret, base, len);
	ret[len] = '\0';
	if (agent_name_ok(ret))
		return 0;
	return err_set(e, -EINVAL, "'%s' makes no agent's name; say one with --name", base);
}

static void put_digest(struct span text, char ret[DIGEST_TEXT_MAX])
{
	uint8_t raw[TLV_DIGEST_BYTES];
	struct buf b;

	policy_digest_of(text, raw);
	buf_init(&b, ret, DIGEST_TEXT_MAX);
	buf_put_str(&b, "sha256:");
	for (unsigned i = 0; i < sizeof(raw); i++)
		buf_printf(&b, "%02x", raw[i]);
	(void)buf_cstr(&b);
}

struct addition {
	struct agent_places places;
	const char *path;
	char name[AGENT_NAME_MAX + 1];
	char digest[DIGEST_TEXT_MAX];
	const char *wanted_digest;
	bool force;
};

static int store(const struct addition *n, struct span text, struct err *e)
{
	char file[AGENT_NAME_MAX + 8];
	_own_fd_ int fd = -1;
	int r;

	if (!n->places.user_path[0])
		return err_set(e, -ENOENT,
		               "neither HOME nor XDG_CONFIG_HOME says where your "
		               "configuration is");
	r = fd_make_dirs(n->places.user_path, &fd, e);
	if (r < 0)
		return r;
	(void)snprintf(file, sizeof(file), "%s.yaml", n->name);
	if (!n->force && faccessat(fd, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, -EEXIST,
		               "%s/%s is there already; --force puts this one in its place",
		               n->places.user_path, file);
	return fd_replace_file(fd, file, text.at, text.len, 0600, e);
}

/* A profile may be another's, and what it reads on this host is the user's: that is said aloud. */
static void warn_sources(const struct policy_draft *d, char *room)
{
	struct buf b;

	for (unsigned i = 0; i < policy_draft_secrets(d); i++) {
		struct policy_source s = policy_draft_source(d, i);

		if (s.from == SECRET_ENV)
			continue;
		buf_init(&b, room, SHOWN_MAX);
		egress_put_source(&b, &s);
		log_warn("each session reads %s on this host, as you, %s", s.name, buf_cstr(&b));
	}
}

static void put_sources_json(const struct policy_draft *d, struct buf *b)
{
	buf_put_str(b, ",\"secrets\":[");
	for (unsigned i = 0; i < policy_draft_secrets(d); i++) {
		struct policy_source s = policy_draft_source(d, i);

		buf_printf(b, "%s{\"name\":\"%s\",", i > 0 ? "," : "", s.name);
		egress_put_source_json(b, &s);
		buf_put_u8(b, '}');
	}
	buf_put_u8(b, ']');
}

static int say_added(const struct cli *c, const struct addition *n, const struct policy_draft *d,
                     struct err *e)
{
	_own_free_ char *room = malloc(SHOWN_MAX);
	struct buf b;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	if (!c->json)
		warn_sources(d, room);
	buf_init(&b, room, SHOWN_MAX);
	if (c->json) {
		buf_printf(&b, "{\"name\":\"%s\",\"digest\":\"%s\",\"folder\":", n->name,
		           n->digest);
		buf_put_json_str(&b, span_str(n->places.user_path));
		put_sources_json(d, &b);
		buf_put_str(&b, "}\n");
	} else {
		buf_printf(&b, "%s: added to ", n->name);
		buf_put_escaped(&b, span_str(n->places.user_path));
		buf_printf(&b, ", %s\n", n->digest);
	}
	return put_out(&b, e);
}

static int add(const struct cli *c, struct addition *n, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_(agent_free) struct agent *a = NULL;
	_own_free_ char *text = NULL;
	size_t len = 0;
	int r = agent_read_file(AT_FDCWD, n->path, n->path, &text, &len, e);

	if (r < 0)
		return r == -ENOENT ? err_set(e, -EINVAL, "%s: there is no such file", n->path) : r;
	put_digest(span_of(text, len), n->digest);
	if (n->wanted_digest && strcmp(n->wanted_digest, n->digest) != 0)
		return err_set(e, -EINVAL, "%s is %s, and not the file that was asked for", n->path,
		               n->digest);
	r = agent_load_text(&n->places.where, n->name, n->path, span_of(text, len), &a, e);
	if (r == 0)
		r = policy_draft_new(policy_preset_dir, &n->places.where.presets_fd, &d, e);
	if (r == 0)
		r = agent_policy(a, AGENT_STANDARD, UINT64_MAX, d, e);
	if (r == 0)
		r = store(n, span_of(text, len), e);
	return r < 0 ? r : say_added(c, n, d, e);
}

static int run_add(struct cli *c, const struct args *a)
{
	_own_free_ struct addition *n = calloc(1, sizeof(*n));
	const char *name = args_value(a, OPT_NAME);
	struct err e = { 0 };
	int r;

	if (!n)
		return cli_usage(a, "out of memory");
	n->path = a->words[0];
	n->force = args_has(a, OPT_FORCE);
	n->wanted_digest = args_value(a, OPT_DIGEST);
	if (name && !agent_name_ok(name))
		return cli_usage(a, "--name: '%.80s' is no agent's name: a-z, 0-9 and '-'", name);
	if (name)
		(void)snprintf(n->name, sizeof(n->name), "%s", name);
	else if (name_from(n->path, n->name, &e) < 0)
		return cli_usage(a, "%s", e.text);
	r = agent_places_open(&n->places, c, &e);
	if (r == 0)
		r = add(c, n, &e);
	agent_places_close(&n->places);
	if (r == -EEXIST) {
		(void)cli_fail(&e);
		return EXIT_EXISTS;
	}
	return r < 0 ? cli_fail(&e) : 0;
}

static const struct verb verb_agent_add = {
	.name = "add",
	.summary = "Check a profile of your own and keep it",
	.args = "FILE",
	.about =
		"A profile named like an installed one changes what it says and leaves the rest; any other\n"
		"is laid upon 'custom'. It is kept in ~/.config/berm/agents. Its form is in berm-agent(5);\n"
		"the least of one that can be given a task, which the guest starts in the workspace:\n"
		"\n"
		"    version: 1\n"
		"    command: [sh, ./agent.sh]\n"
		"    arguments: { task: [\"{task}\"] }\n"
		"\n"
		"Exit status: 0 kept; 4 there is one of that name; 125 it is not valid, or anything else.\n",
	.examples = "berm agent add my-agent.yaml\n"
		    "berm agent add ~/Downloads/x.yaml --name reviewer --digest sha256:...\n"
		    "berm agent add codex.yaml --force\n",
	.opts = add_opts,
	.run = run_add,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_FILE,
};

static const struct verb *const agent_verbs[] = { &verb_agent_ls,
	                                          &verb_agent_inspect,
	                                          &verb_agent_doctor,
	                                          &verb_agent_add,
	                                          &verb_agent_build,
	                                          &verb_agent_forget,
	                                          NULL };

const struct verb verb_agent = {
	.name = "agent",
	.summary = "List, show, check, add and build coding agents, and forget their logins",
	.subs = agent_verbs,
};
