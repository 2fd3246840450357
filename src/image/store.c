#include "image/store.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "image/ref.h"
#include "image/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { SQFS_MAGIC_BYTES = 4, NAME_FILE_MAX = NAME_MAX + 8 };

int image_store_open(int state_fd, const char *share_path, struct image_store **ret, struct err *e)
{
	_own_(image_store_free) struct image_store *s = calloc(1, sizeof(*s));
	_own_fd_ int share_fd = -1;
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->user_fd = -1;
	s->installed_fd = -1;
	if (state_fd >= 0) {
		if (mkdirat(state_fd, "images", 0700) < 0 && errno != EEXIST && errno != EROFS)
			return err_sys(e, "make the image store");
		r = fd_open_beneath(state_fd, "images", O_RDONLY | O_DIRECTORY, 0, 0, &s->user_fd,
		                    e);
		if (r < 0)
			return err_wrap(e, "the image store");
	}
	if (share_path && fd_open(share_path, O_PATH | O_DIRECTORY, 0, &share_fd, NULL) == 0 &&
	    fd_openat(share_fd, "images", O_RDONLY | O_DIRECTORY, 0, &s->installed_fd, NULL) < 0)
		s->installed_fd = -1; /* none is installed: the user's own will do */
	*ret = steal_ptr(&s);
	return 0;
}

void image_store_free(struct image_store *s)
{
	if (!s)
		return;
	if (s->user_fd >= 0)
		(void)close(s->user_fd);
	if (s->installed_fd >= 0)
		(void)close(s->installed_fd);
	free(s);
}

int store_lock(const struct image_store *s, int *ret_fd, struct err *e)
{
	_own_fd_ int fd = -1;
	int r;

	if (s->user_fd < 0)
		return err_set(e, -EROFS, "there is no image store to write to");
	r = fd_open_beneath(s->user_fd, ".lock", O_RDWR | O_CREAT, 0600, RESOLVE_NO_SYMLINKS, &fd,
	                    e);
	if (r < 0)
		return err_wrap(e, "the image store");
	do
		r = flock(fd, LOCK_EX);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_sys(e, "lock the image store");
	*ret_fd = steal_fd(&fd);
	return 0;
}

void store_salted(struct buf *b, const char *prefix)
{
	uint64_t salt;

	random_bytes(&salt, sizeof(salt));
	buf_printf(b, "%s%016llx", prefix, (unsigned long long)salt);
}

bool store_is_id(const char *name)
{
	return strlen(name) == IMAGE_ID_LEN && strspn(name, "0123456789abcdef") == IMAGE_ID_LEN;
}

