#include "engine/template.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/*
 * Theory of operation
 *
 * The name of a template is a hash of its key, but the name is only where to look: meta holds the
 * whole key, and one that differs is no match. So a hash collision costs a rebuild and nothing
 * else, and no cryptographic hash is on the path of every start.
 *
 * Two processes that want the same missing template meet at <name>.lock: one builds, the other
 * waits and then finds it. A builder that dies leaves a .tmp directory whose lock nobody holds;
 * state_sweep() removes those.
 */

enum { FILE_COUNT = 3, HASH_BLOCK_BYTES = 64 << 10, BOOT_ID_LEN = 36, LOCK_POLL_NS = 20000000 };

static const char *const file_names[FILE_COUNT] = { "ram", "state", "scratch" };
static const char meta_head[] = "berm-template 1\n";

struct file_id {
	uint64_t bytes, inode, changed_ns, hash;
};

static void name_of(struct span key, char ret[TEMPLATE_NAME_MAX])
{
	(void)snprintf(ret, TEMPLATE_NAME_MAX, "%016" PRIx64,
	               (uint64_t)XXH3_64bits(key.at, key.len));
}

static int identify(int fd, struct file_id *ret, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat a template's file");
	*ret = (struct file_id){
		.bytes = (uint64_t)st.st_size,
		.inode = st.st_ino,
		.changed_ns = (uint64_t)st.st_ctim.tv_sec * UINT64_C(1000000000) +
		              (uint64_t)st.st_ctim.tv_nsec,
	};
	return 0;
}

static bool all_zero(const uint8_t *at, size_t len)
{
	return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

/* Adds one extent in blocks at multiples of the block size; zero blocks and holes count alike. */
static int hash_extent(int fd, off_t at, off_t end, XXH3_state_t *state, uint8_t *block,
                       struct err *e)
{
	at -= at % HASH_BLOCK_BYTES;
	while (at < end) {
		ssize_t n = pread(fd, block, HASH_BLOCK_BYTES, at);
		uint64_t where = (uint64_t)at;

		if (n < 0)
			return err_sys(e, "read a template's file");
		if (n == 0)
			break;
		if (!all_zero(block, (size_t)n)) {
			(void)XXH3_64bits_update(state, &where, sizeof(where));
			(void)XXH3_64bits_update(state, block, (size_t)n);
		}
		at += HASH_BLOCK_BYTES;
	}
	return 0;
}

static int hash_file(int fd, uint64_t *ret, struct err *e)
{
	_own_free_ uint8_t *block = malloc(HASH_BLOCK_BYTES);
	XXH3_state_t state;
	off_t at = 0;

	if (!block)
		return err_set(e, -ENOMEM, "out of memory");
	XXH3_INITSTATE(&state);
	(void)XXH3_64bits_reset(&state);
	for (;;) {
		off_t data = lseek(fd, at, SEEK_DATA);
		off_t hole;
		int r;

		if (data < 0)
			break; /* ENXIO: only a hole is left */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return err_sys(e, "read a template's file");
		/* a block that two extents share is hashed with the first one only */
		if (data < at)
			data = at;
		r = hash_extent(fd, data, hole, &state, block, e);
		if (r < 0)
			return r;
		at = hole + (HASH_BLOCK_BYTES - hole % HASH_BLOCK_BYTES) % HASH_BLOCK_BYTES;
	}
	*ret = XXH3_64bits_digest(&state);
	return 0;
}

static int read_boot_id(char ret[BOOT_ID_LEN + 1], struct err *e)
{
	_own_free_ char *text = NULL;
	size_t len;
	int r = fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &len, e);

	if (r < 0)
		return r;
	if (len < BOOT_ID_LEN)
		return err_set(e, -EBADMSG, "the kernel gives no boot id");
	memcpy(ret, text, BOOT_ID_LEN);
	ret[BOOT_ID_LEN] = '\0';
	return 0;
}

static bool take_number(struct span *s, char end, uint64_t *ret)
{
	struct span word;

	return take_until(s, end, &word) && span_to_u64(word, ret);
}

