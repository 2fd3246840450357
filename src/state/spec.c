#include "state/spec.h"

#include "base/units.h"
#include "wire/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

_Static_assert((int)SPEC_STRINGS_MAX == (int)WIRE_ARGS_MAX, "what is accepted must be sendable");
_Static_assert(SPEC_EXEC_MAX + WIRE_USER_MAX + WIRE_PATH_MAX + 1024 <= WIRE_EXEC_MAX,
               "what is accepted must be sendable");
_Static_assert(2 * SPEC_EXEC_MAX + SPEC_WARM_MAX * (SPEC_WARM_STRING_MAX + 1) + (16 << 10) <=
                       SPEC_BYTES_MAX,
               "what is accepted must be storable");

static const char *const level_names[] = {
	[LEVEL_PROCESS] = "process",
	[LEVEL_EMULATED] = "emulated",
	[LEVEL_MICROVM] = "microvm",
};

enum { LEVEL_COUNT = sizeof(level_names) / sizeof(level_names[0]) };

const char *level_name(uint8_t level)
{
	return level > 0 && level < LEVEL_COUNT ? level_names[level] : "none";
}

int level_parse(const char *text, uint8_t *ret, struct err *e)
{
	for (unsigned i = LEVEL_PROCESS; i < LEVEL_COUNT; i++) {
		if (strcmp(text, level_names[i]) != 0)
			continue;
		*ret = (uint8_t)i;
		return 0;
	}
	return err_set(
		e, -EINVAL,
		"'%s' is no isolation level: use microvm, emulated or process (strongest first)",
		text);
}

void spec_init(struct spec *s)
{
	*s = (struct spec){
		.limits = {
			.cpus = 1,
			.memory_bytes = UINT64_C(512) << 20,
			.disk_bytes = UINT64_C(4) << 30,
			.pids = 512,
		},
		.minimum_level = LEVEL_EMULATED,
		.collect_bytes = SPEC_COLLECT,
		.collect_ms = SPEC_COLLECT_MS,
	};
}

