#include "test.h"

#include "forms.h"
#include "vault/scan.h"
#include "vault/scrub.h"
#include "vault/store_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char value[] = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

static struct store *new_store(void)
{
	struct store *s;
	struct err e = { 0 };

	CHECK_OK(store_new(&s, &e), &e);
	return s;
}

static int set(struct store *s, const char *name, const char *v)
{
	struct err e = { 0 };
	int r = store_set(s, span_str(name), span_str(v), &e);

	if (r < 0 && v[0])
		CHECK(strstr(e.text, v) == NULL); /* no value in a message */
	return r;
}

TEST(set_find_replace_remove)
{
	_own_(store_free) struct store *s = new_store();
	struct span p, q;

	CHECK_EQ(store_count(s), 0);
	CHECK_EQ(set(s, "TOKEN", value), 0);
	CHECK_EQ(store_count(s), 1);
	p = store_placeholder(s, span_str("TOKEN"));
	CHECK_EQ(p.len, strlen(value));
	CHECK_EQ(set(s, "TOKEN", "ghp_another_value_of_it"), 0);
	q = store_placeholder(s, span_str("TOKEN"));
	CHECK_MEM(p, q);
	CHECK_SPAN(store_value(s, 0), "ghp_another_value_of_it");
	CHECK_EQ(store_remove(s, span_str("TOKEN")), 0);
	CHECK_EQ(store_count(s), 0);
	CHECK_EQ(store_remove(s, span_str("TOKEN")), -ENOENT);
	CHECK_EQ(store_remove(s, span_str("OTHER")), -ENOENT);
	CHECK_MEM(store_placeholder(s, span_str("TOKEN")), q);
	CHECK_EQ(set(s, "TOKEN", value), 0);
	CHECK_EQ(store_count(s), 1);
}

TEST(SEC_9_what_a_value_may_not_be)
{
	_own_(store_free) struct store *s = new_store();
	static char big[STORE_VALUE_MAX + 2];
	char has_placeholder[200];
	struct span p;

	CHECK_EQ(set(s, "A", ""), -EINVAL);
	CHECK_EQ(set(s, "A", "1234567"), -ERANGE);
	CHECK_EQ(set(s, "A", "12345678\n"), -EINVAL);
	CHECK_EQ(set(s, "A", "1234\r5678"), -EINVAL);
	CHECK_EQ(store_set(s, span_str("A"), span_of("1234\0005678", 9), NULL), -EINVAL);
	CHECK_EQ(set(s, "A", "1234\x1b[5678"), -EINVAL);
	CHECK_EQ(set(s, "A", " 12345678"), -EINVAL);
	CHECK_EQ(set(s, "A", "12345678 "), -EINVAL);
	memset(big, 'b', STORE_VALUE_MAX + 1);
	CHECK_EQ(set(s, "A", big), -ERANGE);
	CHECK_EQ(set(s, "", "12345678"), -EINVAL);
	CHECK_EQ(set(s, "A-B", "12345678"), -EINVAL);
	CHECK_EQ(store_count(s), 0);
	CHECK_EQ(s->count, 0);

	big[STORE_VALUE_MAX] = 0;
	CHECK_EQ(set(s, "A", big), 0);
	CHECK_EQ(set(s, "B", "12345678"), 0);
	CHECK_EQ(set(s, "C", "blanks and\ttabs inside"), 0);
	p = store_placeholder(s, span_str("A"));
	CHECK_EQ(p.len, STORE_PLACEHOLDER_MAX);
	p = store_placeholder(s, span_str("B"));
	memcpy(has_placeholder, "before", 6);
	memcpy(has_placeholder + 6, p.at, p.len);
	memcpy(has_placeholder + 6 + p.len, "after", 6);
	CHECK_EQ(set(s, "D", has_placeholder), -EINVAL);
	has_placeholder[6 + 20] = 0;
	CHECK_EQ(set(s, "D", has_placeholder + 6), -EINVAL);
	CHECK_EQ(store_count(s), 3);
}