/* Reads what put_meta() wrote; false for anything else. */
static bool take_meta(struct span s, struct span key, struct file_id ids[FILE_COUNT])
{
	struct span head;
	struct span got;

	if (!take_span(&s, sizeof(meta_head) - 1, &head) || !span_is(head, meta_head))
		return false;
	for (int i = 0; i < FILE_COUNT; i++) {
		struct span name;

		if (!take_until(&s, ' ', &name) || !span_is(name, file_names[i]) ||
		    !take_number(&s, ' ', &ids[i].bytes) || !take_number(&s, ' ', &ids[i].inode) ||
		    !take_number(&s, ' ', &ids[i].changed_ns) ||
		    !take_number(&s, '\n', &ids[i].hash))
			return false;
	}
	return take_span(&s, s.len, &got) && span_equal(got, key);
}

static void put_meta(struct buf *b, struct span key, const struct file_id ids[FILE_COUNT])
{
	buf_put_str(b, meta_head);
	for (int i = 0; i < FILE_COUNT; i++)
		buf_printf(b, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", file_names[i],
		           ids[i].bytes, ids[i].inode, ids[i].changed_ns, ids[i].hash);
	buf_put_span(b, key);
}

static int check_hashes(int dir_fd, const int fds[FILE_COUNT], const struct file_id ids[FILE_COUNT],
                        struct err *e)
{
	_own_free_ char *verified = NULL;
	char boot[BOOT_ID_LEN + 1];
	int r = read_boot_id(boot, e);

	if (r < 0)
		return r;
	if (fd_read_file(dir_fd, "verified", 64, &verified, NULL, NULL) == 0 &&
	    strcmp(verified, boot) == 0)
		return 0;
	for (int i = 0; i < FILE_COUNT; i++) {
		uint64_t hash;

		r = hash_file(fds[i], &hash, e);
		if (r < 0)
			return r;
		if (hash != ids[i].hash)
			return err_set(e, -ESTALE, "its file '%s' is damaged", file_names[i]);
	}
	return fd_replace_file(dir_fd, "verified", boot, BOOT_ID_LEN, 0600, e);
}

static int check_files(int dir_fd, struct span key, const int fds[FILE_COUNT], struct err *e)
{
	struct file_id ids[FILE_COUNT];
	_own_free_ char *meta = NULL;
	size_t len;
	int r = fd_read_file(dir_fd, "meta", TEMPLATE_META_MAX, &meta, &len, e);

	if (r < 0)
		return r;
	if (!take_meta(span_of(meta, len), key, ids))
		return err_set(e, -ESTALE, "its description is not the one asked for");
	for (int i = 0; i < FILE_COUNT; i++) {
		struct file_id now;

		r = identify(fds[i], &now, e);
		if (r < 0)
			return r;
		if (now.bytes != ids[i].bytes || now.inode != ids[i].inode ||
		    now.changed_ns != ids[i].changed_ns)
			return err_set(e, -ESTALE, "its file '%s' was changed", file_names[i]);
	}
	return check_hashes(dir_fd, fds, ids, e);
}

static int open_and_check(int templates_fd, const char *name, struct span key, int fds[FILE_COUNT],
                          struct err *e)
{
	_own_fd_ int dir_fd = -1;
	int r = fd_openat(templates_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &dir_fd, e);

	for (int i = 0; r == 0 && i < FILE_COUNT; i++)
		r = fd_openat(dir_fd, file_names[i], O_RDONLY | O_NOFOLLOW, 0, &fds[i], e);
	if (r == 0)
		r = check_files(dir_fd, key, fds, e);
	if (r == 0)
		(void)futimens(dir_fd, NULL); /* last used: prune() goes by the directory's time */
	return r;
}

int template_open(int templates_fd, struct span key, struct template *ret, struct err *e)
{
	char name[TEMPLATE_NAME_MAX];
	int fds[FILE_COUNT] = { -1, -1, -1 };
	int r;

	name_of(key, name);
	if (faccessat(templates_fd, name, F_OK, 0) < 0)
		return err_set(e, -ENOENT, "there is no template yet");
	r = open_and_check(templates_fd, name, key, fds, e);
	if (r == 0) {
		*ret = (struct template){ .ram_fd = fds[0],
			                  .state_fd = fds[1],
			                  .scratch_fd = fds[2] };
		return 0;
	}
	for (int i = 0; i < FILE_COUNT; i++)
		own_close_fd(&fds[i]);
	(void)err_wrap(e, "the template was dropped");
	template_drop(templates_fd, key);
	if (e)
		e->code = -ENOENT;
	return -ENOENT;
}

