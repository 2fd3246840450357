#include "base/fdio.h"
#include "guardpage.h"
#include "lib/client.h"
#include "lib/guest.h"
#include "lib/snapshot.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define IMAGE_ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char *const argv_[] = { "sh", "-c", "sleep 1", NULL };
static const char *const envp_[] = { "A=1", NULL };
static char spec_bytes[SPEC_BYTES_MAX];
static char note_bytes[SAVED_NOTE_MAX];

static struct spec a_spec(void)
{
	struct spec s;

	spec_init(&s);
	s.image = "debian:12";
	s.image_id = IMAGE_ID;
	s.argv = argv_;
	s.envp = envp_;
	s.engine = SPEC_ENGINE_QEMU;
	s.from = "0123456789ab";
	s.epoch = 2;
	s.main_pid = 41;
	s.limits.memory_bytes = SPEC_MEMORY_MIN;
	s.limits.disk_bytes = SPEC_DISK_MIN;
	return s;
}

static struct span a_note(struct span machine)
{
	const struct spec spec = a_spec();
	struct snapshot_note n = { .created_ns = 1700000000123456789,
		                   .id = span_str("0123456789ab"),
		                   .name = span_str("web"),
		                   .machine = machine };
	struct buf b;

	buf_init(&b, spec_bytes, sizeof(spec_bytes));
	spec_put(&b, &spec);
	CHECK(buf_ok(&b));
	n.spec = buf_span(&b);
	buf_init(&b, note_bytes, sizeof(note_bytes));
	snapshot_put_note(&b, &n);
	CHECK(buf_ok(&b));
	return buf_span(&b);
}

static int open_state(void)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	CHECK_EQ(mkdirat(fd, "snapshots", 0700), 0);
	return fd;
}

static void save(int state_fd, const char *name, struct span note)
{
	_own_(draft_close) struct draft d;
	_own_fd_ int folder = -1;
	struct err e = { 0 };

	draft_init(&d);
	CHECK_OK(fd_openat(state_fd, "snapshots", O_RDONLY | O_DIRECTORY, 0, &folder, &e), &e);
	CHECK_OK(draft_new(folder, SPEC_MEMORY_MIN, SPEC_DISK_MIN, &d, &e), &e);
	CHECK_EQ(pwrite(d.state_fd, "state", 5, 0), 5);
	CHECK_OK(draft_seal(&d, note, &e), &e);
	CHECK_OK(draft_publish(folder, &d, name, false, &e), &e);
}

TEST(a_note_makes_the_round_trip)
{
	struct span note = a_note(span_str("berm 1\nkernel 5 abc\n"));
	struct snapshot_note got;

	CHECK_EQ(snapshot_parse_note(note, &got), 0);
	CHECK_EQ(got.created_ns, 1700000000123456789);
	CHECK_MEM(got.id, span_str("0123456789ab"));
	CHECK_MEM(got.name, span_str("web"));
	CHECK_MEM(got.machine, span_str("berm 1\nkernel 5 abc\n"));
	CHECK_MEM(got.spec, span_of(spec_bytes, got.spec.len));
}

TEST(no_prefix_and_no_longer_text_is_a_note)
{
	struct span note = a_note(span_str("berm 1\n"));
	struct snapshot_note got;
	struct snapshot_note before;

	memset(&got, 0xa5, sizeof(got));
	memset(&before, 0xa5, sizeof(before));
	for (size_t len = 0; len < note.len; len++) {
		uint8_t *at = guard_copy(note.at, len);

		CHECK_EQ(snapshot_parse_note(span_of(at, len), &got), -EBADMSG);
		guard_free(at, len);
	}
	note_bytes[note.len] = 'x';
	CHECK_EQ(snapshot_parse_note(span_of(note_bytes, note.len + 1), &got), -EBADMSG);
	CHECK(memcmp(&got, &before, sizeof(got)) == 0);
}

TEST(strange_notes_are_refused)
{
	static const char *const notes[] = {
		"berm-snapshot 2\ncreated 1\nid 0123456789ab\nname \nmachine 0\nspec 0\n",
		"berm-snapshot 1\ncreated -1\nid 0123456789ab\nname \nmachine 0\nspec 0\n",
		"berm-snapshot 1\ncreated 9223372036854775808\nid 0123456789ab\nname \nmachine 0\nspec 0\n",
		"berm-snapshot 1\ncreated 1\nid 0123456789a\nname \nmachine 0\nspec 0\n",
		"berm-snapshot 1\ncreated 1\nid 01234567/9ab\nname \nmachine 0\nspec 0\n",
		"berm-snapshot 1\ncreated 1\nid 0123456789ab\nname \033[2J\nmachine 0\nspec 0\n",
		"berm-snapshot 1\ncreated 1\nid 0123456789ab\nname\nmachine 0\nspec 0\n",
		"berm-snapshot 1\ncreated 1\nname \nid 0123456789ab\nmachine 0\nspec 0\n",
		"berm-snapshot 1\ncreated 1\nid 0123456789ab\nname \nmachine 9999999\nspec 0\n",
		"berm-snapshot 1\ncreated 1\nid 0123456789ab\nname \nmachine 0\nspec 18446744073709551615\n",
		"",
	};
	struct snapshot_note got;

	CHECK_EQ(snapshot_parse_note(span_str("berm-snapshot 1\ncreated 1\nid 0123456789ab\nname \n"
	                                      "machine 0\nspec 0\n"),
	                             &got),
	         0);
	for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++)
		CHECK_EQ(snapshot_parse_note(span_str(notes[i]), &got), -EBADMSG);
}