TEST(as_many_as_there_may_be)
{
	_own_(store_free) struct store *s = new_store();
	char name[20];
	char v[60];

	for (int i = 0; i < STORE_SECRETS_MAX; i++) {
		(void)snprintf(name, sizeof(name), "NAME_%d", i);
		(void)snprintf(v, sizeof(v), "sk-ant-api03-%040d", i);
		CHECK_EQ(set(s, name, v), 0);
	}
	CHECK_EQ(set(s, "ONE_MORE", value), -ENOSPC);
	CHECK_EQ(store_count(s), STORE_SECRETS_MAX);
	CHECK_EQ(set(s, "NAME_3", value), 0);
	for (unsigned i = 0; i < s->count; i++)
		for (unsigned k = 0; k < s->count; k++) {
			struct span a =
				span_of(s->secrets[i].placeholder, s->secrets[i].placeholder_len);
			struct span b =
				span_of(s->secrets[k].placeholder, s->secrets[k].placeholder_len);

			CHECK(i == k || memmem(a.at, a.len, b.at, b.len) == NULL);
		}
}

TEST(SEC_14_another_store_has_other_placeholders)
{
	_own_(store_free) struct store *a = new_store();
	_own_(store_free) struct store *b = new_store();
	struct scan_hit hit;

	CHECK_EQ(set(a, "TOKEN", value), 0);
	CHECK_EQ(set(b, "TOKEN", value), 0);
	CHECK(!span_equal(store_placeholder(a, span_str("TOKEN")),
	                  store_placeholder(b, span_str("TOKEN"))));
	CHECK(!scan_text(a, store_placeholder(b, span_str("TOKEN")), &hit));
	CHECK(scan_text(b, store_placeholder(b, span_str("TOKEN")), &hit));
}

TEST(read_from_a_descriptor)
{
	_own_(store_free) struct store *s = new_store();
	_own_fd_ int fd = memfd_create("value", MFD_CLOEXEC);
	int pipe_fds[2];
	struct err e = { 0 };
	static char big[STORE_VALUE_MAX + 100];

	CHECK(write(fd, value, strlen(value)) == (ssize_t)strlen(value));
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	CHECK_OK(store_read(s, span_str("A"), fd, &e), &e);
	CHECK_SPAN(store_value(s, 0), value);
	CHECK_EQ(store_read(s, span_str("A"), fd, &e), -EINVAL); /* at its end: empty */

	CHECK_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	CHECK(write(pipe_fds[1], "first", 5) == 5 && write(pipe_fds[1], "second", 6) == 6);
	close(pipe_fds[1]);
	CHECK_OK(store_read(s, span_str("A"), pipe_fds[0], &e), &e);
	close(pipe_fds[0]);
	CHECK_SPAN(store_value(s, 0), "firstsecond");

	memset(big, 'x', sizeof(big));
	CHECK(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
	CHECK(write(fd, big, sizeof(big)) == (ssize_t)sizeof(big));
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	CHECK_EQ(store_read(s, span_str("A"), fd, &e), -ERANGE);
	CHECK_SPAN(store_value(s, 0), "firstsecond");
	CHECK_EQ(store_read(s, span_str("A"), -1, &e), -EBADF);
	for (size_t i = 0; i < sizeof(s->arena->intake); i++)
		CHECK_EQ(s->arena->intake[i], 0);
}

/* Has the mapping that begins at an address this flag in proc? */
static bool mapping_has(const void *at, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char begin[40];
	char line[512];
	bool here = false;
	bool has = false;

	CHECK(f != NULL);
	(void)snprintf(begin, sizeof(begin), "%lx-", (unsigned long)(uintptr_t)at);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, begin, strlen(begin)) == 0)
			here = true;
		if (here && strncmp(line, "VmFlags:", 8) == 0) {
			has = strstr(line, flag) != NULL;
			break;
		}
	}
	(void)fclose(f);
	return has;
}

TEST(SEC_10_locked_left_out_of_dumps_and_of_forks)
{
	_own_(store_free) struct store *s = new_store();
	int status;
	pid_t pid;

	CHECK_EQ(set(s, "TOKEN", value), 0);
	/* memfd_secret is locked by its nature, and no core file has it */
	CHECK(s->is_memfd || mapping_has(s->arena, " lo"));
	CHECK(s->is_memfd || mapping_has(s->arena, " dd"));
	CHECK(!s->is_memfd || mapping_has(s->arena, " dc"));
	CHECK(!s->is_memfd || mapping_has(s->arena, " lo"));
	if (!s->is_memfd) {
		pid = fork();
		if (pid == 0)
			_exit(s->arena->value[0][0] == 0 ? 0 : 1);
		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	}
}

