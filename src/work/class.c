#include "work/class.h"

#include "work/ignore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* All patterns of one class and reason, in the order of the file. */
struct group {
	enum work_class class;
	char reason[CLASS_REASON_MAX + 1];
	struct ignore_set *files, *dirs; /* patterns without and with a slash at the end */
};

struct class_list {
	size_t count;
	struct group groups[CLASS_REASONS_MAX];
};

const char *class_name(enum work_class c)
{
	static const char *const names[] = { "X0", "X1", "X2", "X3", "X4", "plain" };

	return names[c];
}

int class_list_new(struct class_list **ret, struct err *e)
{
	struct class_list *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return err_set(e, -ENOMEM, "no memory for the list of classes");
	*ret = l;
	return 0;
}

static void group_clear(struct group *g)
{
	ignore_set_free(g->files);
	ignore_set_free(g->dirs);
}

void class_list_free(struct class_list *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->count; i++)
		group_clear(&l->groups[i]);
	free(l);
}

/* ---- reading a list ---- */

/* "X0 a reason" */
static int add_group(struct class_list *l, struct span line, const char **why)
{
	struct group *g = &l->groups[l->count];
	struct err ignored;

	*why = "the line is not \"X0\" to \"X4\", a space and a reason";
	if (line.len < 4 || line.at[0] != 'X' || line.at[1] < '0' || line.at[1] > '4' ||
	    line.at[2] != ' ' || line.at[3] == ' ')
		return -EINVAL;
	*why = "the reason is too long";
	if (line.len - 3 > CLASS_REASON_MAX)
		return -E2BIG;
	*why = "there are too many reasons";
	if (l->count >= CLASS_REASONS_MAX)
		return -E2BIG;
	*why = "no memory";
	if (ignore_set_new(&g->files, &ignored) < 0)
		return -ENOMEM;
	if (ignore_set_new(&g->dirs, &ignored) < 0) {
		ignore_set_free(g->files);
		return -ENOMEM;
	}
	g->class = (enum work_class)(line.at[1] - '0');
	memcpy(g->reason, line.at + 3, line.len - 3);
	g->reason[line.len - 3] = '\0';
	l->count++;
	return 0;
}

static int add_pattern(struct class_list *l, struct span line, size_t first, const char **why)
{
	struct group *g = l->count > 0 ? &l->groups[l->count - 1] : NULL;
	bool dir = line.len > 0 && line.at[line.len - 1] == '/';
	struct err ignored;
	unsigned refused;
	int r;

	*why = "a pattern before the first class";
	if (l->count == first || g == NULL)
		return -EINVAL;
	*why = "the pattern is too long, or has a capital letter, or is none";
	for (size_t i = 0; i < line.len; i++) {
		if (line.at[i] >= 'A' && line.at[i] <= 'Z')
			return -EINVAL;
	}
	r = ignore_add(dir ? g->dirs : g->files, span_str(""), "", line, &refused, &ignored);
	return r < 0 ? r : refused > 0 ? -E2BIG : 0;
}

static int add_line(struct class_list *l, struct span line, size_t first, bool *versioned,
                    const char **why)
{
	if (line.len == 0 || line.at[0] == '#')
		return 0;
	if (!*versioned) {
		*versioned = span_is(line, "version 1");
		*why = "the first line is not \"version 1\"";
		return *versioned ? 0 : -EINVAL;
	}
	if (line.at[0] == '\t')
		return add_pattern(l, span_of(line.at + 1, line.len - 1), first, why);
	return add_group(l, line, why);
}

int class_list_add(struct class_list *l, const char *source, struct span text, struct err *e)
{
	size_t first = l->count;
	bool versioned = false;
	struct span line;
	unsigned at = 0;

	if (text.len > CLASS_LIST_MAX)
		return err_set(e, -E2BIG, "%s: over %d bytes", source, CLASS_LIST_MAX);
	while (take_until(&text, '\n', &line)) {
		const char *why = "";
		int r = add_line(l, line, first, &versioned, &why);

		at++;
		if (r < 0)
			return err_set(e, r, "%s, line %u: %s", source, at, why);
	}
	return 0;
}

