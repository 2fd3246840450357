#include "image/store.h"

#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "image/ref.h"
#include "image/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum {
	NAMES_MAX = 65536,      /* of one store, looked at */
	ESCAPED_NAME_MAX = 230, /* leaves room for the salt of an atomic write */
};

/* --- names --- */

static int open_names(const struct image_store *s, bool make, int *ret_fd, struct err *e)
{
	if (s->user_fd < 0)
		return err_set(e, -EROFS, "there is no image store to write to");
	if (make && mkdirat(s->user_fd, "names", 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make a directory in the image store");
	return fd_open_beneath(s->user_fd, "names", O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS,
	                       ret_fd, e);
}

/* A name as the store spells it, and the file it is kept in. */
static bool spell(const char *name, struct buf *canonical, struct buf *file)
{
	ref_put_canonical(canonical, span_str(name));
	ref_put_escaped(file, buf_span(canonical));
	return canonical->len > 0 && buf_ok(canonical) && file->len <= ESCAPED_NAME_MAX &&
	       *buf_cstr(file) != '\0';
}

bool store_name_fits(const char *name)
{
	char storage[2][NAME_MAX + 1];
	struct buf canonical;
	struct buf file;

	buf_init(&canonical, storage[0], sizeof(storage[0]));
	buf_init(&file, storage[1], sizeof(storage[1]));
	return spell(name, &canonical, &file);
}

int image_name_set(struct image_store *s, const char *name, const char *id, struct err *e)
{
	char canonical[IMAGE_NAME_MAX + 1];
	char file[NAME_MAX + 1];
	char line[IMAGE_ID_LEN + 2];
	_own_fd_ int names = -1;
	_own_fd_ int lock = -1;
	struct buf b;
	struct buf text;
	int r;

	buf_init(&b, canonical, sizeof(canonical));
	buf_init(&text, file, sizeof(file));
	if (!spell(name, &b, &text))
		return err_set(e, -EINVAL, "'%.100s' is no image name, or too long a one", name);
	r = open_names(s, true, &names, e);
	if (r == 0)
		r = store_lock(s, &lock, e); /* a removal that looks at names sees all or none */
	if (r < 0)
		return r;
	buf_init(&text, line, sizeof(line));
	buf_put_str(&text, id);
	buf_put_u8(&text, '\n');
	return fd_replace_file(names, file, line, text.len, 0600, e);
}

/* Calls back for each name of one store. */
static int each_name(const struct image_store *s, int store_fd,
                     int (*each)(void *arg, const char *file, struct span name), void *arg,
                     struct err *e)
{
	char name[IMAGE_NAME_MAX + 1];
	struct dirent *d;
	struct buf b;
	int left = NAMES_MAX;
	int r = 0;
	DIR *dir;
	int fd;

	(void)s;
	if (store_fd < 0 ||
	    fd_openat(store_fd, "names", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, NULL) < 0)
		return 0;
	dir = fdopendir(fd);
	if (!dir) {
		r = err_sys(e, "list the names of images");
		(void)close(fd);
		return r;
	}
	while (r == 0 && (d = readdir(dir)) && left-- > 0) {
		buf_init(&b, name, sizeof(name));
		if (d->d_name[0] != '.' && ref_unescape(span_str(d->d_name), &b) == 0)
			r = each(arg, d->d_name, buf_span(&b));
	}
	(void)closedir(dir);
	return r;
}

struct names {
	const struct image_store *store;
	const char *id;
	char **list;
	size_t count, size;
	struct err *e;
};

static int collect_name(void *arg, const char *file, struct span name)
{
	struct names *n = arg;
	char id[IMAGE_ID_LEN + 1];
	char *copy;

	(void)file;
	if (store_name_get(n->store, name, id, NULL) < 0 || strcmp(id, n->id) != 0)
		return 0;
	for (size_t i = 0; i < n->count; i++)
		if (span_equal(span_str(n->list[i]), name))
			return 0; /* both stores have it */
	if (n->count + 1 >= n->size) {
		size_t size = n->size ? n->size * 2 : 8;
		void *list = reallocarray(n->list, size, sizeof(char *));

		if (!list)
			return err_set(n->e, -ENOMEM, "out of memory");
		n->list = list;
		n->size = size;
	}
	copy = strndup((const char *)name.at, name.len);
	if (!copy)
		return err_set(n->e, -ENOMEM, "out of memory");
	n->list[n->count++] = copy;
	n->list[n->count] = NULL;
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void image_names_free(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
}

int image_names_of(struct image_store *s, const char *id, char ***ret, struct err *e)
{
	struct names n = { .store = s, .id = id, .e = e };
	int r;

	n.list = calloc(1, sizeof(char *));
	if (!n.list)
		return err_set(e, -ENOMEM, "out of memory");
	n.size = 1;
	r = each_name(s, s->user_fd, collect_name, &n, e);
	if (r == 0)
		r = each_name(s, s->installed_fd, collect_name, &n, e);
	if (r < 0) {
		image_names_free(n.list);
		return r;
	}
	if (n.count > 1)
		qsort(n.list, n.count, sizeof(char *), by_text);
	*ret = n.list;
	return 0;
}

/* --- listing --- */

void image_list_free(struct image_list *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->count; i++) {
		image_meta_free(l->rows[i].meta);
		image_names_free(l->rows[i].names);
	}
	free(l->rows);
	free(l);
}

struct listing {
	struct image_store *store;
	struct image_list *list;
	size_t size;
	struct err *e;
};

/*
 * Locks an image's directory against whoever opens the image, unless somebody has it open: the
 * directory, or the disk alone, as supervisors and engines have for as long as they live.
 */
static int lock_unused(int image_fd)
{
	_own_fd_ int disk = -1;

	if (flock(image_fd, LOCK_EX | LOCK_NB) < 0)
		return -ETXTBSY;
	if (fd_open_beneath(image_fd, "disk.sqfs", O_RDONLY | O_NONBLOCK, 0, RESOLVE_NO_SYMLINKS,
	                    &disk, NULL) < 0)
		return 0; /* a damaged one is nobody's */
	return flock(disk, LOCK_EX | LOCK_NB) < 0 ? -ETXTBSY : 0;
}

static int fill_row(struct listing *l, int store_fd, struct image_row *row)
{
	_own_fd_ int fd = -1;
	struct stat st;

	if (fd_open_beneath(store_fd, row->id, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, &fd,
	                    NULL) < 0)
		return 0; /* removed meanwhile, or damaged: the row says so by having no meta */
	if (fstat(fd, &st) == 0)
		row->imported_ns =
			(uint64_t)st.st_mtim.tv_sec * 1000000000U + (uint64_t)st.st_mtim.tv_nsec;
	row->in_use = lock_unused(fd) < 0;
	if (store_read_meta(fd, row->id, &row->meta, NULL) < 0)
		row->meta = NULL;
	return image_names_of(l->store, row->id, &row->names, l->e);
}

static int add_row(void *arg, int store_fd, const char *id)
{
	struct listing *l = arg;
	struct image_list *list = l->list;

	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->rows[i].id, id) == 0)
			return 0; /* the user's own copy came first */
	if (list->count >= STORE_IMAGES_MAX)
		return err_set(l->e, -E2BIG, "more than %d images", STORE_IMAGES_MAX);
	if (list->count == l->size) {
		size_t size = l->size ? l->size * 2 : 16;
		void *rows = reallocarray(list->rows, size, sizeof(*list->rows));

		if (!rows)
			return err_set(l->e, -ENOMEM, "out of memory");
		list->rows = rows;
		l->size = size;
	}
	list->rows[list->count] =
		(struct image_row){ .installed = store_fd == l->store->installed_fd };
	memcpy(list->rows[list->count].id, id, IMAGE_ID_LEN + 1);
	return fill_row(l, store_fd, &list->rows[list->count++]);
}