TEST(without_leave_to_lock_there_is_no_store)
{
	struct rlimit none = { 0, 0 };
	struct err e = { 0 };
	struct store *s = NULL;
	int r;

	if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
		TEST_SKIP("cannot become an ordinary user");
	CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	r = store_new(&s, &e);
	CHECK_EQ(r, -EPERM);
	CHECK(strstr(e.text, "RLIMIT_MEMLOCK") != NULL);
	CHECK(s == NULL);
}

TEST(wiped_when_it_changes)
{
	_own_(store_free) struct store *s = new_store();
	static const uint8_t zeros[64];

	CHECK_EQ(set(s, "TOKEN", value), 0);
	CHECK_EQ(store_remove(s, span_str("TOKEN")), 0);
	CHECK_EQ(memcmp(s->arena->value[0], zeros, strlen(value)), 0);
	CHECK_EQ(s->arena->values.count, 0);
	CHECK_EQ(set(s, "TOKEN", value), 0);
	CHECK_EQ(set(s, "TOKEN", "12345678"), 0);
	CHECK_EQ(memcmp(s->arena->value[0] + 8, zeros, strlen(value) - 8), 0);
	for (unsigned i = STORE_SECRETS_MAX; i < STORE_VALUES; i++)
		CHECK_EQ(s->arena->value[i][0], 0);
}

static void check_scrubbed(struct scrub *c, const char *text, bool want)
{
	struct span in = span_str(text);
	struct span out;

	CHECK_EQ(scrub_piece(c, &in, 1000, &out), 0);
	CHECK_EQ(memcmp(out.at, text, out.len) != 0, want);
	CHECK_EQ(out.len, strlen(text));
}

TEST(SEC_8_an_old_value_is_scrubbed_while_its_reply_is_under_way)
{
	_own_(store_free) struct store *s = new_store();
	struct scrub *before, *between, *after;
	struct err e = { 0 };

	CHECK_EQ(set(s, "TOKEN", "the-first-value"), 0);
	CHECK_OK(scrub_new(s, &before, &e), &e);
	CHECK_EQ(set(s, "TOKEN", "the-second-value"), 0);
	CHECK_OK(scrub_new(s, &between, &e), &e);
	CHECK_EQ(store_remove(s, span_str("TOKEN")), 0);
	CHECK_OK(scrub_new(s, &after, &e), &e);
	check_scrubbed(before, "an echo of the-first-value.", true);
	check_scrubbed(between, "an echo of the-second-value.", true);
	scrub_free(before);
	CHECK_EQ(s->arena->values.count > 0, true);
	check_scrubbed(between, "an echo of the-first-value.", false);
	check_scrubbed(after, "an echo of the-second-value.", true); /* others still need it */
	scrub_free(between);
	CHECK_EQ(s->arena->values.count, 0);
	check_scrubbed(after, "an echo of the-second-value.", false);
	scrub_free(after);
	for (unsigned i = 0; i < STORE_VALUES; i++)
		CHECK_EQ(s->arena->value[i][0], 0);
}

TEST(rotations_without_end_are_bounded)
{
	_own_(store_free) struct store *s = new_store();
	struct scrub *c;
	struct err e = { 0 };
	char v[40];

	CHECK_EQ(set(s, "TOKEN", "the-first-value"), 0);
	CHECK_OK(scrub_new(s, &c, &e), &e);
	for (int i = 0; i < 3 * STORE_RETIRED_MAX; i++) {
		(void)snprintf(v, sizeof(v), "value-number-%08d", i);
		CHECK_EQ(set(s, "TOKEN", v), 0);
	}
	check_scrubbed(c, "an echo of value-number-00000190.", true);
	check_scrubbed(c, "an echo of value-number-00000150.", true);
	check_scrubbed(c, "an echo of value-number-00000100.", false);
	scrub_free(c);
	for (unsigned i = STORE_SECRETS_MAX; i < STORE_VALUES; i++)
		CHECK_EQ(s->arena->value[i][0], 0);
}

TEST_MAIN()
