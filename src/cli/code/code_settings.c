#include "cli/code/code.h"

#include "base/clock.h"
#include "base/log.h"
#include "cli/agent/agent_state.h"
#include "lib/copy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	TOPS_MAX = 32, /* of the home directory: .claude, .config; a profile has one or two */
	GROW_BYTES = 64 << 10, /* settings are small */
	SAID_MAX = 1024,
};

/* What goes beneath one name of the home directory: a stream of entries of its own. */
struct top {
	char name[WIRE_NAME_MAX + 1];
	struct buf b;
	void *storage;
	char dir[PATH_MAX]; /* of the last entry, beneath the top: its parents are there */
};

struct tops {
	struct code *k;
	unsigned count, files;
	uint64_t now_s;
	int r;
	struct err *e;
	struct top at[TOPS_MAX];
};

static void tops_free(struct tops *t)
{
	for (unsigned i = 0; t && i < t->count; i++)
		free(t->at[i].storage);
	free(t);
}

OWN_DEFINE(struct tops, tops_free)

static int room(struct top *t, size_t need, struct err *e)
{
	size_t size = t->b.size;
	void *more;

	if (t->b.size - t->b.len >= need)
		return 0;
	while (size - t->b.len < need)
		size += size / 2 + GROW_BYTES;
	more = realloc(t->storage, size);
	if (!more)
		return err_set(e, -ENOMEM, "out of memory");
	t->storage = more;
	t->b.at = more;
	t->b.size = size;
	return 0;
}

static int put_entry(struct tops *all, struct top *t, uint8_t kind, const char *path,
                     struct span content, bool executable)
{
	struct entry en = { .kind = kind,
		            .mode = kind == ENTRY_DIR || executable ? 0700 : 0600,
		            .mtime_s = (int64_t)all->now_s,
		            .size = kind == ENTRY_FILE ? content.len : 0,
		            .path = span_str(path) };
	int r = room(t, ENTRY_HEADER_MAX + content.len, all->e);

	if (r < 0)
		return r;
	entry_put(&t->b, &en);
	buf_put_span(&t->b, content);
	return 0;
}

/* The directories above `path` that the entry before did not have. */
static int put_parents(struct tops *all, struct top *t, const char *path)
{
	char dir[PATH_MAX];
	int r = 0;

	for (size_t i = 0; r == 0 && path[i]; i++) {
		if (path[i] != '/')
			continue;
		memcpy(dir, path, i);
		dir[i] = '\0';
		if (strncmp(t->dir, dir, i) == 0 && (t->dir[i] == '\0' || t->dir[i] == '/'))
			continue;
		r = put_entry(all, t, ENTRY_DIR, dir, span_of(NULL, 0), false);
		memcpy(t->dir, dir, i + 1);
	}
	return r;
}

static struct top *find_top(struct tops *all, const char *name, size_t len, bool is_dir)
{
	struct top *t;

	for (unsigned i = 0; i < all->count; i++)
		if (strlen(all->at[i].name) == len && memcmp(all->at[i].name, name, len) == 0)
			return &all->at[i];
	if (all->count == TOPS_MAX || len > WIRE_NAME_MAX)
		return NULL;
	t = &all->at[all->count++];
	memcpy(t->name, name, len);
	t->name[len] = '\0';
	if (is_dir && put_entry(all, t, ENTRY_DIR, "", span_of(NULL, 0), false) < 0)
		return NULL;
	return t;
}

/* One line for people: "settings: .claude/settings.json, without env, hooks". */
static int say(struct code *k, const struct settings_found *f, struct err *e)
{
	char text[SAID_MAX];
	struct span rest, name;
	const char *gap = ", without ";
	struct buf b;

	buf_init(&b, text, sizeof(text));
	buf_put_escaped(&b, span_str(f->path));
	if (f->fate == SETTINGS_REFUSED) {
		buf_put_str(&b, " stays out: ");
		buf_put_escaped(&b, span_str(f->why));
		return strings_add(&k->said, (char *)b.at, b.len, e);
	}
	rest = span_of(f->file->removed, f->file->removed_len);
	while (take_until(&rest, 0, &name)) {
		buf_put_str(&b, gap);
		buf_put_escaped(&b, name);
		gap = ", ";
	}
	return strings_add(&k->said, (char *)b.at, b.len, e);
}

static int add_file(void *arg, const struct settings_found *f)
{
	struct tops *all = arg;
	const char *slash = strchr(f->path, '/');
	size_t len = slash ? (size_t)(slash - f->path) : strlen(f->path);
	struct top *t;
	int r = 0;

	if (f->fate == SETTINGS_ABSENT)
		return 0;
	if (f->fate == SETTINGS_REFUSED || f->file->removed_count > 0)
		r = say(all->k, f, all->e);
	if (r < 0 || f->fate == SETTINGS_REFUSED)
		return r;
	t = find_top(all, f->path, len, slash != NULL);
	if (!t)
		return err_set(all->e, -E2BIG, "the settings of '%s' are too many",
		               all->k->agent->name);
	if (slash)
		r = put_parents(all, t, slash + 1);
	if (r == 0)
		r = put_entry(all, t, ENTRY_FILE, slash ? slash + 1 : "",
		              span_of(f->file->text, f->file->len), f->executable);
	all->files++;
	return r;
}

