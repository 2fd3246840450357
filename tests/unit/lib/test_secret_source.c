#include "lib/secret_source.h"

#include "test.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const env[] = {
	"PATH=/usr/bin:/bin", "TOKEN=abc defg",  "EMPTY=",       "LINES=aaaa\nbbbb",
	"SHORT=1234567",      "BLANK=12345678 ", "TOKENS=other", NULL
};

static struct policy_source source(enum secret_from from, const char *what, size_t len)
{
	return (struct policy_source){ "TOKEN", from, span_of(what, len) };
}

/* What the file has; it must be sealed, and read from its front. */
static const char *content(int fd)
{
	static char text[SECRET_VALUE_MAX + 2];
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	ssize_t n;

	CHECK_EQ(fcntl(fd, F_GET_SEALS) & seals, seals);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	n = read(fd, text, sizeof(text) - 1);
	CHECK(n > 0);
	text[n] = '\0';
	CHECK_EQ(pwrite(fd, "x", 1, 0), -1);
	(void)close(fd);
	return text;
}

static const char *open_words(enum secret_from from, const char *what, size_t len, bool trimmed)
{
	struct policy_source s = source(from, what, len);
	struct secret_value v = { .fd = -1 };
	struct err e = { 0 };

	CHECK_OK(secret_source_open(&s, env, &v, &e), &e);
	CHECK_EQ(v.trimmed, trimmed);
	return content(v.fd);
}

static const char *refusal(enum secret_from from, const char *what, size_t len, int code)
{
	static struct err e;
	struct policy_source s = source(from, what, len);
	struct secret_value v = { .fd = -7, .trimmed = true };

	err_clear(&e);
	CHECK_EQ(secret_source_open(&s, env, &v, &e), code);
	CHECK_EQ(v.fd, -7);
	CHECK(v.trimmed);
	CHECK(strncmp(e.text, "the secret TOKEN: ", 18) == 0);
	return e.text + 18;
}

TEST(environment)
{
	const char *why;

	CHECK_STR(open_words(SECRET_ENV, "TOKEN", 5, false), "abc defg");
	why = refusal(SECRET_ENV, "TOKE", 4, -ENOENT);
	CHECK(strstr(why, "the variable TOKE is not set; export it"));
	CHECK_STR(refusal(SECRET_ENV, "EMPTY", 5, -ENOENT), "the variable EMPTY is empty");
	CHECK(strstr(refusal(SECRET_ENV, "LINES", 5, -EINVAL), "more than one line"));
	CHECK(strstr(refusal(SECRET_ENV, "SHORT", 5, -EINVAL), "under 8 bytes"));
	CHECK(strstr(refusal(SECRET_ENV, "BLANK", 5, -EINVAL), "ends with a blank"));
	CHECK(strstr(refusal(SECRET_ENV, "", 0, -EINVAL), "a source of 1 to"));
}

static const char *put(const char *name, const void *data, size_t len)
{
	static char path[512];
	struct err e = { 0 };
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	CHECK_OK(fd_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, &e), &e);
	CHECK_OK(fd_write_all(fd, data, len, &e), &e);
	(void)close(fd);
	return path;
}

TEST(files)
{
	char large[SECRET_VALUE_MAX + 2];
	const char *path = put("plain", "a value.", 8);

	CHECK_STR(open_words(SECRET_FILE, path, strlen(path), false), "a value.");
	path = put("line", "a value.\r\n\n", 11);
	CHECK_STR(open_words(SECRET_FILE, path, strlen(path), true), "a value.");
	path = put("empty", "\n\n", 2);
	CHECK(strstr(refusal(SECRET_FILE, path, strlen(path), -ENOENT), "' is empty"));
	path = put("lines", "one one\ntwo\n", 12);
	CHECK(strstr(refusal(SECRET_FILE, path, strlen(path), -EINVAL), "more than one line"));
	path = put("binary", "aaaaa\0bbb", 9);
	CHECK(strstr(refusal(SECRET_FILE, path, strlen(path), -EINVAL), "a control byte"));
	memset(large, 'x', sizeof(large));
	path = put("largest", large, SECRET_VALUE_MAX);
	CHECK_EQ(strlen(open_words(SECRET_FILE, path, strlen(path), false)), SECRET_VALUE_MAX);
	path = put("larger", large, SECRET_VALUE_MAX + 1);
	CHECK(strstr(refusal(SECRET_FILE, path, strlen(path), -EINVAL), "over 16384 bytes"));
	CHECK(strstr(refusal(SECRET_FILE, "/nowhere/at/all", 15, -ENOENT), "/nowhere/at/all"));
	CHECK(strstr(refusal(SECRET_FILE, "/", 1, -EINVAL), "neither a file nor a pipe"));
	CHECK(strstr(refusal(SECRET_FILE, "/dev/null", 9, -EINVAL), "neither a file nor a pipe"));
}

