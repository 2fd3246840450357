#include "engine/saved.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fdio.h"

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

enum {
	FILE_COUNT = 3,
	HASH_BLOCK_BYTES = 64 << 10,
	BOOT_ID_LEN = 36,
	STAT_BLOCK_BYTES = 512, /* of st_blocks: stat(2) */
	PUBLISH_TRIES = 4,      /* others may take the name, or give it up, between two steps */
	TICK_POLL_NS = 500000,
	TICK_MS_MAX = 100, /* a tick is 10 ms at most; a file system's clock of its own is let be */
};

static const char *const file_names[FILE_COUNT] = { "ram", "state", "scratch" };
static const char meta_head[] = "berm-saved 1\n";

struct file_id {
	uint64_t bytes, inode, changed_ns, hash;
};

void saved_init(struct saved *s)
{
	*s = (struct saved){ .ram_fd = -1, .state_fd = -1, .scratch_fd = -1, .wset_fd = -1 };
}

void saved_close(struct saved *s)
{
	own_close_fd(&s->ram_fd);
	own_close_fd(&s->state_fd);
	own_close_fd(&s->scratch_fd);
	own_close_fd(&s->wset_fd);
	saved_init(s);
}

void saved_close_scope(struct saved *s)
{
	saved_close(s);
}

void draft_init(struct draft *d)
{
	*d = (struct draft){
		.dir_fd = -1, .lock_fd = -1, .ram_fd = -1, .state_fd = -1, .scratch_fd = -1
	};
}

void draft_close(struct draft *d)
{
	own_close_fd(&d->dir_fd);
	own_close_fd(&d->lock_fd);
	own_close_fd(&d->ram_fd);
	own_close_fd(&d->state_fd);
	own_close_fd(&d->scratch_fd);
	draft_init(d);
}

void draft_close_scope(struct draft *d)
{
	draft_close(d);
}

/* --- what a file is known by --- */

static int identify(int fd, struct file_id *ret, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat a saved file");
	ret->bytes = (uint64_t)st.st_size;
	ret->inode = st.st_ino;
	ret->changed_ns =
		(uint64_t)st.st_ctim.tv_sec * UINT64_C(1000000000) + (uint64_t)st.st_ctim.tv_nsec;
	return 0;
}

/*
 * Waits until a change of these files would get a later time than the one they have: the kernel
 * stamps them with the time of its last tick, so a change in the same tick would not show.
 */
static void pass_tick(const struct file_id ids[FILE_COUNT])
{
	const struct timespec pause = { .tv_nsec = TICK_POLL_NS };
	uint64_t deadline = clock_mono_ms() + TICK_MS_MAX;
	uint64_t newest = 0;

	for (int i = 0; i < FILE_COUNT; i++)
		if (ids[i].changed_ns > newest)
			newest = ids[i].changed_ns;
	while (clock_stamp_ns() <= newest && clock_mono_ms() < deadline)
		(void)nanosleep(&pause, NULL);
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
			return err_sys(e, "read a saved file");
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

int saved_hash(int fd, uint64_t *ret, struct err *e)
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
			return err_sys(e, "read a saved file");
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

/* --- meta --- */

static bool take_number(struct span *s, char end, uint64_t *ret)
{
	struct span word;

	return take_until(s, end, &word) && span_to_u64(word, ret);
}

/* Reads what put_meta() wrote; false for anything else. */
static bool take_meta(struct span s, struct file_id ids[FILE_COUNT], struct span *ret_note)
{
	uint64_t note_bytes;
	uint64_t note_hash;
	struct span word;

	if (!take_span(&s, sizeof(meta_head) - 1, &word) || !span_is(word, meta_head))
		return false;
	for (int i = 0; i < FILE_COUNT; i++) {
		if (!take_until(&s, ' ', &word) || !span_is(word, file_names[i]) ||
		    !take_number(&s, ' ', &ids[i].bytes) || !take_number(&s, ' ', &ids[i].inode) ||
		    !take_number(&s, ' ', &ids[i].changed_ns) ||
		    !take_number(&s, '\n', &ids[i].hash))
			return false;
	}
	if (!take_until(&s, ' ', &word) || !span_is(word, "note") ||
	    !take_number(&s, ' ', &note_bytes) || !take_number(&s, '\n', &note_hash) ||
	    note_bytes != s.len || XXH3_64bits(s.at, s.len) != note_hash)
		return false;
	*ret_note = s;
	return true;
}

static int write_meta(int dir_fd, struct span note, const struct file_id ids[FILE_COUNT],
                      struct err *e)
{
	_own_free_ uint8_t *storage = malloc(SAVED_META_MAX);
	struct buf b;

	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, storage, SAVED_META_MAX);
	buf_put_str(&b, meta_head);
	for (int i = 0; i < FILE_COUNT; i++)
		buf_printf(&b, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
		           file_names[i], ids[i].bytes, ids[i].inode, ids[i].changed_ns,
		           ids[i].hash);
	buf_printf(&b, "note %zu %" PRIu64 "\n", note.len,
	           (uint64_t)XXH3_64bits(note.at, note.len));
	buf_put_span(&b, note);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "the description of a saved machine is over %d bytes",
		               SAVED_NOTE_MAX);
	return fd_replace_file(dir_fd, "meta", b.at, b.len, 0600, e);
}

