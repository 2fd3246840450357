#include "test.h"

#include "base/fdio.h"
#include "work/class.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* The list that is installed, not one of the test's. */
static struct class_list *installed(void)
{
	_own_free_ char *text = NULL;
	struct class_list *l;
	size_t len;
	struct err e;

	CHECK_OK(fd_read_file(AT_FDCWD, TEST_CLASSES, CLASS_LIST_MAX, &text, &len, &e), &e);
	CHECK_OK(class_list_new(&l, &e), &e);
	CHECK_OK(class_list_add(l, "classes.list", span_of(text, len), &e), &e);
	return l;
}

static void check(const struct class_list *l, const char *path, enum work_kind kind,
                  enum work_class want)
{
	struct class_verdict v = class_by_path(l, span_str(path), kind);

	if (v.class != want)
		test_fail(__FILE__, __LINE__, "%s is %s, not %s", path, class_name(v.class),
		          class_name(want));
	CHECK((v.reason == NULL) == (want == CLASS_PLAIN));
}

/* Every member of the list that the classes were taken from, and what is nearly one. */
static const struct {
	enum work_class class;
	const char *path;
} files[] = {
	{ CLASS_X0, ".git/config" },
	{ CLASS_X0, ".git/hooks/pre-commit" },
	{ CLASS_X0, ".git" }, /* a pointer to a repository elsewhere */
	{ CLASS_X0, "sub/mod/.git" },
	{ CLASS_X0, "a/.GIT/hooks/x" },
	{ CLASS_X0, "a/GIT~1/config" },
	{ CLASS_X0, "a/.g\xe2\x80\x8cit/config" },
	{ CLASS_X0, ".git/modules/m/config" },
	{ CLASS_X0, ".git/info/attributes" },
	{ CLASS_X0, ".envrc" },
	{ CLASS_X0, "deep/down/.envrc" },
	{ CLASS_X0, "mise.toml" },
	{ CLASS_X0, ".tool-versions" },
	{ CLASS_X0, ".bashrc" },
	{ CLASS_X0, ".vscode/tasks.json" },
	{ CLASS_X0, "pkg/.vscode/settings.json" },
	{ CLASS_X0, ".VSCode/Tasks.json" },
	{ CLASS_X0, ".idea/runConfigurations/x.xml" },
	{ CLASS_X0, ".zed/tasks.json" },
	{ CLASS_X0, ".nvim.lua" },
	{ CLASS_X0, ".exrc" },
	{ CLASS_X0, ".dir-locals.el" },
	{ CLASS_X0, ".gdbinit" },
	{ CLASS_X0, ".devcontainer/devcontainer.json" },
	{ CLASS_X0, ".devcontainer.json" },
	{ CLASS_X0, ".claude/settings.json" },
	{ CLASS_X0, ".claude/settings.local.json" },
	{ CLASS_X0, ".claude/commands/x.md" },
	{ CLASS_X0, ".mcp.json" },
	{ CLASS_X0, ".cursor/mcp.json" },
	{ CLASS_X0, ".codex/config.toml" },
	{ CLASS_X0, ".gemini/settings.json" },
	{ CLASS_X0, "opencode.json" },
	{ CLASS_X0, ".gitmodules" },
	{ CLASS_X1, "package.json" },
	{ CLASS_X1, "a/b/package.json" },
	{ CLASS_X1, ".npmrc" },
	{ CLASS_X1, "Makefile" },
	{ CLASS_X1, "src/GNUmakefile" },
	{ CLASS_X1, "CMakeLists.txt" },
	{ CLASS_X1, "build.rs" },
	{ CLASS_X1, ".cargo/config.toml" },
	{ CLASS_X1, "setup.py" },
	{ CLASS_X1, "tests/conftest.py" },
	{ CLASS_X1, "pyproject.toml" },
	{ CLASS_X1, "gradlew" },
	{ CLASS_X1, "gradle/wrapper/gradle-wrapper.jar" },
	{ CLASS_X1, "pom.xml" },
	{ CLASS_X1, "a/.husky/pre-commit" },
	{ CLASS_X1, "lefthook.yml" },
	{ CLASS_X1, ".pre-commit-config.yaml" },
	{ CLASS_X1, "Taskfile.yml" },
	{ CLASS_X1, "Justfile" },
	{ CLASS_X1, "Vagrantfile" },
	{ CLASS_X1, "Dockerfile" },
	{ CLASS_X1, ".gitattributes" },
	{ CLASS_X2, ".github/workflows/ci.yml" },
	{ CLASS_X2, ".github/actions/x/action.yml" },
	{ CLASS_X2, ".gitlab-ci.yml" },
	{ CLASS_X2, ".gitlab/x.yml" },
	{ CLASS_X2, ".circleci/config.yml" },
	{ CLASS_X2, "Jenkinsfile" },
	{ CLASS_X2, ".travis.yml" },
	{ CLASS_X2, "azure-pipelines.yml" },
	{ CLASS_X2, ".buildkite/pipeline.yml" },
	{ CLASS_X4, "CLAUDE.md" },
	{ CLASS_X4, "sub/AGENTS.md" },
	{ CLASS_X4, "GEMINI.md" },
	{ CLASS_X4, ".cursorrules" },
	{ CLASS_X4, "skills/x/notes.md" },
	{ CLASS_PLAIN, "foo.vscode/tasks.json" },
	{ CLASS_PLAIN, ".vscode/extensions.json" },
	{ CLASS_PLAIN, "CODEOWNERS" },
	{ CLASS_PLAIN, ".github/CODEOWNERS" },
	{ CLASS_PLAIN, ".gitignore" },
	{ CLASS_PLAIN, "git/hooks/x" },
	{ CLASS_PLAIN, ".gitx/config" },
	{ CLASS_PLAIN, "build/x.c" }, /* BUILD is a file, not a directory */
	{ CLASS_PLAIN, "workspace/a.c" },
	{ CLASS_PLAIN, "src/main.c" },
	{ CLASS_PLAIN, "Makefile.d/a.c" },
};

