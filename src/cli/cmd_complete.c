#include "cli/agent/agents.h"
#include "cli/reach.h"
#include "cli/verbs.h"
#include "image/store.h"
#include "lib/snapshot.h"
#include "state/work_session.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What the completion scripts ask for while somebody types: silent when it cannot be told. */
static int list_sandboxes(struct cli *c, bool ended, const char *behind)
{
	_own_(state_list_free) struct state_list *list = NULL;

	if (cli_state(c, NULL) < 0 || state_list(c->state_fd, ended, &list, NULL) < 0)
		return CLI_EXIT_ERROR;
	for (size_t i = 0; i < list->count; i++) {
		const struct state_info *info = &list->items[i];

		(void)printf("%s%s\n", info->name[0] ? info->name : info->id, behind);
	}
	return 0;
}

static int list_images(struct cli *c)
{
	_own_(image_store_free) struct image_store *store = NULL;
	_own_(image_list_free) struct image_list *list = NULL;

	if (cli_state(c, NULL) < 0 ||
	    image_store_open(c->state_fd, c->paths.share, &store, NULL) < 0 ||
	    image_list(store, &list, NULL) < 0)
		return CLI_EXIT_ERROR;
	for (size_t i = 0; i < list->count; i++)
		for (size_t j = 0; list->rows[i].names[j]; j++)
			(void)printf("%s\n", list->rows[i].names[j]);
	return 0;
}

static int list_snapshots(struct cli *c)
{
	_own_(snapshot_list_free) struct snapshot_list *list = NULL;

	if (cli_state(c, NULL) < 0 || snapshot_list(c->state_fd, &list, NULL) < 0)
		return CLI_EXIT_ERROR;
	for (size_t i = 0; i < list->count; i++)
		(void)printf("%s\n", list->rows[i].name);
	return 0;
}

/* Those of the installation: NAME.yaml. */
static int list_presets(struct cli *c)
{
	char path[PATH_MAX + 16];
	const struct dirent *d;
	DIR *dir;

	if (cli_paths(c, NULL) < 0)
		return CLI_EXIT_ERROR;
	(void)snprintf(path, sizeof(path), "%s/egress", c->paths.share);
	dir = opendir(path);
	if (!dir)
		return CLI_EXIT_ERROR;
	while ((d = readdir(dir)) != NULL) {
		size_t len = strlen(d->d_name);

		if (len > 5 && strcmp(d->d_name + len - 5, ".yaml") == 0)
			(void)printf("%.*s\n", (int)(len - 5), d->d_name);
	}
	(void)closedir(dir);
	return 0;
}

static int list_agents(struct cli *c)
{
	_own_(agent_places_close) struct agent_places p;
	_own_free_ struct agent_list *list = NULL;

	if (agent_places_open(&p, c, NULL) < 0 || agent_list(&p.where, &list, NULL) < 0)
		return CLI_EXIT_ERROR;
	for (unsigned i = 0; i < list->count; i++)
		(void)printf("%s\n", list->rows[i].name);
	return 0;
}

static int list_sessions(struct cli *c)
{
	_own_(work_session_list_free) struct work_session_list *list = NULL;
	struct err e = { 0 };

	if (cli_state(c, &e) < 0 || work_session_list(c->state_fd, &list, &e) < 0)
		return CLI_EXIT_ERROR;
	for (size_t i = 0; i < list->count; i++)
		(void)printf("%s\n", list->items[i].id);
	return 0;
}

static int print_script(const char *shell, struct err *e)
{
	_own_free_ char *storage = malloc(CLI_SCRIPT_MAX);
	struct buf b;

	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, storage, CLI_SCRIPT_MAX);
	if (!complete_put_script(&b, shell))
		return err_set(e, -EINVAL, "'%s': bash, zsh or fish", shell);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "the script is longer than %d bytes", CLI_SCRIPT_MAX);
	return cli_out(b.at, b.len, e);
}

static int run_complete(struct cli *c, const struct args *a)
{
	const char *what = a->words[0];
	struct err e = { 0 };

	if (strcmp(what, "sandboxes") == 0)
		return list_sandboxes(c, false, "");
	if (strcmp(what, "ended") == 0)
		return list_sandboxes(c, true, "");
	if (strcmp(what, "images") == 0)
		return list_images(c);
	if (strcmp(what, "snapshots") == 0)
		return list_snapshots(c);
	if (strcmp(what, "presets") == 0)
		return list_presets(c);
	if (strcmp(what, "agents") == 0)
		return list_agents(c);
	if (strcmp(what, "sessions") == 0)
		return list_sessions(c);
	if (strcmp(what, "copy") == 0)
		return list_sandboxes(c, false, ":");
	return print_script(what, &e) < 0 ? cli_fail(&e) : 0;
}

const struct verb verb_complete = {
	.name = "__complete",
	.summary = "Print a shell's completion script",
	.args = "bash|zsh|fish",
	.run = run_complete,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_SHELL,
	.hidden = true,
};