static int read_meta(int dir_fd, struct file_id ids[FILE_COUNT], char **ret_note, size_t *ret_len,
                     struct err *e)
{
	_own_free_ char *meta = NULL;
	struct span note;
	char *copy;
	size_t len;
	int r = fd_read_file(dir_fd, "meta", SAVED_META_MAX, &meta, &len, e);

	if (r == -ENOENT || r == -EFBIG)
		return err_set(e, -ESTALE, "its description is missing");
	if (r < 0)
		return r;
	if (!take_meta(span_of(meta, len), ids, &note))
		return err_set(e, -ESTALE, "its description is damaged");
	copy = malloc(note.len + 1);
	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	if (note.len > 0)
		memcpy(copy, note.at, note.len);
	copy[note.len] = '\0';
	*ret_note = copy;
	*ret_len = note.len;
	return 0;
}

/* --- opening --- */

/* Are they what was saved, by sizes, inodes and times? 1: their contents have to be asked. */
static int check_ids(const int fds[FILE_COUNT], struct file_id ids[FILE_COUNT],
                     enum saved_trust trust, struct err *e)
{
	int ask = 0;

	for (int i = 0; i < FILE_COUNT; i++) {
		struct file_id now = { 0 };
		int r = identify(fds[i], &now, e);

		if (r < 0)
			return r;
		if (now.bytes != ids[i].bytes)
			return err_set(e, -ESTALE, "its file '%s' is cut short or grew",
			               file_names[i]);
		if (now.inode == ids[i].inode && now.changed_ns == ids[i].changed_ns)
			continue;
		if (trust == SAVED_STRICT)
			return err_set(e, -ESTALE, "its file '%s' was changed", file_names[i]);
		ask = 1;
		ids[i].inode = now.inode;
		ids[i].changed_ns = now.changed_ns;
	}
	return ask;
}

static int check_hashes(const int fds[FILE_COUNT], const struct file_id ids[FILE_COUNT],
                        struct err *e)
{
	for (int i = 0; i < FILE_COUNT; i++) {
		uint64_t hash;
		int r = saved_hash(fds[i], &hash, e);

		if (r < 0)
			return r;
		if (hash != ids[i].hash)
			return err_set(e, -ESTALE, "its file '%s' is damaged", file_names[i]);
	}
	return 0;
}

static int check_files(int dir_fd, const int fds[FILE_COUNT], struct file_id ids[FILE_COUNT],
                       enum saved_trust trust, struct span note, struct err *e)
{
	_own_free_ char *verified = NULL;
	char boot[BOOT_ID_LEN + 1];
	int moved = check_ids(fds, ids, trust, e);
	int r = moved < 0 ? moved : read_boot_id(boot, e);

	if (r < 0)
		return r;
	if (moved == 0 && fd_read_file(dir_fd, "verified", 64, &verified, NULL, NULL) == 0 &&
	    strcmp(verified, boot) == 0)
		return 0;
	if (moved)
		pass_tick(ids); /* before they are read: a change from here on is to be seen */
	r = check_hashes(fds, ids, e);
	if (r == 0 && moved)
		r = write_meta(dir_fd, note, ids, e);
	return r < 0 ? r : fd_replace_file(dir_fd, "verified", boot, BOOT_ID_LEN, 0600, e);
}

static int open_dir(int parent_fd, const char *name, int *ret_fd, struct err *e)
{
	int r = fd_openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, ret_fd, e);

	return r == -ELOOP || r == -ENOTDIR ? err_set(e, -ESTALE, "it is no directory") : r;
}