TEST(v11_members_and_near_misses)
{
	_own_(class_list_free) struct class_list *l = installed();

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		check(l, files[i].path, WORK_FILE, files[i].class);
}

TEST(what_of_a_git_directory_git_runs_or_obeys)
{
	static const char *const runs[] = {
		".git",
		"sub/.git",
		".git/hooks/post-checkout",
		".GIT/Hooks/pre-commit",
		".git/modules/x/hooks/update",
		".git/hooks/dir/x",
		".git/config",
		".git/config.worktree",
		".git/info/attributes",
		"sub/.git/config",
	};
	static const char *const rests[] = {
		".git/index",
		".git/objects/ab/cdef",
		".git/refs/heads/config2",
		".git/HEAD",
		".git/hooks",
		".git/hooks/pre-commit.sample",
		"hooks/pre-push",
		"config",
		".git/logs/refs/heads/main",
	};

	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
		CHECK(class_git_runs(span_str(runs[i])));
	for (size_t i = 0; i < sizeof(rests) / sizeof(rests[0]); i++)
		CHECK(!class_git_runs(span_str(rests[i])));
}

TEST(a_part_that_is_too_long_is_never_plain)
{
	_own_(class_list_free) struct class_list *l = installed();
	char path[WPATH_MAX + 1];

	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	check(l, path, WORK_FILE, CLASS_X0);
	path[WPATH_NAME_MAX] = '\0';
	check(l, path, WORK_FILE, CLASS_PLAIN);
}

TEST(a_link_stands_for_what_is_behind_it)
{
	_own_(class_list_free) struct class_list *l = installed();

	check(l, ".vscode", WORK_LINK, CLASS_X0);
	check(l, "a/.claude", WORK_LINK, CLASS_X0);
	check(l, ".github", WORK_LINK, CLASS_X2);
	check(l, ".github/workflows", WORK_LINK, CLASS_X2);
	check(l, ".envrc", WORK_LINK, CLASS_X0);
	check(l, "gradle", WORK_LINK, CLASS_X1);
	check(l, "src", WORK_LINK, CLASS_PLAIN);
	check(l, ".vscode", WORK_DIR, CLASS_PLAIN);
	check(l, "build", WORK_DIR, CLASS_PLAIN);
	check(l, ".husky", WORK_DIR, CLASS_X1);
}

static struct class_side file(const char *head, uint16_t mode)
{
	return (struct class_side){
		.exists = true, .kind = WORK_FILE, .mode = mode, .head = span_str(head)
	};
}

static struct class_side link_to(const char *target)
{
	return (struct class_side){
		.exists = true, .kind = WORK_LINK, .mode = 0777, .head = span_str(target)
	};
}

