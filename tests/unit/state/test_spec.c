#include "state/spec.h"

#include "failalloc.h"
#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static const char *const argv_[] = { "python3", "-c", "print('h\xc3\xa9')", "", NULL };
static const char *const envp_[] = { "A=1", "PATH=/bin", "EMPTY=", NULL };
static const char *const warm_[] = { "python3 -c 0", "git --version", NULL };
static const char *const warm_env_[] = { "PATH=/bin", "OF=the image", NULL };
static char storage[SPEC_BYTES_MAX];

static struct spec full(void)
{
	struct spec s = {
		.name = "web-1",
		.image = "debian:12",
		.image_id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		.hostname = "h",
		.user = "me:staff",
		.cwd = "/work",
		.argv = argv_,
		.envp = envp_,
		.warm = warm_,
		.warm_env = warm_env_,
		.limits = { .cpus = 3,
		            .memory_bytes = UINT64_C(1) << 30,
		            .disk_bytes = UINT64_C(5) << 30,
		            .pids = 77,
		            .time_ms = 1001,
		            .idle_ms = 1002,
		            .output_bytes = 1003 },
		.engine = SPEC_ENGINE_QEMU,
		.minimum_level = LEVEL_MICROVM,
		.tty = true,
		.detach = true,
		.rows = 25,
		.cols = 300,
		.from = "warm",
		.epoch = 3,
		.main_pid = 41,
		.main_stdin_eof = true,
		.collect_bytes = 1004,
		.collect_ms = 1005,
	};

	return s;
}

static struct span put(const struct spec *s)
{
	struct buf out;

	buf_init(&out, storage, sizeof(storage));
	spec_put(&out, s);
	CHECK(buf_ok(&out));
	return buf_span(&out);
}

static void check_list(const char *const *a, const char *const *b)
{
	CHECK_EQ(!a, !b);
	for (size_t i = 0; a && (a[i] || b[i]); i++)
		CHECK_STR(a[i], b[i]);
}

static void check_same(const struct spec *a, const struct spec *b)
{
	CHECK_STR(a->name, b->name);
	CHECK_STR(a->image, b->image);
	CHECK_STR(a->image_id, b->image_id);
	CHECK_STR(a->hostname, b->hostname);
	CHECK_STR(a->user, b->user);
	CHECK_STR(a->cwd, b->cwd);
	check_list(a->argv, b->argv);
	check_list(a->envp, b->envp);
	check_list(a->warm, b->warm);
	check_list(a->warm_env, b->warm_env);
	CHECK_EQ(a->limits.cpus, b->limits.cpus);
	CHECK_EQ(a->limits.memory_bytes, b->limits.memory_bytes);
	CHECK_EQ(a->limits.disk_bytes, b->limits.disk_bytes);
	CHECK_EQ(a->limits.pids, b->limits.pids);
	CHECK_EQ(a->limits.time_ms, b->limits.time_ms);
	CHECK_EQ(a->limits.idle_ms, b->limits.idle_ms);
	CHECK_EQ(a->limits.output_bytes, b->limits.output_bytes);
	CHECK_EQ(a->engine, b->engine);
	CHECK_EQ(a->minimum_level, b->minimum_level);
	CHECK_EQ(a->tty, b->tty);
	CHECK_EQ(a->stdin_open, b->stdin_open);
	CHECK_EQ(a->detach, b->detach);
	CHECK_EQ(a->remove, b->remove);
	CHECK_EQ(a->cold, b->cold);
	CHECK_EQ(a->host_cpu, b->host_cpu);
	CHECK_EQ(a->foreground_tty, b->foreground_tty);
	CHECK_EQ(a->rows, b->rows);
	CHECK_EQ(a->cols, b->cols);
	CHECK_STR(a->from, b->from);
	CHECK_EQ(a->epoch, b->epoch);
	CHECK_EQ(a->main_pid, b->main_pid);
	CHECK_EQ(a->main_stdin_eof, b->main_stdin_eof);
	CHECK_EQ(a->collect_bytes, b->collect_bytes);
	CHECK_EQ(a->collect_ms, b->collect_ms);
	CHECK_EQ(a->rescue, b->rescue);
	CHECK_STR(a->workspace, b->workspace);
}