static int newest_first(const void *a, const void *b)
{
	const struct image_row *x = a;
	const struct image_row *y = b;

	if (x->imported_ns != y->imported_ns)
		return x->imported_ns < y->imported_ns ? 1 : -1;
	return strcmp(x->id, y->id);
}

int image_list(struct image_store *s, struct image_list **ret, struct err *e)
{
	_own_(image_list_free) struct image_list *list = calloc(1, sizeof(*list));
	struct listing l = { .store = s, .list = list, .e = e };
	_own_fd_ int lock = -1;
	int r;

	if (!list)
		return err_set(e, -ENOMEM, "out of memory");
	/*
	 * to see whether an image is in use is to lock it for a moment, which another listing or a
	 * removal would take for a sandbox; a store that cannot be written to is listed without
	 */
	if (store_lock(s, &lock, NULL) < 0)
		lock = -1;
	r = store_each(s->user_fd, add_row, &l, e);
	if (r == 0)
		r = store_each(s->installed_fd, add_row, &l, e);
	if (r < 0)
		return r;
	if (list->count > 1)
		qsort(list->rows, list->count, sizeof(*list->rows), newest_first);
	*ret = steal_ptr(&list);
	return 0;
}

/* --- removal --- */

static int drop_name(const struct image_store *s, const char *name, struct err *e)
{
	char file[NAME_MAX + 1];
	_own_fd_ int names = -1;
	struct buf b;
	int r = open_names(s, false, &names, e);

	if (r < 0)
		return r;
	buf_init(&b, file, sizeof(file));
	ref_put_escaped(&b, span_str(name));
	if (unlinkat(names, buf_cstr(&b), 0) < 0 && errno != ENOENT)
		return err_sys(e, "remove the name '%s'", name);
	return 0;
}

