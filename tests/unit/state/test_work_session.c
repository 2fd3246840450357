#include "state/work_session.h"

#include "base/fdio.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

/* A state directory of its own, gone with it. */
struct place {
	char path[64];
	int fd;
};

static void place_init(struct place *p)
{
	struct err e = { 0 };

	(void)snprintf(p->path, sizeof(p->path), "/tmp/berm-test-session-XXXXXX");
	CHECK(mkdtemp(p->path) != NULL);
	CHECK_EQ(fd_open(p->path, O_RDONLY | O_DIRECTORY, 0, &p->fd, &e), 0);
}

static void place_fini(const struct place *p)
{
	CHECK_EQ(fd_remove_tree(AT_FDCWD, p->path, NULL), 0);
	(void)close(p->fd);
}

static const struct work_session_info sample = {
	.root = "/home/u/caf\xe9 \"x\"",
	.root_dev = 7,
	.root_ino = 9,
	.mount = "/workspace",
	.agent = "claude-code",
	.image = "default",
};

TEST(json_there_and_back)
{
	struct work_session_info in = sample;
	struct work_session_info out = { 0 };
	struct err e = { 0 };
	static char text[SESSION_JSON_MAX];
	struct buf b;

	memcpy(in.id, "0123456789ab", 13);
	in.state = SESSION_UNCOLLECTED;
	in.created_ns = 1700000000123456789;
	in.exit_code = 137;
	in.spool_bytes = UINT64_C(1) << 40;
	in.root_btime_ns = 1600000000123456789;
	in.undecided = SESSION_UNKNOWN;
	in.left = 3;
	in.commits_home = 2;
	memcpy(in.handed_to, "ba9876543210", 13);
	(void)snprintf(in.why, sizeof(in.why), "a \x1b[31m guest's words");
	memset(in.mount, 'm', sizeof(in.mount) - 1);
	in.mount[0] = '/';
	buf_init(&b, text, sizeof(text));
	work_session_put_json(&b, &in);
	CHECK(buf_ok(&b));
	CHECK(!memchr(text, '\x1b', b.len));
	CHECK_EQ(work_session_parse_json(buf_span(&b), &out, &e), 0);
	CHECK_STR(out.id, in.id);
	CHECK_STR(out.root, in.root);
	CHECK_STR(out.mount, in.mount);
	CHECK_STR(out.why, in.why);
	CHECK_STR(out.agent, in.agent);
	CHECK_EQ(out.state, in.state);
	CHECK_EQ(out.created_ns, in.created_ns);
	CHECK_EQ(out.exit_code, in.exit_code);
	CHECK_EQ(out.spool_bytes, in.spool_bytes);
	CHECK_EQ(out.root_btime_ns, in.root_btime_ns);
	CHECK_EQ(out.undecided, SESSION_UNKNOWN);
	CHECK_EQ(out.left, 3);
	CHECK_EQ(out.commits_home, 2);
	CHECK_STR(out.handed_to, in.handed_to);
	CHECK_EQ(
		work_session_parse_json(
			span_str(
				"{\"state\":\"pending\",\"id\":\"0123456789ab\",\"root_hex\":\"\",\"mount_hex\":\"\"}"),
			&out, &e),
		0);
	CHECK_EQ(out.undecided, SESSION_UNKNOWN); /* an older berm's */
	CHECK_EQ(out.left, SESSION_UNKNOWN);
	CHECK_STR(out.handed_to, "");
	/* every prefix is refused, and leaves the output as it was */
	memset(&out, 0xa5, sizeof(out));
	for (size_t len = 0; len + 2 < b.len; len += 97) {
		CHECK_EQ(work_session_parse_json(span_of(text, len), &out, &e), -EBADMSG);
		CHECK_EQ(out.state, 0xa5);
	}
}