/* Moved away first, so that nobody opens one that is half removed. */
static void drop(int templates_fd, const char *name)
{
	char away[TEMPLATE_NAME_MAX];
	uint64_t salt;

	random_bytes(&salt, sizeof(salt));
	(void)snprintf(away, sizeof(away), ".tmp-%016" PRIx64, salt);
	if (renameat(templates_fd, name, templates_fd, away) == 0)
		(void)fd_remove_tree(templates_fd, away, NULL);
}

void template_drop(int templates_fd, struct span key)
{
	char name[TEMPLATE_NAME_MAX];

	name_of(key, name);
	drop(templates_fd, name);
}

int template_lock(int templates_fd, struct span key, uint64_t timeout_ms, int *ret_lock_fd,
                  struct err *e)
{
	const struct timespec pause = { .tv_nsec = LOCK_POLL_NS };
	uint64_t deadline = clock_mono_ms() + timeout_ms;
	char name[TEMPLATE_NAME_MAX];
	char path[TEMPLATE_NAME_MAX + 8];
	_own_fd_ int fd = -1;
	int r;

	name_of(key, name);
	(void)snprintf(path, sizeof(path), "%s.lock", name);
	r = fd_openat(templates_fd, path, O_RDWR | O_CREAT, 0600, &fd, e);
	if (r < 0)
		return r;
	/* flock has no deadline of its own, and an alarm would be the whole process's */
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(e, "lock a template");
		if (clock_mono_ms() >= deadline)
			return err_set(
				e, -ETIMEDOUT,
				"another process has been building this template for too long");
		(void)nanosleep(&pause, NULL);
	}
	*ret_lock_fd = steal_fd(&fd);
	return 0;
}

static int draft_files(struct template_draft *d, uint64_t ram_bytes, uint64_t disk_bytes,
                       struct err *e)
{
	int r = fd_openat(d->dir_fd, "lock", O_RDWR | O_CREAT | O_EXCL, 0600, &d->lock_fd, e);

	if (r == 0 && flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0)
		r = err_sys(e, "lock a new template");
	if (r == 0)
		r = fd_openat(d->dir_fd, "ram", O_RDWR | O_CREAT | O_EXCL, 0600, &d->ram_fd, e);
	if (r == 0)
		r = fd_openat(d->dir_fd, "state", O_RDWR | O_CREAT | O_EXCL, 0600, &d->state_fd, e);
	if (r == 0)
		r = fd_openat(d->dir_fd, "scratch", O_RDWR | O_CREAT | O_EXCL, 0600, &d->scratch_fd,
		              e);
	if (r == 0 && (ftruncate(d->ram_fd, (off_t)ram_bytes) < 0 ||
	               ftruncate(d->scratch_fd, (off_t)disk_bytes) < 0))
		r = err_sys(e, "size a new template");
	return r;
}

int draft_new(int templates_fd, uint64_t ram_bytes, uint64_t disk_bytes, struct template_draft *ret,
              struct err *e)
{
	struct template_draft d;
	uint64_t salt;
	int r;

	draft_init(&d);
	random_bytes(&salt, sizeof(salt));
	(void)snprintf(d.dir, sizeof(d.dir), ".tmp-%016" PRIx64, salt);
	if (mkdirat(templates_fd, d.dir, 0700) < 0)
		return err_sys(e, "make a new template");
	r = fd_openat(templates_fd, d.dir, O_RDONLY | O_DIRECTORY, 0, &d.dir_fd, e);
	if (r == 0)
		r = draft_files(&d, ram_bytes, disk_bytes, e);
	if (r < 0) {
		draft_discard(templates_fd, &d);
		return r;
	}
	*ret = d;
	return 0;
}

