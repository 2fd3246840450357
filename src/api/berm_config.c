#include "api/berm_network.h"

#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* --- a command --- */

static int check_stream(const char *what, const struct berm_stream *s, struct err *e)
{
	if (s->kind < BERM_STREAM_NULL || s->kind > BERM_STREAM_FD)
		return err_set(e, -EINVAL, "%s: kind %d is none of BERM_STREAM_*", what, s->kind);
	if (s->kind == BERM_STREAM_FD && fcntl(s->fd, F_GETFD) < 0)
		return err_set(e, -EBADF, "%s: %d is no open file descriptor", what, s->fd);
	return 0;
}

/* Counts a list into *bytes, as the wire will: two bytes of length, then the text. */
static int check_list(const char *what, const char *const *list, size_t *bytes, struct err *e)
{
	for (size_t n = 0; list && list[n]; n++) {
		size_t len = strlen(list[n]);

		if (n >= SPEC_STRINGS_MAX)
			return err_set(e, -E2BIG, "%s: more than %d strings", what,
			               SPEC_STRINGS_MAX);
		if (len > SPEC_STRING_MAX)
			return err_set(e, -E2BIG, "%s: a string is longer than %d bytes", what,
			               SPEC_STRING_MAX);
		*bytes += 2 + len;
	}
	return 0;
}

static int check_variable(const char *v, struct err *e)
{
	if (!strchr(v, '=') || v[0] == '=')
		return err_set(e, -EINVAL, "env '%.64s': must be NAME=VALUE", v);
	return 0;
}

static int check_words(const struct berm_command *c, struct err *e)
{
	size_t bytes = 0;
	int r = 0;

	if (c->argv && (!c->argv[0] || !*c->argv[0]))
		return err_set(e, -EINVAL, "argv names no command");
	for (size_t i = 0; r == 0 && c->env && c->env[i]; i++)
		r = check_variable(c->env[i], e);
	if (r == 0)
		r = check_list("argv", c->argv, &bytes, e);
	if (r == 0)
		r = check_list("env", c->env, &bytes, e);
	if (r < 0)
		return r;
	if (bytes > SPEC_EXEC_MAX)
		return err_set(e, -E2BIG, "argv and env are %zu bytes long, and %d fit", bytes,
		               SPEC_EXEC_MAX);
	if (c->user && strlen(c->user) > WIRE_USER_MAX)
		return err_set(e, -EINVAL, "user: at most %d bytes", WIRE_USER_MAX);
	if (c->workdir && c->workdir[0] != '/')
		return err_set(e, -EINVAL, "workdir '%.64s': must begin with '/'", c->workdir);
	if (c->workdir && strlen(c->workdir) >= WIRE_PATH_MAX)
		return err_set(e, -EINVAL, "workdir: at most %d bytes", WIRE_PATH_MAX - 1);
	return 0;
}

int command_take(const struct berm_command *cmd, struct berm_command *ret, struct err *e)
{
	struct berm_command c = { 0 };
	int r = api_take_sized("struct berm_command", cmd, &c, sizeof(c), e);

	if (r == 0)
		r = check_words(&c, e);
	if (r == 0)
		r = check_stream("in", &c.in, e);
	if (r == 0)
		r = check_stream("out", &c.out, e);
	if (r == 0)
		r = check_stream("err", &c.err, e);
	if (r < 0)
		return r;
	if (c.flags & ~(uint32_t)BERM_TTY)
		return err_set(e, -EINVAL, "flags 0x%x: there is only BERM_TTY", c.flags);
	if (c.rows == 0)
		c.rows = API_ROWS;
	if (c.cols == 0)
		c.cols = API_COLS;
	*ret = c;
	return 0;
}

/* --- texts --- */

/* Replaces *at by a copy of text, which may be NULL. */
static int set_text(char **at, const char *text, struct err *e)
{
	char *copy = text ? strdup(text) : NULL;

	if (text && !copy)
		return err_set(e, -ENOMEM, "out of memory");
	free(*at);
	*at = copy;
	return 0;
}

void words_fini(struct words *w)
{
	strings_fini(&w->argv);
	strings_fini(&w->env);
	free(w->user);
	free(w->workdir);
	*w = (struct words){ 0 };
}

