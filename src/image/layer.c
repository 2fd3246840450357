#include "image/layer.h"

#include "image/path.h"
#include "image/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

enum {
	DEV_MAJOR_MAX = 0xfff, /* what squashfs and Linux hold */
	DEV_MINOR_MAX = 0xfffff,
};

/* What goes on while one layer is read. */
struct work {
	struct job *job;
	const struct layer *layer;
	struct tree *tree;
	struct squash *squash;
	struct tar *tar;
	uint64_t ordinal; /* of the current entry */
	uint64_t xattr_bytes;
	uint8_t path[TREE_PATH_MAX + 1];
	uint8_t target[TREE_PATH_MAX + 1];
};

static int bad_path(const char *what, struct span raw, enum path_fault f, struct err *e)
{
	/* limits have their own class, so that a script can tell them from malice */
	int code = f == PATH_TOO_LONG || f == PATH_TOO_DEEP ? -E2BIG : -EPERM;

	return err_set(e, code, "%s '%.*s' %s", what, raw.len < 200 ? (int)raw.len : 200,
	               (const char *)raw.at, path_fault_text(f));
}

static int clean(const char *what, const char *raw, uint8_t storage[TREE_PATH_MAX + 1],
                 struct span *ret, struct err *e)
{
	enum path_fault fault;
	struct buf out;

	buf_init(&out, storage, TREE_PATH_MAX + 1);
	if (image_path_parse(span_str(raw), &out, &fault) < 0)
		return bad_path(what, span_str(raw), fault, e);
	*ret = buf_span(&out);
	return 0;
}

static int kind_of(struct archive_entry *entry, enum tree_kind *ret, struct err *e)
{
	switch (archive_entry_filetype(entry)) {
	case AE_IFREG:
		*ret = TREE_FILE;
		return 0;
	case AE_IFDIR:
		*ret = TREE_DIR;
		return 0;
	case AE_IFLNK:
		*ret = TREE_SYMLINK;
		return 0;
	case AE_IFCHR:
		*ret = TREE_CHAR;
		return 0;
	case AE_IFBLK:
		*ret = TREE_BLOCK;
		return 0;
	case AE_IFIFO:
		*ret = TREE_FIFO;
		return 0;
	case AE_IFSOCK:
		*ret = TREE_SOCKET;
		return 0;
	default:
		return err_set(e, -EPERM, "'%.200s' is of no kind a file system has",
		               archive_entry_pathname(entry));
	}
}

static int owner(struct archive_entry *entry, struct tree_meta *m, struct err *e)
{
	la_int64_t uid = archive_entry_uid(entry);
	la_int64_t gid = archive_entry_gid(entry);

	if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return err_set(e, -EPERM, "'%.200s' has an owner that no system has",
		               archive_entry_pathname(entry));
	m->uid = (uint32_t)uid;
	m->gid = (uint32_t)gid;
	return 0;
}

static int device(struct archive_entry *entry, struct tree_meta *m, struct err *e)
{
	uint64_t major = (uint64_t)archive_entry_rdevmajor(entry);
	uint64_t minor = (uint64_t)archive_entry_rdevminor(entry);

	if (major > DEV_MAJOR_MAX || minor > DEV_MINOR_MAX)
		return err_set(e, -EPERM, "'%.200s' has a device number that Linux does not have",
		               archive_entry_pathname(entry));
	m->dev_major = (uint32_t)major;
	m->dev_minor = (uint32_t)minor;
	return 0;
}

static int symlink_target(struct archive_entry *entry, struct tree_meta *m, struct err *e)
{
	const char *target = archive_entry_symlink(entry);

	m->target = span_str(target ? target : "");
	m->mode = 0777;
	if (m->target.len == 0)
		return err_set(e, -EPERM, "'%.200s' is a symbolic link to nothing",
		               archive_entry_pathname(entry));
	if (m->target.len > TREE_TARGET_MAX)
		return err_set(e, -E2BIG, "'%.200s' is a symbolic link of more than %d bytes",
		               archive_entry_pathname(entry), TREE_TARGET_MAX);
	return 0;
}

static int meta_of(struct archive_entry *entry, struct tree_meta *ret, struct err *e)
{
	la_int64_t mtime = archive_entry_mtime(entry);
	struct tree_meta m = { .mode = (uint16_t)(archive_entry_perm(entry) & 07777) };
	int r = kind_of(entry, &m.kind, e);

	if (r == 0)
		r = owner(entry, &m, e);
	if (r == 0 && (m.kind == TREE_CHAR || m.kind == TREE_BLOCK))
		r = device(entry, &m, e);
	if (r == 0 && m.kind == TREE_SYMLINK)
		r = symlink_target(entry, &m, e);
	if (r < 0)
		return r;
	/* squashfs counts unsigned seconds: 1970 to 2106 */
	m.mtime_s = mtime < 0 ? 0 : mtime > UINT32_MAX ? UINT32_MAX : (uint32_t)mtime;
	*ret = m;
	return 0;
}

