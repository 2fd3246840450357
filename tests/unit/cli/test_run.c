#include "test.h"

#include "base/fdio.h"
#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char *const host_env[] = { "HOME=/root", "TOKEN=a=b", "EMPTY=", NULL };

static const struct verb verb = {
	.name = "run", .opts = run_opts, .words_max = CLI_WORDS_ANY, .stop_at_word = true
};

static const char *const *wanted_env = host_env;

struct line {
	struct cli c;
	struct run run;
	struct args *args;
	struct err e;
	char storage[600];
	char *argv[60];
};

/* Runs the parser and the flags over words apart by blanks. */
static int take(struct line *l, const char *words)
{
	char *at = l->storage;
	int argc = 0;
	int r;

	*l = (struct line){ .c = { .envp = wanted_env, .state_fd = -1 } };
	(void)snprintf(l->storage, sizeof(l->storage), "%s", words);
	while (*at) {
		l->argv[argc++] = at;
		at = strchrnul(at, ' ');
		if (*at)
			*at++ = '\0';
	}
	run_init(&l->run);
	r = args_parse(&verb, argc, l->argv, &l->args, &l->e);
	if (r == 0) {
		l->c.json = args_has(l->args, OPT_JSON);
		r = run_take_flags(&l->run, &l->c, l->args, &l->e);
	}
	return r == 0 ? spec_check(&l->run.spec, &l->e) : r;
}

static void done(struct line *l)
{
	run_fini(&l->run);
	args_free(l->args);
}

static void bad(const char *words, const char *says)
{
	struct line l;

	CHECK_EQ(take(&l, words), -EINVAL);
	if (!strstr(l.e.text, says))
		CHECK_STR(l.e.text, says);
	done(&l);
}

TEST(the_first_word_is_the_image_unless_dashes_come_first)
{
	struct line l;

	CHECK_OK(take(&l, "-- python3 -c x"), &l.e);
	CHECK(!l.run.image);
	CHECK_STR(l.run.words[0], "python3");
	CHECK_EQ(l.run.word_count, 3);
	done(&l);
	CHECK_OK(take(&l, "debian:12 ls -l"), &l.e);
	CHECK_STR(l.run.image, "debian:12");
	CHECK_EQ(l.run.word_count, 2);
	done(&l);
	CHECK_OK(take(&l, "debian:12 -- -odd"), &l.e);
	CHECK_STR(l.run.words[0], "-odd");
	done(&l);
	CHECK_OK(take(&l, ""), &l.e);
	CHECK(!l.run.image);
	CHECK_EQ(l.run.word_count, 0);
	CHECK_STR(l.run.spec.image, "default");
	done(&l);
	bad("debian:12 --cpus 2", "flags go before the image");
}

/* The engine that those words and that variable come to, or the error. */
static int engine_of(const char *words, const char *variable)
{
	const char *const env[] = { "HOME=/root", variable, NULL };
	struct line l;
	int r;

	wanted_env = env;
	r = take(&l, words);
	wanted_env = host_env;
	if (r == 0)
		r = l.run.spec.engine;
	else
		CHECK(strstr(l.e.text, "BERM_ENGINE") != NULL);
	done(&l);
	return r;
}

TEST(the_engine_is_the_flags_and_else_the_environments)
{
	CHECK_EQ(engine_of("-- x", NULL), SPEC_ENGINE_AUTO);
	CHECK_EQ(engine_of("-- x", "BERM_ENGINE="), SPEC_ENGINE_AUTO);
	CHECK_EQ(engine_of("-- x", "BERM_ENGINE=kvm"), SPEC_ENGINE_KVM);
	CHECK_EQ(engine_of("-- x", "BERM_ENGINE=qemu"), SPEC_ENGINE_QEMU);
	CHECK_EQ(engine_of("--engine kvm -- x", "BERM_ENGINE=qemu"), SPEC_ENGINE_KVM);
	CHECK_EQ(engine_of("--engine auto -- x", "BERM_ENGINE=qemu"), SPEC_ENGINE_AUTO);
	CHECK_EQ(engine_of("-- x", "BERM_ENGINE=magic"), -EINVAL);
}

TEST(limits_are_taken_and_bounded)
{
	struct line l;

	CHECK_OK(take(&l,
	              "--cpus 4 -m 1GiB --disk 2GiB --pids 9 --time 5min --idle 30s --output 1MiB "
	              "-- x"),
	         &l.e);
	CHECK_EQ(l.run.spec.limits.cpus, 4);
	CHECK_EQ(l.run.spec.limits.memory_bytes, 1LL << 30);
	CHECK_EQ(l.run.spec.limits.disk_bytes, 2LL << 30);
	CHECK_EQ(l.run.spec.limits.pids, 9);
	CHECK_EQ(l.run.spec.limits.time_ms, 300000);
	CHECK_EQ(l.run.spec.limits.idle_ms, 30000);
	CHECK_EQ(l.run.spec.limits.output_bytes, 1 << 20);
	done(&l);
	bad("--cpus 0 -- x", "--cpus");
	bad("--cpus 10000 -- x", "--cpus");
	bad("--cpus 1.5 -- x", "--cpus");
	bad("-m 1KiB -- x", "memory");
	bad("-m much -- x", "--memory");
	bad("--time 0 -- x", "--time");
	bad("--idle 0s -- x", "--idle");
	bad("--output 0 -- x", "--output");
	bad("--minimum strong -- x", "is none of");
	bad("--name -x- -- x", "name");
	bad("-w relative -- x", "must start with '/'");
}