static enum work_class content(const char *path, struct class_side was, struct class_side now)
{
	return class_by_content(span_str(path), &was, &now).class;
}

TEST(v11_newly_executable)
{
	struct class_side none = { 0 };

	CHECK_EQ(content("a", none, file("text", 0644)), CLASS_PLAIN);
	CHECK_EQ(content("a", none, file("text", 0755)), CLASS_X3);
	CHECK_EQ(content("a", file("text", 0644), file("text", 0744)), CLASS_X3);
	CHECK_EQ(content("a", file("text", 0755), file("other", 0755)), CLASS_PLAIN);
	CHECK_EQ(content("a", none, file("#!/bin/sh\n", 0644)), CLASS_X3);
	CHECK_EQ(content("a", file("#!/bin/sh\n", 0755), file("#!/bin/sh\n2", 0755)), CLASS_PLAIN);
	CHECK_EQ(content("a", none,
	                 file("\x7f"
	                      "ELF\x02",
	                      0644)),
	         CLASS_X3);
	CHECK_EQ(content("a", none, file("MZ\x90", 0644)), CLASS_X3);
	CHECK_EQ(content("a", none, file("\xcf\xfa\xed\xfe", 0644)), CLASS_X3);
	CHECK_EQ(content("a.whl", file("PK\x03\x04", 0644), file("PK\x03\x04x", 0644)), CLASS_X3);
	CHECK_EQ(content("a.jar", file("x", 0644), file("y", 0644)), CLASS_X3);
	CHECK_EQ(content("a.bin", none, file("PK\x03\x04", 0644)), CLASS_PLAIN);
	CHECK_EQ(content("d/l", none, link_to("b")), CLASS_PLAIN);
	CHECK_EQ(content("d/l", none, link_to("b/../c")), CLASS_PLAIN);
	CHECK_EQ(content("d/l", none, link_to("../b")), CLASS_X3);
	CHECK_EQ(content("d/l", none, link_to("b/../../c")), CLASS_X3);
	CHECK_EQ(content("d/l", none, link_to("/etc/passwd")), CLASS_X3);
	CHECK_EQ(content("d/l", link_to("b"), none), CLASS_PLAIN);
}

TEST(a_lock_file_that_names_another_host)
{
	CHECK(class_is_lock_file(span_str("a/package-lock.json")));
	CHECK(!class_is_lock_file(span_str("a/package.json")));
	CHECK(!class_adds_host(span_str("\"https://a.example/x\" \"https://b.example/y\""),
	                       span_str("\"https://b.example/z\"")));
	CHECK(class_adds_host(span_str("\"https://a.example/x\""),
	                      span_str("\"https://a.example/x\" \"https://a.example.evil/x\"")));
	CHECK(class_adds_host(span_str("https://a.example/"), span_str("https://u@a.example/")));
	CHECK(class_adds_host(span_str("https://a.example/"), span_str("https://a.example:8443/")));
}

TEST(what_is_no_list)
{
	const struct {
		const char *text;
		int code;
	} bad[] = {
		{ "X0 a\n", -EINVAL },
		{ "version 2\n", -EINVAL },
		{ "version 1\n\ta\n", -EINVAL },
		{ "version 1\nX5 a\n", -EINVAL },
		{ "version 1\nX0  a\n", -EINVAL },
		{ "version 1\nX0 a\n\tMakefile\n", -EINVAL },
		{ "version 1\nplain a\n", -EINVAL },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		_own_(class_list_free) struct class_list *l = NULL;
		struct err e;

		CHECK_OK(class_list_new(&l, &e), &e);
		CHECK_EQ(class_list_add(l, "mine", span_str(bad[i].text), &e), bad[i].code);
		CHECK(strstr(e.text, "mine, line ") != NULL);
	}
}

TEST(a_users_list_adds_and_takes_nothing_away)
{
	_own_(class_list_free) struct class_list *l = installed();
	struct err e;

	CHECK_OK(class_list_add(l, "mine", span_str("version 1\nX1 ours\n\t*.deploy\n\t!.envrc\n"),
	                        &e),
	         &e);
	check(l, "x.deploy", WORK_FILE, CLASS_X1);
	check(l, ".envrc", WORK_FILE, CLASS_X0);
}

TEST_MAIN()
