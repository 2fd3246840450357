/*
 * libberm's copies of sandboxes, over a supervisor without a machine: forks, starts from snapshots,
 * and what is asked for without waiting.
 */
#include "api_test.h"
#include "fake_sup.h"

#include "base/fdio.h"
#include "engine/saved.h"
#include "failalloc.h"
#include "lib/guest.h"
#include "state/snapshot_note.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { TEN = 10, MANY = 40, THREADS = 8 };

static void need_qemu(void)
{
	if (access("/usr/bin/qemu-system-x86_64", R_OK) < 0)
		test_skip("qemu-system-x86_64 is not installed");
}

/* A sandbox with that main command, and pipes at it; it runs. */
static struct berm_sandbox *running(struct berm *b, const char *const *argv, int in, int out)
{
	struct berm_command cmd = command(argv, in, out);
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;

	cmd.data = b;
	OK(berm_config_add_env(c, "OWN=1", &err));
	OK(berm_config_set_command(c, &cmd, &err));
	OK(berm_start(b, c, &sb, &err));
	OK(berm_wait_started(sb, LONG_MS, &err));
	berm_config_free(c);
	return sb;
}

static struct berm_sandbox *a_cat(struct berm *b)
{
	return running(b, cat, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
}

static void answers(struct berm_sandbox *sb, const char *text)
{
	struct berm_err err = { 0 };
	char got[64];
	ssize_t n;

	CHECK_EQ(berm_write(berm_main(sb), text, strlen(text), LONG_MS, &err), strlen(text));
	n = berm_read(berm_main(sb), BERM_STDOUT, got, sizeof(got), LONG_MS, &err);
	OK(n);
	CHECK_SPAN(span_of(got, (size_t)n), text);
}

static void free_all(struct berm_sandbox **all, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		berm_sandbox_free(all[i]);
}

static void wait_left(unsigned count)
{
	for (uint64_t end = clock_mono_ms() + LONG_MS; fake_left() != count;) {
		CHECK(clock_mono_ms() < end);
		(void)poll(NULL, 0, 1);
	}
}

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	CHECK(dir);
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

TEST(a_parent_and_ten_children_answer)
{
	static const char *const env[] = { "env", "OWN", NULL };
	struct berm_sandbox *kids[TEN];
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;
	char text[32];

	need_qemu();
	b = begin();
	sb = a_cat(b);
	OK(berm_fork(sb, TEN, LONG_MS, kids, &err));
	CHECK_EQ(fake_left(), TEN + 1);
	answers(sb, "the parent");
	for (int i = 0; i < TEN; i++) {
		(void)snprintf(text, sizeof(text), "child %d", i);
		CHECK(strcmp(berm_sandbox_id(kids[i]), berm_sandbox_id(sb)) != 0);
		answers(kids[i], text);
		expect_text(exec(kids[i], env, BERM_STREAM_NULL, BERM_STREAM_PIPE), "OWN=1\n");
	}
	OK(berm_close_stdin(berm_main(kids[3]), &err));
	expect_exit(berm_main(kids[3]), 0);
	answers(kids[4], "still there");
	berm_sandbox_free(sb); /* children outlive it */
	wait_left(TEN - 1);
	answers(kids[5], "an orphan");
	free_all(kids, TEN);
	berm_free(b);
	gone();
}

/* Each is a sandbox like any other, a parent too. */
TEST(children_of_children)
{
	struct berm_sandbox *sb[4];
	struct berm_err err = { 0 };
	struct berm *b;

	need_qemu();
	b = begin();
	sb[0] = a_cat(b);
	for (int i = 0; i < 3; i++)
		OK(berm_fork(sb[i], 1, LONG_MS, &sb[i + 1], &err));
	for (int i = 0; i < 4; i++)
		answers(sb[i], "hello");
	free_all(sb, 4);
	berm_free(b);
	gone();
}

TEST(streams_are_as_the_parents)
{
	struct berm_sandbox *kid[1];
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm_event ev = { .size = sizeof(ev) };
	struct berm *b;
	char c;

	need_qemu();
	b = begin();
	sb = running(b, hang, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	OK(berm_fork(sb, 1, LONG_MS, kid, &err));
	BAD(-EINVAL, "'in'", berm_write(berm_main(kid[0]), "x", 1, 0, &err));
	BAD(-EINVAL, "'err'", berm_read(berm_main(kid[0]), BERM_STDERR, &c, 1, 0, &err));
	BAD(-EAGAIN, "nothing", berm_read(berm_main(kid[0]), BERM_STDOUT, &c, 1, 0, &err));
	OK(berm_signal(berm_main(kid[0]), 9, &err));
	do {
		struct pollfd p = { .fd = berm_event_fd(kid[0], &err), .events = POLLIN };

		CHECK_EQ(poll(&p, 1, LONG_MS), 1);
		OK(berm_next_event(kid[0], &ev, &err));
	} while (ev.kind != BERM_EVENT_EXIT);
	CHECK(ev.data == b); /* as the parent's */
	berm_sandbox_free(kid[0]);
	berm_sandbox_free(sb);

	sb = idle(b); /* no main command */
	OK(berm_fork(sb, 1, LONG_MS, kid, &err));
	CHECK(!berm_main(kid[0]));
	expect_text(exec(kid[0], echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	berm_sandbox_free(kid[0]);
	finish(b, sb);
}

TEST(stdin_that_has_ended_stays_so)
{
	struct berm_sandbox *kid[1];
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	need_qemu();
	b = begin();
	sb = running(b, hang, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	OK(berm_close_stdin(berm_main(sb), &err));
	OK(berm_fork(sb, 1, LONG_MS, kid, &err));
	BAD(-EPIPE, "no more", berm_write(berm_main(kid[0]), "x", 1, LONG_MS, &err));
	berm_sandbox_free(kid[0]);
	finish(b, sb);
}

TEST(a_connected_parent)
{
	static const char *const env[] = { "env", "A", NULL };
	struct berm_command cmd = command(NULL, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	struct berm_sandbox *kid[1];
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm_sandbox *same;
	struct berm_process *p;
	struct berm *b;

	need_qemu();
	b = begin();
	sb = a_cat(b);
	OK(berm_connect(b, berm_sandbox_id(sb), &same, &err));
	OK(berm_fork(same, 1, LONG_MS, kid, &err));
	CHECK(berm_main(kid[0]));
	expect_text(exec(kid[0], env, BERM_STREAM_NULL, BERM_STREAM_PIPE), "A=image\n");
	OK(berm_attach(kid[0], &cmd, &p, &err));
	berm_sandbox_free(same);
	berm_sandbox_free(kid[0]);
	finish(b, sb);
}

TEST(forty_children_leave_no_file_open)
{
	struct berm_sandbox *kids[MANY];
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	unsigned before;
	struct berm *b;

	need_qemu();
	b = begin();
	sb = a_cat(b);
	before = open_files();
	OK(berm_fork(sb, MANY, LONG_MS, kids, &err));
	free_all(kids, MANY);
	wait_left(1);
	CHECK_EQ(open_files(), before);
	CHECK(fcntl(STDIN_FILENO, F_GETFD) >= 0); /* nor is one closed that is not ours */
	answers(sb, "the parent");
	finish(b, sb);
}

/* --- failures --- */

TEST(all_or_none)
{
	static const char *const third[] = { "hang", "3", NULL };
	static const char *const never[] = { "hang", "never", NULL };
	struct berm_sandbox *kids[TEN] = { NULL };
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	unsigned before;
	struct berm *b;

	need_qemu();
	b = begin();
	sb = running(b, third, BERM_STREAM_NULL, BERM_STREAM_NULL);
	before = open_files();
	BAD(-ECHILD, "of 10: a child did not start: no room for one more",
	    berm_fork(sb, TEN, LONG_MS, kids, &err));
	CHECK(!kids[0] && !kids[9]);
	wait_left(1);
	CHECK_EQ(open_files(), before);
	OK(berm_fork(sb, 2, LONG_MS, kids, &err)); /* the next numbers are well */
	free_all(kids, 2);
	berm_sandbox_free(sb);

	sb = running(b, never, BERM_STREAM_NULL, BERM_STREAM_NULL);
	before = open_files();
	BAD(-ETIMEDOUT, "did not fork in time", berm_fork(sb, TEN, 300, kids, &err));
	wait_left(1);
	CHECK_EQ(open_files(), before);
	finish(b, sb);
}

TEST(an_end_meanwhile_is_told)
{
	struct berm_sandbox *kids[1];
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	need_qemu();
	b = begin();
	sb = idle(b);
	BAD(-ESHUTDOWN, "stopped", berm_snapshot(sb, "end", LONG_MS, &err));
	BAD(-ESHUTDOWN, "stopped", berm_fork(sb, 1, LONG_MS, kids, &err));
	berm_sandbox_free(sb);
	sb = idle(b);
	BAD(-ENODATA, "supervisor has gone", berm_snapshot(sb, "die", LONG_MS, &err));
	BAD(-ENODATA, "supervisor has gone", berm_fork(sb, 1, LONG_MS, kids, &err));
	berm_sandbox_free(sb);
	berm_free(b);
	b = fake_berm(); /* sweeps what the dead one left */
	berm_free(b);
	gone();
}

/* --- without waiting --- */

static void await_event(struct berm_sandbox *sb, int kind)
{
	struct berm_err err = { 0 };
	struct berm_event ev = { .size = sizeof(ev) };
	struct pollfd p = { .fd = berm_event_fd(sb, &err), .events = POLLIN };

	do {
		CHECK_EQ(poll(&p, 1, LONG_MS), 1);
		ev.kind = 0;
		OK(berm_next_event(sb, &ev, &err));
	} while (ev.kind != kind);
}

/* Asks without waiting, and again when it is told to; it may be done at once. */
#define ASK(sb, call)                                                                              \
	({                                                                                         \
		long asked_ = (call);                                                              \
                                                                                                   \
		if (asked_ == -ETIMEDOUT) {                                                        \
			await_event(sb, BERM_EVENT_DONE);                                          \
			asked_ = (call);                                                           \
		}                                                                                  \
		asked_;                                                                            \
	})

TEST(a_loop_asks_and_is_told)
{
	struct berm_sandbox *kids[TEN];
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	need_qemu();
	b = begin();
	sb = a_cat(b);
	await_event(sb, BERM_EVENT_STARTED);
	BAD(-ETIMEDOUT, "fork", berm_fork(sb, TEN, 0, kids, &err));
	BAD(-EBUSY, "asked to fork", berm_fork(sb, 2, 0, kids, &err));
	BAD(-EBUSY, "asked to fork", berm_pause(sb, LONG_MS, &err));
	answers(sb, "meanwhile");
	await_event(sb, BERM_EVENT_DONE);
	BAD(-EBUSY, "asked to fork", berm_pause(sb, 0, &err));
	OK(berm_fork(sb, TEN, 0, kids, &err));
	for (int i = 0; i < TEN; i++)
		answers(kids[i], "hello");
	free_all(kids, TEN);

	OK(ASK(sb, berm_pause(sb, 0, &err)));
	OK(ASK(sb, berm_resume(sb, 0, &err)));
	BAD(-EEXIST, "there is one", ASK(sb, berm_snapshot(sb, "old", 0, &err)));

	/* what was asked for may be waited for as well */
	BAD(-ETIMEDOUT, "fork", berm_fork(sb, 2, 0, kids, &err));
	OK(berm_fork(sb, 2, LONG_MS, kids, &err));
	free_all(kids, 2);
	finish(b, sb);
}

/* The end is the last event, and what is never taken is freed with the handle. */
TEST(an_answer_that_is_not_taken)
{
	struct berm_event ev = { .size = sizeof(ev) };
	struct berm_sandbox *kids[TEN];
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	unsigned before;
	struct berm *b;

	need_qemu();
	b = begin();
	sb = idle(b);
	BAD(-ETIMEDOUT, "snapshot", berm_snapshot(sb, "never", 0, &err));
	OK(berm_stop(sb, 0, LONG_MS, &err));
	await_event(sb, BERM_EVENT_DONE);
	await_event(sb, BERM_EVENT_ENDED);
	CHECK_EQ(berm_next_event(sb, &ev, &err), 0);
	BAD(-ESHUTDOWN, "stopped", berm_snapshot(sb, "never", 0, &err));
	berm_sandbox_free(sb);
	gone();
	before = open_files();
	sb = idle(b);
	BAD(-ETIMEDOUT, "fork", berm_fork(sb, TEN, 0, kids, &err));
	await_event(sb, BERM_EVENT_DONE);
	berm_sandbox_free(sb);
	gone();
	sb = idle(b); /* half-way */
	BAD(-ETIMEDOUT, "fork", berm_fork(sb, TEN, 0, kids, &err));
	while (fake_left() < 3)
		(void)berm_next_event(sb, &ev, &err);
	berm_sandbox_free(sb);
	gone();
	CHECK_EQ(open_files(), before);
	berm_free(b);
}

/* --- threads --- */

struct crew {
	struct berm *b;
	struct berm_sandbox *sb; /* of all, or NULL: each has its own */
};

static void *fork_three(void *arg)
{
	const struct crew *crew = arg;
	struct berm_sandbox *sb = crew->sb ? crew->sb : a_cat(crew->b);
	struct berm_sandbox *kids[3];
	struct berm_err err = { 0 };

	for (int i = 0; i < (crew->sb ? 2 : 1); i++) {
		OK(berm_fork(sb, 3, LONG_MS, kids, &err));
		OK(berm_pause(sb, LONG_MS, &err));
		OK(berm_resume(sb, LONG_MS, &err));
		for (int k = 0; k < 3; k++)
			answers(kids[k], "hello");
		free_all(kids, 3);
	}
	if (!crew->sb)
		berm_sandbox_free(sb);
	return NULL;
}

static void run(struct crew *crew)
{
	pthread_t t[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, fork_three, crew), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
}

TEST(eight_threads)
{
	struct crew crew = { 0 };

	need_qemu();
	fake_install();
	crew.b = fake_berm();
	run(&crew);
	gone();
	crew.sb = a_cat(crew.b);
	run(&crew);
	berm_sandbox_free(crew.sb);
	berm_free(crew.b);
	gone();
}

/* --- from a snapshot --- */

static struct spec a_spec(const char *const *argv)
{
	static const char *const env[] = { "A=saved", NULL };
	struct spec s;

	spec_init(&s);
	s.image = "default";
	s.image_id = FAKE_IMAGE_ID;
	s.argv = argv;
	s.envp = env;
	s.engine = SPEC_ENGINE_QEMU;
	s.from = "0123456789ab";
	s.epoch = 2;
	s.main_pid = argv[0] ? 41 : 0;
	s.stdin_open = true;
	s.limits.memory_bytes = SPEC_MEMORY_MIN;
	s.limits.disk_bytes = SPEC_DISK_MIN;
	return s;
}

/* A snapshot of that name, of a guest that runs argv. */
static void save(const char *name, const char *const *argv)
{
	static char machine[SNAPSHOT_MACHINE_MAX];
	static char spec_bytes[SPEC_BYTES_MAX];
	static char note[SAVED_NOTE_MAX];
	_own_(guest_files_close) struct guest_files files;
	const struct spec spec = a_spec(argv);
	struct snapshot_note n = { .created_ns = 1, .id = span_str("0123456789ab") };
	_own_(draft_close) struct draft d;
	_own_fd_ int folder = -1;
	struct paths p = { 0 };
	struct err e = { 0 };
	struct buf b;

	draft_init(&d);
	guest_files_init(&files);
	(void)snprintf(p.share, sizeof(p.share), "%s/share/berm", fake_prefix());
	CHECK_OK(guest_files_open(&p, &engine_qemu, &files, &e), &e);
	buf_init(&b, machine, sizeof(machine));
	CHECK_OK(guest_put_machine(&b, &files, &spec, &e), &e);
	n.machine = buf_span(&b);
	buf_init(&b, spec_bytes, sizeof(spec_bytes));
	spec_put(&b, &spec);
	n.spec = buf_span(&b);
	buf_init(&b, note, sizeof(note));
	snapshot_put_note(&b, &n);
	CHECK(buf_ok(&b));
	(void)snprintf(p.state, sizeof(p.state), "%s/snapshots", fake_state());
	CHECK_OK(fd_open(p.state, O_RDONLY | O_DIRECTORY, 0, &folder, &e), &e);
	CHECK_OK(draft_new(folder, SPEC_MEMORY_MIN, SPEC_DISK_MIN, &d, &e), &e);
	CHECK_OK(draft_seal(&d, buf_span(&b), &e), &e);
	CHECK_OK(draft_publish(folder, &d, name, false, &e), &e);
}

TEST(a_start_from_a_snapshot_twice)
{
	struct berm_command cmd = command(NULL, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	static const char *const env[] = { "env", "OWN", NULL };
	struct berm_config *c = config();
	struct berm_sandbox *sb[2];
	struct berm_err err = { 0 };
	struct berm *b;

	need_qemu();
	b = begin();
	save("warm", cat);
	OK(berm_config_set_snapshot(c, "warm", &err));
	OK(berm_config_set_command(c, &cmd, &err));
	OK(berm_config_add_env(c, "OWN=2", &err));
	for (int i = 0; i < 2; i++)
		OK(berm_start(b, c, &sb[i], &err));
	for (int i = 0; i < 2; i++) {
		answers(sb[i], "from a snapshot");
		expect_text(exec(sb[i], env, BERM_STREAM_NULL, BERM_STREAM_PIPE), "OWN=2\n");
	}
	free_all(sb, 2);
	OK(berm_config_set_command(c, NULL, &err));
	OK(berm_start(b, c, &sb[0], &err));
	OK(berm_wait_started(sb[0], LONG_MS, &err));
	CHECK(berm_main(sb[0]));
	berm_sandbox_free(sb[0]);
	berm_config_free(c);
	berm_free(b);
	gone();
}

static void damage(const char *path)
{
	struct err e = { 0 };
	int fd;

	CHECK_OK(fd_open(path, O_WRONLY | O_TRUNC, 0, &fd, &e), &e);
	CHECK_OK(fd_write_all(fd, "other", 5, &e), &e);
	(void)close(fd);
}

TEST(snapshots_that_are_refused)
{
	struct berm_command cmd = command(cat, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	char path[PATH_MAX];
	struct berm *b;

	need_qemu();
	b = begin();
	save("warm", cat);
	OK(berm_config_set_snapshot(c, "nothing-such", &err));
	BAD(-ENOENT, "no snapshot 'nothing-such'", berm_start(b, c, &sb, &err));
	OK(berm_config_set_snapshot(c, "warm", &err));
	OK(berm_config_set_command(c, &cmd, &err));
	BAD(-EINVAL, "argv must be NULL", berm_start(b, c, &sb, &err));
	OK(berm_config_set_command(c, NULL, &err));
	OK(berm_config_set_engine(c, BERM_ENGINE_KVM, &err));
	BAD(-EXDEV, "the other engine", berm_start(b, c, &sb, &err));
	OK(berm_config_set_engine(c, BERM_ENGINE_AUTO, &err));
	(void)snprintf(path, sizeof(path), "%s/share/berm/vmlinux", fake_prefix());
	damage(path);
	BAD(-EXDEV, "another guest kernel", berm_start(b, c, &sb, &err));
	(void)snprintf(path, sizeof(path), "%s/snapshots/warm/state", fake_state());
	damage(path);
	BAD(-ESTALE, "'warm' cannot be used", berm_start(b, c, &sb, &err));
	CHECK_EQ(fake_left(), 0);
	berm_config_free(c);
	berm_free(b);
}

TEST(out_of_memory_leaves_nothing)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	need_qemu();
	b = begin();
	save("warm", cat);
	OK(berm_config_set_snapshot(c, "warm", &err));
	sb = a_cat(b);
	FAILALLOC_EACH()
	{
		struct berm_sandbox *kids[1] = { NULL };
		struct berm_sandbox *copy = NULL;
		int r = berm_fork(sb, 1, LONG_MS, kids, &err);

		if (r == 0)
			r = berm_start(b, c, &copy, &err);
		if (failalloc_hit() && r != 0) /* some of it can be done without */
			CHECK_EQ(r, -ENOMEM);
		else
			OK(r);
		berm_sandbox_free(kids[0]);
		berm_sandbox_free(copy);
		wait_left(1);
	}
	answers(sb, "the parent");
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
	gone();
}

API_TEST_MAIN()