static int words_take(const struct berm_command *cmd, struct words *ret, struct err *e)
{
	struct words w = { .given = true };
	int r = command_take(cmd, &w.cmd, e);

	if (r < 0)
		return r;
	strings_init(&w.argv, SPEC_STRINGS_MAX);
	strings_init(&w.env, SPEC_STRINGS_MAX);
	w.has_argv = w.cmd.argv;
	w.has_env = w.cmd.env;
	r = strings_add_all(&w.argv, w.cmd.argv, e);
	if (r == 0)
		r = strings_add_all(&w.env, w.cmd.env, e);
	if (r == 0)
		r = set_text(&w.user, w.cmd.user, e);
	if (r == 0)
		r = set_text(&w.workdir, w.cmd.workdir, e);
	if (r < 0) {
		words_fini(&w);
		return r;
	}
	w.cmd.argv = w.cmd.env = NULL;
	w.cmd.user = w.cmd.workdir = NULL;
	*ret = w;
	return 0;
}

/* --- the config --- */

static int config_new(struct berm_config **ret, struct err *e)
{
	struct berm_config *c;
	struct spec spec;

	if (!ret)
		return err_set(e, -EINVAL, "ret is NULL");
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	spec_init(&spec);
	c->limits = spec.limits;
	c->engine = spec.engine;
	c->level = spec.minimum_level;
	strings_init(&c->env, SPEC_STRINGS_MAX);
	strings_init(&c->warm, SPEC_WARM_MAX);
	*ret = c;
	return 0;
}

