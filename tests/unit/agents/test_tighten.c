#include "agents/agent.h"

#include "base/fdio.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { GIB = 1 << 30 };

static struct agent *load(const char *name)
{
	struct agent_where w = { -1, -1, -1, "/nowhere" };
	struct agent *a = NULL;
	struct err e = { 0 };

	CHECK_OK(fd_open(AGENTS, O_RDONLY | O_DIRECTORY, 0, &w.installed_fd, &e), &e);
	CHECK_OK(fd_open(PRESETS, O_RDONLY | O_DIRECTORY, 0, &w.presets_fd, &e), &e);
	CHECK_OK(agent_load(&w, name, &a, &e), &e);
	(void)close(w.installed_fd);
	(void)close(w.presets_fd);
	return a;
}

static struct agent *tightened(const char *text)
{
	struct agent *a = load("claude-code");
	struct err e = { 0 };

	CHECK_OK(agent_tighten_text(a, span_str(text), &e), &e);
	return a;
}

static void noted(const struct agent *a, unsigned i, const char *text)
{
	CHECK(i < a->notices.count);
	if (!strstr(a->notices.at[i], text))
		CHECK_STR(a->notices.at[i], text);
}

TEST(less_is_taken)
{
	_own_(agent_free) struct agent *before = load("claude-code");
	_own_(agent_free) struct agent *a = tightened(
		"version: 1\nresources: { cpus: 1, memory: 1GiB, disk: 4GiB }\negress: model-only\n"
		"leave_out: [skills, commands]\nexclude: [\"*.local\", /data]\n");

	CHECK_EQ(a->notices.count, 0);
	CHECK_EQ(a->cpus, 1);
	CHECK_EQ(a->memory_bytes, GIB);
	CHECK_EQ(a->disk_bytes, 4ull * GIB);
	CHECK_STR(a->origin[AGENT_F_MEMORY], ".berm.yaml:2");
	CHECK_EQ(a->level, AGENT_MODEL_ONLY);
	CHECK_STR(a->origin[AGENT_F_EGRESS], ".berm.yaml:3");
	CHECK_EQ(a->settings_count, before->settings_count - 2);
	for (unsigned i = 0; i < a->settings_count; i++)
		CHECK(strcmp(a->settings[i].category, "skills") != 0);
	CHECK_EQ(a->exclude.count, 2);
	CHECK_STR(a->exclude.at[1], "/data");
	CHECK_EQ(a->exclude_lines[0], 5);
	CHECK_EQ(a->exclude_lines[1], 5);
}

/* E13 */
TEST(e13_more_is_refused_and_the_rest_holds)
{
	_own_(agent_free) struct agent *before = load("claude-code");
	_own_(agent_free) struct agent *a = tightened(
		"version: 1\nresources: { memory: 64GiB, cpus: 1, disk: 1TiB }\nimage: evil\n"
		"egress: standard\nallow: [evil.example]\nexclude: [\"!.env\", \"*.x\"]\ninclude: [.env]\n"
		"secrets: [ { name: A } ]\nenvironment: { set: { A: b } }\n");

	CHECK_EQ(a->notices.count, 9);
	noted(a, 0, ".berm.yaml:3: image: ");
	noted(a, 1, ".berm.yaml:5: allow: ");
	noted(a, 2, "'!.env' would bring back");
	noted(a, 3, "include: ");
	noted(a, 4, "secrets: ");
	noted(a, 5, "environment: ");
	noted(a, 6, "memory: 64 GiB is more than 4 GiB");
	noted(a, 7, "disk: 1 TiB is more than");
	noted(a, 8, "egress: standard is wider than locked");
	CHECK_EQ(a->memory_bytes, before->memory_bytes);
	CHECK_EQ(a->disk_bytes, before->disk_bytes);
	CHECK_EQ(a->cpus, 1);
	CHECK_STR(a->base, before->base);
	CHECK_STR(a->origin[AGENT_F_MEMORY], before->origin[AGENT_F_MEMORY]);
	CHECK_EQ(a->exclude.count, 1);
	CHECK_STR(a->exclude.at[0], "*.x");
	CHECK_EQ(a->exclude_lines[0], 6);
}