TEST(a_file_at_home)
{
	const char *path = put("token", "at my home\n", 11);
	char home[600];
	const char *const at_home[] = { home, NULL };
	struct policy_source s = source(SECRET_FILE, "~/token", 7);
	struct secret_value v = { .fd = -1 };
	struct err e = { 0 };

	(void)snprintf(home, sizeof(home), "HOME=%s", test_tmpdir());
	CHECK_OK(secret_source_open(&s, at_home, &v, &e), &e);
	CHECK_STR(content(v.fd), "at my home");
	(void)path;
}

TEST(a_pipe)
{
	struct secret_value v = { .fd = -1 };
	struct err e = { 0 };
	char path[32];
	int p[2];

	CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
	CHECK_OK(fd_write_all(p[1], "through a pipe\n", 15, &e), &e);
	(void)close(p[1]);
	(void)snprintf(path, sizeof(path), "/dev/fd/%d", p[0]);
	CHECK_STR(open_words(SECRET_FILE, path, strlen(path), true), "through a pipe");
	(void)close(p[0]);

	/* a line of a terminal: what stands behind it is not ours */
	CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
	CHECK_OK(fd_write_all(p[1], "first one\nsecond\n", 17, &e), &e);
	CHECK_OK(secret_source_read("TOKEN", p[0], true, &v, &e), &e);
	CHECK_STR(content(v.fd), "first one");
	(void)close(p[0]);
	(void)close(p[1]);
}

#define WORDS(text) text, sizeof(text) /* with the NUL behind the last word */

TEST(commands)
{
	const char *why;

	CHECK_STR(open_words(SECRET_COMMAND, WORDS("printf\0%s-%s\n\0a b c\0$HOME"), true),
	          "a b c-$HOME");
	CHECK_STR(open_words(SECRET_COMMAND, WORDS("/bin/sh\0-c\0cat; echo xxxxxxxx"), true),
	          "xxxxxxxx");
	why = refusal(SECRET_COMMAND, WORDS("no-such-program-here\0x"), -ENOENT);
	CHECK_STR(why, "the command no-such-program-here: there is no such program in PATH");
	why = refusal(SECRET_COMMAND, WORDS("sh\0-c\0echo half; exit 3"), -ECHILD);
	CHECK_STR(why, "the command sh exited with 3; run it by hand to see why");
	why = refusal(SECRET_COMMAND, WORDS("sh\0-c\0kill -9 $$"), -ECHILD);
	CHECK_STR(why, "the command sh was ended by signal 9; run it by hand to see why");
	CHECK_STR(refusal(SECRET_COMMAND, WORDS("true"), -ENOENT), "the command true is empty");
	/* one that never stops is stopped */
	CHECK(strstr(refusal(SECRET_COMMAND, WORDS("yes\0aaaa"), -EINVAL), "over 16384"));
}

/* A secret-tool that prints its words. */
static void fake_keyring(char *path_env, size_t size)
{
	static const char script[] =
		"#!/bin/sh\n[ \"$2\" = none ] && exit 1\nprintf '%s,' \"$@\"\n";

	CHECK_EQ(chmod(put("secret-tool", script, sizeof(script) - 1), 0700), 0);
	(void)snprintf(path_env, size, "PATH=%s:/usr/bin:/bin", test_tmpdir());
}

static int lookup(const char *item, const char *path_env, struct secret_value *v, struct err *e)
{
	const char *const own[] = { path_env, NULL };
	struct policy_source s = source(SECRET_KEYRING, item, strlen(item));

	return secret_source_open(&s, own, v, e);
}

