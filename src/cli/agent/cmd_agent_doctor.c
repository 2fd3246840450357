/*
 * Theory of operation: looks, and changes nothing: it opens the settings a session would be given
 * and runs them through the same filters, asks which credentials have a source, and looks for the
 * image. No value of a credential is read. So the receipt can also say what was left alone: the
 * files beside those settings that the profile does not name.
 */
#include "base/fdio.h"
#include "cli/agent/agent_image.h"
#include "cli/agent/agent_state.h"
#include "cli/agent/agents.h"
#include "cli/verbs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	OPT_WORKSPACE = 1,
	EXIT_NOT_READY = 1,
	EXIT_UNKNOWN = 3,
	RECEIPT_MAX = 8 << 20, /* 2000 settings files with their paths, escaped */
	LEFT_MAX = 500,        /* names that were left alone */
	FOLDER_MAX = 256,      /* bytes of a folder's path; a setting's has 255 */
	VARIABLE_MAX = 256,    /* bytes of a variable's name, as far as it is shown */
	LOGIN_TEXT_MAX = 4096, /* a command, as far as it can be shown; a longer one is not */
};

static const struct opt doctor_opts[] = {
	{ OPT_WORKSPACE, 0, "workspace", "DIR", COMPLETE_FILE,
	  "with what this folder's .berm.yaml takes away" },
	AGENT_ROWS,
	OPT_JSON_ROW,
	OPT_END_ROW,
};

struct doctor {
	struct cli *c;
	const struct agent *a;
	struct buf b;
	bool json;
	bool ready;
	char variable[VARIABLE_MAX]; /* the first that a credential comes from */
	bool credential;             /* one has a source, or may have */
	bool kept;                   /* a login is kept, for whichever workspace */
	const char *gap;
	unsigned left;
	int home_fd;
	char folders[AGENT_SETTINGS_MAX + AGENT_STATE_MAX][FOLDER_MAX];
	unsigned folders_count;
};

static void begin(struct doctor *d, const char *key, const char *title)
{
	if (d->json)
		buf_printf(&d->b, ",\"%s\":[", key);
	else
		buf_printf(&d->b, "\n%s\n", title);
	d->gap = "";
}

static void end(struct doctor *d)
{
	if (d->json)
		buf_put_str(&d->b, "]");
	else if (!*d->gap)
		buf_put_str(&d->b, "  none\n");
}

/* One line, or one object with two members. */
static void put(struct doctor *d, const char *key, const char *name, const char *word,
                const char *why)
{
	if (d->json) {
		buf_printf(&d->b, "%s{\"%s\":", d->gap, key);
		buf_put_json_str(&d->b, span_str(name));
		buf_printf(&d->b, ",\"is\":\"%s\",\"why\":", word);
		buf_put_json_str(&d->b, span_str(why));
	} else {
		buf_printf(&d->b, "  %-10s  ", word);
		buf_put_escaped(&d->b, span_str(name));
		buf_put_str(&d->b, why[0] ? ": " : "");
		buf_put_escaped(&d->b, span_str(why));
		buf_put_u8(&d->b, '\n');
	}
	d->gap = ",";
}

static void close_object(struct doctor *d)
{
	if (d->json)
		buf_put_str(&d->b, "}");
}

/* --- the image --- */

static void put_base(struct doctor *d, const struct agent_image *i)
{
	/* an image that is built needs its base no more */
	put(d, "name", d->a->base,
	    i->is == AGENT_IMAGE_OLDBASE ? "changed"
	    : i->base_there              ? "present"
	                                 : "missing",
	    "");
	close_object(d);
}

/* The image of a session, and the one it was built on. */
static int check_image(struct doctor *d, struct err *e)
{
	struct agent_image i;
	int r = agent_image_look_only(d->c, d->a, &i, e);

	if (r < 0)
		return r;
	begin(d, "image", "Image");
	put(d, "name", i.ref, i.is == AGENT_IMAGE_BASE ? "present" : agent_image_word(i.is),
	    i.why[0] ? i.why : i.version);
	if (d->json) {
		buf_put_u8(&d->b, ',');
		agent_image_put_json(&d->b, &i);
	}
	close_object(d);
	if (agent_image_is_built(d->a))
		put_base(d, &i);
	end(d);
	d->ready &= i.is != AGENT_IMAGE_MISSING;
	return 0;
}

/* --- secrets --- */

