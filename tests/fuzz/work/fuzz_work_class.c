/*
 * Classes: a path on the first line, then two contents with a NUL between. Contracts: case does not
 * change a class; a prefix of directories never makes what git would read plain; a text names no
 * host that it does not name itself.
 */
#include "work/class.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char list[] = "version 1\nX0 a\n\t.envrc\n\t**/.vscode/tasks.json\nX1 b\n\tmakefile\n"
			   "\t**/.husky/\nX4 c\n\t*.md\n";

static void must(bool ok)
{
	if (!ok)
		abort();
}

static struct class_list *make_list(void)
{
	struct class_list *l;
	struct err e;

	must(class_list_new(&l, &e) == 0);
	must(class_list_add(l, "list", span_str(list), &e) == 0);
	return l;
}

static void paths(const struct class_list *l, struct span path)
{
	uint8_t other[WPATH_MAX + 2];
	struct span upper, below;

	if (path.len == 0 || wpath_parse(path, NULL) < 0 || path.len + 2 > WPATH_MAX)
		return;
	memcpy(other, "a/", 2);
	memcpy(other + 2, path.at, path.len);
	below = span_of(other, path.len + 2);
	must(class_in_git(path) == class_in_git(below));
	must(class_by_path(l, below, WORK_FILE).class <= class_by_path(l, path, WORK_FILE).class);
	must(class_by_path(l, path, WORK_LINK).class <= class_by_path(l, path, WORK_FILE).class);
	for (size_t i = 0; i < path.len; i++) {
		if (path.at[i] >= 'a' && path.at[i] <= 'z')
			other[i + 2] = (uint8_t)(path.at[i] - 'a' + 'A');
	}
	upper = span_of(other + 2, path.len);
	must(class_by_path(l, path, WORK_FILE).class == class_by_path(l, upper, WORK_FILE).class);
}

static void contents(struct span path, struct span was, struct span now)
{
	struct class_side a = { .exists = true, .kind = WORK_FILE, .mode = 0644, .head = was };
	struct class_side b = { .exists = true, .kind = WORK_FILE, .mode = 0755, .head = now };

	must(class_by_content(path, &a, &b).class == CLASS_X3);
	b.kind = a.kind = WORK_LINK;
	(void)class_by_content(path, &a, &b);
	(void)class_is_lock_file(path);
	must(!class_adds_host(now, now) || now.len > 3 * CLASS_HOSTS_MAX);
	(void)class_adds_host(was, now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct class_list *l;
	struct span in = span_of(data, size), path, was;

	if (l == NULL)
		l = make_list();
	if (!take_until(&in, '\n', &path) || !take_until(&in, '\0', &was))
		return 0;
	paths(l, path);
	contents(path, was, in);
	return 0;
}
