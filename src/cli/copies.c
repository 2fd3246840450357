#include "cli/copies.h"

#include "base/log.h"
#include "base/units.h"
#include "cli/reach.h"
#include "image/store.h"
#include "lib/start.h"
#include "state/result.h"
#include "term/term.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

enum {
	MAIN_STREAM = 1,
	LINE_BYTES = 256, /* an id, a name and what JSON has around them */
};

/* --- flags --- */

static int take_duration(const char *flag, const char *value, uint64_t *ret, struct err *e)
{
	int r = units_parse_duration(value, ret, e);

	if (r == 0 && *ret == 0)
		r = err_set(e, -EINVAL, "0 would end it at once: leave it away for no limit");
	return r < 0 ? err_wrap(e, "--%s", flag) : 0;
}

/* A limit that is given anew; one that is not stays as it was saved. */
static int take_limits(struct spec_limits *l, const struct args *a, struct err *e)
{
	const char *time = args_value(a, COPIES_OPT_TIME);
	const char *idle = args_value(a, COPIES_OPT_IDLE);
	const char *output = args_value(a, COPIES_OPT_OUTPUT);
	int r = 0;

	if (time)
		r = take_duration("time", time, &l->time_ms, e);
	if (r == 0 && idle)
		r = take_duration("idle", idle, &l->idle_ms, e);
	if (r == 0 && output && units_parse_size(output, &l->output_bytes, e) < 0)
		r = err_wrap(e, "--output");
	return r;
}

/* NAME, or NAME-7 of several. What is too long for a name stays so. */
static void put_name(const struct copies *cs, uint64_t number, char ret[COPY_NAME_BYTES])
{
	struct buf b;

	buf_init(&b, ret, COPY_NAME_BYTES);
	buf_printf(&b, "%.*s", SPEC_NAME_MAX + 1, cs->name);
	if (cs->count > 1)
		buf_printf(&b, "-%llu", (unsigned long long)number);
	(void)buf_cstr(&b);
}

static int take_names(struct copies *cs, struct err *e)
{
	char last[COPY_NAME_BYTES];

	if (!cs->name)
		return 0;
	put_name(cs, cs->count, last);
	if (spec_name_ok(last))
		return 0;
	return err_set(e, -EINVAL,
	               "--name '%s': use 1 to %d letters, digits, '-', '_' and '.', starting with "
	               "a letter or digit%s",
	               cs->name, SPEC_NAME_MAX,
	               cs->count > 1 ? "; a number for each is put behind it" : "");
}

int copies_take_flags(struct copies *cs, const struct args *a, struct err *e)
{
	const char *count = args_value(a, COPIES_OPT_COUNT);
	int r = 0;

	cs->count = 1;
	cs->name = args_value(a, COPIES_OPT_NAME);
	if (count && units_parse_count(count, 1, COPIES_MAX, &cs->count, e) < 0)
		r = err_wrap(e, "--count");
	if (r == 0)
		r = take_names(cs, e);
	cs->spec.remove = args_has(a, COPIES_OPT_RM);
	return r == 0 ? take_limits(&cs->spec.limits, a, e) : r;
}

/* --- the image --- */

int copies_open_image(struct copies *cs, struct cli *c, struct err *e)
{
	return snapshot_image(cs->from, c->state_fd, &c->paths, &cs->image, e);
}

int copies_begin(struct copies *cs, const struct cli *c, const struct snapshot *from, struct err *e)
{
	int r = snapshot_check(from, &c->paths, e);

	if (r < 0)
		return r;
	cs->from = from;
	cs->spec = snapshot_spec(from);
	return 0;
}

void copies_drop_image(struct copies *cs)
{
	image_free(cs->image);
	cs->image = NULL;
}

/* --- starting --- */

struct starting {
	struct copies *cs;
	struct cli *cli;
	struct copy *all; /* count of them */
	uint64_t started; /* whose supervisor was started */
	uint64_t running; /* of those, the first ones: in whom the guest runs */
	struct spinner spinner;
};

int copies_check_network(const struct copies *cs, struct err *e)
{
	if (!cs->egress || !egress_wanted(cs->egress) || cs->spec.network)
		return 0;
	return err_set(e, -EINVAL,
	               "it was started without a network, and a copy cannot be given one: start "
	               "the first with --preset none");
}

int copies_prepare_network(const struct copies *cs, struct cli *c, const struct args *a,
                           struct err *e)
{
	const struct image_meta *meta = cs->image->meta;
	int r = egress_take_registries(cs->egress, c, a, NULL, meta->config.env, meta, e);

	if (r == 0)
		egress_say_workspace(cs->egress);
	return r < 0 ? r : egress_prepare(cs->egress, c, NULL, e);
}

int copies_plan(const struct copies *cs, const struct cli *c, struct egress_plan *plan,
                struct err *e)
{
	int r = cs->egress ? egress_fill(cs->egress, plan, e) : 0;

	/* a policy of its own names its secrets itself, and has no use for others */
	if (r == 0 && cs->parent && plan->policy_fd < 0)
		r = egress_plan_inherit(plan, c->state_fd, cs->parent, e);
	if (r == 0 && plan->policy_fd < 0)
		r = egress_plan_deny(plan, e);
	return r;
}

