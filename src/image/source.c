#include "image/source.h"

#include "base/ck.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "image/path.h"
#include "image/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { SPOOL_BYTES = 1 << 20, LAYOUT_FDS_MAX = IMAGE_LAYERS_MAX + 64 };

struct member {
	char *name; /* cleaned */
	char *link; /* cleaned target of a link, or NULL */
	uint64_t off, size;
};

struct source {
	struct job *job;
	enum source_kind kind;
	struct blob whole; /* ARCHIVE, ROOTFS */
	int dir_fd;        /* LAYOUT_DIR, borrowed */
	int spool_fd;      /* owned, or -1 */
	struct member *members;
	size_t member_count, member_size;
	int fds[LAYOUT_FDS_MAX]; /* LAYOUT_DIR: blobs opened, owned */
	size_t fd_count;
};

void source_free(struct source *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->member_count; i++) {
		free(s->members[i].name);
		free(s->members[i].link);
	}
	for (size_t i = 0; i < s->fd_count; i++)
		(void)close(s->fds[i]);
	if (s->spool_fd >= 0)
		(void)close(s->spool_fd);
	free(s->members);
	free(s);
}

enum source_kind source_kind(const struct source *s)
{
	return s->kind;
}

struct blob source_rootfs(const struct source *s)
{
	return s->whole;
}

static bool is_hex_name(struct span s)
{
	if (s.len < IMAGE_ID_LEN)
		return false;
	for (size_t i = 0; i < IMAGE_ID_LEN; i++)
		if (!memchr("0123456789abcdef", s.at[i], 16))
			return false;
	s = span_of(s.at + IMAGE_ID_LEN, s.len - IMAGE_ID_LEN);
	return s.len == 0 || span_is(s, ".json") || span_is(s, ".tar");
}

/* Could a member of this name begin an image archive? No root file system has such names. */
static bool is_image_member(struct span name)
{
	struct span first;

	if (!take_until(&name, '/', &first))
		return false;
	return is_hex_name(first) || span_is(first, "blobs") || span_is(first, "oci-layout") ||
	       span_is(first, "index.json") || span_is(first, "manifest.json") ||
	       span_is(first, "repositories");
}

/* Cleans a name into memory of its own. NULL and *ret_code 0: it is no name we would look for. */
static char *clean_name(const char *raw, struct span dir, struct err *e)
{
	char joined[2 * ARCHIVE_NAME_MAX + 2];
	uint8_t storage[TREE_PATH_MAX + 1];
	struct buf in;
	struct buf out;
	char *got;

	buf_init(&in, joined, sizeof(joined));
	buf_put_span(&in, dir);
	buf_put_str(&in, raw);
	buf_init(&out, storage, sizeof(storage));
	if (!buf_ok(&in) || image_path_parse(buf_span(&in), &out, NULL) < 0)
		return NULL;
	got = strdup(buf_cstr(&out));
	if (!got)
		(void)err_set(e, -ENOMEM, "out of memory");
	return got;
}

/*
 * A link's target, relative to the link's own directory. Old archives have "../<layer>/layer.tar",
 * which is the one ".." there is: it takes the last directory off, within the archive.
 */
static char *clean_link(const struct member *m, const char *target, bool hard, struct err *e)
{
	struct span dir = span_str(m->name);

	while (dir.len > 0 && dir.at[dir.len - 1] != '/')
		dir.len--;
	if (hard)
		dir.len = 0;
	while (strncmp(target, "../", 3) == 0) {
		if (dir.len == 0)
			return NULL;
		dir.len--;
		while (dir.len > 0 && dir.at[dir.len - 1] != '/')
			dir.len--;
		target += 3;
	}
	return clean_name(target, dir, e);
}

