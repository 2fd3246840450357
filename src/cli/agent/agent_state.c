#include "cli/agent/agent_state.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "lib/copy.h"
#include "policy/digest.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Theory of operation
 *
 * Names come from the profile alone, so a guest chooses content and nothing else: each path is
 * asked for by itself, as one regular file, into memory of a fixed size, and then replaces the
 * kept file whole. Links in the guest lead within the guest. On the host the path is walked beneath
 * the workspace's own folder without following any.
 *
 * A folder that holds nothing any more is left: forgetting removes it.
 */

enum {
	PATH_BYTES = 256,                                        /* agent_path_fault(): 255 */
	STORAGE_BYTES = AGENT_STATE_BYTES_MAX + COPY_FILE_EXTRA, /* one file on its way */
	DEPTH_MAX = 128,                                         /* parts of 255 bytes */
};

static const char top_dir[] = "agents";
static const char home_dir[] = "home";
static const char workspace_file[] = "workspace";

static void put_key(const char *root, char ret[AGENT_STATE_KEY_LEN + 1])
{
	uint8_t raw[TLV_DIGEST_BYTES];

	policy_digest_of(span_str(root), raw);
	for (unsigned i = 0; i < AGENT_STATE_KEY_LEN / 2; i++)
		(void)snprintf(ret + (size_t)2 * i, 3, "%02x", raw[i]);
}

static int open_beneath(int dir_fd, const char *path, int flags, int *ret_fd, struct err *e)
{
	return fd_open_beneath(dir_fd, path, flags, 0, RESOLVE_NO_SYMLINKS, ret_fd, e);
}