TEST(one_is_opened_by_its_name)
{
	_own_(snapshot_free) struct snapshot *s = NULL;
	_own_fd_ int state_fd = open_state();
	struct err e = { 0 };
	struct spec spec;

	CHECK_EQ(snapshot_open(state_fd, "warm", &s, &e), -ENOENT);
	save(state_fd, "warm", a_note(span_str("berm 1\n")));
	CHECK_OK(snapshot_open(state_fd, "warm", &s, &e), &e);
	spec = snapshot_spec(s);
	CHECK_STR(spec.from, "warm");
	CHECK_STR(spec.image_id, IMAGE_ID);
	CHECK_STR(spec.argv[2], "sleep 1");
	CHECK_EQ(spec.epoch, 2);
	CHECK_EQ(spec.main_pid, 41);
	CHECK(spec_is_copy(&spec));
	CHECK_OK(spec_check(&spec, &e), &e);
}

TEST(names_that_cannot_be_are_refused)
{
	static const char *const names[] = { "", ".", "..", "../x", "a/b", ".tmp-1", "-x", "a b" };
	_own_(snapshot_free) struct snapshot *s = NULL;
	_own_fd_ int state_fd = open_state();
	struct err e = { 0 };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		CHECK_EQ(snapshot_open(state_fd, names[i], &s, &e), -EINVAL);
		CHECK_EQ(snapshot_remove(state_fd, names[i], &e), -EINVAL);
	}
}

/* What it says of itself must be a copy's specification, whole and within its bounds. */
TEST(a_damaged_one_is_refused_by_name)
{
	_own_(snapshot_free) struct snapshot *s = NULL;
	_own_fd_ int state_fd = open_state();
	struct err e = { 0 };
	struct span note;

	save(state_fd, "nothing", span_of("", 0));
	note = a_note(span_str("berm 1\n"));
	save(state_fd, "cut", span_of(note.at, note.len - 1));
	note_bytes[note.len - 1] = 7; /* the last field is a boolean */
	save(state_fd, "spec", note);
	CHECK_EQ(snapshot_open(state_fd, "nothing", &s, &e), -ESTALE);
	CHECK(strstr(e.text, "'nothing'") != NULL);
	CHECK_EQ(snapshot_open(state_fd, "cut", &s, &e), -ESTALE);
	CHECK_EQ(snapshot_open(state_fd, "spec", &s, &e), -ENOTSUP);
	CHECK(!s);
}

TEST(they_are_listed_newest_first_damaged_ones_too)
{
	_own_(snapshot_list_free) struct snapshot_list *l = NULL;
	_own_fd_ int state_fd = open_state();
	struct err e = { 0 };

	CHECK_OK(snapshot_list(state_fd, &l, &e), &e);
	CHECK_EQ(l->count, 0);
	snapshot_list_free(l);
	save(state_fd, "warm", a_note(span_str("berm 1\n")));
	save(state_fd, "bad", span_str("x"));
	CHECK_EQ(mkdirat(state_fd, "snapshots/.tmp-1", 0700), 0);
	CHECK_OK(snapshot_list(state_fd, &l, &e), &e);
	CHECK_EQ(l->count, 2);
	CHECK_STR(l->rows[0].name, "bad");
	CHECK(l->rows[0].damaged);
	CHECK_STR(l->rows[1].name, "warm");
	CHECK(!l->rows[1].damaged);
	CHECK_STR(l->rows[1].id, "0123456789ab");
	CHECK_STR(l->rows[1].image_id, IMAGE_ID);
	CHECK_STR(l->rows[1].command, "sh -c sleep 1");
	CHECK_EQ(l->rows[1].memory_bytes, SPEC_MEMORY_MIN);
	CHECK_OK(snapshot_remove(state_fd, "warm", &e), &e);
	CHECK_EQ(snapshot_remove(state_fd, "warm", &e), -ENOENT);
}

/* --- what it depends on --- */

