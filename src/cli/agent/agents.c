#include "cli/agent/agents.h"

#include "base/fdio.h"
#include "base/log.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int open_folder(const char *path)
{
	int fd;

	return fd_open(path, O_RDONLY | O_DIRECTORY, 0, &fd, NULL) < 0 ? -1 : fd;
}

static int open_share(const struct cli *c, const char *name)
{
	char path[PATH_MAX + 16];

	(void)snprintf(path, sizeof(path), "%s/%s", c->paths.share, name);
	return open_folder(path);
}

/* A relative XDG_CONFIG_HOME is none: XDG Base Directory Specification 0.8. */
static int find_user_path(const struct cli *c, char *ret, size_t size, struct err *e)
{
	const char *config = cli_env(c, "XDG_CONFIG_HOME");
	const char *home = cli_env(c, "HOME");
	int put = 0;

	ret[0] = '\0';
	if (config && config[0] == '/')
		put = snprintf(ret, size, "%s/berm/agents", config);
	else if (home && home[0] == '/')
		put = snprintf(ret, size, "%s/.config/berm/agents", home);
	if (put < 0 || (size_t)put >= size)
		return err_set(e, -ENAMETOOLONG, "the path of your configuration is too long");
	return 0;
}

int agent_places_open(struct agent_places *p, struct cli *c, struct err *e)
{
	int r;

	p->where = (struct agent_where){ -1, -1, -1, p->user_path };
	r = cli_paths(c, e);
	if (r == 0)
		r = find_user_path(c, p->user_path, sizeof(p->user_path), e);
	if (r < 0)
		return r;
	p->where.installed_fd = open_share(c, "agents");
	p->where.presets_fd = open_share(c, "egress");
	if (p->user_path[0])
		p->where.user_fd = open_folder(p->user_path);
	return 0;
}

void agent_places_close(struct agent_places *p)
{
	const int fds[] = { p->where.installed_fd, p->where.user_fd, p->where.presets_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
}

static int read_size(const struct args *a, int id, const char *name, uint64_t *ret, struct err *e)
{
	const char *text = args_value(a, id);
	int r;

	if (!text)
		return 0;
	r = units_parse_size(text, ret, e);
	if (r == 0 && *ret == 0)
		return err_set(e, -EINVAL, "%s: a size above 0", name);
	return r < 0 ? err_wrap(e, "%s", name) : 0;
}

int agent_flags_read(const struct args *a, struct agent_flags *ret, struct err *e)
{
	struct agent_flags f = { .image = args_value(a, AGENT_OPT_IMAGE),
		                 .egress = args_value(a, AGENT_OPT_EGRESS) };
	const char *cpus = args_value(a, AGENT_OPT_CPUS);
	int r = 0;

	if (cpus && units_parse_count(cpus, 1, AGENT_CPUS_MAX, &f.cpus, e) < 0)
		return err_wrap(e, "--cpus");
	r = read_size(a, AGENT_OPT_MEMORY, "--memory", &f.memory_bytes, e);
	if (r == 0)
		r = read_size(a, AGENT_OPT_DISK, "--disk", &f.disk_bytes, e);
	if (r == 0)
		*ret = f;
	return r;
}

int agent_find(const struct agent_places *p, const char *name, const char *workspace,
               const struct agent_flags *f, struct agent **ret, struct err *e)
{
	_own_(agent_free) struct agent *a = NULL;
	_own_fd_ int fd = -1;
	int r = agent_load(&p->where, name, &a, e);

	if (r == 0 && workspace) {
		r = fd_open(workspace, O_RDONLY | O_DIRECTORY, 0, &fd, e);
		if (r < 0)
			return err_wrap(e, "the workspace");
		r = agent_tighten(a, fd, e);
	}
	if (r == 0)
		r = agent_flags_take(a, f, e);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < a->notices.count; i++)
		log_warn("%s", a->notices.at[i]);
	*ret = steal_ptr(&a);
	return 0;
}
