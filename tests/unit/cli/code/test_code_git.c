#include "test.h"

#include "base/fdio.h"
#include "cli/code/code.h"
#include "work/gitconfig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A home directory of the test's own; what name there has that text. */
static struct cli home_with(const char *folder, const char *name, const char *text)
{
	static char var[PATH_MAX + 8];
	static const char *envp[] = { var, NULL };
	char path[PATH_MAX];
	struct err e = { 0 };
	_own_fd_ int fd = -1;

	(void)snprintf(var, sizeof(var), "HOME=%s", test_tmpdir());
	(void)snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), folder);
	CHECK_OK(fd_make_dirs(path, &fd, &e), &e);
	CHECK_OK(fd_replace_file(fd, name, text, strlen(text), 0600, &e), &e);
	return (struct cli){ .envp = envp };
}

TEST(the_later_file_of_the_two_wins)
{
	struct code_identity id;
	struct cli c = home_with(".config/git", "config",
	                         "[user]\n\tname = First\n\temail = first@example.com\n");

	code_git_identity(&c, &id);
	CHECK_STR(id.name, "First");
	c = home_with(".", ".gitconfig", "[user \"x\"]\n\tname = No\n[user]\n\tname = Second\n");
	code_git_identity(&c, &id);
	CHECK_STR(id.name, "Second");
	CHECK_STR(id.email, "first@example.com");
}

TEST(what_does_not_stay_on_its_line_is_none)
{
	struct code_identity id;
	struct cli c = home_with(".", ".gitconfig",
	                         "[user]\n\tname = \"a\\nb\"\n\temail = e@example.com\n");

	code_git_identity(&c, &id);
	CHECK_STR(id.email, "e@example.com");
	CHECK(strcmp(id.name, "a\nb") != 0);
}

/* Whatever a name is, git reads it back as that, and as nothing else. */
TEST(it_is_read_back_as_it_was)
{
	static const char *const names[] = { "A \"Person\"", "back\\slash", "# ; [x]", " edge " };
	static struct gitconfig_reader r;
	struct gitconfig_item item;
	struct code_identity id = { .name = "" };
	char room[1024];
	struct buf b;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(id.name, sizeof(id.name), "%s", names[i]);
		buf_init(&b, room, sizeof(room));
		code_put_identity(&b, &id);
		gitconfig_begin(&r, buf_span(&b));
		CHECK_EQ(gitconfig_next(&r, &item), 0);
		CHECK(span_is(item.section, "user") && span_is(item.key, "name"));
		CHECK(span_is(item.value, names[i]));
		CHECK_EQ(gitconfig_next(&r, &item), -ENODATA);
	}
	id = (struct code_identity){ .name = "" };
	buf_init(&b, room, sizeof(room));
	code_put_identity(&b, &id);
	CHECK_EQ(b.len, 0);
}

TEST_MAIN()
