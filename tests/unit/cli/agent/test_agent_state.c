#include "test.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "cli/agent/agent_state.h"
#include "wire/entry.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/*
 * The other end of the socket is a child that plays supervisor and guest: it keeps what is put and
 * answers each GET by the path's own script.
 */

enum { FAKE_DEADLINE_MS = 20000, HELD_MAX = 16, SEEN_BYTES = 1 << 20 };

struct fake {
	int fd;
	uint8_t in[512 << 10];
	size_t from, to;
	/* what was put, as entry streams, by stream id less the first */
	uint8_t put[HELD_MAX][80 << 10];
	size_t put_len[HELD_MAX];
	char put_path[HELD_MAX][256];
};

static void fake_put(struct fake *f, const struct buf *b)
{
	size_t at = 0;

	if (!buf_ok(b))
		_exit(41);
	while (at < b->len) {
		ssize_t n = send(f->fd, b->at + at, b->len - at, MSG_NOSIGNAL);

		if (n <= 0)
			_exit(0); /* ours has had enough of it */
		at += (size_t)n;
	}
}

static void fake_data(struct fake *f, uint32_t stream, struct span data)
{
	static uint8_t storage[WIRE_FRAME_MAX];
	struct buf b;

	while (data.len > 0) {
		size_t n = data.len < WIRE_DATA_MAX ? data.len : WIRE_DATA_MAX;

		buf_init(&b, storage, sizeof(storage));
		wire_put(&b, WIRE_DATA, WIRE_OUT, stream, 1, span_of(data.at, n));
		fake_put(f, &b);
		data = span_of(data.at + n, data.len - n);
	}
}

static void fake_result(struct fake *f, uint32_t stream, uint32_t code, const char *text)
{
	struct wire_fail fail = { .code = code, .stage = code ? WIRE_AT_PATH : WIRE_AT_NONE };
	uint8_t storage[512];
	struct buf b;

	fail.text = span_str(text);
	buf_init(&b, storage, sizeof(storage));
	wire_put_fail(&b, WIRE_RESULT, stream, 1, &fail);
	fake_put(f, &b);
}

static void fake_entries(struct fake *f, uint32_t stream, const struct entry *list, unsigned count,
                         struct span content)
{
	static uint8_t storage[256 << 10];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	for (unsigned i = 0; i < count; i++) {
		entry_put(&b, &list[i]);
		if (i == 0 && list[0].kind == ENTRY_FILE)
			buf_put_span(&b, content);
	}
	if (!buf_ok(&b))
		_exit(46);
	fake_data(f, stream, buf_span(&b));
	fake_result(f, stream, 0, "");
}

static bool fake_next(struct fake *f, struct wire_frame *ret)
{
	for (;;) {
		struct span in = span_of(f->in + f->from, f->to - f->from);
		struct pollfd p = { .fd = f->fd, .events = POLLIN };
		int r = wire_parse_frame(&in, WIRE_FROM_COMMAND, ret);
		ssize_t n;

		if (r == 0) {
			f->from = f->to - in.len;
			return true;
		}
		if (r != -EAGAIN)
			_exit(42);
		memmove(f->in, f->in + f->from, f->to - f->from);
		f->to -= f->from;
		f->from = 0;
		if (poll(&p, 1, FAKE_DEADLINE_MS) <= 0)
			_exit(43);
		n = recv(f->fd, f->in + f->to, sizeof(f->in) - f->to, 0);
		if (n <= 0)
			return false;
		f->to += (size_t)n;
	}
}

static bool ends_in(struct span path, const char *end)
{
	size_t len = strlen(end);

	return path.len >= len && memcmp(path.at + path.len - len, end, len) == 0;
}