/* ---- asking ---- */

static const char in_git[] = "inside a git directory, which is never taken as files";

/* Some file systems take these for ".git" too: by case, by short names, by bytes they pass over. */
static bool is_git_name(struct span name)
{
	static const char *const names[] = { ".git", "git~1", ".git.", ".git " };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (name.len == strlen(names[i]) &&
		    strncasecmp((const char *)name.at, names[i], name.len) == 0)
			return true;
	}
	return false;
}

static struct span without_invisible(struct span name, uint8_t storage[WPATH_NAME_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < name.len; i++) {
		if (wpath_is_invisible(span_of(name.at + i, name.len - i)))
			i += 2;
		else
			storage[n++] = name.at[i];
	}
	return span_of(storage, n);
}

static bool is_git_part(struct span name)
{
	uint8_t storage[WPATH_NAME_MAX];

	/* a part that no file system has is not copied, and never plain */
	return name.len > sizeof(storage) || is_git_name(without_invisible(name, storage));
}

static bool is_word(struct span name, const char *word)
{
	return name.len == strlen(word) && strncasecmp((const char *)name.at, word, name.len) == 0;
}

static bool is_sample(struct span name)
{
	static const char end[] = ".sample";
	size_t len = sizeof(end) - 1;

	return name.len > len && memcmp(name.at + name.len - len, end, len) == 0;
}

bool class_git_runs(struct span path)
{
	bool within = false, hooks = false, last_is_git = false;
	struct span name = { 0 };

	while (wpath_next(&path, &name)) {
		last_is_git = is_git_part(name);
		if (within && path.len > 0 && is_word(name, "hooks"))
			hooks = true;
		within = within || last_is_git;
	}
	if (last_is_git)
		return true;
	return within && ((hooks && !is_sample(name)) || is_word(name, "config") ||
	                  is_word(name, "config.worktree") || is_word(name, "attributes"));
}

bool class_in_git(struct span path)
{
	struct span name;

	while (wpath_next(&path, &name)) {
		if (is_git_part(name))
			return true;
	}
	return false;
}

static bool has(const struct ignore_set *s, struct span path, bool is_dir)
{
	return ignore_ask(s, path, is_dir).verdict == IGNORE_EXCLUDED;
}

/* A directory's pattern covers all that is in it; a file's covers no directory of that name. */
static bool covers(const struct group *g, struct span path, enum work_kind kind)
{
	for (size_t i = 0; i < path.len; i++) {
		if (path.at[i] == '/' && has(g->dirs, span_of(path.at, i), true))
			return true;
	}
	return (kind != WORK_DIR && has(g->files, path, false)) ||
	       (kind != WORK_FILE && has(g->dirs, path, true));
}

static bool leads(const struct group *g, struct span path)
{
	return ignore_any_leads(g->files, path) || ignore_any_leads(g->dirs, path);
}

/* A link is held to stand for a directory: one called ".vscode" brings the files behind it. */
static struct class_verdict ask(const struct class_list *l, struct span path, enum work_kind kind)
{
	struct class_verdict best = { .class = CLASS_PLAIN };

	for (size_t i = 0; i < l->count; i++) {
		const struct group *g = &l->groups[i];

		if (g->class < best.class &&
		    (covers(g, path, kind) || (kind == WORK_LINK && leads(g, path))))
			best = (struct class_verdict){ .class = g->class, .reason = g->reason };
	}
	return best;
}

struct class_verdict class_by_path(const struct class_list *l, struct span path,
                                   enum work_kind kind)
{
	uint8_t lower[WPATH_MAX];

	if (class_in_git(path))
		return (struct class_verdict){ .class = CLASS_X0, .reason = in_git };
	if (path.len > sizeof(lower)) /* not a path at all */
		return (struct class_verdict){ .class = CLASS_X0,
			                       .reason = "too long to be judged" };
	for (size_t i = 0; i < path.len; i++)
		lower[i] = (uint8_t)(path.at[i] >= 'A' && path.at[i] <= 'Z' ? path.at[i] - 'A' + 'a'
		                                                            : path.at[i]);
	return ask(l, span_of(lower, path.len), kind);
}