TEST(json_the_longest_fits)
{
	static struct work_session_info in;
	static char text[SESSION_JSON_MAX];
	struct buf b;

	memset(in.root, 1, sizeof(in.root) - 1);
	memset(in.mount, 1, sizeof(in.mount) - 1);
	memset(in.message, 1, sizeof(in.message) - 1);
	memset(in.why, 1, sizeof(in.why) - 1);
	in.created_ns = in.changed_ns = in.root_dev = in.root_ino = UINT64_MAX;
	buf_init(&b, text, sizeof(text));
	work_session_put_json(&b, &in);
	CHECK(buf_ok(&b));
}

TEST(json_that_is_not_ours)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"state\": \"pending\"}",
		"{\"state\":\"melted\",\"id\":\"0123456789ab\",\"root_hex\":\"\",\"mount_hex\":\"\"}",
		"{\"state\":\"pending\",\"id\":\"../../../etc\",\"root_hex\":\"\",\"mount_hex\":\"\"}",
		"{\"state\":\"pending\",\"id\":\"0123456789ab\",\"root_hex\":\"0\",\"mount_hex\":\"\"}",
		"{\"state\":\"packed\",\"id\":\"0123456789ab\",\"root_hex\":\"6100\",\"mount_hex\":\"\"}",
		"{\"state\":\"packed\",\"id\":\"0123456789ab\",\"root_hex\":\"\",\"exit_code\":-1}",
	};
	struct work_session_info out;
	struct err e = { 0 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(work_session_parse_json(span_str(bad[i]), &out, &e), -EBADMSG);
	CHECK_EQ(work_session_parse_json(
			 span_str("{\"state\":\"packed\",\"id\":\"0123456789ab\",\"root_hex\":\"\","
	                          "\"mount_hex\":\"\",\"handed_to\":\"../x\"}"),
			 &out, &e),
	         -EBADMSG);
}

TEST(k12_one_holder_and_a_dead_one)
{
	struct work_session a;
	struct work_session b;
	struct place p;
	struct err e = { 0 };

	place_init(&p);
	CHECK_EQ(work_session_new(p.fd, &sample, "pack", &a, &e), 0);
	CHECK_EQ(a.info.state, SESSION_PACKING);
	CHECK_EQ(work_session_open(p.fd, a.info.id, &b, &e), 0);
	CHECK_STR(b.info.root, sample.root);
	CHECK_EQ(work_session_lock(&b, "review", &e), -EBUSY);
	CHECK(strstr(e.text, "(pack, process ") != NULL);
	a.info.state = SESSION_PENDING;
	CHECK_EQ(work_session_save(&a, &e), 0);
	work_session_close(&a);
	CHECK_EQ(work_session_lock(&b, "review", &e), 0);
	CHECK_EQ(b.info.state,
	         SESSION_PENDING); /* as it is now, not as it was when it was opened */
	CHECK_EQ(work_session_remove(p.fd, &b, &e), 0);
	CHECK_EQ(b.dir_fd, -1);
	place_fini(&p);
}

TEST(found_by_the_front_of_its_id)
{
	struct work_session a;
	struct work_session b;
	char front[SESSION_PREFIX_MIN + 1] = { 0 };
	struct place p;
	struct err e = { 0 };

	place_init(&p);
	CHECK_EQ(work_session_new(p.fd, &sample, "pack", &a, &e), 0);
	memcpy(front, a.info.id, SESSION_PREFIX_MIN);
	CHECK_EQ(work_session_find(p.fd, front, &b, &e), 0);
	CHECK_STR(b.info.id, a.info.id);
	work_session_close(&b);
	front[SESSION_PREFIX_MIN - 1] = '\0';
	CHECK_EQ(work_session_find(p.fd, front, &b, &e), -ENOENT);
	CHECK_EQ(work_session_find(p.fd, "", &b, &e), -ENOENT);
	CHECK_EQ(work_session_open(p.fd, "../sandboxes", &b, &e), -EINVAL);
	CHECK_EQ(work_session_open(p.fd, "ffffffffffff", &b, &e), -ENOENT);
	work_session_close(&a);
	place_fini(&p);
}