/* Parses a copy that ends at an unreadable page. */
static int parse(struct span in, struct spec *ret, void **ret_lists, struct err *e)
{
	return spec_parse((char *)guard_copy(in.at, in.len), in.len, ret, ret_lists, e);
}

static void check_round_trip(const struct spec *s)
{
	_own_free_ void *lists = NULL;
	struct err e = { 0 };
	struct spec got;

	CHECK_OK(parse(put(s), &got, &lists, &e), &e);
	check_same(s, &got);
}

TEST(every_field_makes_the_round_trip)
{
	struct spec s = full();

	check_round_trip(&s);
	s.tty = s.detach = false;
	s.cold = s.stdin_open = s.remove = s.foreground_tty = s.host_cpu = true;
	s.name = s.image_id = s.hostname = s.user = s.cwd = s.from = NULL;
	s.envp = s.warm = s.warm_env = NULL;
	s.epoch = s.main_pid = 0;
	s.main_stdin_eof = false;
	check_round_trip(&s);
	s.envp = s.warm = s.warm_env = &argv_[4]; /* empty lists are not missing ones */
	s.user = "";
	check_round_trip(&s);
}

TEST(no_prefix_and_no_longer_text_is_a_spec)
{
	struct spec s = full();
	struct span whole = put(&s);
	void *lists = &lists;
	struct spec got;

	memset(&got, 0xa5, sizeof(got));
	for (size_t len = 0; len < whole.len; len++) {
		uint8_t *copy = guard_copy(whole.at, len);

		CHECK_EQ(spec_parse((char *)copy, len, &got, &lists, NULL), -EBADMSG);
		guard_free(copy, len);
	}
	storage[whole.len] = 0;
	whole.len++;
	CHECK_EQ(parse(whole, &got, &lists, NULL), -EBADMSG);
	CHECK_EQ((uintptr_t)lists, (uintptr_t)&lists);
	CHECK_EQ(((uint8_t *)&got)[0], 0xa5);
}

static void check_refused(const char *tail, size_t len, const char *word)
{
	struct spec s = full();
	struct span in = put(&s);
	struct err e = { 0 };
	void *lists = NULL;
	struct spec got;

	memcpy(storage + in.len, tail, len);
	in.len += len;
	CHECK_EQ(parse(in, &got, &lists, &e), -EBADMSG);
	if (!strstr(e.text, word))
		test_fail(__FILE__, __LINE__, "'%s' lacks '%s'", e.text, word);
}

#define REFUSED(tail, word) check_refused(tail, sizeof(tail) - 1, word)

TEST(fields_are_strict)
{
	REFUSED("\x02\x02\0\0\0x\0", "field 2 twice");
	REFUSED("\x3f\x00\0\0\0", "unknown field 63");
	REFUSED("\x00\x00\0\0\0", "unknown field 0");
	REFUSED("\xff\x00\0\0\0", "unknown field 255");
	REFUSED("\x01\xff\xff\xff\xff", "cut short");
}

/* Replaces the value of the field with that tag in a good spec. */
static void check_value(uint8_t tag, const char *value, uint32_t len)
{
	struct spec s = full();
	struct span in = put(&s);
	static char made[SPEC_BYTES_MAX];
	struct err e = { 0 };
	void *lists = NULL;
	struct spec got;
	struct span head;
	struct buf out;

	buf_init(&out, made, sizeof(made));
	CHECK(take_span(&in, 6, &head));
	buf_put_span(&out, head);
	while (in.len > 0) {
		struct span old;
		uint32_t old_len;
		uint8_t t;

		CHECK(take_u8(&in, &t) && take_le32(&in, &old_len) &&
		      take_span(&in, old_len, &old));
		buf_put_u8(&out, t);
		buf_put_le32(&out, t == tag ? len : old_len);
		if (t == tag)
			buf_put(&out, value, len);
		else
			buf_put_span(&out, old);
	}
	CHECK(buf_ok(&out));
	CHECK_EQ(parse(buf_span(&out), &got, &lists, &e), -EBADMSG);
	CHECK(strstr(e.text, "malformed"));
}