static int put_xattr(struct work *w, const char *key, const void *value, size_t len,
                     const char *path, struct err *e)
{
	if (!squash_xattr_fits(key)) {
		job_warn(w->job,
		         "'%.200s': squashfs cannot hold the attribute %.100s; it is left "
		         "out",
		         path, key);
		return 0;
	}
	/* marks of the overlay below the guest's root: no image may speak to it */
	if (strncmp(key, "trusted.overlay.", 16) == 0 || strncmp(key, "user.overlay.", 13) == 0)
		return 0;
	w->xattr_bytes += strlen(key) + len;
	if (strlen(key) > TREE_NAME_MAX || len > TREE_XATTR_VALUE_MAX ||
	    w->xattr_bytes > TREE_XATTR_TOTAL_MAX)
		return err_set(e, -E2BIG, "'%.200s': extended attributes over the maximum", path);
	return squash_xattr(w->squash, key, value, len, e);
}

static int take_xattrs(struct work *w, struct archive_entry *entry, struct tree_inode *in,
                       struct err *e)
{
	int left = archive_entry_xattr_reset(entry);
	const char *path = archive_entry_pathname(entry);
	const char *key;
	const void *value;
	size_t len;
	int r;

	if (left == 0)
		return 0;
	if (left > TREE_XATTRS_MAX)
		return err_set(e, -E2BIG, "'%.200s' has more than %d extended attributes", path,
		               TREE_XATTRS_MAX);
	r = squash_xattr_begin(w->squash, e);
	while (r == 0 && archive_entry_xattr_next(entry, &key, &value, &len) == ARCHIVE_OK)
		if (key)
			r = put_xattr(w, key, value, len, path, e);
	return r < 0 ? r : squash_xattr_end(w->squash, in, e);
}

static int take_content(struct work *w, struct archive_entry *entry, struct span path,
                        struct tree_inode *in, struct err *e)
{
	struct registries *found = w->layer->registries;
	la_int64_t size = archive_entry_size(entry);
	uint64_t at = 0;
	uint64_t seen = 0;
	const void *data;
	uint64_t off;
	size_t len;
	int r;

	/* a sparse file's size is a claim that costs nothing to make */
	if (size < 0 || (uint64_t)size > w->job->unpacked_max)
		return err_set(
			e, -E2BIG,
			"'%.200s' is larger than all of the image may be; if you trust it, raise "
			"the limit with --max-size",
			archive_entry_pathname(entry));
	registries_begin(found, path, (uint64_t)size);
	r = squash_begin(w->squash, w->tree, in, (uint64_t)size, e);
	while (r == 0) {
		r = tar_data(w->tar, &data, &len, &off, e);
		if (r < 0 || len == 0)
			break;
		if (off < at)
			return err_set(e, -EBADMSG, "'%.200s' overlaps itself",
			               archive_entry_pathname(entry));
		if (off > at)
			r = squash_hole(w->squash, off - at, e);
		if (r == 0)
			r = squash_data(w->squash, data, len, e);
		registries_data(found, off, span_of(data, len));
		at = off + len;
		seen += len;
	}
	registries_end(found);
	if (r == 0)
		r = squash_end(w->squash, e);
	/* a hole that is no whole block is written as zeros, which nobody has counted */
	if (r == 0 && in->size - in->sparse_bytes > seen)
		r = job_count(w->job, 0, in->size - in->sparse_bytes - seen, e);
	return r;
}

static int take_hard_link(struct work *w, struct span path, const char *target, struct err *e)
{
	struct span to = { 0 };
	int r = clean("the target of a hard link", target, w->target, &to, e);

	return r != 0 ? r : tree_link(w->tree, path, to, e);
}

/*
 * A name that begins with ".wh.": 1 when that was all there is to the entry, 0 when it is a file.
 */
static int take_whiteout(struct work *w, struct span path, struct err *e)
{
	struct span dir = path;
	struct span name;
	struct buf victim;
	int r;

	while (dir.len > 0 && dir.at[dir.len - 1] != '/')
		dir.len--;
	name = span_of(path.at + dir.len, path.len - dir.len);
	if (!w->layer->whiteouts || name.len < 4 || memcmp(name.at, ".wh.", 4) != 0)
		return 0;
	if (dir.len > 0)
		dir.len--;
	if (span_is(name, ".wh..wh..opq")) {
		r = tree_opaque(w->tree, dir, e);
		return r < 0 ? r : 1;
	}
	if (name.len >= 8 && memcmp(name.at, ".wh..wh.", 8) == 0)
		return 1; /* other marks of an old union file system: none of ours */
	name = span_of(name.at + 4, name.len - 4);
	if (name.len == 0 || span_is(name, ".") || span_is(name, ".."))
		return err_set(e, -EPERM, "'%.*s': a whiteout of nothing",
		               path.len < 200 ? (int)path.len : 200, (const char *)path.at);
	buf_init(&victim, w->target, sizeof(w->target));
	buf_put_span(&victim, dir);
	if (dir.len > 0)
		buf_put_u8(&victim, '/');
	buf_put_span(&victim, name);
	r = tree_whiteout(w->tree, buf_span(&victim), e);
	return r < 0 ? r : 1;
}