/* Takes the image out of sight in one step, then apart. */
static int drop_image(struct image_store *s, const char *id, bool force, struct err *e)
{
	char trash[STORE_DIR_NAME_MAX];
	_own_fd_ int fd = -1;
	struct buf b;
	int r = fd_open_beneath(s->user_fd, id, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, &fd,
	                        e);

	if (r < 0)
		return r;
	if (lock_unused(fd) < 0 && !force)
		return err_set(e, -ETXTBSY,
		               "image %.12s is in use by a sandbox; stop it first, or use --force",
		               id);
	buf_init(&b, trash, sizeof(trash));
	store_salted(&b, ".trash-");
	if (renameat(s->user_fd, id, s->user_fd, buf_cstr(&b)) < 0)
		return err_sys(e, "remove image %.12s", id);
	return fd_remove_tree(s->user_fd, trash, e);
}

static int drop_names(const struct image_store *s, char *const *names, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && names[i]; i++)
		r = drop_name(s, names[i], e);
	return r;
}

static int refuse_named(const char *id, char *const *names, struct err *e)
{
	return err_set(e, -EBUSY,
	               "image %.12s is also called '%.100s'; remove its names, or use --force", id,
	               names[0]);
}

int image_remove(struct image_store *s, const char *ref, bool force, enum image_removed *ret,
                 struct err *e)
{
	char canonical[IMAGE_NAME_MAX + 1];
	char id[IMAGE_ID_LEN + 1];
	char named[IMAGE_ID_LEN + 1];
	_own_fd_ int lock = -1;
	char **names = NULL;
	bool by_name;
	struct buf b;
	int r = store_resolve(s, ref, id, e);

	if (r == 0)
		r = store_lock(s, &lock, e);
	if (r < 0)
		return r;
	if (faccessat(s->user_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, -EROFS, "image '%.100s' is installed with berm and stays", ref);
	buf_init(&b, canonical, sizeof(canonical));
	ref_put_canonical(&b, span_str(ref));
	by_name = b.len > 0 && store_name_get(s, buf_span(&b), named, NULL) == 0 &&
	          strcmp(named, id) == 0;
	r = image_names_of(s, id, &names, e);
	if (r < 0)
		return r;
	*ret = IMAGE_REMOVED;
	if (by_name && names[0] && names[1]) {
		*ret = IMAGE_REMOVED_NAME;
		r = drop_name(s, buf_cstr(&b), e);
	} else if (!by_name && names[0] && !force) {
		r = refuse_named(id, names, e);
	} else {
		r = drop_image(s, id, force, e);
		if (r == 0)
			r = drop_names(s, names, e);
	}
	image_names_free(names);
	return r;
}

/* Names may have come since the image was listed; under the lock none can any more. */
static int drop_if_nameless(struct image_store *s, const char *id, struct err *e)
{
	char **names;
	int r = image_names_of(s, id, &names, e);

	if (r < 0)
		return r;
	r = names[0] ? -EBUSY : 0;
	image_names_free(names);
	return r < 0 ? r : drop_image(s, id, false, e);
}

int image_prune(struct image_store *s, unsigned *ret_images, uint64_t *ret_bytes, struct err *e)
{
	_own_(image_list_free) struct image_list *l = NULL;
	_own_fd_ int lock = -1;
	unsigned images = 0;
	uint64_t bytes = 0;
	int r = image_list(s, &l, e);

	image_store_sweep(s);
	if (r == 0)
		r = store_lock(s, &lock, e);
	for (size_t i = 0; r == 0 && i < l->count; i++) {
		const struct image_row *row = &l->rows[i];

		if (row->installed || (row->names && row->names[0]))
			continue;
		r = drop_if_nameless(s, row->id, e);
		if (r == -EBUSY || r == -ETXTBSY || r == -ENOENT) {
			r = 0; /* in use, or gone already */
			continue;
		}
		images += r == 0;
		bytes += r == 0 && row->meta ? row->meta->disk_bytes : 0;
	}
	if (r < 0)
		return r;
	*ret_images = images;
	*ret_bytes = bytes;
	return 0;
}

/* --- what the dead left --- */

static void sweep_one(const struct image_store *s, const char *name)
{
	_own_fd_ int fd = -1;

	if (fd_open_beneath(s->user_fd, name, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, &fd,
	                    NULL) < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return; /* its import lives */
	(void)fd_remove_tree(s->user_fd, name, NULL);
}

void image_store_sweep(struct image_store *s)
{
	int left = STORE_STAGING_MAX;
	_own_fd_ int lock = -1;
	struct dirent *d;
	DIR *dir;
	int fd;

	if (s->user_fd < 0 || fd_openat(s->user_fd, ".", O_RDONLY | O_DIRECTORY, 0, &fd, NULL) < 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		(void)close(fd);
		return;
	}
	while ((d = readdir(dir)) && left > 0) {
		if (strncmp(d->d_name, ".staging-", 9) != 0 &&
		    strncmp(d->d_name, ".trash-", 7) != 0)
			continue;
		left--;
		/* under the lock: an import makes its directory and locks it in one breath */
		if (lock < 0 && store_lock(s, &lock, NULL) < 0)
			break;
		sweep_one(s, d->d_name);
	}
	(void)closedir(dir);
}
