/* Which earlier base a new session gets; kills and races are in integration/cli_review. */
#include "lib/work_base.h"

#include "base/fdio.h"
#include "test.h"
#include "work/pack.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

struct place {
	char path[64];
	int state_fd, tree_fd;
	struct work_session_info info;
};

static void place_init(struct place *p)
{
	struct err e = { 0 };
	int fd = -1;

	(void)snprintf(p->path, sizeof(p->path), "/tmp/berm-test-XXXXXX");
	CHECK(mkdtemp(p->path) != NULL);
	p->state_fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(p->state_fd >= 0);
	CHECK_EQ(mkdirat(p->state_fd, "tree", 0700), 0);
	p->tree_fd = openat(p->state_fd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(p->tree_fd >= 0);
	CHECK_EQ(fd_openat(p->tree_fd, "file", O_WRONLY | O_CREAT, 0600, &fd, &e), 0);
	CHECK_EQ(fd_write_all(fd, "some text", 9, &e), 0);
	(void)close(fd);
	p->info = (struct work_session_info){ .root = "/w", .root_dev = 7, .root_ino = 9 };
}

static void place_fini(const struct place *p)
{
	(void)close(p->tree_fd);
	(void)close(p->state_fd);
	CHECK_EQ(fd_remove_tree(AT_FDCWD, p->path, NULL), 0);
}

/* A session in that state, its lock free. */
static void packed(const struct place *p, uint8_t state, uint64_t created_ns,
                   struct work_session *s)
{
	static const char *const names[3] = { "base.erofs", "base.manifest", "pack.json" };
	const struct pack_options opt = { .uid = 0 };
	struct pack_totals totals;
	struct err e = { 0 };
	int fds[3];

	CHECK_EQ(work_session_new(p->state_fd, &p->info, "pack", s, &e), 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(fd_openat(s->dir_fd, names[i], O_RDWR | O_CREAT, 0600, &fds[i], &e), 0);
	CHECK_EQ(pack_run(p->tree_fd, &opt, fds[0], fds[1], fds[2], &totals, &e), 0);
	for (int i = 0; i < 3; i++)
		(void)close(fds[i]);
	s->info.state = state;
	s->info.created_ns = created_ns;
	s->info.undecided = s->info.left = 0;
	CHECK_EQ(work_session_save(s, &e), 0);
	work_session_unlock(s);
}

static bool has(const struct work_session *s, const char *name)
{
	return faccessat(s->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

TEST(the_newest_that_is_finished_gives_its_own)
{
	struct work_session old, newer, waits, s;
	struct work_base b;
	struct place p;
	struct err e = { 0 };

	place_init(&p);
	packed(&p, SESSION_APPLIED, 1, &old);
	packed(&p, SESSION_APPLIED, 2, &newer);
	packed(&p, SESSION_PENDING, 3, &waits);
	CHECK_EQ(work_session_new(p.state_fd, &p.info, "pack", &s, &e), 0);
	work_base_find(p.state_fd, &s, &b);
	CHECK(b.base != NULL);
	if (b.image_fd >= 0) { /* its file system shares no blocks */
		CHECK_STR(b.from, newer.info.id);
		CHECK(has(&s, "base.erofs") && !has(&newer, "base.erofs"));
		CHECK(!has(&newer, "base.manifest"));
		CHECK_EQ(work_session_lock(&newer, "undo", &e), 0);
		CHECK_STR(newer.info.handed_to, s.info.id);
	} else {
		CHECK_STR(b.from, waits.info.id);
	}
	CHECK(has(&old, "base.erofs") && has(&waits, "base.erofs"));
	work_base_fini(&b);
	work_session_close(&old);
	work_session_close(&newer);
	work_session_close(&waits);
	work_session_close(&s);
	place_fini(&p);
}

TEST(nobody_gives_what_somebody_reads)
{
	struct work_session old, s;
	struct work_base b;
	struct place p;
	struct err e = { 0 };
	int fd;

	place_init(&p);
	packed(&p, SESSION_APPLIED, 1, &old);
	fd = openat(old.dir_fd, "base.erofs", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) == 0);
	CHECK_EQ(work_session_new(p.state_fd, &p.info, "pack", &s, &e), 0);
	work_base_find(p.state_fd, &s, &b);
	CHECK_EQ(b.image_fd, -1);
	CHECK(has(&old, "base.erofs") && !has(&s, "base.erofs"));
	work_base_fini(&b);
	(void)close(fd);
	work_session_close(&old);
	work_session_close(&s);
	place_fini(&p);
}

TEST(nothing_there_is_nothing_found)
{
	struct work_session s;
	struct work_base b;
	struct place p;
	struct err e = { 0 };

	place_init(&p);
	CHECK_EQ(work_session_new(p.state_fd, &p.info, "pack", &s, &e), 0);
	work_base_find(p.state_fd, &s, &b);
	CHECK(b.base == NULL && b.image_fd == -1 && *b.from == '\0');
	work_base_fini(&b);
	work_session_close(&s);
	place_fini(&p);
}

TEST_MAIN()