static int take_entry(struct work *w, struct archive_entry *entry, struct err *e)
{
	const char *hard = archive_entry_hardlink(entry);
	struct tree_inode *in;
	struct tree_meta m;
	struct span path;
	int r = clean("the name", archive_entry_pathname(entry), w->path, &path, e);

	if (r < 0)
		return r;
	w->job->entries++;
	r = take_whiteout(w, path, e);
	if (r != 0)
		return r < 0 ? r : 0;
	if (hard)
		return take_hard_link(w, path, hard, e);
	r = meta_of(entry, &m, e);
	if (r == 0)
		r = tree_add(w->tree, path, &m, w->ordinal, &in, e);
	if (r < 0 || !in)
		return r;
	r = take_xattrs(w, entry, in, e);
	if (r == 0 && m.kind == TREE_FILE)
		r = take_content(w, entry, path, in, e);
	return r;
}

static int first_pass(struct work *w, char ret_packed[IMAGE_ID_LEN + 1],
                      char ret_plain[IMAGE_ID_LEN + 1], struct err *e)
{
	_own_(stream_free) struct stream *in = NULL;
	_own_(tar_free) struct tar *tar = NULL;
	struct archive_entry *entry;
	int r = stream_open(w->job, w->layer->blob, STREAM_DIGEST, &in, e);

	if (r == 0)
		r = tar_open(in, &tar, e);
	w->tar = tar;
	for (w->ordinal = 0; r == 0; w->ordinal++) {
		r = tar_next(tar, &entry, e);
		if (r < 0 || !entry)
			break;
		r = take_entry(w, entry, e);
	}
	return r < 0 ? r : stream_finish(in, ret_packed, ret_plain, e);
}

/* Fetches the files that only hard links show, by their place in the layer. */
static int second_pass(struct work *w, const struct tree_wanted *wanted, size_t count,
                       struct err *e)
{
	_own_(stream_free) struct stream *in = NULL;
	_own_(tar_free) struct tar *tar = NULL;
	struct archive_entry *entry;
	size_t at = 0;
	int r = stream_open(w->job, w->layer->blob, STREAM_UNCOUNTED, &in, e);

	if (r == 0)
		r = tar_open(in, &tar, e);
	w->tar = tar;
	for (w->ordinal = 0; r == 0 && at < count; w->ordinal++) {
		r = tar_next(tar, &entry, e);
		if (r < 0 || !entry)
			break;
		if (wanted[at].ordinal != w->ordinal)
			continue;
		r = take_xattrs(w, entry, wanted[at].inode, e);
		if (r == 0 && wanted[at].inode->meta.kind == TREE_FILE)
			r = take_content(w, entry, span_of(NULL, 0), wanted[at].inode, e);
		at++;
	}
	if (r == 0 && at < count)
		r = err_set(e, -EBADMSG, "the archive changed while it was read");
	return r;
}

static int check_digest(const char *what, const char *want, const char *got, struct err *e)
{
	if (!want || strcmp(want, got) == 0)
		return 0;
	return err_set(e, -EBADMSG, "%s is sha256:%.12s..., not sha256:%.12s... as the image says",
	               what, got, want);
}

int layer_apply(struct job *j, const struct layer *l, struct tree *t, struct squash *s,
                char ret_plain[IMAGE_ID_LEN + 1], struct err *e)
{
	_own_free_ struct work *w = calloc(1, sizeof(*w));
	const struct tree_wanted *wanted;
	char packed[IMAGE_ID_LEN + 1];
	char plain[IMAGE_ID_LEN + 1];
	size_t count;
	int r;

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	*w = (struct work){ .job = j, .layer = l, .tree = t, .squash = s };
	tree_begin_layer(t, l->number);
	r = first_pass(w, packed, plain, e);
	if (r == 0)
		r = check_digest("its digest", l->digest, packed, e);
	if (r == 0)
		r = check_digest("its content", l->diff_id, plain, e);
	if (r == 0) {
		tree_end_layer(t, &wanted, &count);
		if (count > 0)
			r = second_pass(w, wanted, count, e);
	}
	if (r < 0)
		return err_wrap(e, "%s", l->name);
	if (ret_plain)
		memcpy(ret_plain, plain, sizeof(plain));
	return 0;
}