TEST(keyrings)
{
	struct secret_value v = { .fd = -1 };
	struct err e = { 0 };
	char path[600];

	CHECK_EQ(lookup("api", "PATH=/nowhere", &v, &e), -ENOENT);
	CHECK(strstr(e.text, "apt install libsecret-tools"));
	fake_keyring(path, sizeof(path));
	CHECK_OK(lookup("api", path, &v, &e), &e);
	CHECK_STR(content(v.fd), "lookup,service,api,");
	CHECK_OK(lookup("host=a.example,user=me", path, &v, &e), &e);
	CHECK_STR(content(v.fd), "lookup,host,a.example,user,me,");
	CHECK_EQ(lookup("none=x", path, &v, &e), -ENOENT);
	CHECK(strstr(e.text, "has no item 'none=x', or is locked; try: secret-tool lookup none x"));
	CHECK_EQ(lookup("=x", path, &v, &e), -EINVAL);
	CHECK_EQ(lookup("a=b,c", path, &v, &e), -EINVAL);
	CHECK_EQ(lookup("a,b=c", path, &v, &e), -EINVAL);
}

TEST(memory)
{
	struct secret_value v = { .fd = -1 };
	struct err e = { 0 };

	CHECK_OK(secret_source_copy("TOKEN", span_str("is given"), &v, &e), &e);
	CHECK_STR(content(v.fd), "is given");
	CHECK_EQ(secret_source_copy("TOKEN", span_str("aaaaaaaaa\n"), &v, &e), -EINVAL);
	CHECK_EQ(secret_source_copy("TOKEN", span_of(NULL, 0), &v, &e), -ENOENT);
	CHECK_STR(e.text, "the secret TOKEN: what was given is empty");
}

/* In four pieces, so that the whole stands nowhere but where it was read to. */
static const char *const pieces[] = { "never-", "seen-", "again-", "4711" };

static bool whole_at(const char *at)
{
	for (size_t i = 0; i < 4; i++) {
		if (strncmp(at, pieces[i], strlen(pieces[i])) != 0)
			return false;
		at += strlen(pieces[i]);
	}
	return true;
}

enum { SCAN_BYTES = 1 << 20, WHOLE_BYTES = 21, MAPPING_MAX = 64 << 20, MAPS_MAX = 1 << 20 };

static bool in_mapping(int mem_fd, char *room, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at += SCAN_BYTES - WHOLE_BYTES) {
		size_t want = to - at < SCAN_BYTES ? (size_t)(to - at) : SCAN_BYTES;
		ssize_t n = pread(mem_fd, room, want, (off_t)at);

		for (ssize_t i = 0; i + WHOLE_BYTES <= n; i++)
			if (room[i] == pieces[0][0] && whole_at(room + i))
				return true;
		if (n < (ssize_t)want || want < SCAN_BYTES)
			break;
	}
	return false;
}

static uint64_t hex(struct span text)
{
	uint64_t got = 0;

	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.at[i];

		got = got << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	return got;
}

/* Is the value in any page that this process may write? */
static bool in_memory(void)
{
	_own_free_ char *room = malloc(SCAN_BYTES + 64);
	_own_free_ char *maps = NULL;
	_own_fd_ int mem_fd = -1;
	struct err e = { 0 };
	struct span rest;
	struct span line;
	size_t len = 0;
	bool found = false;

	CHECK(room);
	memset(room, 0, SCAN_BYTES + 64);
	CHECK_OK(fd_read_file(AT_FDCWD, "/proc/self/maps", MAPS_MAX, &maps, &len, &e), &e);
	CHECK_OK(fd_open("/proc/self/mem", O_RDONLY, 0, &mem_fd, &e), &e);
	rest = span_of(maps, len);
	while (take_until(&rest, '\n', &line)) {
		struct span from;
		struct span to;

		CHECK(take_until(&line, '-', &from) && take_until(&line, ' ', &to));
		if (line.len > 2 && line.at[1] == 'w' && hex(to) - hex(from) <= MAPPING_MAX)
			found |= in_mapping(mem_fd, room, hex(from), hex(to));
	}
	return found;
}

TEST(nothing_stays)
{
	struct secret_value v = { .fd = -1 };
	char kept[32] = "";
	struct err e = { 0 };
	int p[2];

	CHECK(!in_memory());
	CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
	for (size_t i = 0; i < 4; i++)
		CHECK_OK(fd_write_all(p[1], pieces[i], strlen(pieces[i]), &e), &e);
	(void)close(p[1]);
	CHECK_OK(secret_source_read("TOKEN", p[0], false, &v, &e), &e);
	(void)close(p[0]);
	CHECK(!in_memory());
	CHECK_EQ(read(v.fd, kept, sizeof(kept) - 1), WHOLE_BYTES);
	CHECK(in_memory()); /* it would have been found */
	CHECK(whole_at(kept));
	(void)close(v.fd);
}

TEST_MAIN()