/* What a guest may have under a name, by that name. */
static void fake_get(struct fake *f, uint32_t id, struct span path)
{
	static uint8_t large[AGENT_STATE_BYTES_MAX + 4096];
	const struct span words = span_str("token");
	struct entry file = { .kind = ENTRY_FILE, .mode = 0600, .size = words.len };
	const struct entry end = { .kind = ENTRY_END };
	struct entry two[3] = { file, file, end };

	two[0].path = two[1].path = span_of("", 0);
	file = two[0];
	if (path.len > 11 && memcmp(path.at, "/root/none/", 11) == 0) {
		fake_result(f, id, ENOENT, "");
	} else if (ends_in(path, "good.json")) {
		fake_entries(f, id, (struct entry[]){ file, end }, 2, words);
	} else if (ends_in(path, "empty.json")) {
		file.size = 0;
		fake_entries(f, id, (struct entry[]){ file, end }, 2, span_of("", 0));
	} else if (ends_in(path, "largest.json")) {
		file.size = AGENT_STATE_BYTES_MAX;
		fake_entries(f, id, (struct entry[]){ file, end }, 2,
		             span_of(large, AGENT_STATE_BYTES_MAX));
	} else if (ends_in(path, "huge.json")) {
		file.size = AGENT_STATE_BYTES_MAX + 1;
		fake_entries(f, id, (struct entry[]){ file, end }, 2,
		             span_of(large, AGENT_STATE_BYTES_MAX + 1));
	} else if (ends_in(path, "endless.json")) {
		file.size = INT64_MAX;
		fake_entries(f, id, (struct entry[]){ file }, 1, span_of(large, sizeof(large)));
	} else if (ends_in(path, "link.json")) {
		file = (struct entry){ .kind = ENTRY_LINK, .mode = 0777 };
		file.path = span_of("", 0);
		file.target = span_str("/etc/shadow");
		fake_entries(f, id, (struct entry[]){ file, end }, 2, words);
	} else if (ends_in(path, "folder.json")) {
		file = (struct entry){ .kind = ENTRY_DIR, .mode = 0700, .path = span_of("", 0) };
		fake_entries(f, id, (struct entry[]){ file, end }, 2, words);
	} else if (ends_in(path, "fifo.json")) {
		fake_result(f, id, EINVAL, "neither a file nor a directory nor a link");
	} else if (ends_in(path, "two.json")) {
		two[1].path = span_str("other");
		two[1].size = 0;
		fake_entries(f, id, two, 3, words);
	} else if (ends_in(path, "renamed.json")) {
		file.path = span_str("../../x");
		fake_data(f, id,
		          span_str("\x01 no entry at all, and long enough to be one"
		                   " whatever its fields say of its own length ....."));
		fake_result(f, id, 0, "");
	} else if (ends_in(path, "short.json")) {
		fake_result(f, id, 0, "");
	} else if (ends_in(path, "words.json")) {
		fake_result(f, id, EACCES, "\x1b[2Jgone");
	} else if (!ends_in(path, "silent.json")) {
		fake_result(f, id, ENOENT, "");
	}
}

static void play(struct fake *f)
{
	uint8_t storage[256];
	struct wire_hello hello = { .version = WIRE_VERSION,
		                    .agent_version = span_str("0.1.0"),
		                    .kernel = span_str("") };
	struct wire_frame fr;
	struct wire_file file;
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	wire_put_hello(&b, 1, &hello);
	fake_put(f, &b);
	while (fake_next(f, &fr)) {
		uint32_t slot = fr.stream % HELD_MAX;

		if ((fr.type == WIRE_GET || fr.type == WIRE_PUT) &&
		    wire_parse_file(fr.payload, &file) < 0)
			_exit(44);
		if (fr.type == WIRE_GET && file.follow)
			_exit(45);
		if (fr.type == WIRE_GET) {
			fake_get(f, fr.stream, file.path);
		} else if (fr.type == WIRE_PUT) {
			(void)snprintf(f->put_path[slot], sizeof(f->put_path[slot]), "%.*s",
			               (int)file.path.len, (const char *)file.path.at);
		} else if (fr.type == WIRE_DATA) {
			memcpy(f->put[slot] + f->put_len[slot], fr.payload.at, fr.payload.len);
			f->put_len[slot] += fr.payload.len;
		} else if (fr.type == WIRE_EOF) {
			/* its path and its bytes are the answer, for the test to read */
			if (ends_in(span_str(f->put_path[slot]), "/full"))
				fake_result(f, fr.stream, ENOSPC, "no room");
			else
				fake_result(f, fr.stream, 0, "");
			if (write(3, f->put_path[slot], strlen(f->put_path[slot]) + 1) < 0 ||
			    write(3, f->put[slot], f->put_len[slot]) < 0)
				_exit(47);
		}
	}
}

struct guest {
	struct agent_state_guest g;
	struct agent a;
	pid_t child;
	int state_fd;
	int seen_fd; /* what was put */
	struct err e;
};