static bool has_image(int store_fd, const char *id)
{
	return store_fd >= 0 && faccessat(store_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int store_find_id(const struct image_store *s, const char *id)
{
	if (has_image(s->user_fd, id))
		return s->user_fd;
	return has_image(s->installed_fd, id) ? s->installed_fd : -1;
}

int store_each(int store_fd, int (*each)(void *arg, int store_fd, const char *id), void *arg,
               struct err *e)
{
	struct dirent *d;
	int r = 0;
	DIR *dir;
	int fd;

	if (store_fd < 0)
		return 0;
	r = fd_openat(store_fd, ".", O_RDONLY | O_DIRECTORY, 0, &fd, e);
	if (r < 0)
		return r;
	dir = fdopendir(fd);
	if (!dir) {
		r = err_sys(e, "list the image store");
		(void)close(fd);
		return r;
	}
	while (r == 0 && (d = readdir(dir)))
		if (store_is_id(d->d_name))
			r = each(arg, store_fd, d->d_name);
	(void)closedir(dir);
	return r;
}

static int read_name(int store_fd, const char *path, char ret_id[IMAGE_ID_LEN + 1])
{
	char text[IMAGE_ID_LEN + 2];
	_own_fd_ int fd = -1;
	ssize_t n;

	if (store_fd < 0 || fd_open_beneath(store_fd, path, O_RDONLY | O_NONBLOCK, 0,
	                                    RESOLVE_NO_SYMLINKS, &fd, NULL) < 0)
		return -ENOENT;
	n = read(fd, text, sizeof(text));
	if (n != IMAGE_ID_LEN + 1 || text[IMAGE_ID_LEN] != '\n')
		return -EBADMSG;
	text[IMAGE_ID_LEN] = '\0';
	if (!store_is_id(text))
		return -EBADMSG;
	memcpy(ret_id, text, sizeof(text) - 1);
	return 0;
}

/* Where a store keeps the name. */
static bool name_path(struct span name, char ret[NAME_FILE_MAX])
{
	struct buf b;

	buf_init(&b, ret, NAME_FILE_MAX);
	buf_put_str(&b, "names/");
	ref_put_escaped(&b, name);
	(void)buf_cstr(&b);
	return buf_ok(&b);
}

int store_name_installed(const struct image_store *s, struct span name,
                         char ret_id[IMAGE_ID_LEN + 1])
{
	char path[NAME_FILE_MAX];

	return name_path(name, path) && read_name(s->installed_fd, path, ret_id) == 0 &&
	                       has_image(s->installed_fd, ret_id)
	               ? 0
	               : -ENOENT;
}

int store_name_get(const struct image_store *s, struct span name, char ret_id[IMAGE_ID_LEN + 1],
                   struct err *e)
{
	char path[NAME_FILE_MAX];

	/* a name whose image is gone is no name */
	if (name_path(name, path) && read_name(s->user_fd, path, ret_id) == 0 &&
	    store_find_id(s, ret_id) >= 0)
		return 0;
	if (store_name_installed(s, name, ret_id) == 0)
		return 0;
	return err_set(e, -ENOENT, "no image is called '%.*s'", (int)name.len,
	               (const char *)name.at);
}

struct prefix {
	struct span want;
	char id[IMAGE_ID_LEN + 1];
	unsigned count;
};

static int match_prefix(void *arg, int store_fd, const char *id)
{
	struct prefix *p = arg;

	(void)store_fd;
	if (memcmp(id, p->want.at, p->want.len) != 0 || strcmp(id, p->id) == 0)
		return 0;
	p->count++;
	memcpy(p->id, id, sizeof(p->id));
	return 0;
}

static int by_prefix(const struct image_store *s, struct span hex, char ret_id[IMAGE_ID_LEN + 1],
                     struct err *e)
{
	struct prefix p = { .want = hex };
	int r = store_each(s->user_fd, match_prefix, &p, e);

	if (r == 0)
		r = store_each(s->installed_fd, match_prefix, &p, e);
	if (r < 0)
		return r;
	if (p.count > 1)
		return err_set(e, -EEXIST, "several images begin with '%.*s': give more digits",
		               (int)hex.len, (const char *)hex.at);
	if (p.count == 0)
		return -ENOENT;
	memcpy(ret_id, p.id, sizeof(p.id));
	return 0;
}

int store_resolve(const struct image_store *s, const char *ref, char ret_id[IMAGE_ID_LEN + 1],
                  struct err *e)
{
	char storage[IMAGE_NAME_MAX + 1];
	struct buf name;
	struct ref got;
	int r;

	if (ref_parse(span_str(ref), &got) < 0)
		return err_set(e, -EINVAL,
		               "'%.100s' is neither an image's name (such as python:3.12) nor the "
		               "beginning of an id",
		               ref);
	if (got.kind != REF_ID) {
		buf_init(&name, storage, sizeof(storage));
		ref_put_canonical(&name, got.name);
		if (store_name_get(s, buf_span(&name), ret_id, NULL) == 0)
			return 0;
	}
	if (got.kind != REF_NAME) {
		r = by_prefix(s, got.id, ret_id, e);
		if (r != -ENOENT)
			return r;
	}
	return err_set(e, -ENOENT,
	               "no image '%.200s' here; 'berm image ls' lists what there is, 'berm image "
	               "import' brings one in",
	               ref);
}

/* What berm-unpack writes has one spelling. Any other, and a key left out, is somebody else's. */
static int check_spelling(const struct image_meta *m, struct span text, struct err *e)
{
	_own_free_ uint8_t *storage = malloc(text.len + 1);
	struct buf b;

	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, storage, text.len + 1);
	image_meta_put(&b, m);
	if (!buf_ok(&b) || !span_equal(buf_span(&b), text))
		return err_set(e, -EBADMSG, "its image.json is not as berm writes it");
	return 0;
}

int store_read_meta(int image_fd, const char *id, struct image_meta **ret, struct err *e)
{
	_own_(image_meta_free) struct image_meta *m = NULL;
	_own_free_ char *text = NULL;
	size_t len;
	int r = fd_read_file(image_fd, "image.json", IMAGE_STORED_JSON_MAX, &text, &len, e);

	if (r == 0)
		r = image_meta_parse(span_of(text, len), &m, e);
	if (r != 0)
		return r;
	if (strcmp(m->id, id) != 0)
		return err_set(e, -EBADMSG, "its image.json is another image's");
	r = check_spelling(m, span_of(text, len), e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&m);
	return 0;
}

int store_open_disk(int image_fd, const struct image_meta *m, int *ret_fd, struct err *e)
{
	char magic[SQFS_MAGIC_BYTES];
	_own_fd_ int fd = -1;
	struct stat st;
	int r = fd_open_beneath(image_fd, "disk.sqfs", O_RDONLY | O_NONBLOCK, 0,
	                        RESOLVE_NO_SYMLINKS, &fd, e);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat disk.sqfs");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != m->disk_bytes ||
	    pread(fd, magic, sizeof(magic), 0) != sizeof(magic) ||
	    memcmp(magic, "hsqs", sizeof(magic)) != 0)
		return err_set(e, -EBADMSG, "disk.sqfs is not what was imported");
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int open_id(struct image_store *s, const char *id, struct image **ret, struct err *e)
{
	_own_(image_free) struct image *i = calloc(1, sizeof(*i));
	int store_fd = store_find_id(s, id);
	int r;

	if (!i)
		return err_set(e, -ENOMEM, "out of memory");
	i->lock_fd = -1;
	i->disk_fd = -1;
	i->installed = store_fd == s->installed_fd;
	r = fd_open_beneath(store_fd, id, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS,
	                    &i->lock_fd, e);
	if (r < 0)
		return r;
	/* held against us only while somebody lists or removes it; what is removed has no files */
	do
		r = flock(i->lock_fd, LOCK_SH);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_sys(e, "lock it");
	r = store_read_meta(i->lock_fd, id, &i->meta, e);
	if (r == 0)
		r = store_open_disk(i->lock_fd, i->meta, &i->disk_fd, e);
	/* the supervisor and the engine have copies of this one: in use until the last is closed */
	if (r == 0 && flock(i->disk_fd, LOCK_SH | LOCK_NB) < 0)
		r = err_sys(e, "lock its disk");
	if (r == 0)
		*ret = steal_ptr(&i);
	return r;
}

int image_open(struct image_store *s, const char *ref, struct image **ret, struct err *e)
{
	char id[IMAGE_ID_LEN + 1];
	int r = store_resolve(s, ref, id, e);

	if (r < 0)
		return r;
	r = open_id(s, id, ret, e);
	if (r == -EBADMSG)
		return err_wrap(
			e,
			"image '%.100s' is damaged; remove it (berm image rm --force %.12s) "
			"and import it again",
			ref, id);
	return r < 0 ? err_wrap(e, "image '%.100s'", ref) : 0;
}

void image_free(struct image *i)
{
	if (!i)
		return;
	image_meta_free(i->meta);
	if (i->disk_fd >= 0)
		(void)close(i->disk_fd);
	if (i->lock_fd >= 0)
		(void)close(i->lock_fd);
	free(i);
}