int berm_config_new(struct berm_config **ret, struct berm_err *e)
{
	struct err why = { 0 };
	int r = config_new(ret, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

void berm_config_free(struct berm_config *c)
{
	if (!c)
		return;
	free(c->image);
	free(c->name);
	free(c->hostname);
	free(c->snapshot);
	strings_fini(&c->env);
	strings_fini(&c->warm);
	words_fini(&c->main);
	network_fini(&c->network);
	free(c);
}

/* spec_check() knows the same bounds, but speaks of the command line's flags. */
static int refuse(struct berm_err *e, const char *text)
{
	struct err why = { 0 };

	return api_tell(e, err_set(&why, -EINVAL, "%s", text), &why);
}

static int set_or_tell(char **at, const char *text, struct berm_err *e)
{
	struct err why = { 0 };
	int r = set_text(at, text, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

static int no_config(struct berm_err *e)
{
	return refuse(e, "the config is NULL");
}

int berm_config_set_image(struct berm_config *c, const char *ref, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (ref && (!*ref || strlen(ref) > SPEC_IMAGE_MAX))
		return refuse(e, "an image's name is 1 to 255 bytes long");
	return set_or_tell(&c->image, ref, e);
}

int berm_config_set_name(struct berm_config *c, const char *name, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (name && !spec_name_ok(name))
		return refuse(e, "a name is 1 to 63 letters, digits, '-', '_' and '.', the first a "
		                 "letter or digit");
	return set_or_tell(&c->name, name, e);
}

int berm_config_set_hostname(struct berm_config *c, const char *name, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (name && !spec_name_ok(name))
		return refuse(e, "a host name is 1 to 63 letters, digits, '-', '_' and '.', the "
		                 "first a letter or digit");
	return set_or_tell(&c->hostname, name, e);
}

int berm_config_set_snapshot(struct berm_config *c, const char *name, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (name && !spec_name_ok(name))
		return refuse(e, "a snapshot's name is 1 to 63 letters, digits, '-', '_' and '.', "
		                 "the first a letter or digit");
	return set_or_tell(&c->snapshot, name, e);
}

static bool whole_mib(uint64_t bytes, uint64_t min, uint64_t max)
{
	return bytes >= min && bytes <= max && bytes % SPEC_MEMORY_STEP == 0;
}

int berm_config_set_memory(struct berm_config *c, uint64_t bytes, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (!whole_mib(bytes, SPEC_MEMORY_MIN, SPEC_MEMORY_MAX))
		return refuse(e, "memory is a whole number of MiB from 64 MiB to 64 GiB");
	c->limits.memory_bytes = bytes;
	return 0;
}

int berm_config_set_disk(struct berm_config *c, uint64_t bytes, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (!whole_mib(bytes, SPEC_DISK_MIN, SPEC_DISK_MAX))
		return refuse(e, "disk is a whole number of MiB from 16 MiB to 1 TiB");
	c->limits.disk_bytes = bytes;
	return 0;
}

int berm_config_set_cpus(struct berm_config *c, unsigned count, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (count < 1 || count > SPEC_CPUS_MAX)
		return refuse(e, "CPUs are 1 to 32");
	c->limits.cpus = count;
	return 0;
}

int berm_config_set_pids(struct berm_config *c, unsigned count, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (count < 1 || count > SPEC_PIDS_MAX)
		return refuse(e, "processes are 1 to 65536");
	c->limits.pids = count;
	return 0;
}

int berm_config_set_time_limit(struct berm_config *c, uint64_t ms, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (ms > SPEC_TIME_MAX_MS)
		return refuse(e, "a limit of time is at most 366 days");
	c->limits.time_ms = ms;
	return 0;
}

int berm_config_set_idle_limit(struct berm_config *c, uint64_t ms, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (ms > SPEC_TIME_MAX_MS)
		return refuse(e, "a limit of time is at most 366 days");
	c->limits.idle_ms = ms;
	return 0;
}

int berm_config_set_output_limit(struct berm_config *c, uint64_t bytes, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (bytes > SPEC_OUTPUT_MAX)
		return refuse(e, "a limit of output is at most 1024 TiB");
	c->limits.output_bytes = bytes;
	return 0;
}

int berm_config_set_engine(struct berm_config *c, int engine, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (engine < BERM_ENGINE_AUTO || engine > BERM_ENGINE_KVM)
		return refuse(e, "the engine is one of BERM_ENGINE_*");
	c->engine = (uint8_t)engine;
	return 0;
}

int berm_config_set_minimum_level(struct berm_config *c, int level, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (level < BERM_LEVEL_PROCESS || level > BERM_LEVEL_MICROVM)
		return refuse(e, "the level is one of BERM_LEVEL_*");
	c->level = (uint8_t)level;
	return 0;
}

int berm_config_set_host_cpu(struct berm_config *c, int on, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	c->host_cpu = on != 0;
	return 0;
}

int berm_config_set_cold(struct berm_config *c, int on, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	if (on && c->warm.count)
		return refuse(e, "warm-up commands are for a template, and a cold start has none");
	c->cold = on != 0;
	return 0;
}

int berm_config_set_detached(struct berm_config *c, int on, struct berm_err *e)
{
	if (!c)
		return no_config(e);
	c->detached = on != 0;
	return 0;
}

int berm_config_add_env(struct berm_config *c, const char *variable, struct berm_err *e)
{
	struct err why = { 0 };
	int r;

	if (!c)
		return no_config(e);
	if (!variable)
		return refuse(e, "the variable is NULL");
	r = check_variable(variable, &why);
	if (r == 0)
		r = strings_set_env(&c->env, variable, strlen(variable), &why);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_config_add_warmup(struct berm_config *c, const char *command, struct berm_err *e)
{
	struct err why = { 0 };
	size_t len = command ? strnlen(command, SPEC_WARM_STRING_MAX + 1) : 0;
	int r;

	if (!c)
		return no_config(e);
	if (len == 0 || len > SPEC_WARM_STRING_MAX)
		return refuse(e, "a warm-up command is 1 to 4096 bytes long");
	if (c->cold)
		return refuse(e, "warm-up commands are for a template, and a cold start has none");
	r = strings_add(&c->warm, command, len, &why);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_config_set_command(struct berm_config *c, const struct berm_command *cmd,
                            struct berm_err *e)
{
	struct err why = { 0 };
	struct words w = { 0 };
	int r = 0;

	if (!c)
		return no_config(e);
	if (cmd)
		r = words_take(cmd, &w, &why);
	if (r < 0)
		return api_tell(e, r, &why);
	words_fini(&c->main);
	c->main = w;
	return 0;
}