/* What a supervisor that was killed left: a state that says it runs, and a free lock. */
static void left(int state_fd, uint8_t state, const char *file, uint8_t want)
{
	struct work_session a;
	struct work_session b;
	struct err e = { 0 };
	int fd = -1;

	CHECK_EQ(work_session_new(state_fd, &sample, "pack", &a, &e), 0);
	a.info.state = state;
	CHECK_EQ(work_session_save(&a, &e), 0);
	if (file) {
		CHECK_EQ(fd_openat(a.dir_fd, file, O_WRONLY | O_CREAT, 0600, &fd, &e), 0);
		CHECK_EQ(fd_write_all(fd, "x", 1, &e), 0);
		(void)close(fd);
	}
	/* while somebody works on it, it is what it says */
	CHECK_EQ(work_session_open(state_fd, a.info.id, &b, &e), 0);
	CHECK_EQ(b.info.state, state);
	work_session_close(&a);
	CHECK_EQ(work_session_lock(&b, "review", &e), 0);
	CHECK_EQ(b.info.state, want);
	CHECK_EQ(work_session_remove(state_fd, &b, &e), 0);
}

TEST(k5_what_a_dead_supervisor_left)
{
	struct place p;

	place_init(&p);
	left(p.fd, SESSION_RUNNING, "scratch.img", SESSION_UNCOLLECTED);
	left(p.fd, SESSION_RUNNING, NULL, SESSION_PACKED);
	left(p.fd, SESSION_COLLECTING, "scratch.img", SESSION_UNCOLLECTED);
	left(p.fd, SESSION_COLLECTING, "spool.tar", SESSION_SPOOLED);
	left(p.fd, SESSION_PENDING, "spool.tar", SESSION_PENDING);
	place_fini(&p);
}

TEST(k8_a_disk_that_is_in_use)
{
	struct work_session a;
	struct place p;
	struct err e = { 0 };
	int disk = -1;
	int fd = -1;

	place_init(&p);
	CHECK_EQ(work_session_new(p.fd, &sample, "pack", &a, &e), 0);
	CHECK_EQ(work_session_vm_dead(&a, &e), 0);
	CHECK_EQ(fd_openat(a.dir_fd, "rescue.img", O_RDWR | O_CREAT, 0600, &disk, &e), 0);
	CHECK_EQ(flock(disk, LOCK_EX | LOCK_NB), 0);
	a.info.state = SESSION_SPOOLED;
	CHECK_EQ(work_session_vm_dead(&a, &e), -EBUSY);
	CHECK_EQ(work_session_open_spool(&a, &fd, &e), -EBUSY);
	CHECK_EQ(work_session_drop_scratch(&a, &e), -EBUSY);
	CHECK_EQ(work_session_remove(p.fd, &a, &e), -EBUSY);
	(void)close(disk);
	CHECK_EQ(work_session_vm_dead(&a, &e), 0);
	CHECK_EQ(work_session_open_spool(&a, &fd, &e), -ENOENT);
	CHECK_EQ(work_session_drop_scratch(&a, &e), 0);
	a.info.state = SESSION_UNCOLLECTED;
	CHECK_EQ(work_session_open_spool(&a, &fd, &e), -ENODATA);
	CHECK_EQ(work_session_remove(p.fd, &a, &e), 0);
	place_fini(&p);
}

TEST(listed_newest_first_and_none_lost)
{
	struct work_session_list *l = NULL;
	struct work_session a;
	struct place p;
	struct err e = { 0 };
	char last[SESSION_ID_LEN + 1] = "";
	int fd = -1;

	place_init(&p);
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(work_session_new(p.fd, &sample, "pack", &a, &e), 0);
		a.info.created_ns = UINT64_C(1000) + (unsigned)i;
		a.info.state = i == 7 ? SESSION_PACKING : SESSION_PENDING;
		CHECK_EQ(work_session_save(&a, &e), 0);
		if (i ==
		    3) { /* one that cannot be read is listed all the same: its work is there */
			CHECK_EQ(
				fd_openat(a.dir_fd, "session.json", O_WRONLY | O_TRUNC, 0, &fd, &e),
				0);
			(void)close(fd);
		}
		memcpy(last, a.info.id, sizeof(last));
		work_session_close(&a);
	}
	CHECK_EQ(work_session_list(p.fd, &l, &e), 0);
	CHECK_EQ(l->count, 19); /* the one that was being packed is gone */
	CHECK_STR(l->items[0].id, last);
	CHECK_EQ(l->items[18].state, SESSION_NONE);
	CHECK(*l->items[18].why != '\0');
	work_session_list_free(l);
	place_fini(&p);
}

