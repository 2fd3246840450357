/*
 * Starting a sandbox: from a template, from a snapshot, or as a child of one that runs. A config
 * becomes a spec, and the rest is start.c's.
 */
#include "api/berm_network.h"

#include "lib/registries.h"
#include "lib/snapshot.h"
#include "lib/start.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* All that a spec borrows from: it lives as long as the call. */
struct plan {
	const struct berm_config *c;
	struct spec spec;
	struct snapshot *from; /* what it is a copy of, or NULL */
	struct image *image;
	struct strings argv, warm;
};

static void plan_fini(struct plan *p)
{
	snapshot_free(p->from);
	image_free(p->image);
	strings_fini(&p->argv);
	strings_fini(&p->warm);
}

static inline void plan_fini_scope(struct plan *p)
{
	plan_fini(p);
}

static int find_image(const struct berm *b, struct plan *p, struct err *e)
{
	_own_(image_store_free) struct image_store *store = NULL;
	int r = image_store_open(b->state_fd, b->paths.share, &store, e);

	return r < 0 ? r : image_open(store, p->spec.image, &p->image, e);
}

static int copy_text(char **at, const char *text, struct err *e)
{
	if (!text || !*text)
		return 0;
	*at = strdup(text);
	return *at ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* What the image says of commands, and the config after it, is for all that are run in it. */
static int take_defaults(struct berm_sandbox *sb, const struct image *image,
                         const struct strings *own, struct err *e)
{
	const struct image_config *ic = &image->meta->config;
	int r = 0;

	for (size_t i = 0; r == 0 && ic->env[i]; i++)
		r = strings_set_env(&sb->env, ic->env[i], strlen(ic->env[i]), e);
	for (size_t i = 0; r == 0 && own && i < own->count; i++)
		r = strings_set_env(&sb->env, own->items[i], strlen(own->items[i]), e);
	if (r == 0)
		r = registries_find(&sb->registries, (const char *const *)sb->env.items,
		                    image->meta, e);
	if (r == 0)
		r = copy_text(&sb->user, ic->user, e);
	if (r == 0)
		r = copy_text(&sb->workdir, ic->workdir, e);
	return r;
}

static int plan_warm(struct plan *p, struct err *e)
{
	_own_free_ const char **label = NULL;
	int r = image_warm(&p->image->meta->config, &label, e);

	if (r == 0)
		r = strings_add_all(&p->warm, label, e);
	if (r == 0)
		r = strings_add_all(&p->warm, (const char *const *)p->c->warm.items, e);
	p->spec.warm = (const char *const *)p->warm.items;
	p->spec.warm_env = p->image->meta->config.env;
	return r;
}

static int plan_command(struct plan *p, const struct berm_sandbox *sb, struct err *e)
{
	static const char *const none[] = { NULL };
	const struct image_config *ic = &p->image->meta->config;
	const struct words *w = &p->c->main;
	struct spec *s = &p->spec;
	int r = 0;

	s->argv = none;
	s->envp = (const char *const *)sb->env.items;
	if (!w->given)
		return 0;
	if (w->has_argv) {
		r = strings_add_all(&p->argv, (const char *const *)w->argv.items, e);
	} else {
		r = strings_add_all(&p->argv, ic->entrypoint, e);
		if (r == 0)
			r = strings_add_all(&p->argv, ic->cmd, e);
	}
	if (r < 0)
		return r;
	if (p->argv.count == 0)
		return err_set(e, -EINVAL, "image '%s' names no command of its own", s->image);
	s->argv = (const char *const *)p->argv.items;
	if (w->has_env)
		s->envp = (const char *const *)w->env.items;
	s->user = w->user ? w->user : sb->user;
	s->cwd = w->workdir ? w->workdir : sb->workdir;
	s->tty = w->cmd.flags & BERM_TTY;
	s->stdin_open = w->cmd.in.kind != BERM_STREAM_NULL;
	s->rows = w->cmd.rows;
	s->cols = w->cmd.cols;
	return 0;
}

static int make_plan(struct berm_sandbox *sb, struct plan *p, struct err *e)
{
	const struct berm_config *c = p->c;
	struct spec *s = &p->spec;
	int r;

	spec_init(s);
	s->image = c->image ? c->image : API_IMAGE;
	s->limits = c->limits;
	s->engine = c->engine;
	s->cold = c->cold;
	s->host_cpu = c->host_cpu;
	r = find_image(sb->b, p, e);
	if (r < 0)
		return r;
	s->image_id = p->image->meta->id;
	r = take_defaults(sb, p->image, &c->env, e);
	if (r == 0 && !c->cold)
		r = plan_warm(p, e);
	if (r == 0)
		r = plan_command(p, sb, e);
	return r;
}

/* Its guest runs already: of the config counts what is the host's to say. */
static int check_copy(const struct plan *p, struct err *e)
{
	const struct berm_config *c = p->c;

	if (c->main.has_argv)
		return err_set(
			e, -EINVAL,
			"a snapshot goes on with the main command it has: argv must be NULL");
	if (c->engine != BERM_ENGINE_AUTO && c->engine != p->spec.engine)
		return err_set(e, -EXDEV,
		               "snapshot '%s' was made by the other engine, and goes on there only",
		               c->snapshot);
	return 0;
}

static int plan_copy(struct berm_sandbox *sb, struct plan *p, struct err *e)
{
	const struct berm_config *c = p->c;
	const struct berm *b = sb->b;
	int r = snapshot_open(b->state_fd, c->snapshot, &p->from, e);

	if (r < 0)
		return r;
	p->spec = snapshot_spec(p->from);
	r = check_copy(p, e);
	if (r == 0)
		r = snapshot_check(p->from, &b->paths, e);
	if (r == 0 && snapshot_image(p->from, b->state_fd, &b->paths, &p->image, e) < 0)
		r = err_wrap(e, "snapshot '%s'", c->snapshot);
	if (r < 0)
		return r;
	if (c->limits.time_ms)
		p->spec.limits.time_ms = c->limits.time_ms;
	if (c->limits.idle_ms)
		p->spec.limits.idle_ms = c->limits.idle_ms;
	if (c->limits.output_bytes)
		p->spec.limits.output_bytes = c->limits.output_bytes;
	return take_defaults(sb, p->image, &c->env, e);
}

/* The main command's end here. Of a copy it runs already, and takes input if it did. */
static int new_control(struct berm_sandbox *sb, const struct spec *spec,
                       const struct berm_command *cmd, struct err *e)
{
	bool copy = spec_is_copy(spec);
	bool there = copy ? spec->main_pid > 0 : cmd != NULL;
	struct berm_command c = { 0 };
	int r;

	if (cmd)
		c = *cmd;
	c.flags = spec->tty ? BERM_TTY : 0;
	r = process_new(sb, API_CONTROL, there ? &c : NULL, &sb->control, e);
	if (r < 0)
		return r;
	sb->control->is_main = there;
	sb->control->relay.in_eof = copy && (!spec->stdin_open || spec->main_stdin_eof);
	return 0;
}

/* From here on the supervisor lives, and all that could fail has not. */
static void adopt(struct berm_sandbox *sb, const struct spec *spec, const struct started *st)
{
	struct berm_process *control = sb->control;
	bool wants_in = control->streams[BERM_STDIN] != BERM_STREAM_NULL && spec->stdin_open;

	memcpy(sb->id, st->id, sizeof(sb->id));
	sb->owned = true;
	sb->pidfd = st->pidfd;
	control->client->fd = st->control_fd;
	control->connected = true;
	wire_put_u8(&control->client->out, WIRE_ATTACH, API_STREAM, CLIENT_EPOCH, wants_in);
	pump_settle(control);
}

/* It is in use: nobody removes it meanwhile. */
static int hold_image(struct berm_sandbox *sb, const struct image *image, struct err *e)
{
	sb->image_fd = fcntl(image->lock_fd, F_DUPFD_CLOEXEC, 3);
	return sb->image_fd < 0 ? err_sys(e, "hold the image") : 0;
}

/* A copy has a card if what it is a copy of had one. */
static int plan_network(const struct berm_sandbox *sb, struct plan *p, struct egress_plan *net,
                        struct err *e)
{
	if (!p->c->network.wanted)
		return 0;
	if (p->from && !p->spec.network)
		return err_set(e, -EINVAL, "the guest of snapshot '%s' has no network",
		               p->c->snapshot);
	p->spec.network = true;
	return network_plan(sb, &p->c->network, net, e);
}

static int start(struct berm *b, const struct berm_config *c, struct berm_sandbox **ret,
                 struct err *e)
{
	_own_(berm_sandbox_free) struct berm_sandbox *sb = NULL;
	_own_(plan_fini) struct plan p = { .c = c };
	struct started st = { .pidfd = -1, .control_fd = -1 };
	_own_(egress_plan_fini) struct egress_plan net;
	int r = api_check(b, e);

	egress_plan_init(&net);

	if (r == 0 && (!c || !ret))
		r = err_set(e, -EINVAL, "%s is NULL", c ? "ret" : "the config");
	if (r < 0)
		return r;
	api_reap(b, -1);
	strings_init(&p.argv, SPEC_STRINGS_MAX);
	strings_init(&p.warm, SPEC_WARM_MAX);
	r = sandbox_new(b, &sb, e);
	if (r == 0)
		r = c->snapshot ? plan_copy(sb, &p, e) : make_plan(sb, &p, e);
	p.spec.name = c->name;
	p.spec.hostname = c->hostname;
	p.spec.minimum_level = c->level;
	p.spec.detach = c->detached;
	if (r == 0)
		r = plan_network(sb, &p, &net, e);
	if (r == 0)
		r = new_control(sb, &p.spec, c->main.given ? &c->main.cmd : NULL, e);
	if (r == 0)
		r = hold_image(sb, p.image, e);
	if (r < 0)
		return r;
	if (p.from)
		r = start_copy(&b->paths, b->state_fd, p.image->disk_fd, &p.spec, &p.from->files,
		               net.policy_fd >= 0 ? &net : NULL, true, &st, e);
	else
		r = start_embedded(&b->paths, b->state_fd, p.image->disk_fd, &p.spec,
		                   net.policy_fd >= 0 ? &net : NULL, &st, e);
	if (r < 0)
		return r;
	adopt(sb, &p.spec, &st);
	network_keep(sb, &net);
	*ret = steal_ptr(&sb);
	return 0;
}

int berm_start(struct berm *b, const struct berm_config *c, struct berm_sandbox **ret,
               struct berm_err *e)
{
	struct err why = { 0 };
	int r = start(b, c, ret, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

/* --- children --- */

/* Commands run in it as they do in its parent. */
static int take_parents_defaults(struct berm_sandbox *sb, const struct berm_sandbox *parent,
                                 const struct image *image, struct err *e)
{
	int r;

	if (!parent->owned) /* connected: nobody told us more than the image does */
		return take_defaults(sb, image, NULL, e);
	r = strings_add_all(&sb->env, (const char *const *)parent->env.items, e);
	if (r == 0)
		r = strings_add_all(&sb->registries, (const char *const *)parent->registries.items,
		                    e);
	if (r == 0)
		r = copy_text(&sb->user, parent->user, e);
	if (r == 0)
		r = copy_text(&sb->workdir, parent->workdir, e);
	return r;
}

/* Pipes where the parent's has something. */
static struct berm_command childs_command(const struct berm_process *main)
{
	struct berm_command cmd = { .size = sizeof(cmd), .data = main->data };

	if (main->streams[BERM_STDIN] != BERM_STREAM_NULL)
		cmd.in.kind = BERM_STREAM_PIPE;
	if (main->streams[BERM_STDOUT] != BERM_STREAM_NULL)
		cmd.out.kind = BERM_STREAM_PIPE;
	if (main->streams[BERM_STDERR] != BERM_STREAM_NULL)
		cmd.err.kind = BERM_STREAM_PIPE;
	return cmd;
}

int sandbox_start_child(const struct berm_sandbox *parent, const struct snapshot *from,
                        const struct image *image, struct berm_sandbox **ret, struct err *e)
{
	const struct berm_command cmd = childs_command(parent->control);
	const struct spec spec = snapshot_spec(from);
	_own_(berm_sandbox_free) struct berm_sandbox *sb = NULL;
	struct berm *b = parent->b;
	struct started st = { .pidfd = -1, .control_fd = -1 };
	_own_(egress_plan_fini) struct egress_plan net;
	int r = sandbox_new(b, &sb, e);

	egress_plan_init(&net);
	if (r == 0)
		r = take_parents_defaults(sb, parent, image, e);
	if (r == 0)
		r = new_control(sb, &spec, &cmd, e);
	if (r == 0)
		r = hold_image(sb, image, e);
	if (r == 0 && spec.network)
		r = egress_plan_inherit(&net, b->state_fd, parent->id, e);
	if (r == 0)
		r = start_copy(&b->paths, b->state_fd, image->disk_fd, &spec, &from->files,
		               spec.network ? &net : NULL, true, &st, e);
	if (r < 0)
		return r;
	adopt(sb, &spec, &st);
	*ret = steal_ptr(&sb);
	return 0;
}
