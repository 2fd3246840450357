#include "agents/agent.h"

#include "base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int by_name(const void *x, const void *y)
{
	const struct agent_row *a = x;
	const struct agent_row *b = y;

	return strcmp(a->name, b->name);
}

static struct agent_row *row_of(struct agent_list *l, const char *name)
{
	for (unsigned i = 0; i < l->count; i++)
		if (strcmp(l->rows[i].name, name) == 0)
			return &l->rows[i];
	if (l->count == AGENT_LIST_MAX)
		return NULL;
	(void)snprintf(l->rows[l->count].name, sizeof(l->rows[0].name), "%s", name);
	return &l->rows[l->count++];
}

/* NAME.yaml; what is named otherwise is no profile. */
static bool name_of(const char *file, char ret[AGENT_NAME_MAX + 1])
{
	size_t len = strlen(file);

	if (len < 6 || len - 5 > AGENT_NAME_MAX || strcmp(file + len - 5, ".yaml") != 0)
		return false;
	memcpy(ret, file, len - 5);
	ret[len - 5] = '\0';
	return agent_name_ok(ret);
}

static int add_folder(struct agent_list *l, int dir_fd, bool user, struct err *e)
{
	char name[AGENT_NAME_MAX + 1];
	const struct dirent *d;
	DIR *dir;
	int fd;
	int r;

	if (dir_fd < 0)
		return 0;
	r = fd_openat(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0, &fd, e);
	if (r < 0)
		return r;
	dir = fdopendir(fd);
	if (!dir) {
		(void)close(fd);
		return err_set(e, -ENOMEM, "out of memory");
	}
	while ((d = readdir(dir)) != NULL) {
		struct agent_row *row = name_of(d->d_name, name) ? row_of(l, name) : NULL;

		if (row && user)
			row->user = true;
		else if (row)
			row->installed = true;
	}
	(void)closedir(dir);
	return 0;
}

int agent_list(const struct agent_where *w, struct agent_list **ret, struct err *e)
{
	_own_free_ struct agent_list *l =
		calloc(1, sizeof(*l) + AGENT_LIST_MAX * sizeof(l->rows[0]));
	int r = l ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (r == 0)
		r = add_folder(l, w->installed_fd, false, e);
	if (r == 0)
		r = add_folder(l, w->user_fd, true, e);
	if (r < 0)
		return r;
	qsort(l->rows, l->count, sizeof(l->rows[0]), by_name);
	*ret = steal_ptr(&l);
	return 0;
}