static int member_add(struct source *s, struct tar *t, struct archive_entry *entry, struct err *e)
{
	const char *hard = archive_entry_hardlink(entry);
	const char *soft = archive_entry_symlink(entry);
	struct member m = { 0 };

	if (s->member_count == s->member_size) {
		size_t size = s->member_size == 0 ? 64 : s->member_size * 2;
		void *bigger = reallocarray(s->members, size, sizeof(*s->members));

		if (!bigger)
			return err_set(e, -ENOMEM, "out of memory");
		s->members = bigger;
		s->member_size = size;
	}
	if (s->member_count >= ARCHIVE_MEMBERS_MAX)
		return err_set(e, -E2BIG, "more than %d files in the archive", ARCHIVE_MEMBERS_MAX);
	m.name = clean_name(archive_entry_pathname(entry), span_str(""), e);
	if (!m.name)
		return e->code; /* 0 for a name nobody asks for */
	if (hard || soft)
		m.link = clean_link(&m, hard ? hard : soft, hard != NULL, e);
	else if (archive_entry_filetype(entry) == AE_IFREG)
		m.size = (uint64_t)archive_entry_size(entry);
	m.off = tar_data_offset(t);
	if (e->code < 0 || ((hard || soft) && !m.link) ||
	    (!hard && !soft && archive_entry_filetype(entry) != AE_IFREG) ||
	    archive_entry_sparse_count(entry) > 0) {
		free(m.name);
		free(m.link);
		return e->code;
	}
	if (!m.link && !ck_range(m.off, m.size, s->whole.size)) {
		free(m.name);
		return err_set(e, -EBADMSG, "the archive ends within a file: it is cut short");
	}
	s->members[s->member_count++] = m;
	return 0;
}

static int index_members(struct source *s, struct err *e)
{
	_own_(tar_free) struct tar *t = NULL;
	struct archive_entry *entry;
	int r = tar_open_blob(s->whole, &t, e);

	while (r == 0) {
		r = tar_next(t, &entry, e);
		if (r == 0 && !entry)
			break;
		if (r == 0)
			r = member_add(s, t, entry, e);
	}
	return r;
}

static const struct member *member_find(const struct source *s, struct span name)
{
	/* the last one of a name is the one an unpacked archive would have */
	for (size_t i = s->member_count; i > 0; i--)
		if (span_equal(span_str(s->members[i - 1].name), name))
			return &s->members[i - 1];
	return NULL;
}

static bool has_member(const struct source *s, const char *name)
{
	return member_find(s, span_str(name)) != NULL;
}

static int find_member(const struct source *s, struct span name, struct blob *ret, struct err *e)
{
	const struct member *m = member_find(s, name);

	for (int i = 0; m && m->link && i < ARCHIVE_LINK_HOPS_MAX; i++)
		m = member_find(s, span_str(m->link));
	if (!m || m->link)
		return err_set(e, -ENOENT, "no '%.*s' in the archive", (int)name.len,
		               (const char *)name.at);
	*ret = (struct blob){ .fd = s->whole.fd, .off = s->whole.off + m->off, .size = m->size };
	return 0;
}

static int find_file(struct source *s, struct span name, struct blob *ret, struct err *e)
{
	char path[ARCHIVE_NAME_MAX + 1];
	_own_fd_ int fd = -1;
	struct stat st;
	struct buf b;
	int r;

	buf_init(&b, path, sizeof(path));
	buf_put_span(&b, name);
	r = fd_open_beneath(s->dir_fd, buf_cstr(&b), O_RDONLY | O_NONBLOCK | O_NOCTTY, 0,
	                    RESOLVE_NO_SYMLINKS, &fd, e);
	if (r == -ELOOP)
		return err_set(e, -EPERM, "'%s' is a symbolic link, or lies behind one", path);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat '%s'", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EPERM, "'%s' is not a file", path);
	if (s->fd_count >= LAYOUT_FDS_MAX)
		return err_set(e, -E2BIG, "more than %d blobs are needed", LAYOUT_FDS_MAX);
	*ret = (struct blob){ .fd = fd, .size = (uint64_t)st.st_size };
	s->fds[s->fd_count++] = steal_fd(&fd);
	return 0;
}