static int open_files(int dir_fd, int fds[FILE_COUNT], struct err *e)
{
	int r = 0;

	for (int i = 0; r == 0 && i < FILE_COUNT; i++)
		r = fd_openat(dir_fd, file_names[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fds[i],
		              e);
	if (r == -ENOENT || r == -ELOOP)
		return err_set(e, -ESTALE, "one of its files is missing");
	return r;
}

/* -1: there is none. An empty one names no page. */
static int open_wset(int dir_fd)
{
	_own_fd_ int fd = -1;
	struct stat st;

	if (fd_openat(dir_fd, "wset", O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd, NULL) < 0 ||
	    fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
		return -1;
	return steal_fd(&fd);
}

int saved_open(int parent_fd, const char *name, enum saved_trust trust, struct saved *ret,
               char **ret_note, size_t *ret_note_len, struct err *e)
{
	int fds[FILE_COUNT] = { -1, -1, -1 };
	struct file_id ids[FILE_COUNT];
	_own_free_ char *note = NULL;
	_own_fd_ int dir_fd = -1;
	size_t len = 0;
	int r = open_dir(parent_fd, name, &dir_fd, e);

	if (r == 0)
		r = read_meta(dir_fd, ids, &note, &len, e);
	if (r == 0)
		r = open_files(dir_fd, fds, e);
	if (r == 0)
		r = check_files(dir_fd, fds, ids, trust, span_of(note, len), e);
	if (r < 0) {
		for (int i = 0; i < FILE_COUNT; i++)
			own_close_fd(&fds[i]);
		return r;
	}
	(void)futimens(dir_fd, NULL); /* last used: what is evicted goes by the directory's time */
	saved_init(ret);
	ret->ram_fd = fds[0];
	ret->state_fd = fds[1];
	ret->scratch_fd = fds[2];
	ret->wset_fd = open_wset(dir_fd);
	*ret_note = steal_ptr(&note);
	*ret_note_len = len;
	return 0;
}

int saved_note(int parent_fd, const char *name, char **ret_note, size_t *ret_note_len,
               struct err *e)
{
	struct file_id ids[FILE_COUNT];
	_own_fd_ int dir_fd = -1;
	int r = open_dir(parent_fd, name, &dir_fd, e);

	return r == 0 ? read_meta(dir_fd, ids, ret_note, ret_note_len, e) : r;
}

static int reopen(int fd, int *ret_fd, struct err *e)
{
	char path[40];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fd_open(path, O_RDONLY, 0, ret_fd, e);
}

int saved_reopen(const struct saved *s, struct saved *ret, struct err *e)
{
	_own_(saved_close) struct saved got;
	int r;

	saved_init(&got);
	r = reopen(s->ram_fd, &got.ram_fd, e);
	if (r == 0)
		r = reopen(s->state_fd, &got.state_fd, e);
	if (r == 0)
		r = reopen(s->scratch_fd, &got.scratch_fd, e);
	if (r == 0 && s->wset_fd >= 0)
		r = reopen(s->wset_fd, &got.wset_fd, e);
	if (r < 0)
		return r;
	*ret = got;
	saved_init(&got);
	return 0;
}

uint64_t saved_disk_bytes(int parent_fd, const char *name)
{
	_own_fd_ int dir_fd = -1;
	uint64_t bytes = 0;
	struct stat st;

	if (open_dir(parent_fd, name, &dir_fd, NULL) < 0)
		return 0;
	for (int i = 0; i < FILE_COUNT; i++)
		if (fstatat(dir_fd, file_names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			bytes += (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
	return bytes;
}

static void aside_name(char ret[SAVED_NAME_MAX])
{
	uint64_t salt;

	random_bytes(&salt, sizeof(salt));
	(void)snprintf(ret, SAVED_NAME_MAX, ".tmp-%016" PRIx64, salt);
}

int saved_remove(int parent_fd, const char *name, struct err *e)
{
	char aside[SAVED_NAME_MAX];

	/* moved away first, so that nobody opens one that is half removed */
	aside_name(aside);
	if (renameat(parent_fd, name, parent_fd, aside) < 0)
		return err_sys(e, "remove '%s'", name);
	return fd_remove_tree(parent_fd, aside, e);
}

/* --- drafts --- */

static int draft_files(struct draft *d, uint64_t ram_bytes, uint64_t disk_bytes, struct err *e)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL;
	int r = fd_openat(d->dir_fd, "lock", flags, 0600, &d->lock_fd, e);

	if (r == 0 && flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0)
		r = err_sys(e, "lock what is to be saved");
	if (r == 0)
		r = fd_openat(d->dir_fd, "ram", flags, 0600, &d->ram_fd, e);
	if (r == 0)
		r = fd_openat(d->dir_fd, "state", flags, 0600, &d->state_fd, e);
	if (r == 0)
		r = fd_openat(d->dir_fd, "scratch", flags, 0600, &d->scratch_fd, e);
	if (r == 0 && (ftruncate(d->ram_fd, (off_t)ram_bytes) < 0 ||
	               ftruncate(d->scratch_fd, (off_t)disk_bytes) < 0))
		r = err_sys(e, "size what is to be saved");
	return r;
}

void draft_name(char ret[SAVED_NAME_MAX])
{
	aside_name(ret);
}

int draft_new(int parent_fd, uint64_t ram_bytes, uint64_t disk_bytes, struct draft *ret,
              struct err *e)
{
	char name[SAVED_NAME_MAX] = { 0 };

	aside_name(name);
	return draft_new_as(parent_fd, name, ram_bytes, disk_bytes, ret, e);
}

int draft_new_as(int parent_fd, const char name[SAVED_NAME_MAX], uint64_t ram_bytes,
                 uint64_t disk_bytes, struct draft *ret, struct err *e)
{
	struct draft d;
	int r;

	draft_init(&d);
	memcpy(d.dir, name, SAVED_NAME_MAX);
	if (mkdirat(parent_fd, d.dir, 0700) < 0)
		return err_sys(e, "make a directory to save to");
	r = fd_openat(parent_fd, d.dir, O_RDONLY | O_DIRECTORY, 0, &d.dir_fd, e);
	if (r == 0)
		r = draft_files(&d, ram_bytes, disk_bytes, e);
	if (r < 0) {
		draft_discard(parent_fd, &d);
		return r;
	}
	*ret = d;
	return 0;
}

int draft_seal(struct draft *d, struct span note, struct err *e)
{
	const int fds[FILE_COUNT] = { d->ram_fd, d->state_fd, d->scratch_fd };
	struct file_id ids[FILE_COUNT] = { 0 };
	char boot[BOOT_ID_LEN + 1];
	int r = 0;

	for (int i = 0; r == 0 && i < FILE_COUNT; i++) {
		/*
		 * what a mapping wrote changes the inode's time only when it is flushed: do it now
		 */
		if (fsync(fds[i]) < 0)
			return err_sys(e, "write out what was saved");
		r = saved_hash(fds[i], &ids[i].hash, e);
		if (r == 0)
			r = identify(fds[i], &ids[i], e);
	}
	if (r == 0)
		pass_tick(ids); /* nobody else has them yet, and whoever does is late enough */
	if (r == 0)
		r = write_meta(d->dir_fd, note, ids, e);
	if (r < 0)
		return r;
	/* a jail may not let us see it: then who opens it first looks at the hashes once more */
	if (read_boot_id(boot, NULL) < 0)
		return 0;
	return fd_replace_file(d->dir_fd, "verified", boot, BOOT_ID_LEN, 0600, e);
}

/* 0, or an errno. Where the file system knows no flags, a directory with files is in the way. */
static int take_name(int parent_fd, const char *dir, const char *name)
{
	if (renameat2(parent_fd, dir, parent_fd, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EINVAL && renameat(parent_fd, dir, parent_fd, name) == 0)
		return 0;
	return errno == ENOTEMPTY ? EEXIST : errno;
}

int draft_publish(int parent_fd, struct draft *d, const char *name, bool replace, struct err *e)
{
	int code = EEXIST;

	for (int i = 0; code == EEXIST && i < PUBLISH_TRIES; i++) {
		code = take_name(parent_fd, d->dir, name);
		if (code != EEXIST || !replace)
			break;
		/* the other one is the draft then, and goes */
		if (renameat2(parent_fd, d->dir, parent_fd, name, RENAME_EXCHANGE) == 0) {
			(void)fd_remove_tree(parent_fd, d->dir, NULL);
			code = 0;
		} else if (errno != ENOENT) {
			(void)saved_remove(parent_fd, name, NULL);
		}
	}
	if (code == EEXIST)
		return err_set(e, -EEXIST, "the name '%s' is taken", name);
	errno = code;
	if (code != 0)
		return err_sys(e, "give what was saved the name '%s'", name);
	*d->dir = '\0';
	(void)unlinkat(d->dir_fd, "lock", 0); /* it was the draft's; there it means nothing */
	return 0;
}

void draft_discard(int parent_fd, struct draft *d)
{
	if (*d->dir)
		(void)fd_remove_tree(parent_fd, d->dir, NULL);
	draft_close(d);
}