/* Removes the least recently used templates beyond the number kept. Best effort. */
static void prune(int templates_fd)
{
	int fd = openat(templates_fd, ".",
	                O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* banned-ok: fdopendir takes it */
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	char oldest[TEMPLATE_NAME_MAX] = "";
	time_t oldest_at = 0;
	struct dirent *d;
	int count = 0;

	if (!dir)
		return;
	while ((d = readdir(dir))) {
		struct stat st;

		if (strlen(d->d_name) != 16 || fstatat(templates_fd, d->d_name, &st, 0) < 0)
			continue;
		count++;
		if (!*oldest || st.st_mtime < oldest_at) {
			oldest_at = st.st_mtime;
			(void)snprintf(oldest, sizeof(oldest), "%s", d->d_name);
		}
	}
	(void)closedir(dir);
	if (count > TEMPLATE_KEPT_MAX)
		drop(templates_fd, oldest);
}

static int write_meta(struct template_draft *d, struct span key, struct err *e)
{
	const int fds[FILE_COUNT] = { d->ram_fd, d->state_fd, d->scratch_fd };
	_own_free_ uint8_t *storage = malloc(TEMPLATE_META_MAX);
	struct file_id ids[FILE_COUNT];
	char boot[BOOT_ID_LEN + 1];
	struct buf b;
	int r = read_boot_id(boot, e);

	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	for (int i = 0; r == 0 && i < FILE_COUNT; i++) {
		uint64_t hash = 0;

		/*
		 * what a mapping wrote changes the inode's time only when it is flushed: do it now
		 */
		if (fsync(fds[i]) < 0)
			return err_sys(e, "write out a template");
		r = hash_file(fds[i], &hash, e);
		if (r == 0)
			r = identify(fds[i], &ids[i], e);
		ids[i].hash = hash;
	}
	if (r < 0)
		return r;
	buf_init(&b, storage, TEMPLATE_META_MAX);
	put_meta(&b, key, ids);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "a template's key is over %d bytes", TEMPLATE_KEY_MAX);
	r = fd_replace_file(d->dir_fd, "meta", b.at, b.len, 0600, e);
	if (r == 0)
		r = fd_replace_file(d->dir_fd, "verified", boot, BOOT_ID_LEN, 0600, e);
	return r;
}

int draft_commit(int templates_fd, struct template_draft *d, struct span key, struct err *e)
{
	char name[TEMPLATE_NAME_MAX];
	int r = write_meta(d, key, e);

	name_of(key, name);
	if (r == 0 && unlinkat(d->dir_fd, "lock", 0) < 0)
		r = err_sys(e, "finish a template");
	if (r == 0) {
		template_drop(templates_fd, key);
		if (renameat(templates_fd, d->dir, templates_fd, name) < 0)
			r = err_sys(e, "finish a template");
	}
	if (r < 0) {
		draft_discard(templates_fd, d);
		return r;
	}
	prune(templates_fd);
	return 0;
}

void draft_discard(int templates_fd, struct template_draft *d)
{
	if (*d->dir)
		(void)fd_remove_tree(templates_fd, d->dir, NULL);
	draft_close(d);
}

void template_init(struct template *t)
{
	*t = (struct template){ .ram_fd = -1, .state_fd = -1, .scratch_fd = -1 };
}

void template_close(struct template *t)
{
	own_close_fd(&t->ram_fd);
	own_close_fd(&t->state_fd);
	own_close_fd(&t->scratch_fd);
	template_init(t);
}

void template_close_scope(struct template *t)
{
	template_close(t);
}

void draft_init(struct template_draft *d)
{
	*d = (struct template_draft){
		.dir_fd = -1, .lock_fd = -1, .ram_fd = -1, .state_fd = -1, .scratch_fd = -1
	};
}

void draft_close(struct template_draft *d)
{
	own_close_fd(&d->dir_fd);
	own_close_fd(&d->lock_fd);
	own_close_fd(&d->ram_fd);
	own_close_fd(&d->state_fd);
	own_close_fd(&d->scratch_fd);
	draft_init(d);
}

void draft_close_scope(struct template_draft *d)
{
	draft_close(d);
}