TEST(flags_that_fight_are_refused)
{
	bad("-t --no-tty -- x", "exclude");
	bad("-t --json -- x", "--json");
	bad("-i --no-stdin -- x", "exclude");
	bad("-d --result f -- x", "--result");
	bad("--cold --warm x -- x", "--cold");
}

TEST(terminals_are_for_people)
{
	struct line l;

	CHECK_OK(take(&l, "-- x"), &l.e);
	CHECK(!l.run.spec.tty);
	CHECK(l.run.spec.stdin_open);
	done(&l);
	CHECK_OK(take(&l, "-t -- x"), &l.e);
	CHECK(l.run.spec.tty);
	done(&l);
	CHECK_OK(take(&l, "-d -- x"), &l.e);
	CHECK(!l.run.spec.stdin_open);
	CHECK(l.run.spec.detach);
	done(&l);
	CHECK_OK(take(&l, "-dit -- x"), &l.e);
	CHECK(l.run.spec.stdin_open);
	CHECK(l.run.spec.tty);
	done(&l);
	CHECK_OK(take(&l, "--no-stdin -- x"), &l.e);
	CHECK(!l.run.spec.stdin_open);
	done(&l);
}

TEST(only_named_variables_leave_the_host)
{
	struct line l;

	CHECK_OK(take(&l, "-e A=1 -e TOKEN -e UNSET -e A=2 -e EMPTY -e B= -- x"), &l.e);
	CHECK_EQ(l.run.env.count, 4);
	CHECK_STR(l.run.env.items[0], "A=2");
	CHECK_STR(l.run.env.items[1], "TOKEN=a=b");
	CHECK_STR(l.run.env.items[2], "EMPTY=");
	CHECK_STR(l.run.env.items[3], "B=");
	CHECK(!l.run.env.items[4]);
	done(&l);
	bad("-e =x -- x", "needs a name");
}

TEST(a_name_that_begins_another_is_another)
{
	struct strings env;
	struct err e = { 0 };

	strings_init(&env, 10);
	CHECK_OK(run_env(&env, host_env, "AB=1", 4, &e), &e);
	CHECK_OK(run_env(&env, host_env, "A=2", 3, &e), &e);
	CHECK_EQ(env.count, 2);
	CHECK_OK(run_env(&env, host_env, "HOM", 3, &e), &e);
	CHECK_EQ(env.count, 2);
	strings_fini(&env);
}

TEST(an_env_file_is_lines)
{
	static const char text[] = "# a comment\n\nA=1\r\nHOME\nB=x # kept\nlast=1";
	struct strings env;
	struct err e = { 0 };
	char path[200];
	int dir = -1;

	strings_init(&env, 10);
	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &dir, &e), &e);
	CHECK_OK(fd_replace_file(dir, "env", text, sizeof(text) - 1, 0600, &e), &e);
	(void)snprintf(path, sizeof(path), "%s/env", test_tmpdir());
	CHECK_OK(run_env_file(&env, host_env, path, &e), &e);
	CHECK_EQ(env.count, 4);
	CHECK_STR(env.items[0], "A=1");
	CHECK_STR(env.items[1], "HOME=/root");
	CHECK_STR(env.items[2], "B=x # kept");
	CHECK_STR(env.items[3], "last=1");
	CHECK_OK(fd_replace_file(dir, "env", "A=1\n=2\n", 7, 0600, &e), &e);
	CHECK_EQ(run_env_file(&env, host_env, path, &e), -EINVAL);
	CHECK(strstr(e.text, "line 2"));
	CHECK_EQ(run_env_file(&env, host_env, "/nonexistent", &e), -ENOENT);
	strings_fini(&env);
	(void)close(dir);
}

TEST(lists_have_a_maximum)
{
	struct strings l;
	struct err e = { 0 };

	strings_init(&l, 1);
	CHECK_OK(strings_add(&l, "a", 1, &e), &e);
	CHECK_EQ(strings_add(&l, "b", 1, &e), -E2BIG);
	strings_fini(&l);
}

/* Entrypoint and command as docker has them. */
static void command(const char *flags, const char *expect)
{
	static const char *const entry[] = { "/entry", "-x", NULL };
	static const char *const cmd[] = { "serve", NULL };
	char got[200];
	struct line l;
	struct buf b;

	CHECK_OK(take(&l, flags), &l.e);
	CHECK_OK(run_command(&l.run, entry, cmd, &l.e), &l.e);
	buf_init(&b, got, sizeof(got));
	for (size_t i = 0; i < l.run.argv.count; i++)
		buf_printf(&b, "%s%s", i ? " " : "", l.run.argv.items[i]);
	CHECK_STR(buf_cstr(&b), expect);
	done(&l);
}

TEST(the_images_command_is_replaced_as_docker_does)
{
	struct line l;

	command("image", "/entry -x serve");
	command("image other", "/entry -x other");
	command("--entrypoint /bin/sh image", "/bin/sh");
	command("--entrypoint /bin/sh image -c x", "/bin/sh -c x");
	command("--entrypoint= image a b", "a b");
	CHECK_OK(take(&l, "image"), &l.e);
	CHECK_EQ(run_command(&l.run, NULL, NULL, &l.e), -EINVAL);
	CHECK(strstr(l.e.text, "no command of its own"));
	done(&l);
}

TEST_MAIN()