TEST(e13_a_wider_level_is_refused)
{
	_own_(agent_free) struct agent *a = tightened("version: 1\negress: standard\n");
	_own_(agent_free) struct agent *b =
		tightened("version: 1\negress: { locked: [ { host: evil.example } ] }\n");

	CHECK_EQ(a->level, AGENT_LOCKED);
	noted(a, 0, "egress: standard is wider than locked");
	CHECK_EQ(b->level, AGENT_LOCKED);
	CHECK_EQ(b->rules[AGENT_LOCKED].count, a->rules[AGENT_LOCKED].count);
	noted(b, 0, "and no host");
}

TEST(a_wrong_file_is_left_out_whole)
{
	static const char *const bad[] = { "version: 1\nresources: { cpus: 1 }\nmemroy: 1\n",
		                           "version: 2\nresources: { cpus: 1 }\n",
		                           "resources: { cpus: 1 }\n",
		                           "version: 1\nresources: { cpus: 1 }\negress: lokced\n",
		                           "version: 1\nresources: { cpus: 1, cpus: 1 }\n",
		                           "\x1b[31m: 1\n",
		                           "" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		_own_(agent_free) struct agent *a = tightened(bad[i]);

		CHECK_EQ(a->notices.count, 1);
		noted(a, 0, "; the whole file is left out");
		CHECK_EQ(a->cpus, 2);
		for (const char *at = a->notices.at[0]; *at; at++)
			CHECK(*at >= 0x20 && *at < 0x7f);
	}
}

TEST(the_notices_have_a_maximum)
{
	char text[8192] = "version: 1\nexclude: [";
	size_t len = strlen(text);
	_own_(agent_free) struct agent *a = NULL;

	for (unsigned i = 0; i < 100; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "\"!a%u\", ", i);
	(void)snprintf(text + len, sizeof(text) - len, "z]\n");
	a = tightened(text);
	CHECK_EQ(a->notices.count, AGENT_NOTICES_MAX);
	noted(a, AGENT_NOTICES_MAX - 1, "more is left out");
	CHECK_EQ(a->exclude.count, 1);
}

TEST(the_command_line_wins)
{
	_own_(agent_free) struct agent *a =
		tightened("version: 1\nresources: { memory: 1GiB }\negress: model-only\n");
	struct agent_flags f = { .memory_bytes = 8ull * GIB,
		                 .egress = "standard",
		                 .image = "mine" };
	struct err e = { 0 };

	CHECK_OK(agent_flags_take(a, &f, &e), &e);
	CHECK_EQ(a->memory_bytes, 8ull * GIB);
	CHECK_STR(a->origin[AGENT_F_MEMORY], "--memory");
	CHECK_EQ(a->level, AGENT_STANDARD);
	CHECK_STR(a->base, "mine");
}

TEST(only_a_regular_file)
{
	_own_(agent_free) struct agent *a = load("codex");
	_own_(agent_free) struct agent *b = load("codex");
	_own_fd_ int fd = -1;
	struct err e = { 0 };

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	CHECK_OK(agent_tighten(a, fd, &e), &e);
	CHECK_EQ(a->notices.count, 0);
	CHECK_EQ(mkfifoat(fd, ".berm.yaml", 0600), 0);
	CHECK_OK(agent_tighten(a, fd, &e), &e);
	noted(a, 0, "no regular file");
	CHECK_EQ(unlinkat(fd, ".berm.yaml", 0), 0);
	CHECK_EQ(symlinkat("/etc/passwd", fd, ".berm.yaml"), 0);
	CHECK_OK(agent_tighten(b, fd, &e), &e);
	noted(b, 0, "is a link");
}

TEST_MAIN()