static void write_share(const struct paths *p, const char *name, const char *text)
{
	_own_fd_ int fd = -1;
	struct err e = { 0 };

	CHECK_OK(fd_open(p->share, O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	CHECK_OK(fd_replace_file(fd, name, text, strlen(text), 0600, &e), &e);
}

static struct span machine_of(const struct paths *p)
{
	static char text[SNAPSHOT_MACHINE_MAX];
	_own_(guest_files_close) struct guest_files files;
	const struct spec spec = a_spec();
	struct err e = { 0 };
	struct buf b;

	guest_files_init(&files);
	CHECK_OK(guest_files_open(p, &engine_qemu, &files, &e), &e);
	buf_init(&b, text, sizeof(text));
	CHECK_OK(guest_put_machine(&b, &files, &spec, &e), &e);
	return buf_span(&b);
}

TEST(what_differs_is_named)
{
	static const struct {
		const char *file, *words;
	} cases[] = { { "vmlinux", "another guest kernel" },
		      { "initramfs.cpio", "another guest agent" },
		      { "cmdline", "other words for the guest kernel" } };
	_own_(snapshot_free) struct snapshot *s = NULL;
	_own_fd_ int state_fd = open_state();
	struct paths p = { 0 };
	struct err e = { 0 };

	if (access("/usr/bin/qemu-system-x86_64", R_OK) < 0)
		test_skip("qemu-system-x86_64 is not installed");
	(void)snprintf(p.share, sizeof(p.share), "%s", test_tmpdir());
	for (size_t i = 0; i < 3; i++)
		write_share(&p, cases[i].file, "as it was");
	save(state_fd, "warm", a_note(machine_of(&p)));
	CHECK_OK(snapshot_open(state_fd, "warm", &s, &e), &e);
	CHECK_OK(snapshot_check(s, &p, &e), &e);
	for (size_t i = 0; i < 3; i++) {
		write_share(&p, cases[i].file, "as it was"); /* another inode: the same file */
		CHECK_OK(snapshot_check(s, &p, &e), &e);
		write_share(&p, cases[i].file, "as it is");
		CHECK_EQ(snapshot_check(s, &p, &e), -EXDEV);
		CHECK(strstr(e.text, "'warm'") && strstr(e.text, cases[i].words));
		write_share(&p, cases[i].file, "as it was");
	}
}

/* --- open files that come with an answer --- */

static void send_done(int fd, const int *fds, size_t count)
{
	const struct wire_hello hello = { .version = WIRE_VERSION,
		                          .agent_version = span_str(""),
		                          .kernel = span_str("") };
	const struct wire_fail done = { 0 };
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	uint8_t bytes[256];
	struct buf b;
	struct iovec iov = { .iov_base = bytes };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *h;

	buf_init(&b, bytes, sizeof(bytes));
	wire_put_hello(&b, 1, &hello);
	wire_put_fail(&b, WIRE_DONE, 0, 1, &done);
	iov.iov_len = b.len;
	if (count > 0) {
		m.msg_control = room;
		m.msg_controllen = CMSG_SPACE(count * sizeof(int));
		h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(h), fds, count * sizeof(int));
	}
	CHECK_EQ(sendmsg(fd, &m, 0), b.len);
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* What a supervisor sends becomes a snapshot, or nothing of it stays open. */
TEST(a_fork_is_what_came_with_the_answer)
{
	_own_(draft_close) struct draft d;
	_own_fd_ int state_fd = open_state();
	struct span note = a_note(span_str("berm 1\n"));
	struct err e = { 0 };
	int before;

	draft_init(&d);
	CHECK_OK(draft_new(state_fd, SPEC_MEMORY_MIN, SPEC_DISK_MIN, &d, &e), &e);
	before = open_fds();
	for (int i = 0; i < 4; i++) {
		_own_(client_free) struct client *c = NULL;
		_own_(snapshot_free) struct snapshot *s = NULL;
		_own_fd_ int note_fd = -1;
		_own_fd_ int theirs = -1;
		int pair[2];
		int fds[6] = { d.ram_fd, d.state_fd, d.scratch_fd };
		int r;

		CHECK_OK(fd_tmpfile(state_fd, 0600, &note_fd, &e), &e);
		CHECK_OK(fd_write_all(note_fd, note.at, note.len - (i == 1), &e), &e);
		fds[3] = fds[4] = fds[5] = note_fd;
		CHECK_OK(fd_socketpair(pair, &e), &e);
		theirs = pair[1];
		CHECK_OK(client_new(pair[0], &c, &e), &e);
		send_done(theirs, fds, i == 2 ? 0 : i == 3 ? 6 : 4);
		r = snapshot_fork(c, &s, &e);
		if (i == 0 || i == 3) { /* more than four: the others are let go */
			CHECK_OK(r, &e);
			CHECK_STR(snapshot_spec(s).from, "0123456789ab");
			CHECK(fcntl(s->files.ram_fd, F_GETFD) & FD_CLOEXEC);
		} else {
			CHECK(r < 0 && !s);
		}
	}
	CHECK_EQ(open_fds(), before);
}

TEST_MAIN()