static int put_tops(struct code *k, struct tops *all, struct err *e)
{
	static const struct entry end = { .kind = ENTRY_END };
	int r = all->count > 0 ? code_files_home(k, k->home, e) : 0;

	for (unsigned i = 0; r == 0 && i < all->count; i++) {
		struct top *t = &all->at[i];
		char path[CODE_HOME_MAX + WIRE_NAME_MAX + 2];

		r = room(t, ENTRY_HEADER_MAX, e);
		if (r < 0)
			return r;
		entry_put(&t->b, &end);
		(void)snprintf(path, sizeof(path), "%s/%s", k->home, t->name);
		r = code_files_put(k, path, buf_span(&t->b), e);
		if (r < 0)
			return err_wrap(e, "your settings for %s", k->agent->name);
	}
	return r;
}

static int put_settings(struct code *k, struct err *e)
{
	_own_(tops_free) struct tops *all = calloc(1, sizeof(*all));
	int r;

	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	all->k = k;
	all->e = e;
	all->now_s = clock_real_ns() / 1000000000;
	if (k->home_fd < 0 || k->opt.no_settings)
		return 0;
	r = settings_walk(k->agent, k->home_fd, add_file, all, e);
	return r < 0 ? err_wrap(e, "your settings for %s", k->agent->name) : put_tops(k, all, e);
}

/* Behind what the image has there. Git without it still has the variables. */
static int put_gitconfig(struct code *k, struct err *e)
{
	static const struct entry end = { .kind = ENTRY_END };
	_own_free_ char *old = NULL;
	_own_free_ uint8_t *storage = NULL;
	_own_free_ char *text = NULL;
	struct code_identity id;
	size_t len = 0, size;
	struct buf b, out;
	int r = code_files_get(k, "/etc/gitconfig", CODE_FILE_MAX, &old, &len, e);

	if (r == -EINTR || r == -ECONNRESET || r == -ENODATA)
		return r;
	err_clear(e);
	size = len + GITDIR_GUEST_MAX + 4 * sizeof(id);
	text = malloc(size);
	storage = malloc(size + 2 * (size_t)ENTRY_HEADER_MAX);
	if (!text || !storage)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, text, size);
	if (old && len > 0) {
		buf_put(&b, old, len);
		buf_put_str(&b, old[len - 1] == '\n' ? "" : "\n");
	}
	code_git_identity(k->c, &id);
	gitdir_put_guest_config(&b);
	code_put_identity(&b, &id);
	buf_init(&out, storage, size + 2 * (size_t)ENTRY_HEADER_MAX);
	entry_put(&out, &(struct entry){ .kind = ENTRY_FILE,
	                                 .mode = 0644,
	                                 .mtime_s = (int64_t)(clock_real_ns() / 1000000000),
	                                 .size = b.len });
	buf_put_span(&out, buf_span(&b));
	entry_put(&out, &end);
	r = code_files_put(k, "/etc/gitconfig", buf_span(&out), e);
	if (r == 0 || r == -EINTR || r == -ECONNRESET || r == -ENODATA)
		return r;
	log_debug("%s", e->text);
	err_clear(e);
	return 0;
}

/* --- the agent's login, which is kept for this workspace --- */

static void say_login(struct code *k, const struct agent_state_report *report, const char *what)
{
	for (unsigned i = 0; i < report->count; i++) {
		const struct agent_state_file *f = &report->files[i];

		if (f->fate == AGENT_STATE_REFUSED) /* the log escapes it */
			log_warn("the login of %s, %s, %s: %s", k->agent->name, f->path, what,
			         f->why);
	}
}

static int move_login(struct code *k, bool in, struct err *e)
{
	_own_free_ struct agent_state_report *report = calloc(1, sizeof(*report));
	struct agent_state_guest g = { .client = k->s.client, .user = k->run.spec.user };
	int r = report ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (r < 0)
		return r;
	if (!*k->home)
		r = code_files_home(k, k->home, e);
	if (r < 0)
		return r;
	g.home = k->home;
	g.stream = code_files_streams(k, AGENT_STATE_STREAMS);
	r = in ? agent_state_put_in(k->c->state_fd, k->agent, k->root, &g, report, e)
	       : agent_state_take(k->c->state_fd, k->agent, k->root, &g, report, e);
	if (r == 0)
		say_login(k, report, in ? "did not enter" : "is not kept as it is now");
	return r;
}

int code_take_login(struct code *k, struct err *e)
{
	return move_login(k, false, e);
}

int code_put_settings(struct code *k, struct err *e)
{
	int r = put_gitconfig(k, e);

	if (r == 0)
		r = put_settings(k, e);
	return r == 0 && k->agent->state.count > 0 ? move_login(k, true, e) : r;
}