int source_find(struct source *s, struct span name, struct blob *ret, struct err *e)
{
	uint8_t storage[ARCHIVE_NAME_MAX + 1];
	struct buf clean;

	buf_init(&clean, storage, sizeof(storage));
	if (image_path_parse(name, &clean, NULL) < 0 || clean.len == 0)
		return err_set(e, -EPERM, "'%.*s' is no name of a file in the image",
		               name.len < 200 ? (int)name.len : 200, (const char *)name.at);
	return s->kind == SOURCE_LAYOUT_DIR ? find_file(s, buf_span(&clean), ret, e)
	                                    : find_member(s, buf_span(&clean), ret, e);
}

int source_read(struct source *s, struct span name, size_t max, char **ret_text, size_t *ret_len,
                struct err *e)
{
	_own_free_ char *text = NULL;
	struct blob b;
	size_t got = 0;
	int r = source_find(s, name, &b, e);

	if (r < 0)
		return r;
	if (b.size > max)
		return err_set(e, -E2BIG, "'%.*s' is larger than %zu bytes", (int)name.len,
		               (const char *)name.at, max);
	text = malloc((size_t)b.size + 1);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	while (got < b.size) {
		ssize_t n = pread(b.fd, text + got, (size_t)b.size - got, (off_t)(b.off + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read '%.*s'", (int)name.len, (const char *)name.at);
		if (n == 0)
			return err_set(e, -EBADMSG, "the archive ends too early");
		got += (size_t)n;
	}
	text[got] = '\0';
	*ret_text = steal_ptr(&text);
	*ret_len = got;
	return 0;
}

int source_blob_name(struct span digest, struct buf *out, struct err *e)
{
	struct span hex;

	if (digest.len != 7 + IMAGE_ID_LEN || memcmp(digest.at, "sha256:", 7) != 0)
		return err_set(e, -EPERM, "'%.*s' is not a sha256 digest",
		               digest.len < 100 ? (int)digest.len : 100, (const char *)digest.at);
	hex = span_of(digest.at + 7, IMAGE_ID_LEN);
	if (!is_hex_name(hex))
		return err_set(e, -EPERM, "'%.*s' is not a sha256 digest", (int)digest.len,
		               (const char *)digest.at);
	buf_put_str(out, "blobs/sha256/");
	buf_put_span(out, hex);
	return 0;
}

/* Copies a pipe into an unnamed file, as it comes. */
static int spool_pipe(struct source *s, int fd, int staging_fd, struct err *e)
{
	_own_free_ uint8_t *chunk = malloc(SPOOL_BYTES);
	uint64_t size = 0;
	int r;

	if (!chunk)
		return err_set(e, -ENOMEM, "out of memory");
	r = fd_tmpfile(staging_fd, 0600, &s->spool_fd, e);
	if (r < 0)
		return r;
	for (;;) {
		ssize_t n = read(fd, chunk, SPOOL_BYTES);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read the archive");
		if (n == 0)
			break;
		size += (uint64_t)n;
		if (size > s->job->unpacked_max)
			return err_set(e, -E2BIG, "the input is longer than %llu bytes",
			               (unsigned long long)s->job->unpacked_max);
		r = fd_write_all(s->spool_fd, chunk, (size_t)n, e);
		if (r < 0)
			return r;
	}
	s->whole = (struct blob){ .fd = s->spool_fd, .size = size };
	return 0;
}

/* Unpacks an archive that is compressed as a whole into an unnamed file. */
static int spool_plain(struct source *s, int staging_fd, struct err *e)
{
	_own_(stream_free) struct stream *in = NULL;
	_own_fd_ int fd = -1;
	uint64_t size = 0;
	const void *data;
	size_t len;
	int r = fd_tmpfile(staging_fd, 0600, &fd, e);

	if (r == 0)
		r = stream_open(s->job, s->whole, STREAM_UNCOUNTED, &in, e);
	while (r == 0) {
		r = stream_next(in, &data, &len, e);
		if (r < 0 || len == 0)
			break;
		size += len;
		if (size > s->job->unpacked_max)
			return err_set(e, -E2BIG, "the archive unpacks to more than %llu bytes",
			               (unsigned long long)s->job->unpacked_max);
		r = fd_write_all(fd, data, len, e);
	}
	if (r < 0)
		return r;
	if (s->spool_fd >= 0)
		(void)close(steal_fd(&s->spool_fd));
	s->spool_fd = steal_fd(&fd);
	s->whole = (struct blob){ .fd = s->spool_fd, .size = size };
	s->job->in_total += size; /* it is read twice, and the bar should not go beyond its end */
	return 0;
}

/* Looks at the first name in the tar, past the directory all others are in. */
static int look(struct source *s, bool *ret_image, bool *ret_packed, struct err *e)
{
	_own_(stream_free) struct stream *in = NULL;
	_own_(tar_free) struct tar *t = NULL;
	struct archive_entry *entry;
	char *name = NULL;
	int r = stream_open(s->job, s->whole, STREAM_UNCOUNTED, &in, e);

	if (r < 0)
		return r;
	*ret_packed = stream_packed(in);
	*ret_image = false;
	r = tar_open(in, &t, e);
	if (r == -EBADMSG)
		return err_set(e, -ENOEXEC,
		               "not a tar archive, of files, of `docker save` or of an OCI layout");
	while (r == 0) {
		r = tar_next(t, &entry, e);
		if (r < 0 || !entry)
			break;
		name = clean_name(archive_entry_pathname(entry), span_str(""), e);
		if (name && *name)
			break;
		free(name);
		name = NULL;
	}
	if (name)
		*ret_image = is_image_member(span_str(name));
	free(name);
	return r;
}

static int open_layout_dir(struct source *s, int fd, struct err *e)
{
	struct stat st;

	s->kind = SOURCE_LAYOUT_DIR;
	s->dir_fd = fd;
	if (fstatat(fd, "index.json", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return err_set(e, -ENOEXEC,
	               "this directory has no index.json, so it is not an OCI layout; to import a "
	               "directory of files, give a tar of it");
}

static int open_archive(struct source *s, int staging_fd, struct err *e)
{
	bool image;
	bool packed;
	int r = look(s, &image, &packed, e);

	if (r < 0)
		return r;
	s->kind = SOURCE_ROOTFS;
	if (!image)
		return 0;
	if (packed)
		r = spool_plain(s, staging_fd, e);
	if (r == 0)
		r = index_members(s, e);
	if (r == 0 && (has_member(s, "manifest.json") || has_member(s, "index.json")))
		s->kind = SOURCE_ARCHIVE;
	else if (r == 0)
		return err_set(e, -ENOEXEC,
		               "it has blobs but neither manifest.json nor index.json: not all of "
		               "an image");
	return r;
}

int source_open(struct job *j, int fd, int staging_fd, struct source **ret, struct err *e)
{
	_own_(source_free) struct source *s = calloc(1, sizeof(*s));
	struct stat st;
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->job = j;
	s->spool_fd = -1;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat the archive");
	if (S_ISDIR(st.st_mode)) {
		r = open_layout_dir(s, fd, e);
	} else {
		if (S_ISREG(st.st_mode))
			s->whole = (struct blob){ .fd = fd, .size = (uint64_t)st.st_size };
		r = S_ISREG(st.st_mode) ? 0 : spool_pipe(s, fd, staging_fd, e);
		j->in_total = s->whole.size;
		if (r == 0 && s->whole.size == 0)
			r = err_set(e, -ENOEXEC, "the archive is empty");
		if (r == 0)
			r = open_archive(s, staging_fd, e);
	}
	if (r < 0)
		return r;
	*ret = steal_ptr(&s);
	return 0;
}