/* words: NULL-ended */
static void guest_start(struct guest *t, const char *const *paths)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	int seen[2];
	int fds[2];

	*t = (struct guest){ .a.name = "one" };
	while (paths[t->a.state.count])
		t->a.state.count++;
	t->a.state.at = paths;
	(void)sigaction(SIGPIPE, &ignore, NULL);
	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &t->state_fd, &t->e), &t->e);
	CHECK_OK(fd_socketpair(fds, &t->e), &t->e);
	CHECK_EQ(pipe2(seen, O_CLOEXEC), 0);
	CHECK(fcntl(seen[1], F_SETPIPE_SZ, SEEN_BYTES) >= SEEN_BYTES);
	t->child = fork();
	CHECK(t->child >= 0);
	if (t->child == 0) {
		static struct fake f;
		int to = fcntl(seen[1], F_DUPFD, 100);

		f.fd = fcntl(fds[1], F_DUPFD, 100);
		for (int i = 3; i < 100; i++)
			(void)close(i);
		if (dup2(to, 3) != 3)
			_exit(48);
		play(&f);
		_exit(0);
	}
	(void)close(fds[1]);
	(void)close(seen[1]);
	t->seen_fd = seen[0];
	t->g = (struct agent_state_guest){ .stream = 16, .home = "/root", .user = "root" };
	CHECK_OK(client_new(fds[0], &t->g.client, &t->e), &t->e);
}

static void guest_end(struct guest *t)
{
	int status;

	client_free(t->g.client);
	CHECK_EQ(waitpid(t->child, &status, 0), t->child);
	CHECK_EQ(status, 0);
	(void)close(t->seen_fd);
	(void)close(t->state_fd);
}

static void take(struct guest *t, const char *root, struct agent_state_report *ret)
{
	CHECK_OK(agent_state_take(t->state_fd, &t->a, root, &t->g, ret, &t->e), &t->e);
}

struct seen {
	unsigned count;
	char text[2048];
	struct buf b;
};

static int look(void *arg, const struct agent_state_kept *k)
{
	struct seen *s = arg;

	s->count++;
	buf_printf(&s->b, "%s %s %llu\n", k->workspace, k->path, (unsigned long long)k->bytes);
	CHECK(k->mtime_ns > 0);
	return 0;
}

static const char *kept(struct guest *t, struct seen *s)
{
	*s = (struct seen){ 0 };
	buf_init(&s->b, s->text, sizeof(s->text));
	CHECK_OK(agent_state_list(t->state_fd, "one", look, s, &t->e), &t->e);
	return buf_cstr(&s->b);
}

TEST(a_login_goes_from_one_session_to_the_next)
{
	static const char *const paths[] = { ".a/good.json", "good.json",    ".a/b/c/empty.json",
		                             ".a/none.json", "largest.json", NULL };
	struct agent_state_report report;
	struct guest t;
	struct seen seen;
	struct stat st;
	char found[256];
	int fd;

	guest_start(&t, paths);
	/* before the first one there is nothing, and looking makes nothing */
	CHECK_OK(agent_state_put_in(t.state_fd, &t.a, "/w", &t.g, &report, &t.e), &t.e);
	CHECK_EQ(fstatat(t.state_fd, "agents", &st, 0), -1);
	take(&t, "/w", &report);
	CHECK_EQ(report.count, 5);
	CHECK_EQ(report.files[0].fate, AGENT_STATE_MOVED);
	CHECK_EQ(report.files[1].fate, AGENT_STATE_MOVED);
	CHECK_EQ(report.files[2].fate, AGENT_STATE_MOVED);
	CHECK_EQ(report.files[3].fate, AGENT_STATE_ABSENT);
	CHECK_EQ(report.files[4].fate, AGENT_STATE_MOVED);
	CHECK_STR(kept(&t, &seen), "/w .a/b/c/empty.json 0\n/w .a/good.json 5\n/w good.json 5\n"
	                           "/w largest.json 65536\n");

	t.g.stream = 32;
	CHECK_OK(agent_state_put_in(t.state_fd, &t.a, "/w", &t.g, &report, &t.e), &t.e);
	CHECK_EQ(report.files[0].fate, AGENT_STATE_MOVED);
	CHECK_EQ(report.files[3].fate, AGENT_STATE_ABSENT);
	CHECK_EQ(report.files[4].fate, AGENT_STATE_MOVED);
	/* the first: the folder beneath the home directory, then the file in it */
	CHECK_EQ(read(t.seen_fd, found, 9), 9);
	CHECK_STR(found, "/root/.a");
	CHECK(read(t.seen_fd, found, sizeof(found)) > 0);
	CHECK_EQ(found[0], ENTRY_DIR);
	CHECK(memmem(found, sizeof(found), "good.json", 9));
	CHECK(memmem(found, sizeof(found), "token", 5));

	/* nobody else's, and nobody but the user reads it */
	t.g.stream = 48;
	CHECK_OK(agent_state_put_in(t.state_fd, &t.a, "/other", &t.g, &report, &t.e), &t.e);
	CHECK_EQ(report.files[0].fate, AGENT_STATE_ABSENT);
	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &t.e), &t.e);
	CHECK_EQ(fstatat(fd, "agents/one", &st, 0), 0);
	CHECK_EQ(st.st_mode & 0777, 0700);
	(void)close(fd);
	guest_end(&t);
}