/* One folder, made if need be. */
static int enter(int dir_fd, const char *name, bool make, int *ret_fd, struct err *e)
{
	if (make && mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make the folder '%s'", name);
	return open_beneath(dir_fd, name, O_RDONLY | O_DIRECTORY, ret_fd, e);
}

/* STATE/agents/<agent>[/<key>] */
static int open_place(int state_fd, const char *agent, const char *key, bool make, int *ret_fd,
                      struct err *e)
{
	_own_fd_ int top = -1;
	_own_fd_ int mine = -1;
	int r = enter(state_fd, top_dir, make, &top, e);

	if (r == 0)
		r = enter(top, agent, make, &mine, e);
	if (r == 0 && key)
		return enter(mine, key, make, ret_fd, e);
	if (r == 0)
		*ret_fd = steal_fd(&mine);
	return r;
}

/* The folder that holds `path`, and its last part. */
static int open_parent(int home_fd, const char *path, bool make, int *ret_fd, const char **ret_name,
                       struct err *e)
{
	_own_fd_ int at = fcntl(home_fd, F_DUPFD_CLOEXEC, 3);
	char part[PATH_BYTES];

	if (at < 0)
		return err_sys(e, "dup");
	for (;;) {
		const char *slash = strchr(path, '/');
		size_t len = slash ? (size_t)(slash - path) : 0;
		int next;
		int r;

		if (!slash)
			break;
		assert(len < sizeof(part)); /* agent_load() has judged the path */
		memcpy(part, path, len);
		part[len] = '\0';
		r = enter(at, part, make, &next, e);
		if (r < 0)
			return r;
		(void)close(at);
		at = next;
		path = slash + 1;
	}
	*ret_name = path;
	*ret_fd = steal_fd(&at);
	return 0;
}

/* --- both directions --- */

struct moving {
	const struct agent *a;
	const struct agent_state_guest *g;
	int home_fd; /* STATE/agents/<agent>/<key>/home */
	struct buf storage;
	struct agent_state_report *report;
	bool silent; /* the guest does not answer any more */
};

static void refuse(struct agent_state_file *f, const char *why)
{
	f->fate = AGENT_STATE_REFUSED;
	(void)snprintf(f->why, sizeof(f->why), "%.150s", why);
}

static int join(const char *home, const char *path, char *ret, size_t size)
{
	int n = snprintf(ret, size, "%s%s%s", home, strcmp(home, "/") == 0 ? "" : "/", path);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* One after the other; the connection's own deadline is the caller's again afterwards. */
static int each(struct moving *m,
                int (*move)(struct moving *m, unsigned i, struct agent_state_file *f,
                            struct err *e),
                struct err *e)
{
	struct client *c = m->g->client;
	uint64_t before = c->until_ms;
	uint64_t until = clock_mono_ms() + AGENT_STATE_TAKE_MS;
	int r = 0;

	c->until_ms = before && before < until ? before : until;
	m->report->count = m->a->state.count;
	for (unsigned i = 0; i < m->a->state.count; i++) {
		struct agent_state_file *f = &m->report->files[i];
		struct err why = { 0 };

		*f = (struct agent_state_file){ .path = m->a->state.at[i] };
		r = m->silent ? -ETIMEDOUT : move(m, i, f, &why);
		if (r == -ETIMEDOUT) {
			m->silent = true;
			refuse(f, "the guest does not answer");
		} else if (r == -ECONNRESET || r == -ENODATA || r == -EPIPE || r == -ENOMEM) {
			*e = why;
			break;
		} else if (r < 0) {
			refuse(f, why.text);
		}
		r = 0;
	}
	c->until_ms = before;
	return r;
}

static int begin(struct moving *m, void *room, struct err *e)
{
	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	assert(m->a->state.count <= AGENT_STATE_MAX);
	*m->report = (struct agent_state_report){ 0 };
	buf_init(&m->storage, room, STORAGE_BYTES);
	return 0;
}

/* --- into the guest --- */

static int read_kept(const struct moving *m, const char *path, char **ret, size_t *ret_len,
                     struct err *e)
{
	_own_fd_ int dir = -1;
	_own_fd_ int fd = -1;
	const char *name;
	struct stat st;
	int r = open_parent(m->home_fd, path, false, &dir, &name, e);

	if (r == 0)
		r = open_beneath(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, &fd, e);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "what is kept is no file");
	return fd_read_text(fd, AGENT_STATE_BYTES_MAX, ret, ret_len, e);
}

/* Folders on the way to it, from the second part on, and then the file itself. */
static void put_entries(struct buf *out, const char *path, struct span content)
{
	const char *rest = strchr(path, '/');
	struct entry en = { .kind = ENTRY_DIR, .mode = 0700 };
	uint64_t now = clock_real_ns();

	en.mtime_s = (int64_t)(now / 1000000000U);
	for (const char *at = rest; at; at = strchr(at + 1, '/')) {
		en.path = span_of(rest + 1, at == rest ? 0 : (size_t)(at - rest - 1));
		entry_put(out, &en);
	}
	en.kind = ENTRY_FILE;
	en.mode = 0600;
	en.size = content.len;
	en.path = rest ? span_str(rest + 1) : span_of(path, 0);
	entry_put(out, &en);
	buf_put_span(out, content);
	entry_put(out, &(struct entry){ .kind = ENTRY_END });
}

static int put_one(struct moving *m, unsigned i, struct agent_state_file *f, struct err *e)
{
	_own_free_ char *text = NULL;
	char first[PATH_BYTES];
	char to[WIRE_PATH_MAX];
	size_t len = 0;
	int r = read_kept(m, f->path, &text, &len, e);

	if (r == -ENOENT)
		return 0; /* ABSENT */
	if (r < 0)
		return r;
	(void)snprintf(first, sizeof(first), "%.*s", (int)strcspn(f->path, "/"), f->path);
	buf_reset(&m->storage);
	put_entries(&m->storage, f->path, span_of(text, len));
	if (!buf_ok(&m->storage) || join(m->g->home, first, to, sizeof(to)) < 0)
		return err_set(e, -ENAMETOOLONG, "its path in the guest is too long");
	r = copy_put_entries(m->g->client, m->g->stream + i, to, m->g->user, buf_span(&m->storage),
	                     e);
	explicit_bzero(text, len);
	if (r == 0)
		f->fate = AGENT_STATE_MOVED;
	return r;
}

int agent_state_put_in(int state_fd, const struct agent *a, const char *root,
                       const struct agent_state_guest *g, struct agent_state_report *ret,
                       struct err *e)
{
	_own_free_ void *room = malloc(STORAGE_BYTES);
	struct moving m = { .a = a, .g = g, .home_fd = -1, .report = ret };
	char key[AGENT_STATE_KEY_LEN + 1];
	_own_fd_ int place = -1;
	_own_fd_ int home = -1;
	int r = begin(&m, room, e);

	if (r < 0 || a->state.count == 0)
		return r;
	put_key(root, key);
	r = open_place(state_fd, a->name, key, false, &place, e);
	if (r == 0)
		r = enter(place, home_dir, false, &home, e);
	if (r == -ENOENT) {
		err_clear(e);
		return 0; /* nothing is kept */
	}
	m.home_fd = home;
	return r < 0 ? r : each(&m, put_one, e);
}

/* --- from the guest --- */

static int drop_kept(const struct moving *m, const char *path)
{
	_own_fd_ int dir = -1;
	const char *name;

	if (open_parent(m->home_fd, path, false, &dir, &name, NULL) == 0 &&
	    unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static int keep(const struct moving *m, const char *path, struct span content, struct err *e)
{
	_own_fd_ int dir = -1;
	const char *name;
	int r = open_parent(m->home_fd, path, true, &dir, &name, e);

	return r < 0 ? r : fd_replace_file(dir, name, content.at, content.len, 0600, e);
}

static int take_one(struct moving *m, unsigned i, struct agent_state_file *f, struct err *e)
{
	char from[WIRE_PATH_MAX];
	struct span content;
	int r;

	if (join(m->g->home, f->path, from, sizeof(from)) < 0)
		return err_set(e, -ENAMETOOLONG, "its path in the guest is too long");
	r = copy_get_file(m->g->client, m->g->stream + i, from, &m->storage, &content, e);
	if (r == -ENOENT) {
		err_clear(e);
		r = drop_kept(m, f->path);
		return r < 0 ? err_set(e, r, "what was kept: %s", strerror(-r)) : 0;
	}
	if (r == 0)
		r = keep(m, f->path, content, e);
	explicit_bzero(m->storage.at, m->storage.len);
	if (r == 0)
		f->fate = AGENT_STATE_MOVED;
	return r;
}

int agent_state_take(int state_fd, const struct agent *a, const char *root,
                     const struct agent_state_guest *g, struct agent_state_report *ret,
                     struct err *e)
{
	_own_free_ void *room = malloc(STORAGE_BYTES);
	struct moving m = { .a = a, .g = g, .home_fd = -1, .report = ret };
	char key[AGENT_STATE_KEY_LEN + 1];
	_own_fd_ int place = -1;
	_own_fd_ int home = -1;
	int r = begin(&m, room, e);

	if (r < 0 || a->state.count == 0)
		return r;
	put_key(root, key);
	r = open_place(state_fd, a->name, key, true, &place, e);
	if (r == 0)
		r = enter(place, home_dir, true, &home, e);
	if (r == 0)
		r = fd_replace_file(place, workspace_file, root, strlen(root), 0600, e);
	if (r < 0)
		return err_wrap(e, "keep the agent's login");
	m.home_fd = home;
	return each(&m, take_one, e);
}

/* --- what is kept --- */

struct listing {
	int (*found)(void *arg, const struct agent_state_kept *k);
	void *arg;
	char workspace[PATH_MAX];
	char path[PATH_MAX];
	size_t path_len;
};

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static int list_dir(struct listing *l, int dir_fd, unsigned depth);

static int list_one(struct listing *l, int dir_fd, const char *name, unsigned depth)
{
	size_t before = l->path_len;
	size_t len = strlen(name);
	_own_fd_ int fd = -1;
	struct stat st;
	int r = 0;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    before + len + 2 > sizeof(l->path))
		return 0;
	if (before > 0)
		l->path[l->path_len++] = '/';
	memcpy(l->path + l->path_len, name, len + 1);
	l->path_len += len;
	if (S_ISREG(st.st_mode)) {
		struct agent_state_kept k = { .workspace = l->workspace, .path = l->path };

		k.bytes = (uint64_t)st.st_size;
		k.mtime_ns =
			(uint64_t)st.st_mtim.tv_sec * 1000000000U + (uint64_t)st.st_mtim.tv_nsec;
		r = l->found(l->arg, &k);
	} else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX &&
	           open_beneath(dir_fd, name, O_RDONLY | O_DIRECTORY, &fd, NULL) == 0) {
		r = list_dir(l, fd, depth + 1);
	}
	l->path_len = before;
	l->path[before] = '\0';
	return r;
}

static int list_dir(struct listing *l, int dir_fd, unsigned depth)
{
	struct dirent **names = NULL;
	int count = scandirat(dir_fd, ".", &names, not_dots, by_name);
	int r = 0;

	for (int i = 0; i < count; i++) {
		if (r == 0)
			r = list_one(l, dir_fd, names[i]->d_name, depth);
		free(names[i]);
	}
	free(names);
	return r;
}

static bool is_key(const char *name)
{
	return strlen(name) == AGENT_STATE_KEY_LEN &&
	       strspn(name, "0123456789abcdef") == AGENT_STATE_KEY_LEN;
}

static int list_workspace(struct listing *l, int mine, const char *key)
{
	_own_free_ char *root = NULL;
	_own_fd_ int place = -1;
	_own_fd_ int home = -1;

	if (enter(mine, key, false, &place, NULL) < 0 ||
	    enter(place, home_dir, false, &home, NULL) < 0)
		return 0;
	if (fd_read_file(place, workspace_file, PATH_MAX - 1, &root, NULL, NULL) < 0)
		root = NULL;
	(void)snprintf(l->workspace, sizeof(l->workspace), "%s", root ? root : "");
	l->path_len = 0;
	return list_dir(l, home, 0);
}

/* Calls one for each workspace's key, until it answers other than 0. */
static int each_key(int mine, int (*one)(void *arg, int mine, const char *key), void *arg)
{
	struct dirent **names = NULL;
	int count = scandirat(mine, ".", &names, not_dots, by_name);
	int r = 0;

	for (int i = 0; i < count; i++) {
		if (r == 0 && i < AGENT_STATE_LIST_MAX && is_key(names[i]->d_name))
			r = one(arg, mine, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return r;
}

static int list_key(void *arg, int mine, const char *key)
{
	return list_workspace(arg, mine, key);
}

int agent_state_list(int state_fd, const char *agent,
                     int (*found)(void *arg, const struct agent_state_kept *k), void *arg,
                     struct err *e)
{
	_own_free_ struct listing *l = calloc(1, sizeof(*l));
	_own_fd_ int mine = -1;
	struct err why = { 0 };
	int r;

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	l->found = found;
	l->arg = arg;
	r = state_fd < 0 ? -ENOENT : open_place(state_fd, agent, NULL, false, &mine, &why);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_set(e, r, "%s", why.text);
	return each_key(mine, list_key, l);
}

/* --- forgetting --- */

struct forgetting {
	unsigned count;
	struct err e;
};

static int forget_key(void *arg, int mine, const char *key)
{
	struct forgetting *f = arg;
	struct stat st;
	int r;

	if (fstatat(mine, key, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	r = fd_remove_tree(mine, key, &f->e);
	f->count += r == 0;
	return r;
}

int agent_state_forget(int state_fd, const char *agent, const char *root, unsigned *ret_count,
                       struct err *e)
{
	struct forgetting f = { 0 };
	char key[AGENT_STATE_KEY_LEN + 1];
	_own_fd_ int mine = -1;
	struct err why = { 0 };
	int r = open_place(state_fd, agent, NULL, false, &mine, &why);

	if (r == -ENOENT) {
		*ret_count = 0;
		return 0;
	}
	if (r < 0)
		return err_set(e, r, "%s", why.text);
	if (root) {
		put_key(root, key);
		r = forget_key(&f, mine, key);
	} else {
		r = each_key(mine, forget_key, &f);
	}
	if (r < 0)
		return err_set(e, r, "forget the login: %s", f.e.text);
	*ret_count = f.count;
	return 0;
}
