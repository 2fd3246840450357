#include "base/buf.h"
#include "base/fdio.h"
#include "engine/template.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { RAM_BYTES = 8 << 20, DISK_BYTES = 4 << 20 };

static struct span key(void)
{
	return span_str("berm 0\nimage abc\nmemory 8388608\n");
}

static int folder(void)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	return fd;
}

/* A draft with some bytes in each file, as a build leaves it, made the template of k. */
static void save(int dir, struct span k)
{
	_own_(draft_close) struct draft d;
	struct err e = { 0 };

	draft_init(&d);
	CHECK_OK(draft_new(dir, RAM_BYTES, DISK_BYTES, &d, &e), &e);
	CHECK_EQ(pwrite(d.ram_fd, "memory", 6, 5 << 20), 6);
	CHECK_EQ(pwrite(d.scratch_fd, "disk", 4, 1 << 20), 4);
	CHECK_EQ(pwrite(d.state_fd, "device state", 12, 0), 12);
	CHECK_OK(template_commit(dir, &d, k, &e), &e);
}

static int open_it(int dir, struct err *e)
{
	_own_(saved_close) struct saved t;

	saved_init(&t);
	return template_open(dir, key(), &t, e);
}

/* The directory of the only template there is; the caller closes it. */
static int only_template(int dir)
{
	_own_fd_ int copy = -1;
	struct err e = { 0 };
	struct dirent *d;
	DIR *stream;
	int found = -1;

	CHECK_OK(fd_openat(dir, ".", O_RDONLY | O_DIRECTORY, 0, &copy, &e), &e);
	stream = fdopendir(steal_fd(&copy));
	CHECK(stream != NULL);
	while ((d = readdir(stream)))
		if (strlen(d->d_name) == 16) {
			CHECK_EQ(found, -1);
			CHECK_OK(fd_openat(dir, d->d_name, O_RDONLY | O_DIRECTORY, 0, &found, &e),
			         &e);
		}
	(void)closedir(stream);
	CHECK(found >= 0);
	return found;
}

static size_t entries(int dir)
{
	_own_fd_ int copy = -1;
	struct err e = { 0 };
	size_t count = 0;
	DIR *stream;

	CHECK_OK(fd_openat(dir, ".", O_RDONLY | O_DIRECTORY, 0, &copy, &e), &e);
	stream = fdopendir(steal_fd(&copy));
	CHECK(stream != NULL);
	while (readdir(stream))
		count++;
	(void)closedir(stream);
	return count - 2;
}

