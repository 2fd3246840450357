/*
 * What libberm says and takes of a network, over a supervisor that has none (fake_sup.h).
 */
#include "api_test.h"
#include "fake_sup.h"

#include "base/fdio.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define VALUE "a-value-of-some-length"

static const char with_preset[] = "version: 1\nnetwork:\n  default: deny\n  rules:\n"
				  "    - { preset: registries }\n";
static const char with_rule[] = "version: 1\nnetwork:\n  default: deny\n  rules:\n"
				"    - { host: a.example, port: 443 }\n";

TEST(words_are_judged_at_once)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };

	CHECK_EQ(berm_config_add_allow(NULL, "a.example", &err), -EINVAL);
	CHECK_EQ(berm_config_add_allow(c, NULL, &err), -EINVAL);
	CHECK_EQ(berm_config_add_allow(c, "a b", &err), -EINVAL);
	CHECK_EQ(berm_config_add_deny(c, "*", &err), -EINVAL);
	CHECK_EQ(berm_config_add_preset(c, "../etc", &err), -EINVAL);
	CHECK_EQ(berm_config_add_policy(c, "mine.yaml", "version: 2\n", 11, &err), -EINVAL);
	CHECK(strstr(err.text, "mine.yaml:1") != NULL);
	CHECK_EQ(berm_config_add_port(c, "80", &err), -EINVAL);
	CHECK_EQ(berm_config_add_secret(c, "1ST@a.example", VALUE, 8, &err), -EINVAL);
	CHECK_EQ(berm_config_add_secret(c, "KEY@a b", VALUE, 8, &err), -EINVAL);
	CHECK_EQ(berm_config_add_secret(c, "KEY", "", 0, &err), -EINVAL);
	CHECK_EQ(berm_config_add_secret(c, "KEY", NULL, 1, &err), -EINVAL);
	CHECK(strstr(err.text, VALUE) == NULL);
	OK(berm_config_add_allow(c, "a.example:443", &err));
	OK(berm_config_add_deny(c, "b.example", &err));
	OK(berm_config_add_policy(c, "mine.yaml", with_preset, strlen(with_preset), &err));
	berm_config_free(c);
}

static unsigned open_fds(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

TEST(a_value_is_held_until_the_config_goes)
{
	unsigned before = open_fds();
	struct berm_config *c = config();
	struct berm_err err = { 0 };

	OK(berm_config_add_secret(c, "KEY@a.example", VALUE, strlen(VALUE), &err));
	OK(berm_config_add_secret(c, "KEY", VALUE "2", strlen(VALUE) + 1, &err));
	OK(berm_config_add_secret(c, "OTHER", VALUE, strlen(VALUE), &err));
	CHECK_EQ(open_fds(), before + 2);
	berm_config_free(c);
	CHECK_EQ(open_fds(), before);
}

static int try_start(struct berm *b, const struct berm_config *c, struct berm_err *err)
{
	struct berm_sandbox *sb = NULL;
	int r = berm_start(b, c, &sb, err);

	berm_sandbox_free(sb);
	return r;
}

TEST(secrets_and_policy_belong_together)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm *b = begin();

	OK(berm_config_add_policy(c, "p", with_rule, strlen(with_rule), &err));
	OK(berm_config_add_secret(c, "KEY", VALUE, strlen(VALUE), &err));
	CHECK_EQ(try_start(b, c, &err), -EINVAL); /* a value that nothing uses */
	OK(berm_config_add_preset(c, "registries", &err));
	CHECK(try_start(b, c, &err) < 0); /* it is not installed here */
	berm_config_free(c);
	berm_free(b);
}

static void knock(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0);
	(void)close(fd);
}