TEST(values_are_strict)
{
	check_value(2, "", 0);          /* no NUL */
	check_value(2, "ab", 2);        /* none either */
	check_value(2, "a\0b", 4);      /* one inside */
	check_value(7, "\1\0\0", 3);    /* half a count */
	check_value(7, "\2\0\0\0a", 6); /* fewer than counted */
	check_value(7, "\1\0\0\0a\0b", 8);
	check_value(7, "\xff\xff\xff\xff", 4);
	check_value(9, "\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 21); /* 17 warm-ups */
	check_value(10, "\1\0\0", 3);
	check_value(11, "\1\0\0\0", 4);
	check_value(17, "", 0);
	check_value(19, "\2", 1); /* no bool */
	check_value(25, "\0\0\0", 3);
}

TEST(another_version_is_said)
{
	struct spec s = full();
	struct span in = put(&s);
	struct err e = { 0 };
	void *lists = NULL;
	struct spec got;

	storage[4] = 2;
	CHECK_EQ(parse(in, &got, &lists, &e), -EBADMSG);
	CHECK(strstr(e.text, "version 2"));
	storage[0] = 'x';
	CHECK_EQ(parse(in, &got, &lists, &e), -EBADMSG);
}

TEST(missing_fields_are_said)
{
	struct spec s = full();
	struct err e = { 0 };
	void *lists = NULL;
	struct spec got;

	s.argv = NULL;
	CHECK_EQ(parse(put(&s), &got, &lists, &e), -EBADMSG);
	CHECK_STR(e.text, "spec: field 7 is missing");
}

TEST(out_of_memory_is_clean)
{
	struct spec s = full();
	struct span in = put(&s);

	FAILALLOC_EACH()
	{
		struct err e = { 0 };
		void *lists = NULL;
		struct spec got;
		int r = spec_parse((char *)(uintptr_t)in.at, in.len, &got, &lists, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!lists);
		} else {
			CHECK_OK(r, &e);
			free(lists);
		}
	}
}

TEST(too_much_does_not_fit)
{
	static const char *many[SPEC_STRINGS_MAX + 2];
	struct spec s = full();
	struct err e = { 0 };
	struct buf out;

	for (size_t i = 0; i <= SPEC_STRINGS_MAX; i++)
		many[i] = "x";
	s.argv = many;
	buf_init(&out, storage, sizeof(storage));
	spec_put(&out, &s);
	CHECK(!buf_ok(&out));
	CHECK_EQ(spec_check(&s, &e), -E2BIG);
	many[SPEC_STRINGS_MAX] = NULL;
	CHECK_OK(spec_check(&s, &e), &e);
	check_round_trip(&s);
}

/* What spec_check accepts at its bounds, the storage holds. */
TEST(the_largest_accepted_fits)
{
	static char arg[SPEC_STRING_MAX + 1];
	static char last[SPEC_EXEC_MAX], own[SPEC_STRING_MAX + 1];
	static char cmd[SPEC_WARM_STRING_MAX + 2];
	const char *argv[] = { arg, arg, arg, last, NULL };
	const char *env[] = { arg, arg, arg, own, NULL };
	const char *warm[SPEC_WARM_MAX + 2] = { NULL };
	struct spec s = full();
	struct err e = { 0 };
	size_t left = SPEC_EXEC_MAX - 3 * (SPEC_STRING_MAX + 2) - 2;
	size_t own_left = left - SPEC_WARM_STRING_MAX - 64;

	memset(arg, 'a', SPEC_STRING_MAX);
	memset(last, 'b', left);
	memset(own, 'd', own_left);
	memset(cmd, 'c', SPEC_WARM_STRING_MAX);
	for (size_t i = 0; i < SPEC_WARM_MAX; i++)
		warm[i] = cmd;
	s.argv = argv;
	s.envp = NULL;
	s.warm = warm;
	s.warm_env = env;
	CHECK_OK(spec_check(&s, &e), &e);
	check_round_trip(&s);
	own[own_left] = 'd';
	CHECK_EQ(spec_check(&s, &e), -E2BIG);
	own[own_left] = '\0';
	last[left] = 'b';
	CHECK_EQ(spec_check(&s, &e), -E2BIG);
	last[left] = '\0';
	warm[SPEC_WARM_MAX] = "one more";
	CHECK_EQ(spec_check(&s, &e), -EINVAL);
	warm[SPEC_WARM_MAX] = NULL;
	cmd[SPEC_WARM_STRING_MAX] = 'c';
	CHECK_EQ(spec_check(&s, &e), -EINVAL);
}