static bool alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Letters, digits, '-', '_' and '.', the first a letter or digit; 1 to len_max of them. */
static bool word_ok(const char *text, size_t len_max)
{
	size_t len = strnlen(text, len_max + 1);

	if (len == 0 || len > len_max || !alnum(text[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (!alnum(text[i]) && text[i] != '-' && text[i] != '_' && text[i] != '.')
			return false;
	return true;
}

bool spec_name_ok(const char *name)
{
	return word_ok(name, SPEC_NAME_MAX);
}

static bool hex_ok(const char *text, size_t len)
{
	return strnlen(text, len + 1) == len && strspn(text, "0123456789abcdef") == len;
}

bool spec_id_ok(const char *id)
{
	return hex_ok(id, SPEC_ID_LEN);
}

/* Whole MiB from min to max. */
static int check_size(const char *flag, uint64_t got, uint64_t min, uint64_t max, struct err *e)
{
	char text[3][32];
	struct buf b[3];
	const uint64_t shown[3] = { got, min, max };

	if (got >= min && got <= max && got % SPEC_MEMORY_STEP == 0)
		return 0;
	for (size_t i = 0; i < 3; i++) {
		buf_init(&b[i], text[i], sizeof(text[i]));
		units_put_size(&b[i], shown[i]);
	}
	if (got >= min && got <= max)
		return err_set(e, -EINVAL, "%s of %" PRIu64 " bytes: must be a whole number of MiB",
		               flag, got);
	return err_set(e, -EINVAL, "%s %s: must be from %s to %s", flag, buf_cstr(&b[0]),
	               buf_cstr(&b[1]), buf_cstr(&b[2]));
}

static int check_limits(const struct spec_limits *l, struct err *e)
{
	int r;

	if (l->cpus < 1 || l->cpus > SPEC_CPUS_MAX)
		return err_set(e, -EINVAL, "--cpus %" PRIu32 ": must be from 1 to %d", l->cpus,
		               SPEC_CPUS_MAX);
	r = check_size("--memory", l->memory_bytes, SPEC_MEMORY_MIN, SPEC_MEMORY_MAX, e);
	if (r == 0)
		r = check_size("--disk", l->disk_bytes, SPEC_DISK_MIN, SPEC_DISK_MAX, e);
	if (r < 0)
		return r;
	if (l->pids < 1 || l->pids > SPEC_PIDS_MAX)
		return err_set(e, -EINVAL, "--pids %" PRIu64 ": must be from 1 to %" PRIu64,
		               l->pids, SPEC_PIDS_MAX);
	if (l->time_ms > SPEC_TIME_MAX_MS)
		return err_set(e, -EINVAL, "--time: at most 366 days (0 is no limit)");
	if (l->idle_ms > SPEC_TIME_MAX_MS)
		return err_set(e, -EINVAL, "--idle: at most 366 days (0 is no limit)");
	if (l->output_bytes > SPEC_OUTPUT_MAX)
		return err_set(e, -EINVAL, "--output: at most 1024 TiB (0 is no limit)");
	return 0;
}

static int check_names(const struct spec *s, struct err *e)
{
	if (s->name && !spec_name_ok(s->name))
		return err_set(
			e, -EINVAL,
			"--name '%s': use 1 to %d letters, digits, '-', '_' and '.', starting "
			"with a letter or digit",
			s->name, SPEC_NAME_MAX);
	if (!s->image || !*s->image || strlen(s->image) > SPEC_IMAGE_MAX)
		return err_set(e, -EINVAL, "the image's name must be 1 to %d bytes long",
		               SPEC_IMAGE_MAX);
	if (s->image_id && !hex_ok(s->image_id, 64))
		return err_set(e, -EINVAL, "'%s' is no image id: 64 hex digits", s->image_id);
	if (s->hostname && !word_ok(s->hostname, WIRE_HOSTNAME_MAX))
		return err_set(e, -EINVAL,
		               "--hostname '%s': use 1 to %d letters, digits, '-', '_' and '.', "
		               "starting with a letter or digit",
		               s->hostname, WIRE_HOSTNAME_MAX);
	if (s->user && strlen(s->user) > WIRE_USER_MAX)
		return err_set(e, -EINVAL, "--user: at most %d bytes", WIRE_USER_MAX);
	if (s->cwd && *s->cwd && s->cwd[0] != '/')
		return err_set(e, -EINVAL,
		               "--workdir '%s': must start with '/' (a path in the guest)", s->cwd);
	if (s->cwd && strlen(s->cwd) >= WIRE_PATH_MAX)
		return err_set(e, -EINVAL, "--workdir: at most %d bytes", WIRE_PATH_MAX - 1);
	return 0;
}

/* Counts a list into *bytes, as the wire will: two bytes of length, then the text. */
static int check_list(const char *what, const char *const *list, size_t *bytes, struct err *e)
{
	size_t n = 0;

	for (; list && list[n]; n++) {
		size_t len = strlen(list[n]);

		if (n >= SPEC_STRINGS_MAX)
			return err_set(e, -E2BIG, "%s: more than %d strings", what,
			               SPEC_STRINGS_MAX);
		if (len > SPEC_STRING_MAX)
			return err_set(e, -E2BIG,
			               "%s: one string is longer than %d bytes; pass large input "
			               "through standard input or a file",
			               what, SPEC_STRING_MAX);
		*bytes += 2 + len;
	}
	return 0;
}

static int check_command(const struct spec *s, struct err *e)
{
	size_t bytes = 0;
	int r;

	if (!s->argv)
		return err_set(e, -EINVAL,
		               "no command was given, and the image has none of its own");
	if (!s->argv[0] && (s->tty || s->stdin_open))
		return err_set(e, -EINVAL, "a terminal or standard input, and no command for it");
	if (s->argv[0] && !*s->argv[0])
		return err_set(e, -EINVAL, "the command's name is empty");
	r = check_list("the command", s->argv, &bytes, e);
	if (r == 0)
		r = check_list("the environment", s->envp, &bytes, e);
	if (r < 0)
		return r;
	if (bytes > SPEC_EXEC_MAX)
		return err_set(
			e, -E2BIG,
			"the command and its environment are %zu bytes long, and %d fit; pass "
			"large input through standard input or a file",
			bytes, SPEC_EXEC_MAX);
	for (size_t i = 0; s->envp && s->envp[i]; i++)
		if (!strchr(s->envp[i], '=') || s->envp[i][0] == '=')
			return err_set(e, -EINVAL, "--env '%.64s': must be NAME=VALUE", s->envp[i]);
	return 0;
}

static int check_warm(const struct spec *s, struct err *e)
{
	size_t bytes = SPEC_WARM_STRING_MAX + 64; /* a shell's words before it */
	int r = check_list("the image's environment", s->warm_env, &bytes, e);

	if (r < 0)
		return r;
	if (bytes > SPEC_EXEC_MAX)
		return err_set(e, -E2BIG,
		               "the image's environment is too long for a warm-up command; a cold "
		               "start has none");
	for (size_t i = 0; s->warm && s->warm[i]; i++) {
		size_t len = strnlen(s->warm[i], SPEC_WARM_STRING_MAX + 1);

		if (i >= SPEC_WARM_MAX)
			return err_set(e, -EINVAL, "--warm: at most %d commands", SPEC_WARM_MAX);
		if (len == 0 || len > SPEC_WARM_STRING_MAX)
			return err_set(e, -EINVAL, "--warm: a command of 1 to %d bytes",
			               SPEC_WARM_STRING_MAX);
	}
	return 0;
}

static int check_workspace(const struct spec *s, struct err *e)
{
	int r = s->workspace ? wire_parse_mount_point(span_str(s->workspace)) : 0;

	if (r == -EPERM)
		return err_set(
			e, -EINVAL,
			"a workspace at '%s' would hide what the guest needs: choose another "
			"place, as /workspace",
			s->workspace);
	if (r < 0)
		return err_set(e, -EINVAL,
		               "a workspace at '%s': must be an absolute path of at most %d bytes, "
		               "without '.', '..' or '//'",
		               s->workspace, WIRE_PATH_MAX - 1);
	if (s->workspace && spec_is_copy(s))
		return err_set(e, -EINVAL, "a session cannot be a copy of another guest");
	if (s->rescue && (!s->workspace || !s->cold || s->network || s->argv[0]))
		return err_set(e, -EINVAL, "a rescue boots for a workspace, and runs nothing");
	return 0;
}

int spec_check(const struct spec *s, struct err *e)
{
	int r = check_names(s, e);

	if (r == 0)
		r = check_limits(&s->limits, e);
	if (r == 0)
		r = check_command(s, e);
	if (r == 0)
		r = check_warm(s, e);
	if (r == 0)
		r = check_workspace(s, e);
	if (r < 0)
		return r;
	if (s->engine > SPEC_ENGINE_KVM)
		return err_set(e, -EINVAL, "--engine: must be auto, kvm or qemu");
	if (spec_is_copy(s) &&
	    (!s->from || s->cold || s->engine == SPEC_ENGINE_AUTO || s->epoch == UINT32_MAX))
		return err_set(e, -EINVAL, "a copy of a guest is of something, and of one engine");
	if (s->host_cpu && s->engine == SPEC_ENGINE_QEMU)
		return err_set(e, -EINVAL, "--host-cpu: a software CPU is its own; leave it away");
	if (s->minimum_level < LEVEL_PROCESS || s->minimum_level > LEVEL_MICROVM)
		return err_set(e, -EINVAL, "--minimum: must be microvm, emulated or process");
	return 0;
}