static int start_one(struct starting *st, struct err *e)
{
	_own_(egress_plan_fini) struct egress_plan plan;
	struct copies *cs = st->cs;
	struct copy *one = &st->all[st->started];
	struct started got;
	struct spec spec = cs->spec;
	int r;

	if (cs->name)
		put_name(cs, st->started + 1, one->name);
	spec.name = cs->name ? one->name : NULL;
	egress_plan_init(&plan);
	if (spec.network && copies_plan(cs, st->cli, &plan, e) < 0)
		return e->code;
	r = start_copy(&st->cli->paths, st->cli->state_fd, cs->image->disk_fd, &spec,
	               &cs->from->files, spec.network ? &plan : NULL, false, &got, e);
	if (r < 0)
		return r;
	(void)close(got.pidfd);
	memcpy(one->id, got.id, sizeof(one->id));
	r = client_new(got.control_fd, &one->client, e);
	if (r < 0)
		return r;
	st->started++;
	/* whoever is attached is told when it runs */
	wire_put_u8(&one->client->out, WIRE_ATTACH, MAIN_STREAM, CLIENT_EPOCH, 0);
	r = client_send(one->client, e);
	return r == -EPIPE ? 0 : r; /* its last words are there to be read */
}

/* One that ran and ended already has done what it was to. */
static int ended(struct span json, struct err *e)
{
	struct result res;
	int r = result_parse_json(json, &res, e);

	if (r < 0 || res.reason == RESULT_EXITED || res.reason == RESULT_SIGNALED)
		return r;
	return err_set(e, -ECHILD, "%s",
	               res.message[0] ? res.message : result_reason_name(res.reason));
}

/* Until its guest runs, or it ended. */
static int await_one(struct copy *one, struct err *e)
{
	struct wire_frame f;

	for (;;) {
		int r = client_wait(one->client, -1, &f, e);

		if (r < 0)
			return r;
		if (f.type == WIRE_EXEC_OK)
			return 0;
		if (f.type == WIRE_END)
			return ended(f.payload, e);
	}
}

/* A signal that ends berm waits until there is nothing to be left behind. */
static void block_ending(sigset_t *ret_before)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGQUIT);
	(void)sigprocmask(SIG_BLOCK, &set, ret_before);
}

static bool told_to_end(void)
{
	sigset_t set;

	return sigpending(&set) == 0 && (sigismember(&set, SIGINT) || sigismember(&set, SIGTERM) ||
	                                 sigismember(&set, SIGHUP) || sigismember(&set, SIGQUIT));
}

static void say(struct starting *st)
{
	char text[64];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	buf_printf(&b, "started %llu of %llu", (unsigned long long)st->running,
	           (unsigned long long)st->cs->count);
	spinner_say(&st->spinner, buf_span(&b));
}

static int start_all(struct starting *st, struct err *e)
{
	int r = 0;

	while (r == 0 && st->running < st->cs->count) {
		if (told_to_end())
			return err_set(e, -EINTR, "interrupted");
		if (st->started < st->cs->count &&
		    st->started - st->running < START_COPIES_AT_ONCE) {
			r = start_one(st, e);
			continue;
		}
		say(st);
		r = await_one(&st->all[st->running], e);
		st->running += r == 0;
	}
	return r;
}

static void end_all(struct starting *st)
{
	for (uint64_t i = 0; i < st->started; i++) {
		struct err ignored = { 0 };

		/* one that ended by itself has closed already */
		if (reach_stop(st->all[i].client, 0, &ignored) < 0)
			log_debug("end %s: %s", st->all[i].id, ignored.text);
	}
}

static int print_one(const struct cli *c, const struct copy *one, uint64_t index, struct err *e)
{
	char storage[LINE_BYTES];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	if (c->json) {
		buf_printf(&b, "%s{\"id\":\"%s\",\"name\":", index > 0 ? "," : "", one->id);
		buf_put_json_str(&b, span_str(one->name[0] ? one->name : one->id));
		buf_put_str(&b, "}");
	} else {
		buf_printf(&b, "%s\n", one->id);
	}
	return cli_out(b.at, b.len, e);
}

static int print_all(const struct starting *st, struct err *e)
{
	const struct cli *c = st->cli;
	int r = c->json ? cli_out("[", 1, e) : 0;

	for (uint64_t i = 0; r == 0 && i < st->started; i++)
		r = print_one(c, &st->all[i], i, e);
	return r == 0 && c->json ? cli_out("]\n", 2, e) : r;
}

static void starting_fini(struct starting *st)
{
	spinner_clear(&st->spinner);
	for (uint64_t i = 0; st->all && i < st->started; i++)
		client_free(st->all[i].client);
	free(st->all);
}

int copies_run(struct copies *cs, struct cli *c)
{
	__attribute__((cleanup(starting_fini))) struct starting st = { .cs = cs, .cli = c };
	struct err e = { 0 };
	sigset_t before;
	int r;

	cs->spec.detach = true;
	st.spinner.enabled = cli_redraws(c, c->err_tty);
	st.all = calloc(cs->count, sizeof(*st.all));
	if (!st.all) {
		(void)err_set(&e, -ENOMEM, "out of memory");
		return cli_fail(&e);
	}
	block_ending(&before);
	r = start_all(&st, &e);
	spinner_clear(&st.spinner);
	if (r < 0)
		end_all(&st);
	(void)sigprocmask(SIG_SETMASK, &before, NULL); /* what was pending ends us here */
	if (r == 0)
		r = print_all(&st, &e);
	return r < 0 ? cli_fail(&e) : 0;
}