TEST(a_copy_is_of_something)
{
	struct spec s = full();
	struct err e = { 0 };

	CHECK(spec_is_copy(&s));
	CHECK_OK(spec_check(&s, &e), &e);
	s.from = NULL;
	CHECK_EQ(spec_check(&s, &e), -EINVAL);
	s.from = "warm";
	s.engine = SPEC_ENGINE_AUTO;
	CHECK_EQ(spec_check(&s, &e), -EINVAL);
	s.engine = SPEC_ENGINE_KVM;
	s.epoch = UINT32_MAX; /* there is none after it */
	CHECK_EQ(spec_check(&s, &e), -EINVAL);
	s.epoch = 1;
	s.cold = true;
	CHECK_EQ(spec_check(&s, &e), -EINVAL);
	s.epoch = 0;
	CHECK_OK(spec_check(&s, &e), &e);
}

TEST(a_software_cpu_is_not_the_hosts)
{
	struct err e = { 0 };
	struct spec s = full();

	s.host_cpu = true;
	s.engine = SPEC_ENGINE_KVM;
	CHECK_OK(spec_check(&s, &e), &e);
	s.engine = SPEC_ENGINE_QEMU;
	CHECK_EQ(spec_check(&s, &e), -EINVAL);
	CHECK(strstr(e.text, "--host-cpu") != NULL);
}

TEST(the_defaults_are_good)
{
	struct err e = { 0 };
	struct spec s;

	spec_init(&s);
	s.image = "default";
	s.argv = argv_;
	CHECK_OK(spec_check(&s, &e), &e);
	CHECK_EQ(s.limits.cpus, 1);
	CHECK_EQ(s.limits.memory_bytes, 512 << 20);
	CHECK_EQ(s.limits.disk_bytes, 4LL << 30);
	CHECK_EQ(s.limits.pids, 512);
	CHECK_EQ(s.minimum_level, LEVEL_EMULATED);
}

static void bad(struct spec s, const char *word)
{
	struct err e = { 0 };

	CHECK(spec_check(&s, &e) < 0);
	if (!strstr(e.text, word))
		test_fail(__FILE__, __LINE__, "'%s' lacks '%s'", e.text, word);
}

#define BAD(word, ...)                                                                             \
	do {                                                                                       \
		struct spec s = full();                                                            \
		__VA_ARGS__;                                                                       \
		bad(s, word);                                                                      \
	} while (0)

TEST(each_bound_names_its_flag)
{
	static const char *const no_name[] = { "=x", NULL };
	static const char *const no_value[] = { "x", NULL };
	static const char *const no_words[] = { "", NULL };
	static const char *const none[] = { NULL };

	BAD("--cpus 0: must be from 1 to 32", s.limits.cpus = 0);
	BAD("--cpus 10000", s.limits.cpus = 10000);
	BAD("--memory 1 MiB: must be from 64 MiB to 64 GiB", s.limits.memory_bytes = 1 << 20);
	BAD("--memory", s.limits.memory_bytes = SPEC_MEMORY_MAX + SPEC_MEMORY_STEP);
	BAD("whole number of MiB", s.limits.memory_bytes = SPEC_MEMORY_MIN + 1);
	BAD("--disk", s.limits.disk_bytes = 1 << 20);
	BAD("--disk", s.limits.disk_bytes = SPEC_DISK_MAX * 2);
	BAD("--disk", s.limits.disk_bytes = UINT64_MAX);
	BAD("--pids 0", s.limits.pids = 0);
	BAD("--pids", s.limits.pids = SPEC_PIDS_MAX + 1);
	BAD("--time", s.limits.time_ms = SPEC_TIME_MAX_MS + 1);
	BAD("--idle", s.limits.idle_ms = UINT64_MAX);
	BAD("--output", s.limits.output_bytes = UINT64_MAX);
	BAD("--name", s.name = "");
	BAD("--name", s.name = "-x");
	BAD("--hostname", s.hostname = "a b");
	BAD("--user", char u[200]; memset(u, 'u', 199); u[199] = 0; s.user = u);
	BAD("--workdir", s.cwd = "rel");
	BAD("--env 'x'", s.envp = no_value);
	BAD("--env", s.envp = no_name);
	BAD("--engine", s.engine = 9);
	BAD("--minimum", s.minimum_level = 0);
	BAD("--minimum", s.minimum_level = 4);
	BAD("image", s.image = NULL);
	BAD("image id", s.image_id = "abc");
	BAD("no command", s.argv = NULL);
	BAD("no command for it", s.argv = none);
	BAD("empty", s.argv = no_words);
}