/* The value itself is not looked at, but that there is one. */
static void source_state(struct doctor *d, const struct policy_source *s, const char **ret_word,
                         char *why, size_t size)
{
	char what[PATH_MAX];
	const char *home = cli_env(d->c, "HOME");
	const char *got;

	(void)snprintf(what, sizeof(what), "%.*s", (int)(s->what.len < 4000 ? s->what.len : 4000),
	               (const char *)s->what.at);
	switch (s->from) {
	case SECRET_ENV:
		got = cli_env(d->c, what);
		*ret_word = got && got[0] ? "available" : "missing";
		(void)snprintf(why, size, "from the variable %.4000s%s", what,
		               got && got[0] ? "" : ", which is not set");
		return;
	case SECRET_FILE:
		(void)snprintf(why, size, "from the file %s", what);
		if (strncmp(what, "~/", 2) == 0 && home) {
			char path[PATH_MAX];

			(void)snprintf(path, sizeof(path), "%.2000s/%.2000s", home, what + 2);
			*ret_word = access(path, R_OK) == 0 ? "available" : "missing";
		} else {
			*ret_word = access(what, R_OK) == 0 ? "available" : "missing";
		}
		return;
	case SECRET_COMMAND:
		(void)snprintf(why, size, "from a command, which was not run");
		break;
	case SECRET_KEYRING:
		(void)snprintf(why, size, "from the keyring, which was not asked");
		break;
	}
	*ret_word = "unknown";
}

static int check_secrets(struct doctor *d, int presets_fd, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *draft = NULL;
	int r = policy_draft_new(policy_preset_dir, &presets_fd, &draft, e);

	if (r == 0)
		r = agent_policy(d->a, d->a->level, UINT64_MAX, draft, e);
	if (r < 0)
		return r;
	begin(d, "secrets", "Credentials");
	for (unsigned i = 0; i < policy_draft_secrets(draft); i++) {
		struct policy_source s = policy_draft_source(draft, i);
		const char *word = "unknown";
		char why[PATH_MAX + 32] = "";

		source_state(d, &s, &word, why, sizeof(why));
		put(d, "name", s.name, word, why);
		close_object(d);
		if (s.from == SECRET_ENV && !d->variable[0])
			(void)snprintf(d->variable, sizeof(d->variable), "%.*s", (int)s.what.len,
			               (const char *)s.what.at);
		d->credential |= strcmp(word, "missing") != 0;
	}
	end(d);
	return 0;
}

/* --- settings --- */

static const char *fate_word(enum settings_fate fate)
{
	static const char *const words[] = { [SETTINGS_ENTERS] = "enters",
		                             [SETTINGS_ABSENT] = "absent",
		                             [SETTINGS_REFUSED] = "refused" };

	return words[fate];
}

static void put_removed(struct doctor *d, const struct settings_file *f)
{
	struct span rest = span_of(f->removed, f->removed_len);
	struct span name;
	const char *gap = "";

	while (take_until(&rest, 0, &name)) {
		buf_put_str(&d->b, gap);
		if (d->json) {
			buf_put_json_str(&d->b, name);
		} else {
			buf_put_escaped(&d->b, name);
		}
		gap = d->json ? "," : ", ";
	}
}

static int put_setting(void *arg, const struct settings_found *f)
{
	struct doctor *d = arg;

	put(d, "path", f->path, fate_word(f->fate), f->why);
	if (d->json) {
		buf_printf(&d->b,
		           ",\"category\":\"%s\",\"format\":\"%s\",\"bytes\":%zu,\"removed\":[",
		           f->setting->category, settings_format_word(f->setting->format),
		           f->file ? f->file->len : 0);
		if (f->file)
			put_removed(d, f->file);
		buf_printf(&d->b, "],\"removed_count\":%u", f->file ? f->file->removed_count : 0);
	} else if (f->file && f->file->removed_count > 0) {
		buf_put_str(&d->b, "              without: ");
		put_removed(d, f->file);
		buf_put_u8(&d->b, '\n');
	}
	close_object(d);
	return 0;
}

static int check_settings(struct doctor *d, struct err *e)
{
	int r = 0;

	begin(d, "settings", "Settings");
	if (d->home_fd >= 0)
		r = settings_walk(d->a, d->home_fd, put_setting, d, e);
	end(d);
	return r;
}

/* --- what is left alone --- */

static void add_folder(struct doctor *d, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;

	if (len == 0 || len >= FOLDER_MAX)
		return; /* the home directory itself is not the agent's */
	for (unsigned i = 0; i < d->folders_count; i++)
		if (strlen(d->folders[i]) == len && memcmp(d->folders[i], path, len) == 0)
			return;
	memcpy(d->folders[d->folders_count], path, len);
	d->folders[d->folders_count++][len] = '\0';
}

/* Is it, or what is beneath it, named by the profile? */
static bool named(const struct agent *a, const char *path)
{
	size_t len = strlen(path);

	for (unsigned i = 0; i < a->settings_count; i++)
		if (strncmp(a->settings[i].path, path, len) == 0 &&
		    (a->settings[i].path[len] == '\0' || a->settings[i].path[len] == '/'))
			return true;
	for (unsigned i = 0; i < a->state.count; i++)
		if (strncmp(a->state.at[i], path, len) == 0 && (a->state.at[i][len] == '/'))
			return true;
	return false;
}