static void put_file(int dir_fd, const char *name)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_EQ(fd_openat(dir_fd, name, O_WRONLY | O_CREAT, 0600, &fd, &e), 0);
	(void)close(fd);
}

/* The word alone hands nothing on, the file has to go as well; what belongs to none is removed. */
TEST(handed_on_is_a_word_and_a_file_that_went)
{
	struct work_session_list *l = NULL;
	struct work_session a;
	struct place p;
	struct err e = { 0 };

	place_init(&p);
	CHECK_EQ(work_session_new(p.fd, &sample, "pack", &a, &e), 0);
	put_file(a.dir_fd, "base.erofs");
	put_file(a.dir_fd, "base.manifest");
	a.info.state = SESSION_APPLIED;
	memcpy(a.info.handed_to, "ba9876543210", 13);
	CHECK_EQ(work_session_save(&a, &e), 0);
	work_session_unlock(&a);
	CHECK_EQ(work_session_list(p.fd, &l, &e), 0);
	CHECK_STR(l->items[0].handed_to, "");
	CHECK_EQ(faccessat(a.dir_fd, "base.manifest", F_OK, 0), 0);
	work_session_list_free(l);
	CHECK_EQ(unlinkat(a.dir_fd, "base.erofs", 0), 0);
	CHECK_EQ(work_session_list(p.fd, &l, &e), 0);
	CHECK_STR(l->items[0].handed_to, "ba9876543210");
	CHECK_EQ(faccessat(a.dir_fd, "base.manifest", F_OK, 0), -1);
	work_session_list_free(l);
	work_session_close(&a);
	place_fini(&p);
}

/* Of a maker that was killed before it wrote a word nothing is kept; any other work is listed. */
TEST(a_session_without_a_word)
{
	struct work_session_list *l = NULL;
	struct work_session a;
	struct work_session b;
	struct place p;
	struct err e = { 0 };

	place_init(&p);
	CHECK_EQ(work_session_new(p.fd, &sample, "pack", &a, &e), 0);
	CHECK_EQ(work_session_new(p.fd, &sample, "pack", &b, &e), 0);
	CHECK_EQ(unlinkat(a.dir_fd, "session.json", 0), 0);
	CHECK_EQ(unlinkat(b.dir_fd, "session.json", 0), 0);
	put_file(a.dir_fd, "session.json.0123~");
	put_file(b.dir_fd, "spool.tar");
	CHECK_EQ(work_session_list(p.fd, &l, &e), 0); /* held: somebody is at it */
	work_session_list_free(l);
	CHECK_EQ(faccessat(a.dir_fd, "lock", F_OK, 0), 0);
	work_session_unlock(&a);
	work_session_unlock(&b);
	CHECK_EQ(work_session_list(p.fd, &l, &e), 0);
	CHECK_EQ(l->count, 1);
	CHECK_STR(l->items[0].id, b.info.id); /* as one that is damaged */
	CHECK_EQ(l->items[0].state, SESSION_NONE);
	CHECK(*l->items[0].why != '\0');
	work_session_list_free(l);
	CHECK_EQ(faccessat(a.dir_fd, "lock", F_OK, 0), -1);
	CHECK_EQ(faccessat(b.dir_fd, "spool.tar", F_OK, 0), 0);
	work_session_close(&a);
	work_session_close(&b);
	place_fini(&p);
}

TEST_MAIN()