/* An embedding program may want a guest and nothing in it yet. */
TEST(no_main_command_is_an_empty_list)
{
	static const char *const none[] = { NULL };
	struct spec s = full();
	struct err e = { 0 };

	s.argv = none;
	s.tty = s.stdin_open = false;
	CHECK_OK(spec_check(&s, &e), &e);
	s.stdin_open = true;
	bad(s, "no command for it");
}

static struct spec session(void)
{
	struct spec s = full();

	s.epoch = 0;
	s.from = NULL;
	s.workspace = "/workspace";
	return s;
}

static struct spec rescue(void)
{
	static const char *const none[] = { NULL };
	struct spec s = session();

	s.rescue = s.cold = true;
	s.argv = none;
	s.tty = s.stdin_open = false;
	return s;
}

TEST(s18_a_workspace_has_a_place)
{
	static const char *const hiding[] = { "/usr/bin", "/etc", "/proc/1", "/home" };
	static const char *const wrong[] = { "", "/", "work", "/a/../b", "/a/", "//a" };
	struct spec s = session();
	struct err e = { 0 };

	CHECK_OK(spec_check(&s, &e), &e);
	for (size_t i = 0; i < sizeof(hiding) / sizeof(hiding[0]); i++) {
		s.workspace = hiding[i];
		bad(s, "hide what the guest needs");
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		s.workspace = wrong[i];
		bad(s, "absolute path");
	}
	s = full();
	s.workspace = "/workspace";
	bad(s, "cannot be a copy");
}

TEST(a_rescue_runs_nothing)
{
	struct spec s = rescue();
	struct err e = { 0 };

	CHECK_OK(spec_check(&s, &e), &e);
	s.network = true;
	bad(s, "runs nothing");
	s = rescue();
	s.workspace = NULL;
	bad(s, "runs nothing");
	s = rescue();
	s.cold = false;
	bad(s, "runs nothing");
	s = session();
	s.rescue = s.cold = true;
	bad(s, "runs nothing");
}

TEST(names_have_a_grammar)
{
	char text[SPEC_NAME_MAX + 2] = "";

	CHECK(spec_name_ok("a"));
	CHECK(spec_name_ok("0.x_Y-z"));
	memset(text, 'n', SPEC_NAME_MAX);
	CHECK(spec_name_ok(text));
	text[SPEC_NAME_MAX] = 'n';
	CHECK(!spec_name_ok(text));
	CHECK(!spec_name_ok(""));
	CHECK(!spec_name_ok("."));
	CHECK(!spec_name_ok("_a"));
	CHECK(!spec_name_ok("a/b"));
	CHECK(!spec_name_ok("a\n"));
	CHECK(!spec_name_ok("\xc3\xa9"));
	CHECK(spec_id_ok("0123456789ab"));
	CHECK(!spec_id_ok("0123456789a"));
	CHECK(!spec_id_ok("0123456789abc"));
	CHECK(!spec_id_ok("0123456789aB"));
}

TEST(levels_have_names)
{
	struct err e = { 0 };
	uint8_t level = 0;

	for (uint8_t i = LEVEL_PROCESS; i <= LEVEL_MICROVM; i++) {
		CHECK_OK(level_parse(level_name(i), &level, &e), &e);
		CHECK_EQ(level, i);
	}
	CHECK_STR(level_name(0), "none");
	CHECK_STR(level_name(200), "none");
	CHECK_EQ(level_parse("none", &level, &e), -EINVAL);
	CHECK_EQ(level_parse("", &level, &e), -EINVAL);
	CHECK_EQ(level, LEVEL_MICROVM);
	CHECK(strstr(e.text, "microvm, emulated or process"));
}

TEST_MAIN()
