#include "agents/agent.h"

#include "base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES_MAX = 1024 }; /* of a file beneath the home directory */

struct walk {
	const struct agent *a;
	int home_fd;
	int (*found)(void *arg, const struct settings_found *f);
	void *arg;
	struct err *e;
	unsigned files;
	uint64_t bytes;
};

static int say(struct walk *w, const struct agent_setting *s, const char *path,
               enum settings_fate fate, const char *why)
{
	struct settings_found f = { .setting = s, .path = path, .fate = fate, .why = why };

	return w->found(w->arg, &f);
}

static int refuse(struct walk *w, const struct agent_setting *s, const char *path, const char *why)
{
	return say(w, s, path, SETTINGS_REFUSED, why);
}

/* Opens what may be a link, but never one that leads out of the home directory. */
static int open_in_home(struct walk *w, const char *path, int *ret_fd, struct stat *ret_st)
{
	_own_fd_ int fd = -1;
	int r = fd_open_beneath(w->home_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, 0, &fd,
	                        NULL);

	if (r < 0)
		return r;
	if (fstat(fd, ret_st) < 0)
		return -errno;
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* A link may be called anything: what counts is where it leads. */
static bool leads_to_secret(const struct walk *w, int fd)
{
	char home[PATH_MAX];
	char path[PATH_MAX];
	size_t len;

	if (!fd_path(w->home_fd, home) || !fd_path(fd, path))
		return true; /* it cannot be told */
	len = strlen(home);
	return strncmp(path, home, len) == 0 && settings_parse_secret_path(span_str(path + len));
}

static const char *open_fault(int r)
{
	switch (-r) {
	case EXDEV:
		return "is a link that leads out of the home directory";
	case ELOOP:
		return "is a link to itself";
	case EACCES:
		return "may not be read";
	default:
		return "cannot be opened";
	}
}

static int take_file(struct walk *w, const struct agent_setting *s, const char *path, int fd,
                     const struct stat *st)
{
	enum settings_format f = s->format == SETTINGS_FOLDER ? SETTINGS_TEXT : s->format;
	_own_(settings_file_free) struct settings_file *file = NULL;
	_own_free_ char *text = NULL;
	struct err why = { 0 };
	struct settings_found got = { .setting = s, .path = path, .fate = SETTINGS_ENTERS };
	size_t len = 0;
	int r;

	if (++w->files > SETTINGS_FILES_MAX)
		return refuse(w, s, path, "is one of too many files");
	r = fd_read_text(fd, SETTINGS_FILE_MAX, &text, &len, &why);
	if (r == -EFBIG)
		return refuse(w, s, path, "is over 1 MiB");
	if (r < 0)
		return refuse(w, s, path, "cannot be read");
	if (len > SETTINGS_BYTES_MAX - w->bytes)
		return refuse(w, s, path, "is beyond 32 MiB of settings");
	r = settings_filter(path, f, span_of(text, len), s->keys.at, &file, &why);
	if (r == -ENOMEM)
		return err_set(w->e, r, "out of memory");
	if (r < 0)
		return refuse(w, s, path, why.text);
	w->bytes += len;
	got.file = file;
	got.why = "";
	got.executable = (st->st_mode & 0100) != 0;
	return w->found(w->arg, &got);
}

static int take_path(struct walk *w, const struct agent_setting *s, const char *path,
                     unsigned depth);

struct names {
	char **at;
	size_t count, size;
};

static void names_fini(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->at[i]);
	free(n->at);
}

static inline void names_fini_scope(struct names *n)
{
	names_fini(n);
}

static int by_name(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

static bool add_name(struct names *n, const char *name)
{
	if (n->count == n->size) {
		size_t size = n->size ? 2 * n->size : 64;
		char **at = reallocarray(n->at, size, sizeof(*at));

		if (!at)
			return false;
		n->at = at;
		n->size = size;
	}
	n->at[n->count] = strdup(name);
	return n->at[n->count] && ++n->count;
}

/* One more than the maximum: the walk then says so. fd is closed. */
static int read_names(int fd, struct names *n)
{
	const struct dirent *d;
	bool ok = true;
	DIR *dir = fdopendir(fd);

	if (!dir) {
		(void)close(fd);
		return -ENOMEM;
	}
	while (ok && n->count <= SETTINGS_FILES_MAX && (d = readdir(dir)) != NULL)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			ok = add_name(n, d->d_name);
	(void)closedir(dir);
	if (n->count > 1)
		qsort(n->at, n->count, sizeof(*n->at), by_name);
	return ok ? 0 : -ENOMEM;
}

static int take_folder(struct walk *w, const struct agent_setting *s, const char *path, int fd,
                       unsigned depth) // NOLINT(misc-no-recursion): at most 8 deep
{
	_own_(names_fini) struct names n = { 0 };
	int r;

	if (depth == SETTINGS_FOLDER_DEPTH_MAX) {
		(void)close(fd);
		return refuse(w, s, path, "is too deep");
	}
	r = read_names(fd, &n);
	if (r < 0)
		return err_set(w->e, r, "out of memory");
	for (size_t i = 0; r == 0 && i < n.count; i++) {
		char inner[PATH_BYTES_MAX];
		int put = snprintf(inner, sizeof(inner), "%s/%s", path, n.at[i]);

		if (w->files > SETTINGS_FILES_MAX)
			return 0; /* said once */
		if (put < 0 || (size_t)put >= sizeof(inner))
			r = refuse(w, s, path, "holds a path of over 1023 bytes");
		else if (strcmp(n.at[i], ".git") == 0)
			r = refuse(w, s, inner, "is a git directory");
		else if (settings_parse_secret_path(span_str(inner)))
			r = refuse(w, s, inner, "is where credentials usually are");
		else
			r = take_path(w, s, inner, depth + 1);
	}
	return r;
}

static int take_path(struct walk *w, const struct agent_setting *s, const char *path,
                     unsigned depth) // NOLINT(misc-no-recursion): at most 8 deep
{
	_own_fd_ int fd = -1;
	struct stat st;
	int r = open_in_home(w, path, &fd, &st);

	if (r == -ENOENT || r == -ENOTDIR)
		return say(w, s, path, SETTINGS_ABSENT, "");
	if (r < 0)
		return refuse(w, s, path, open_fault(r));
	if (leads_to_secret(w, fd))
		return refuse(w, s, path, "leads to where credentials usually are");
	if (S_ISDIR(st.st_mode) && s->format == SETTINGS_FOLDER)
		return take_folder(w, s, path, steal_fd(&fd), depth);
	if (!S_ISREG(st.st_mode))
		return refuse(w, s, path, "is no regular file");
	if (s->format == SETTINGS_FOLDER && depth == 0)
		return refuse(w, s, path, "is no folder");
	return take_file(w, s, path, fd, &st);
}

int settings_walk(const struct agent *a, int home_fd,
                  int (*found)(void *arg, const struct settings_found *f), void *arg, struct err *e)
{
	struct walk w = { .a = a, .home_fd = home_fd, .found = found, .arg = arg, .e = e };
	int r = 0;

	for (unsigned i = 0; r == 0 && i < a->settings_count; i++)
		r = take_path(&w, &a->settings[i], a->settings[i].path, 0);
	return r;
}
