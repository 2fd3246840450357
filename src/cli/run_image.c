#include "cli/run.h"

#include "image/store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* The image's variables, then those of the flags, which are the later ones. */
static int merge_env(struct run *r, const struct cli *c, const struct image_config *config,
                     struct err *e)
{
	struct strings merged;
	int got = 0;

	strings_init(&merged, r->env.max);
	for (size_t i = 0; got == 0 && config->env[i]; i++)
		got = strings_set_env(&merged, config->env[i], strlen(config->env[i]), e);
	for (size_t i = 0; got == 0 && i < r->env.count; i++)
		got = strings_set_env(&merged, r->env.items[i], strlen(r->env.items[i]), e);
	if (got == 0 && r->spec.tty)
		got = run_env_term(&merged, c->envp, e);
	if (got < 0) {
		strings_fini(&merged);
		return err_wrap(e, "the environment");
	}
	strings_fini(&r->env);
	r->env = merged;
	return 0;
}

int run_merge_warm(struct run *r, const struct image_config *config, struct err *e)
{
	_own_free_ const char **label = NULL;
	struct strings merged;
	int got = r->spec.cold ? 0 : image_warm(config, &label, e);

	if (got < 0)
		return got;
	r->spec.warm = (const char *const *)r->warm.items;
	r->spec.warm_env = r->spec.cold ? NULL : config->env;
	if (!label)
		return 0;
	strings_init(&merged, r->warm.max);
	got = strings_add_all(&merged, label, e);
	if (got == 0)
		got = strings_add_all(&merged, (const char *const *)r->warm.items, e);
	if (got < 0) {
		strings_fini(&merged);
		return err_wrap(e, "warm-up commands");
	}
	strings_fini(&r->warm);
	r->warm = merged;
	r->spec.warm = (const char *const *)r->warm.items;
	return 0;
}

/* "berm run python3" is a slip that everybody makes once. */
static int not_found(const struct run *r, struct err *e)
{
	struct err told = *e;

	if (!r->image)
		return err_set(
			e, -ENOENT,
			"the default image is not installed: 'make image' builds it, and berm "
			"run IMAGE takes another");
	if (!strchr(r->image, ':') && !strchr(r->image, '/'))
		return err_set(e, -ENOENT, "%s. For a command in the default image: berm run -- %s",
		               told.text, r->image);
	return told.code;
}

static int use_config(struct run *r, const struct cli *c, const struct image_config *config,
                      struct err *e)
{
	struct spec *s = &r->spec;
	int got = merge_env(r, c, config, e);

	if (got == 0)
		got = run_merge_warm(r, config, e);
	if (got == 0)
		got = run_command(r, config->entrypoint, config->cmd, e);
	if (got < 0)
		return got;
	if (!s->user)
		s->user = config->user;
	if (!s->cwd)
		s->cwd = config->workdir;
	s->argv = (const char *const *)r->argv.items;
	s->envp = (const char *const *)r->env.items;
	return 0;
}

int run_take_image(struct run *r, struct cli *c, struct err *e)
{
	_own_(image_store_free) struct image_store *store = NULL;
	int got = image_store_open(c->state_fd, c->paths.share, &store, e);

	if (got == 0)
		got = image_open(store, r->spec.image, &r->opened, e);
	if (got == -ENOENT)
		return not_found(r, e);
	if (got < 0)
		return got;
	r->spec.image_id = r->opened->meta->id;
	r->disk_fd = r->opened->disk_fd;
	return use_config(r, c, &r->opened->meta->config, e);
}

void run_drop_image(struct run *r)
{
	image_free(r->opened);
	r->opened = NULL;
	r->disk_fd = -1;
}