static bool is_state(const struct agent *a, const char *path)
{
	for (unsigned i = 0; i < a->state.count; i++)
		if (strcmp(a->state.at[i], path) == 0)
			return true;
	return false;
}

static void left_alone(struct doctor *d, const char *path)
{
	if (named(d->a, path) || d->left++ >= LEFT_MAX)
		return;
	put(d, "what", path, "left alone",
	    is_state(d->a, path)
	            ? "the host's own login: the guest gets one of its own, kept for each "
	              "workspace"
	            : "the profile does not name it");
	close_object(d);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void look_into(struct doctor *d, const char *folder)
{
	struct dirent **names = NULL;
	char path[FOLDER_MAX + 260];
	int count = scandirat(d->home_fd, folder, &names, NULL, by_name);

	for (int i = 0; i < count; i++) {
		if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0) {
			(void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name);
			left_alone(d, path);
		}
		free(names[i]);
	}
	free(names);
}

static void put_left(struct doctor *d)
{
	static const char *const always[][2] = {
		{ "values of credentials", "that there is one was looked at, not what it is" },
		{ "the workspace",
		  "nothing of it was read but its .berm.yaml, where one was asked for" },
		{ "the network", "no host was asked" },
		{ "images and running sandboxes", "nothing was started, built or removed" },
	};

	for (unsigned i = 0; i < d->a->settings_count; i++)
		add_folder(d, d->a->settings[i].path);
	for (unsigned i = 0; i < d->a->state.count; i++)
		add_folder(d, d->a->state.at[i]);
	begin(d, "not_touched", "Not touched");
	for (unsigned i = 0; d->home_fd >= 0 && i < d->folders_count; i++)
		look_into(d, d->folders[i]);
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++) {
		put(d, "what", always[i][0], "left alone", always[i][1]);
		close_object(d);
	}
	end(d);
}

/* --- the whole --- */

/* What a session that ended left for the next one. */
static int put_kept(void *arg, const struct agent_state_kept *k)
{
	struct doctor *d = arg;
	char why[PATH_MAX + 64];

	(void)snprintf(why, sizeof(why), "%llu bytes, of %s%s", (unsigned long long)k->bytes,
	               k->workspace[0] ? k->workspace : "an unknown workspace",
	               is_state(d->a, k->path) ? "" : "; the profile does not name it any more");
	put(d, "path", k->path, "kept", why);
	d->kept |= is_state(d->a, k->path);
	if (d->json) {
		buf_put_str(&d->b, ",\"workspace\":");
		buf_put_json_str(&d->b, span_str(k->workspace));
		buf_printf(&d->b, ",\"bytes\":%llu,\"time_ns\":%llu", (unsigned long long)k->bytes,
		           (unsigned long long)k->mtime_ns);
	}
	close_object(d);
	return 0;
}

static int put_state(struct doctor *d, struct err *e)
{
	_own_fd_ int state_fd = -1;
	int r;

	begin(d, "state", "Kept for each workspace");
	for (unsigned i = 0; i < d->a->state.count; i++) {
		put(d, "path", d->a->state.at[i], "is kept", "");
		close_object(d);
	}
	end(d);
	begin(d, "logins", "Kept now (berm agent forget removes it)");
	if (fd_open(d->c->paths.state, O_RDONLY | O_DIRECTORY, 0, &state_fd, NULL) < 0)
		state_fd = -1;
	r = agent_state_list(state_fd, d->a->name, put_kept, d, e);
	end(d);
	return r;
}

/* A word as a shell takes it for one: whoever copies the line runs nothing else with it. */
static void put_word(struct buf *b, const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789@%+=:,./_-";

	buf_put_u8(b, ' ');
	if (word[strspn(word, plain)] == '\0') {
		buf_put_str(b, word);
		return;
	}
	buf_put_u8(b, '\'');
	for (const char *at = word; *at; at++)
		if (*at == '\'')
			buf_put_str(b, "'\\''");
		else
			buf_put_u8(b, (uint8_t)*at);
	buf_put_u8(b, '\'');
}

/* The command that logs in, as it is typed: berm code codex -- codex login --device-auth */
static void put_command(const struct agent *a, struct buf *b)
{
	const struct agent_words *const words[] = { &a->command, &a->login };

	buf_printf(b, "berm code %s", a->name);
	buf_put_str(b, a->login.count ? " --" : "");
	for (unsigned w = 0; a->login.count && w < 2; w++)
		for (unsigned i = 0; i < words[w]->count; i++)
			put_word(b, words[w]->at[i]);
}

