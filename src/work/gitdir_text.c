#include "work/gitdir_internal.h"

#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "work/gitconfig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

int git_read(int dir_fd, const char *path, size_t max, char **ret_text, size_t *ret_len,
             struct stat *ret_st, struct err *e)
{
	_own_fd_ int fd = -1;
	struct stat st = { 0 };
	int r = fd_open_beneath(dir_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0,
	                        RESOLVE_NO_SYMLINKS, &fd, e);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "not a regular file");
	r = fd_read_text(fd, max, ret_text, ret_len, e);
	if (r == 0)
		*ret_st = st;
	return r;
}

int git_replace(struct gitdir *g, char *text, size_t len, const struct stat *st,
                struct pack_answer *ret)
{
	free(g->text);
	g->text = text;
	g->file = (struct pack_graft){ .kind = WORK_FILE,
		                       .mode = (uint16_t)(st->st_mode & 0777),
		                       .mtime_s = st->st_mtim.tv_sec,
		                       .content = span_of(text, len),
		                       .dir_fd = PACK_FD_NONE };
	*ret = (struct pack_answer){ .verdict = PACK_REPLACE, .graft = &g->file };
	return 0;
}

int git_skip(const char *why, struct pack_answer *ret)
{
	*ret = (struct pack_answer){ .verdict = PACK_SKIP,
		                     .why = PACK_WHY_HOSTONLY,
		                     .rule = span_str(why) };
	return 0;
}

/* ---- configurations ---- */

struct told {
	struct gitdir *g;
	struct span path;
};

static void told_dropped(void *arg, const struct gitconfig_item *item, enum gitconfig_why why)
{
	const struct told *t = arg;
	char text[GITDIR_NOTE_TEXT_MAX];
	struct buf b;

	/* a value can be a password: only names are told */
	buf_init(&b, text, sizeof(text));
	buf_put_span(&b, item->section);
	if (item->has_sub) {
		struct span sub = item->sub;

		if (sub.len > GITDIR_NOTE_TEXT_MAX / 4)
			sub.len = GITDIR_NOTE_TEXT_MAX / 4;
		/* a URL as a subsection is told without its password too */
		buf_put_u8(&b, '.');
		for (struct span piece; sub.len > 0;) {
			bool cut;

			if (!gitdir_take_uncut(&sub, &piece, &cut))
				break;
			buf_put_span(&b, piece);
		}
	}
	buf_put_u8(&b, '.');
	buf_put_span(&b, item->key);
	buf_printf(&b, " (%s)", gitconfig_why_text(why));
	git_note(t->g, GITDIR_NOTE_CONFIG, t->path, buf_span(&b));
}

int git_clean_config(struct gitdir *g, struct span path, unsigned depth, struct span text,
                     char **ret_text, size_t *ret_len, struct err *e)
{
	_own_free_ char *out = malloc(GITDIR_CONFIG_OUT_MAX);
	struct told told = { .g = g, .path = path };
	struct buf b;
	int r;

	if (out == NULL)
		return err_set(e, -ENOMEM, "out of memory for a git configuration");
	buf_init(&b, out, GITDIR_CONFIG_OUT_MAX);
	r = gitconfig_clean(text, depth, &b, told_dropped, &told, e);
	if (r < 0)
		return r;
	*ret_len = b.len;
	*ret_text = steal_ptr(&out);
	return 0;
}

int git_judge_config(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                     struct err *e)
{
	/* of a repository from outside no path may lead up: its directories are elsewhere now */
	unsigned depth = g->tree != NULL ? 0 : wpath_depth(entry->path) - 1;
	_own_free_ char *text = NULL;
	struct err why = { 0 };
	char *clean = NULL;
	struct stat st = { 0 };
	size_t len;
	int r;

	if (entry->kind != WORK_FILE)
		return git_skip("git: a configuration that is a link", ret);
	r = git_read(entry->dir_fd, entry->name, GITCONFIG_FILE_MAX, &text, &len, &st, &why);
	if (r == 0)
		r = git_clean_config(g, entry->path, depth, span_of(text, len), &clean, &len, &why);
	if (r == -ENOMEM)
		return err_set(e, r, "out of memory for a git configuration");
	if (r < 0) {
		git_note(g, GITDIR_NOTE_CONFIG_BAD, entry->path, span_str(why.text));
		return git_skip("git: a configuration that cannot be read", ret);
	}
	return git_replace(g, clean, len, &st, ret);
}

/* ---- texts with URLs ---- */

int git_judge_urls(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                   struct err *e)
{
	_own_free_ char *text = NULL;
	struct span in, piece;
	struct stat st = { 0 };
	size_t len, to = 0;
	bool cut, some = false;
	int r;

	if (entry->kind != WORK_FILE)
		return git_skip("git: a link in place of a log", ret);
	r = git_read(entry->dir_fd, entry->name, PACK_GRAFT_CONTENT_MAX, &text, &len, &st, NULL);
	if (r == -ENOMEM)
		return err_set(e, r, "out of memory for git's logs");
	if (r < 0) /* too large to be looked through, or torn, or not ours to read */
		return git_skip("git: a log that cannot be searched for passwords", ret);
	/* what is cut only makes it shorter, so it can be done in its own place */
	for (in = span_of(text, len); gitdir_take_uncut(&in, &piece, &cut); some |= cut) {
		memmove(text + to, piece.at, piece.len);
		to += piece.len;
	}
	if (!some)
		return 0;
	git_note(g, GITDIR_NOTE_URLS, entry->path, span_str(""));
	return git_replace(g, steal_ptr(&text), to, &st, ret);
}