/* The same config twice: each start has a port and a value of its own. */
TEST(a_start_takes_all_of_it)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb[2];
	struct berm *b = begin();

	OK(berm_config_add_secret(c, "KEY@a.example", VALUE, strlen(VALUE), &err));
	OK(berm_config_add_port(c, "0:80", &err));
	for (unsigned i = 0; i < 2; i++) {
		OK(berm_start(b, c, &sb[i], &err));
		OK(berm_wait_started(sb[i], LONG_MS, &err));
		CHECK(berm_get_port(sb[i], 0, &err) > 0);
		knock(berm_get_port(sb[i], 0, &err));
		CHECK_EQ(berm_get_port(sb[i], 1, &err), -EINVAL);
	}
	CHECK(berm_get_port(sb[0], 0, &err) != berm_get_port(sb[1], 0, &err));
	berm_sandbox_free(sb[0]);
	berm_sandbox_free(sb[1]);
	berm_config_free(c);
	berm_free(b);
}

TEST(one_without_a_network)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm *b = begin();
	struct berm_sandbox *sb = idle(b);

	OK(berm_config_add_allow(c, "a.example", &err));
	OK(berm_wait_started(sb, LONG_MS, &err));
	CHECK_EQ(berm_set_policy(sb, c, 0, -1, NULL, &err), -ENODEV);
	CHECK_EQ(berm_set_policy(sb, NULL, 0, -1, NULL, &err), -EINVAL);
	CHECK_EQ(berm_set_secret(sb, "KEY", VALUE, strlen(VALUE), -1, &err), -ENODEV);
	CHECK_EQ(berm_remove_secret(sb, "KEY", -1, &err), -ENODEV);
	CHECK_EQ(berm_get_port(sb, 0, &err), -EINVAL);
	OK(berm_stop(sb, 0, LONG_MS, &err));
	CHECK_EQ(berm_remove_secret(sb, "KEY", -1, &err), -ESHUTDOWN);
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
}

static int open_sandbox(const struct berm_sandbox *sb)
{
	char path[PATH_MAX];
	struct err e = { 0 };
	int fd = -1;

	(void)snprintf(path, sizeof(path), "%s/sandboxes/%s", fake_state(), berm_sandbox_id(sb));
	CHECK_OK(fd_open(path, O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	return fd;
}

static void append(int dir_fd, const char *text)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_openat(dir_fd, "egress.jsonl", O_WRONLY | O_CREAT | O_APPEND, 0600, &fd, &e),
	         &e);
	CHECK_OK(fd_write_all(fd, text, strlen(text), &e), &e);
	(void)close(fd);
}

static void expect(struct berm_sandbox *sb, const char *text)
{
	static char room[BERM_RECORD_MAX];
	struct berm_err err = { 0 };
	ssize_t n = berm_read_records(sb, room, sizeof(room), &err);

	CHECK_EQ(n, strlen(text));
	CHECK(memcmp(room, text, (size_t)n) == 0);
}

TEST(records_are_read_by_the_line)
{
	struct berm *b = begin();
	struct berm_sandbox *sb = idle(b);
	struct berm_err err = { 0 };
	char small[16];
	int dir_fd;

	OK(berm_wait_started(sb, LONG_MS, &err));
	CHECK_EQ(berm_read_records(sb, small, sizeof(small), &err), -EINVAL);
	expect(sb, "");
	dir_fd = open_sandbox(sb);
	append(dir_fd, "{1}\n{2}\n{3");
	expect(sb, "{1}\n{2}\n");
	expect(sb, "");
	append(dir_fd, "}\n");
	expect(sb, "{3}\n");
	append(dir_fd, "{4}\n"); /* and before anybody looks another file takes its place */
	CHECK(renameat(dir_fd, "egress.jsonl", dir_fd, "egress.jsonl.1") == 0);
	append(dir_fd, "{5}\n");
	expect(sb, "{4}\n");
	expect(sb, "{5}\n");
	expect(sb, "");
	(void)close(dir_fd);
	berm_sandbox_free(sb);
	berm_free(b);
}

API_TEST_MAIN()