/* Whoever has neither a credential nor a login is told what to type. */
static void put_login(struct doctor *d)
{
	const struct agent *a = d->a;
	char text[LOGIN_TEXT_MAX];
	struct buf why;

	begin(d, "login", "Login");
	buf_init(&why, (uint8_t *)text, sizeof(text));
	if (d->credential) {
		put(d, "how", "a credential", "ready", "see above");
		close_object(d);
	} else if (d->kept) {
		put(d, "how", "a login", "ready", "in the workspaces it is kept for");
		close_object(d);
	} else if (a->state.count > 0) {
		buf_put_str(&why, "type this in the workspace: ");
		put_command(a, &why);
		if (d->variable[0])
			buf_printf(&why, "; or set %s, which the guest never sees", d->variable);
		put(d, "how", "none", "missing", buf_cstr(&why));
		close_object(d);
	} else if (d->variable[0]) {
		buf_printf(&why, "set %s, which the guest never sees", d->variable);
		put(d, "how", "none", "missing", buf_cstr(&why));
		close_object(d);
	}
	end(d);
}

static void put_notices(struct doctor *d)
{
	begin(d, "notices", "The workspace's own file");
	for (unsigned i = 0; i < d->a->notices.count; i++) {
		put(d, "what", d->a->notices.at[i], "refused", "");
		close_object(d);
	}
	end(d);
}

static int examine(struct doctor *d, int presets_fd, struct err *e)
{
	int r;

	if (d->json)
		buf_printf(&d->b, "{\"agent\":\"%s\",\"version\":1", d->a->name);
	else
		buf_printf(&d->b, "%s\n", d->a->name);
	r = check_image(d, e);
	if (r == 0)
		r = check_secrets(d, presets_fd, e);
	if (r == 0)
		r = check_settings(d, e);
	if (r == 0)
		r = put_state(d, e);
	if (r < 0)
		return r;
	put_login(d);
	put_notices(d);
	put_left(d);
	if (d->json)
		buf_printf(&d->b, ",\"left_count\":%u,\"ready\":%s}\n", d->left,
		           d->ready ? "true" : "false");
	if (!buf_ok(&d->b))
		return err_set(e, -EMSGSIZE, "a receipt of over %d bytes", RECEIPT_MAX);
	return cli_out(d->b.at, d->b.len, e);
}

static int doctor(struct cli *c, const struct agent_places *p, const struct agent *a,
                  bool *ret_ready, struct err *e)
{
	_own_free_ struct doctor *d = calloc(1, sizeof(*d));
	_own_free_ char *room = malloc(RECEIPT_MAX);
	const char *home = cli_env(c, "HOME");
	_own_fd_ int home_fd = -1;
	int r;

	if (!d || !room)
		return err_set(e, -ENOMEM, "out of memory");
	if (home && home[0] == '/' && fd_open(home, O_RDONLY | O_DIRECTORY, 0, &home_fd, NULL) < 0)
		home_fd = -1;
	d->c = c;
	d->a = a;
	d->json = c->json;
	d->ready = true;
	d->home_fd = home_fd;
	buf_init(&d->b, room, RECEIPT_MAX);
	r = examine(d, p->where.presets_fd, e);
	if (r == 0)
		*ret_ready = d->ready;
	return r;
}

static int run_doctor(struct cli *c, const struct args *a)
{
	_own_(agent_places_close) struct agent_places p;
	_own_(agent_free) struct agent *agent = NULL;
	struct agent_flags flags = { 0 };
	struct err e = { 0 };
	bool ready = false;
	int r = agent_places_open(&p, c, &e);

	if (r == 0 && agent_flags_read(a, &flags, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (r == 0)
		r = agent_find(&p, a->words[0], args_value(a, OPT_WORKSPACE), &flags, &agent, &e);
	if (r == 0)
		r = doctor(c, &p, agent, &ready, &e);
	if (r < 0) {
		(void)cli_fail(&e);
		return e.code == -ENOENT ? EXIT_UNKNOWN : CLI_EXIT_ERROR;
	}
	return ready ? 0 : EXIT_NOT_READY;
}

const struct verb verb_agent_doctor = {
	.name = "doctor",
	.summary = "Say what a session with an agent would find, and what it would leave alone",
	.args = "AGENT",
	.about =
		"The image, which credentials have a source, which settings would enter and which keys\n"
		"of them would not, and what stands beside them that nobody touches. It looks and changes\n"
		"nothing; no value of a credential is read. With --json it is a receipt.\n"
		"\n"
		"Exit status: 0 ready; 1 the image is missing; 3 there is no such agent; 125 anything else.\n",
	.examples =
		"berm agent doctor claude-code\n"
		"berm agent doctor codex --json | jq '.settings[] | select(.is == \"refused\")'\n"
		"berm agent doctor gemini --workspace .\n",
	.opts = doctor_opts,
	.run = run_doctor,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_AGENT,
};