TEST(what_a_hostile_guest_has_is_not_taken)
{
	static const char *const paths[] = {
		"link.json", "folder.json",  "fifo.json",  "huge.json",  "endless.json",
		"two.json",  "renamed.json", "short.json", "words.json", "good.json",
		NULL
	};
	struct agent_state_report report;
	struct guest t;
	struct seen seen;

	guest_start(&t, paths);
	take(&t, "/w", &report);
	for (unsigned i = 0; i < 9; i++) {
		CHECK_EQ(report.files[i].fate, AGENT_STATE_REFUSED);
		CHECK(report.files[i].why[0]);
	}
	CHECK(strstr(report.files[0].why, "link"));
	CHECK(strstr(report.files[1].why, "directory"));
	CHECK(strstr(report.files[3].why, "65536"));
	/* and the others do not suffer from it */
	CHECK_EQ(report.files[9].fate, AGENT_STATE_MOVED);
	CHECK_STR(kept(&t, &seen), "/w good.json 5\n");
	guest_end(&t);
}

TEST(a_guest_that_does_not_answer_costs_little_and_loses_nothing)
{
	static const char *const before[] = { "good.json", "empty.json", NULL };
	static const char *const paths[] = { "silent.json", "good.json", NULL };
	struct agent_state_report report;
	struct guest t;
	struct seen seen;

	guest_start(&t, before);
	take(&t, "/w", &report);
	t.a.state.at = paths;
	t.g.stream = 32;
	t.g.client->until_ms = clock_mono_ms() + 300;
	take(&t, "/w", &report);
	CHECK_EQ(report.files[0].fate, AGENT_STATE_REFUSED);
	CHECK_EQ(report.files[1].fate, AGENT_STATE_REFUSED);
	CHECK_STR(kept(&t, &seen), "/w empty.json 0\n/w good.json 5\n");
	guest_end(&t);
}

TEST(a_logout_is_kept)
{
	static const char *const paths[] = { "good.json", ".a/good.json", NULL };
	struct agent_state_report report;
	struct guest t;
	struct seen seen;
	unsigned count;
	struct stat st;
	int fd;

	guest_start(&t, paths);
	take(&t, "/w", &report);
	CHECK_STR(kept(&t, &seen), "/w .a/good.json 5\n/w good.json 5\n");
	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &t.e), &t.e);
	CHECK_OK(agent_state_forget(t.state_fd, "one", "/nowhere", &count, &t.e), &t.e);
	CHECK_EQ(count, 0);
	/* the same files, and the guest says it has none of them */
	t.g.stream = 32;
	t.g.home = "/root/none";
	take(&t, "/w", &report);
	CHECK_EQ(report.files[0].fate, AGENT_STATE_ABSENT);
	CHECK_STR(kept(&t, &seen), "");
	t.g.home = "/root";
	t.g.stream = 48;
	take(&t, "/w", &report);
	CHECK_OK(agent_state_forget(t.state_fd, "one", "/w", &count, &t.e), &t.e);
	CHECK_EQ(count, 1);
	CHECK_STR(kept(&t, &seen), "");
	CHECK_EQ(fstatat(fd, "agents/one", &st, 0), 0);
	(void)close(fd);
	guest_end(&t);
}

TEST(forgetting_takes_all_workspaces_or_one)
{
	static const char *const paths[] = { "good.json", NULL };
	struct agent_state_report report;
	struct guest t;
	struct seen seen;
	unsigned count;

	guest_start(&t, paths);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const roots[] = { "/a", "/b", "/c" };

		t.g.stream = 16 * (i + 1);
		take(&t, roots[i], &report);
	}
	(void)kept(&t, &seen);
	CHECK_EQ(seen.count, 3);
	CHECK_OK(agent_state_forget(t.state_fd, "one", "/b", &count, &t.e), &t.e);
	CHECK_EQ(count, 1);
	CHECK_OK(agent_state_forget(t.state_fd, "two", NULL, &count, &t.e), &t.e);
	CHECK_EQ(count, 0);
	CHECK_OK(agent_state_forget(t.state_fd, "one", NULL, &count, &t.e), &t.e);
	CHECK_EQ(count, 2);
	CHECK_STR(kept(&t, &seen), "");
	guest_end(&t);
}

TEST_MAIN()
