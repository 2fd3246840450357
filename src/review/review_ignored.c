/*
 * Theory of operation. The rules are the .gitignore files as they were packed: what a guest writes
 * into one hides nothing. Paths come in order, so the rules at hand are those of the directories
 * above the path: a directory's file is read once, when the first path in it comes. What lies below
 * a directory that is ignored is ignored, whatever is said of it.
 *
 * What git tracks is never ignored, so where the rules say that a path is, the index of its
 * repository is asked, as it was packed too: what the guest does to its own index counts for
 * nothing. It is read when the first such path comes, and never if none does.
 */
#include "review/review_inner.h"

#include "review/review_tracked.h"
#include "work/ignore.h"

#include <errno.h>
#include <string.h>

struct review_ignored {
	struct review *r;
	struct review_tracked *tracked;
	struct ignore_set *rules;
	size_t dir_len; /* of the directory whose rules were added last, within `dir` */
	uint8_t dir[WPATH_MAX];
	bool cut; /* dir[] up to cut_len is an ignored directory */
	size_t cut_len;
	bool begun;
};

void review_ignored_free(struct review_ignored *g)
{
	if (g == NULL)
		return;
	review_tracked_free(g->tracked);
	ignore_set_free(g->rules);
	free(g);
}

/* A file of rules in the base; none, or one that is none, says nothing. */
static int add_file(struct review_ignored *g, struct span dir, const char *name, struct err *e)
{
	_own_free_ char *text = NULL;
	uint8_t room[WPATH_MAX + 1];
	struct base_node node;
	struct err ignored;
	unsigned refused;
	struct buf b;
	int got;

	buf_init(&b, room, sizeof(room));
	wpath_put(&b, dir, span_str(name));
	if (!buf_ok(&b) || base_lookup(g->r->base, buf_span(&b), &node, &ignored) < 0 ||
	    node.kind != WORK_FILE || node.size > IGNORE_FILE_MAX)
		return 0;
	text = malloc((size_t)node.size + 1);
	if (text == NULL)
		return err_set(e, -ENOMEM, "no memory for a .gitignore");
	got = base_read(g->r->base, &node, 0, text, (size_t)node.size, e);
	if (got < 0)
		return got;
	got = ignore_add(g->rules, dir, name, span_of(text, (size_t)node.size), &refused, e);
	return got == -E2BIG ? 0 : got; /* more rules than we follow: the rest hides nothing */
}

int review_ignored_new(struct review *r, struct review_ignored **ret, struct err *e)
{
	_own_(review_ignored_free) struct review_ignored *g = calloc(1, sizeof(*g));
	int got;

	if (g == NULL)
		return err_set(e, -ENOMEM, "no memory for what git ignores");
	g->r = r;
	got = ignore_set_new(&g->rules, e);
	if (got == 0)
		got = review_tracked_new(r->base, r->report, &g->tracked, e);
	if (got == 0)
		got = add_file(g, span_str(""), ".git/info/exclude", e);
	if (got == 0)
		got = add_file(g, span_str(""), ".gitignore", e);
	if (got < 0)
		return got;
	*ret = steal_ptr(&g);
	return 0;
}

static bool is_ignored(const struct review_ignored *g, struct span path, bool is_dir)
{
	return ignore_ask(g->rules, path, is_dir).verdict == IGNORE_EXCLUDED;
}

/* Goes on from the directory at hand to `to`, which is beneath it, one part at a time. */
static int enter(struct review_ignored *g, struct span to, struct err *e)
{
	int got = 0;

	for (size_t i = g->dir_len; got == 0 && !g->cut && i < to.len; i++) {
		struct span dir;

		if (i + 1 < to.len && to.at[i + 1] != '/')
			continue;
		dir = span_of(to.at, i + 1);
		memcpy(g->dir, dir.at, dir.len);
		g->dir_len = dir.len;
		if (is_ignored(g, dir, true)) {
			g->cut = true;
			g->cut_len = dir.len;
		} else {
			got = add_file(g, dir, ".gitignore", e);
		}
	}
	return got;
}

/* Back to what is above both. */
static void leave(struct review_ignored *g, struct span to)
{
	size_t was = g->dir_len;

	while (g->dir_len > 0 && !wpath_beneath(span_of(g->dir, g->dir_len), to, NULL))
		g->dir_len = wpath_parent(span_of(g->dir, g->dir_len)).len;
	if (g->dir_len == was)
		return;
	ignore_leave(g->rules, span_of(g->dir, g->dir_len));
	g->cut = g->cut && g->dir_len >= g->cut_len;
}

int review_ignored_ask(struct review_ignored *g, struct span path, bool is_dir, bool *ret,
                       const char **ret_why, struct err *e)
{
	struct span dir = wpath_parent(path);
	bool tracked;
	int got;

	leave(g, dir);
	got = enter(g, dir, e);
	if (got < 0)
		return got;
	*ret_why = NULL;
	*ret = path.len > 0 && (g->cut || is_ignored(g, path, is_dir));
	if (!*ret)
		return 0;
	got = review_tracked_ask(g->tracked, path, is_dir, &tracked, ret_why, e);
	if (got == 0)
		*ret = !tracked;
	return got;
}
