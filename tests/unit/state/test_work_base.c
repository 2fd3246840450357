/* Which earlier base a new session gets; kills and races are in integration/cli_review. */
#include "state/work_base.h"

#include "base/fdio.h"
#include "test.h"
#include "work/pack.h"

#include <errno.h>
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

/* --- the same image for another session --- */

struct asked {
	int answer;
	unsigned times;
	uint8_t last[MANIFEST_ID_BYTES];
};

static int same(void *arg, struct base *b, struct err *e)
{
	struct asked *a = arg;
	struct base_totals t;

	base_totals(b, &t);
	memcpy(a->last, t.id, sizeof(a->last));
	a->times++;
	return a->answer < 0 ? err_set(e, a->answer, "told to") : a->answer;
}

static ino_t inode(const struct work_session *s, const char *name)
{
	struct stat st;

	CHECK_EQ(fstatat(s->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_ino;
}

TEST(an_unchanged_workspace_is_one_image)
{
	struct work_session old, second, third;
	struct asked yes = { .answer = 1 };
	struct work_base b;
	struct place p;
	struct err e = { 0 };
	char from[SESSION_ID_LEN + 1] = "";

	place_init(&p);
	packed(&p, SESSION_PENDING, 1, &old);
	CHECK_EQ(work_session_new(p.state_fd, &p.info, "pack", &second, &e), 0);
	CHECK_EQ(work_base_share(p.state_fd, &second, same, &yes, from, &e), 1);
	CHECK_STR(from, old.info.id);
	CHECK_EQ(inode(&second, "base.erofs"), inode(&old, "base.erofs"));
	CHECK_EQ(inode(&second, "base.manifest"), inode(&old, "base.manifest"));
	CHECK_EQ(work_session_disk_bytes(&second), work_session_disk_bytes(&old));
	second.info.state = SESSION_RUNNING;
	CHECK_EQ(work_session_save(&second, &e), 0);

	/* one image is asked about once, whoever has it; and it is nobody's to be written over */
	yes = (struct asked){ .answer = 0 };
	old.info.state = SESSION_APPLIED;
	CHECK_EQ(work_session_lock(&old, "test", &e), 0);
	old.info.state = SESSION_APPLIED;
	old.info.undecided = old.info.left = 0;
	CHECK_EQ(work_session_save(&old, &e), 0);
	work_session_unlock(&old);
	CHECK_EQ(work_session_new(p.state_fd, &p.info, "pack", &third, &e), 0);
	CHECK_EQ(work_base_share(p.state_fd, &third, same, &yes, from, &e), 0);
	CHECK_EQ(yes.times, 1);
	CHECK(!has(&third, "base.erofs") && !has(&third, "base.manifest"));
	work_base_find(p.state_fd, &third, &b);
	CHECK_EQ(b.image_fd, -1);
	work_base_fini(&b);
	yes.answer = -EINTR;
	CHECK_EQ(work_base_share(p.state_fd, &third, same, &yes, from, &e), -EINTR);
	work_session_close(&old);
	work_session_close(&second);
	work_session_close(&third);
	place_fini(&p);
}

TEST(so_many_images_are_held_against_it)
{
	struct work_session old[WORK_BASES_HELD_MAX + 1], s;
	struct asked no = { 0 };
	struct place p;
	struct err e = { 0 };
	char from[SESSION_ID_LEN + 1];

	place_init(&p);
	for (unsigned i = 0; i < WORK_BASES_HELD_MAX + 1; i++)
		packed(&p, SESSION_PENDING, i + 1, &old[i]);
	CHECK_EQ(work_session_new(p.state_fd, &p.info, "pack", &s, &e), 0);
	CHECK_EQ(work_base_share(p.state_fd, &s, same, &no, from, &e), 0);
	CHECK_EQ(no.times, WORK_BASES_HELD_MAX);
	for (unsigned i = 0; i < WORK_BASES_HELD_MAX + 1; i++)
		work_session_close(&old[i]);
	work_session_close(&s);
	place_fini(&p);
}

/* --- and what is kept of one in which nothing was changed --- */

TEST(a_base_is_kept_for_the_next_pack_and_no_other)
{
	struct work_session s, sharer;
	struct work_session_list *l = NULL;
	struct asked yes = { .answer = 1 };
	char from[SESSION_ID_LEN + 1];
	struct place p;
	struct err e = { 0 };

	place_init(&p);
	packed(&p, SESSION_SPOOLED, 1, &s);
	CHECK_EQ(symlinkat("x", s.dir_fd, "spool.tar"), 0);
	CHECK_EQ(work_session_lock(&s, "test", &e), 0);
	CHECK_EQ(work_session_keep_base(p.state_fd, &s, &e), 0);
	CHECK_EQ(work_session_list(p.state_fd, &l, &e), 0);
	CHECK_EQ(l->count, 1);
	CHECK_EQ(l->items[0].state, SESSION_UNCHANGED);
	CHECK_EQ(work_session_open(p.state_fd, l->items[0].id, &s, &e), 0);
	CHECK(has(&s, "base.erofs") && has(&s, "base.manifest") && !has(&s, "spool.tar") &&
	      !has(&s, "pack.json"));
	work_session_list_free(l);

	/* whoever shares it has it from now on */
	CHECK_EQ(work_session_new(p.state_fd, &p.info, "pack", &sharer, &e), 0);
	CHECK_EQ(work_base_share(p.state_fd, &sharer, same, &yes, from, &e), 1);
	CHECK_STR(from, s.info.id);
	CHECK_EQ(work_session_list(p.state_fd, &l, &e), 0);
	CHECK_EQ(l->count, 1);
	CHECK_STR(l->items[0].id, sharer.info.id);
	work_session_list_free(l);
	work_session_close(&s);
	work_session_close(&sharer);
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