static void flip_byte(int template_dir, const char *file, off_t at)
{
	_own_fd_ int fd = -1;
	struct err e = { 0 };
	uint8_t byte = 0;

	CHECK_OK(fd_openat(template_dir, file, O_RDWR, 0, &fd, &e), &e);
	CHECK_EQ(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	CHECK_EQ(pwrite(fd, &byte, 1, at), 1);
}

TEST(what_was_saved_is_opened)
{
	_own_(saved_close) struct saved t;
	_own_fd_ int dir = folder();
	struct err e = { 0 };
	char got[16] = "";

	saved_init(&t);
	CHECK_EQ(template_open(dir, key(), &t, &e), -ENOENT);
	save(dir, key());
	CHECK_OK(template_open(dir, key(), &t, &e), &e);
	CHECK_EQ(pread(t.ram_fd, got, 6, 5 << 20), 6);
	CHECK_STR(got, "memory");
	/* nobody who restores from it can write to it */
	CHECK_EQ(pwrite(t.ram_fd, "x", 1, 0), -1);
	CHECK_EQ(pwrite(t.state_fd, "x", 1, 0), -1);
	CHECK_EQ(pwrite(t.scratch_fd, "x", 1, 0), -1);
}

TEST(a_working_set_is_found_once_it_is_there)
{
	_own_(saved_close) struct saved t;
	_own_(saved_close) struct saved again;
	_own_fd_ int dir = folder();
	_own_(template_wset_close) struct template_wset w;
	struct template_wset none;
	struct err e = { 0 };
	char got[8] = "";

	saved_init(&t);
	saved_init(&again);
	template_wset_init(&w);
	template_wset_init(&none);
	CHECK_EQ(template_wset_new(dir, key(), &none, &e), -ENOENT);
	save(dir, key());
	CHECK_OK(template_open(dir, key(), &t, &e), &e);
	CHECK_EQ(t.wset_fd, -1);
	CHECK_OK(saved_reopen(&t, &again, &e), &e);
	CHECK_EQ(again.wset_fd, -1);
	saved_close(&t);
	saved_close(&again);
	CHECK_OK(template_wset_new(dir, key(), &w, &e), &e);
	CHECK_EQ(pwrite(w.fd, "pages", 5, 0), 5);
	/* nor is it seen before it is whole */
	CHECK_OK(template_open(dir, key(), &t, &e), &e);
	CHECK_EQ(t.wset_fd, -1);
	saved_close(&t);
	CHECK_OK(template_wset_commit(&w, &e), &e);
	template_wset_close(&w);
	CHECK_EQ(template_wset_new(dir, key(), &none, &e), -EEXIST);
	CHECK_OK(template_open(dir, key(), &t, &e), &e);
	CHECK_OK(saved_reopen(&t, &again, &e), &e);
	CHECK_EQ(pread(again.wset_fd, got, sizeof(got), 0), 5);
	CHECK_STR(got, "pages");
	CHECK_EQ(pwrite(again.wset_fd, "x", 1, 0), -1);
	template_drop(dir, key());
	CHECK_EQ(template_wset_new(dir, key(), &none, &e), -ENOENT);
	CHECK_EQ(none.fd, -1);
}

/* As a learner that was killed, or had no success, leaves it; and as an older one left it empty. */
TEST(a_working_set_that_is_not_whole_is_none)
{
	_own_(saved_close) struct saved t;
	_own_(template_wset_close) struct template_wset w;
	_own_fd_ int dir = folder();
	struct template_wset killed;
	char path[sizeof(w.path)];
	struct err e = { 0 };

	saved_init(&t);
	template_wset_init(&w);
	save(dir, key());
	CHECK_OK(template_wset_new(dir, key(), &killed, &e), &e);
	CHECK_EQ(pwrite(killed.fd, "pa", 2, 0), 2);
	own_close_fd(&killed.fd);
	CHECK_OK(template_wset_new(dir, key(), &w, &e), &e);
	(void)snprintf(path, sizeof(path), "%s", w.path);
	CHECK_EQ(faccessat(dir, path, F_OK, 0), 0);
	template_wset_close(&w);
	CHECK_EQ(faccessat(dir, path, F_OK, 0), -1);
	CHECK_OK(template_open(dir, key(), &t, &e), &e);
	CHECK_EQ(t.wset_fd, -1);
	saved_close(&t);
	CHECK_OK(template_wset_new(dir, key(), &w, &e), &e);
	CHECK_OK(template_wset_commit(&w, &e), &e);
	template_wset_close(&w);
	CHECK_OK(template_open(dir, key(), &t, &e), &e);
	CHECK_EQ(t.wset_fd, -1);
	template_drop(dir, key());
	CHECK_EQ(faccessat(dir, killed.path, F_OK, 0), -1);
}

TEST(another_key_is_another_template)
{
	_own_(saved_close) struct saved t;
	_own_fd_ int dir = folder();
	struct err e = { 0 };

	saved_init(&t);
	save(dir, key());
	CHECK_EQ(template_open(dir, span_str("berm 0\nimage abd\n"), &t, &e), -ENOENT);
	CHECK_OK(open_it(dir, &e), &e);
}

/* The name of the only template there is. */
static void only_name(int dir, char ret[TEMPLATE_NAME_MAX])
{
	_own_fd_ int found = only_template(dir);
	char link[40];
	char path[4096] = "";

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", found);
	CHECK(readlink(link, path, sizeof(path) - 1) > 0);
	(void)snprintf(ret, TEMPLATE_NAME_MAX, "%s", strrchr(path, '/') + 1);
}

TEST(a_name_that_collides_is_no_match)
{
	_own_fd_ int dir = folder();
	char ours[TEMPLATE_NAME_MAX];
	char other[TEMPLATE_NAME_MAX];
	struct err e = { 0 };

	save(dir, key());
	only_name(dir, ours);
	CHECK_OK(saved_remove(dir, ours, &e), &e);
	save(dir, span_str("another key"));
	only_name(dir, other);
	CHECK_EQ(renameat(dir, other, dir, ours), 0);
	CHECK_EQ(open_it(dir, &e), -ENOENT);
	CHECK(strstr(e.text, "not the one asked for") != NULL);
}

TEST(a_changed_file_drops_it)
{
	static const struct {
		const char *file;
		off_t at;
	} cases[] = { { "ram", 5 << 20 }, { "ram", 0 }, { "state", 3 }, { "scratch", 1 << 20 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_own_fd_ int dir = folder();
		_own_fd_ int found = -1;
		struct err e = { 0 };

		save(dir, key());
		CHECK_OK(open_it(dir, &e), &e);
		found = only_template(dir);
		flip_byte(found, cases[i].file, cases[i].at);
		CHECK_EQ(open_it(dir, &e), -ENOENT);
		CHECK(strstr(e.text, "was changed") != NULL);
		CHECK_EQ(entries(dir), 0);
	}
}

TEST(a_lost_or_cut_file_drops_it)
{
	static const char *const files[] = { "ram", "state", "scratch", "meta" };

	for (size_t i = 0; i < 2 * sizeof(files) / sizeof(files[0]); i++) {
		_own_fd_ int dir = folder();
		_own_fd_ int found = -1;
		_own_fd_ int fd = -1;
		struct err e = { 0 };

		save(dir, key());
		found = only_template(dir);
		if (i % 2) {
			CHECK_EQ(unlinkat(found, files[i / 2], 0), 0);
		} else {
			CHECK_OK(fd_openat(found, files[i / 2], O_RDWR, 0, &fd, &e), &e);
			CHECK_EQ(ftruncate(fd, 7), 0);
		}
		CHECK_EQ(open_it(dir, &e), -ENOENT);
		CHECK_EQ(entries(dir), 0);
	}
}

/*
 * What a disk lost has no new change time, so only the hashes tell, once in a boot of the machine.
 * The change time cannot be set back; so the meta file is made to agree with the damaged file.
 */
TEST(damage_that_left_no_trace_is_found_in_the_next_boot)
{
	_own_fd_ int dir = folder();
	_own_fd_ int found = -1;
	_own_free_ char *meta = NULL;
	struct err e = { 0 };
	char fresh[TEMPLATE_KEY_MAX];
	struct stat st;
	struct buf b;
	char *line;
	char *hash;
	size_t len;

	save(dir, key());
	found = only_template(dir);
	flip_byte(found, "ram", 5 << 20);
	CHECK_EQ(fstatat(found, "ram", &st, 0), 0);
	CHECK_OK(fd_read_file(found, "meta", SAVED_META_MAX, &meta, &len, &e), &e);
	line = strstr(meta, "ram ");
	CHECK(line != NULL);
	hash = memrchr(line, ' ', strcspn(line, "\n"));
	CHECK(hash != NULL);
	buf_init(&b, fresh, sizeof(fresh));
	buf_put(&b, meta, (size_t)(line - meta));
	buf_printf(&b, "ram %llu %llu %llu", (unsigned long long)st.st_size,
	           (unsigned long long)st.st_ino,
	           (unsigned long long)st.st_ctim.tv_sec * 1000000000ULL +
	                   (unsigned long long)st.st_ctim.tv_nsec);
	buf_put(&b, hash, len - (size_t)(hash - meta));
	CHECK(buf_ok(&b));
	CHECK_OK(fd_replace_file(found, "meta", b.at, b.len, 0600, &e), &e);

	/* in this boot nothing shows it; that is the bargain, and why the next one looks again */
	CHECK_OK(open_it(dir, &e), &e);
	CHECK_OK(fd_replace_file(found, "verified", "another boot", 12, 0600, &e), &e);
	CHECK_EQ(open_it(dir, &e), -ENOENT);
	CHECK(strstr(e.text, "damaged") != NULL);
}

TEST(an_honest_template_survives_a_reboot)
{
	_own_fd_ int dir = folder();
	_own_fd_ int found = -1;
	struct err e = { 0 };

	save(dir, key());
	found = only_template(dir);
	CHECK_OK(fd_replace_file(found, "verified", "another boot", 12, 0600, &e), &e);
	CHECK_OK(open_it(dir, &e), &e);
	CHECK_OK(open_it(dir, &e), &e);
}

TEST(a_discarded_draft_leaves_nothing)
{
	_own_fd_ int dir = folder();
	struct draft d;
	struct err e = { 0 };

	draft_init(&d);
	CHECK_OK(draft_new(dir, RAM_BYTES, DISK_BYTES, &d, &e), &e);
	CHECK_EQ(entries(dir), 1);
	draft_discard(dir, &d);
	CHECK_EQ(entries(dir), 0);
}

static void count_up(void *arg)
{
	int *count = arg;

	(*count)++;
}

static const struct template_wait long_wait = { .timeout_ms = 20000 };

TEST(one_builder_at_a_time)
{
	_own_fd_ int dir = folder();
	struct template_lock first;
	struct template_lock second;
	struct err e = { 0 };
	int told = 0;
	const struct template_wait wait = { 50, count_up, &told };
	char text[64];

	template_lock_init(&first);
	template_lock_init(&second);
	CHECK_OK(template_lock(dir, key(), &wait, &first, &e), &e);
	CHECK_EQ(told, 0);
	CHECK_EQ(entries(dir), 1);
	CHECK_EQ(template_lock(dir, key(), &wait, &second, &e), -ETIMEDOUT);
	CHECK_EQ(second.fd, -1);
	CHECK_EQ(told, 1);
	(void)snprintf(text, sizeof(text), "(pid %d)", (int)getpid());
	CHECK(strstr(e.text, text) != NULL);
	template_unlock(&first);
	CHECK_EQ(entries(dir), 0);
	CHECK_OK(template_lock(dir, key(), &wait, &second, &e), &e);
	template_unlock(&second);
	template_unlock(&second);
	CHECK_EQ(entries(dir), 0);
}

/* Two locks at once would show in the counter: it is read, waited for and written. */
static void take_turns(int dir, uint32_t *in, uint32_t *sum)
{
	for (int i = 0; i < 40; i++) {
		struct template_lock l;

		template_lock_init(&l);
		if (template_lock(dir, key(), &long_wait, &l, NULL) < 0)
			_exit(1);
		if (__atomic_fetch_add(in, 1, __ATOMIC_SEQ_CST) != 0)
			_exit(2);
		(*sum)++;
		(void)sched_yield();
		(void)__atomic_fetch_sub(in, 1, __ATOMIC_SEQ_CST);
		if (i % 10 == 0)
			template_sweep_lock(dir, l.name); /* held: stays */
		template_unlock(&l);
	}
	_exit(0);
}

TEST(no_two_hold_it_while_its_file_comes_and_goes)
{
	_own_fd_ int dir = folder();
	uint32_t *shared =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[4];

	CHECK(shared != MAP_FAILED);
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		CHECK(pids[i] >= 0);
		if (pids[i] == 0)
			take_turns(dir, &shared[0], &shared[1]);
	}
	for (int i = 0; i < 4; i++) {
		int status = 0;

		CHECK_EQ(waitpid(pids[i], &status, 0), pids[i]);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(shared[1], 160);
	CHECK_EQ(entries(dir), 0);
}

TEST(a_builder_that_is_killed_frees_the_next_at_once)
{
	_own_fd_ int dir = folder();
	struct template_lock l;
	struct err e = { 0 };
	int fds[2];
	char c;
	pid_t pid;

	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		if (template_lock(dir, key(), &long_wait, &l, NULL) < 0)
			_exit(1);
		(void)!write(fds[1], "x", 1);
		for (;;)
			(void)pause();
	}
	CHECK_EQ(read(fds[0], &c, 1), 1);
	(void)kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	CHECK_EQ(entries(dir), 1);
	template_lock_init(&l);
	CHECK_OK(template_lock(dir, key(), &(struct template_wait){ .timeout_ms = 0 }, &l, &e), &e);
	template_unlock(&l);
	CHECK_EQ(entries(dir), 0);
}

TEST(only_dead_locks_are_swept)
{
	_own_fd_ int dir = folder();
	_own_fd_ int dead = -1;
	struct template_lock l;
	struct err e = { 0 };

	template_lock_init(&l);
	CHECK_OK(template_lock(dir, key(), &long_wait, &l, &e), &e);
	template_sweep_lock(dir, l.name);
	CHECK_EQ(entries(dir), 1);
	template_unlock(&l);
	CHECK_OK(fd_openat(dir, "0123456789abcdef.lock", O_WRONLY | O_CREAT, 0600, &dead, &e), &e);
	template_sweep_lock(dir, "0123456789abcdef");
	template_sweep_lock(dir, "no.lock");
	CHECK_EQ(entries(dir), 1);
	template_sweep_lock(dir, "0123456789abcdef.lock");
	CHECK_EQ(entries(dir), 0);
}

TEST(the_oldest_go_when_there_are_too_many)
{
	_own_fd_ int dir = folder();
	struct err e = { 0 };
	char text[64];

	const struct timespec long_ago[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	_own_fd_ int first = -1;

	save(dir, key());
	first = only_template(dir);
	CHECK_EQ(futimens(first, long_ago), 0);
	for (int i = 0; i < TEMPLATE_KEPT_MAX + 3; i++) {
		(void)snprintf(text, sizeof(text), "key %d\n", i);
		save(dir, span_str(text));
	}
	CHECK_EQ(entries(dir), TEMPLATE_KEPT_MAX);
	CHECK_EQ(open_it(dir, &e), -ENOENT);
}

TEST_MAIN()