/* ---- paths ---- */

/*
 * A path from a file in dir_fd, `depth` below the root: does it lead inside? *ret_same if it may
 * stay as it is; else ret_rel is where, in `real`.
 */
static bool leads_inside(const struct gitdir *g, int dir_fd, const char *path, unsigned depth,
                         bool *ret_same, char real[PATH_MAX], struct span *ret_rel)
{
	_own_fd_ int fd = -1;

	*ret_same = gitdir_path_stays(span_str(path), depth);
	if (*ret_same)
		return true;
	return fd_openat(dir_fd, path, O_PATH, 0, &fd, NULL) == 0 && git_real_path(fd, real) == 0 &&
	       git_inside(g, real, ret_rel);
}

/* One line; what it becomes is put to out. True: it is as before. */
static bool put_alternate(struct gitdir *g, const struct pack_entry *entry, struct span line,
                          struct buf *out)
{
	unsigned depth = wpath_depth(entry->path) - 2; /* of objects: lines start there */
	char path[PATH_MAX], real[PATH_MAX], up[PATH_MAX + 3];
	bool same = false;
	struct span rel;
	struct buf b;

	if (line.len == 0 || line.at[0] == '#')
		return true;
	buf_init(&b, path, sizeof(path));
	buf_put_span(&b, line);
	buf_cstr(&b);
	if (!buf_ok(&b) || memchr(line.at, 0, line.len) != NULL || line.at[0] == '"' || g->tree) {
		git_note(g, GITDIR_NOTE_ALTERNATES, entry->path, line);
		return false;
	}
	/* the file is in objects/info: from there it is one step more */
	buf_init(&b, up, sizeof(up));
	buf_put_str(&b, path[0] == '/' ? "" : "../");
	buf_put_str(&b, path);
	if (!leads_inside(g, entry->dir_fd, buf_cstr(&b), depth + 1, &same, real, &rel)) {
		git_note(g, GITDIR_NOTE_ALTERNATES, entry->path, line);
		return false;
	}
	if (same)
		buf_put_span(out, line);
	else
		git_put_relative(out, depth, rel);
	buf_put_u8(out, '\n');
	return same;
}

int git_judge_alternates(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                         struct err *e)
{
	_own_free_ char *text = NULL, *made = NULL;
	const size_t made_max = GITDIR_ALTERNATES_MAX * 4; /* "../" are three bytes for one */
	struct span rest, line;
	bool same = true;
	struct stat st = { 0 };
	struct buf out;
	size_t len;

	if (entry->kind != WORK_FILE ||
	    git_read(entry->dir_fd, entry->name, GITDIR_ALTERNATES_MAX, &text, &len, &st, NULL) < 0)
		return git_skip("git: alternates that cannot be read", ret);
	made = malloc(made_max);
	if (made == NULL)
		return err_set(e, -ENOMEM, "out of memory for git's alternates");
	buf_init(&out, made, made_max);
	rest = span_of(text, len);
	while (take_until(&rest, '\n', &line))
		same &= put_alternate(g, entry, line, &out);
	if (same)
		return 0;
	if (out.len == 0 || !buf_ok(&out))
		return git_skip("git: objects outside the workspace", ret);
	return git_replace(g, steal_ptr(&made), out.len, &st, ret);
}

int git_judge_back(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                   struct err *e)
{
	_own_free_ char *text = NULL, *made = NULL;
	unsigned depth = wpath_depth(entry->path) - 1;
	char real[PATH_MAX];
	bool same = false;
	struct stat st = { 0 };
	struct span rel;
	struct buf b;
	size_t len;

	if (g->opt.guest_at.len == 0 ||
	    git_read(entry->dir_fd, entry->name, GITDIR_POINTER_MAX, &text, &len, &st, NULL) < 0)
		return 0;
	text[strcspn(text, "\r\n")] = '\0';
	if (!leads_inside(g, entry->dir_fd, text, depth, &same, real, &rel) || same)
		return 0;
	made = malloc(2 * PATH_MAX);
	if (made == NULL)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, made, 2 * PATH_MAX);
	buf_put_span(&b, g->opt.guest_at);
	buf_put_u8(&b, '/');
	buf_put_span(&b, rel);
	buf_put_u8(&b, '\n');
	git_note(g, GITDIR_NOTE_REWRITTEN, entry->path, span_str(""));
	return git_replace(g, steal_ptr(&made), b.len, &st, ret);
}

int git_judge_head(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                   struct err *e)
{
	static const char head[] = "ref: refs/heads/main\n";
	_own_free_ char *text = NULL;
	struct stat st = { .st_mode = 0644 };
	size_t len;
	char *made;

	if (entry->kind == WORK_FILE &&
	    git_read(entry->dir_fd, entry->name, GITDIR_POINTER_MAX, &text, &len, &st, NULL) == 0 &&
	    strncmp(text, "ref: refs/heads/", 16) == 0)
		return 0;
	made = strdup(head);
	if (made == NULL)
		return err_set(e, -ENOMEM, "out of memory");
	return git_replace(g, made, sizeof(head) - 1, &st, ret);
}
