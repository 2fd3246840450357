#include "work/gitobj.h"

#include "base/fdio.h"
#include "work/gitobj_inner.h"
#include "work/gitobj_refs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum {
	LEVEL = 1, /* git repacks in its time */
	CHUNK_BYTES = 64 << 10,
	SIDE_REF_MAX = GITOBJ_REF_MAX + GITOBJ_SESSION_MAX + 16,
};

struct import {
	struct gitobj *g;
	int objects_fd;
	int dirs[256];   /* objects/xx, or -1 */
	bool dirty[256]; /* something was linked there */
};

/* A directory in a directory, made if it is missing. Never through a link. */
static int make_dir(int dir_fd, const char *name, int *ret, struct err *e)
{
	if (mkdirat(dir_fd, name, 0777) < 0 && errno != EEXIST)
		return err_sys(e, "make '%s' in the repository", name);
	return fd_open_beneath(dir_fd, name, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, ret,
	                       e);
}

/* -- objects */

static int deflate_some(z_stream *z, int flush, int fd, struct err *e)
{
	uint8_t chunk[CHUNK_BYTES];
	int code;

	do {
		int r;

		z->next_out = chunk;
		z->avail_out = sizeof(chunk);
		code = deflate(z, flush);
		if (code == Z_STREAM_ERROR)
			return err_set(e, -EIO, "an object cannot be compressed");
		r = fd_write_all(fd, chunk, sizeof(chunk) - z->avail_out, e);
		if (r < 0)
			return r;
	} while (z->avail_out == 0);
	return 0;
}

static int write_loose(int fd, const struct gitobj_record *rec, struct span data, struct err *e)
{
	uint8_t head[GITOBJ_LOOSE_HEAD_MAX];
	uint8_t none = 0;
	z_stream z = { 0 };
	struct buf b;
	int r;

	buf_init(&b, head, sizeof(head));
	buf_printf(&b, "%s %zu", gitobj_type_name(rec->type), data.len);
	buf_put_u8(&b, 0);
	if (!buf_ok(&b) || deflateInit(&z, LEVEL) != Z_OK)
		return err_set(e, -ENOMEM, "out of memory");
	z.next_in = head;
	z.avail_in = (uInt)b.len;
	r = deflate_some(&z, Z_NO_FLUSH, fd, e);
	z.next_in = data.len > 0 ? (Bytef *)(uintptr_t)data.at : &none;
	z.avail_in = (uInt)data.len;
	if (r == 0)
		r = deflate_some(&z, Z_FINISH, fd, e);
	(void)deflateEnd(&z);
	if (r == 0 && fsync(fd) < 0)
		r = err_sys(e, "write an object");
	return r;
}

/* A file that is not there yet. What an earlier, killed run left under its name goes first. */
static int make_file(int dir_fd, const char *name, mode_t mode, int *ret, struct err *e)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
	int r = fd_openat(dir_fd, name, flags, mode, ret, e);

	if (r != -EEXIST)
		return r;
	if (unlinkat(dir_fd, name, 0) < 0)
		return err_sys(e, "remove '%s' from the repository", name);
	err_clear(e);
	return fd_openat(dir_fd, name, flags, mode, ret, e);
}

/* Whole under its name, or not there at all. What has the name already stays. */
static int give_name(int dir_fd, const char *tmp, const char *name, struct err *e)
{
	int r = linkat(dir_fd, tmp, dir_fd, name, 0) < 0 ? -errno : 0;

	if (r == -EPERM || r == -EOPNOTSUPP) /* a file system without hard links */
		r = renameat2(dir_fd, tmp, dir_fd, name, RENAME_NOREPLACE) < 0 ? -errno : 0;
	(void)unlinkat(dir_fd, tmp, 0);
	if (r < 0 && r != -EEXIST)
		return err_set(e, r, "name a file of the repository: %s", strerror(-r));
	return r;
}

static int add_object(struct import *m, const struct gitobj_record *rec, struct span data,
                      struct err *e)
{
	char tmp[16 + GITOBJ_HEX_BYTES], hex[GITOBJ_HEX_BYTES + 1], folder[3];
	_own_fd_ int fd = -1;
	struct buf b;
	int *dir = &m->dirs[rec->id.b[0]];
	int r = 0;

	buf_init(&b, hex, sizeof(hex));
	gitobj_put_hex(&b, &rec->id);
	hex[GITOBJ_HEX_BYTES] = 0;
	memcpy(folder, hex, 2);
	folder[2] = 0;
	if (*dir < 0)
		r = make_dir(m->objects_fd, folder, dir, e);
	if (r < 0)
		return r;
	buf_init(&b, tmp, sizeof(tmp));
	buf_printf(&b, "tmp_obj_%s", hex + 2); /* git removes what is called so */
	r = make_file(*dir, buf_cstr(&b), 0444, &fd, e);
	if (r == 0)
		r = write_loose(fd, rec, data, e);
	if (r < 0) {
		(void)unlinkat(*dir, tmp, 0);
		return r;
	}
	r = give_name(*dir, tmp, hex + 2, e);
	m->dirty[rec->id.b[0]] = true;
	return r == -EEXIST ? 0 : r;
}

static int each_object(void *arg, const struct gitobj_record *rec, struct span data, struct err *e)
{
	struct import *m = arg;
	enum gitobj_type is;
	int r;

	if (rec->kind != GITOBJ_REC_OBJECT)
		return 0;
	r = gitobj_store_type(m->g->store, &rec->id, &is, e);
	return r == -ENOENT ? add_object(m, rec, data, e) : r;
}

static int sync_dirs(struct import *m, struct err *e)
{
	for (int i = 0; i < 256; i++) {
		if (m->dirty[i] && fsync(m->dirs[i]) < 0)
			return err_sys(e, "write the objects");
	}
	return fsync(m->objects_fd) < 0 ? err_sys(e, "write the objects") : 0;
}

static int add_objects(struct gitobj *g, struct err *e)
{
	struct import m = { .g = g, .objects_fd = -1 };
	int r;

	for (int i = 0; i < 256; i++)
		m.dirs[i] = -1;
	r = fd_open_beneath(g->repo_fd, "objects", O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS,
	                    &m.objects_fd, e);
	if (r == 0)
		r = gitobj_scan(g, each_object, &m, e);
	if (r == 0)
		r = sync_dirs(&m, e);
	for (int i = 0; i < 256; i++)
		own_close_fd(&m.dirs[i]);
	own_close_fd(&m.objects_fd);
	return r;
}

/* -- refs */

/* What the host's ref says. -ENOENT: there is none. */
static int loose_ref(const struct gitobj *g, struct span name, struct gitobj_id *ret, struct err *e)
{
	const struct gitobj_place place = { .host_fd = g->repo_fd };
	_own_free_ uint8_t *text = NULL;
	struct gitobj_file f;
	struct span target;
	int r = gitobj_file_open(&place, name, &f, e);

	if (r < 0)
		return r;
	r = gitobj_file_text(&f, GITOBJ_REF_FILE_MAX, &text, e);
	if (r == 0 &&
	    (gitobj_parse_ref(span_of(text, (size_t)f.size), ret, &target) < 0 || target.len > 0))
		*ret = (struct gitobj_id){ { 0 } };
	gitobj_file_close(&f);
	return r;
}

static int packed_ref(const struct gitobj *g, struct span name, struct gitobj_id *ret,
                      struct err *e)
{
	const struct gitobj_place place = { .host_fd = g->repo_fd };
	_own_free_ uint8_t *text = NULL;
	struct gitobj_file f;
	struct span in, got;
	int r = gitobj_file_open(&place, span_str("packed-refs"), &f, e);

	if (r < 0)
		return r;
	r = gitobj_file_text(&f, GITOBJ_PACKED_REFS_MAX, &text, e);
	gitobj_file_close(&f);
	if (r < 0)
		return r;
	in = span_of(text, (size_t)f.size);
	while (gitobj_parse_packed_ref(&in, ret, &got) == 0) {
		if (span_equal(got, name))
			return 0;
	}
	return -ENOENT;
}

/* 1: it is there already and says the same; 0: it is not there. */
static int check_ref(const struct gitobj *g, struct span name, const struct gitobj_id *id,
                     struct err *e)
{
	struct gitobj_id was = { { 0 } };
	int r = loose_ref(g, name, &was, e);

	if (r == -ENOENT)
		r = packed_ref(g, name, &was, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!gitobj_id_equal(&was, id))
		return err_set(e, -EEXIST, "the ref '%.*s' is there, and stands for another commit",
		               (int)name.len, (const char *)name.at);
	return 1;
}

/* As git does it: under a lock's name first. */
static int write_ref(int dir_fd, const char *name, const struct gitobj_id *id, struct err *e)
{
	char lock[GITOBJ_REF_PART_MAX + 8], line[GITOBJ_HEX_BYTES + 1];
	_own_fd_ int fd = -1;
	struct buf b;
	int r;

	buf_init(&b, lock, sizeof(lock));
	buf_printf(&b, "%s.lock", name);
	r = make_file(dir_fd, buf_cstr(&b), 0666, &fd, e);
	if (r < 0)
		return r;
	buf_init(&b, line, sizeof(line));
	gitobj_put_hex(&b, id);
	buf_put_u8(&b, '\n');
	r = fd_write_all(fd, b.at, b.len, e);
	if (r == 0 && fsync(fd) < 0)
		r = err_sys(e, "write a ref");
	if (r < 0) {
		(void)unlinkat(dir_fd, lock, 0);
		return r;
	}
	r = give_name(dir_fd, lock, name, e);
	if (r == -EEXIST)
		return err_set(e, r, "the ref '%s' came in between", name);
	if (r == 0 && fsync(dir_fd) < 0)
		r = err_sys(e, "write a ref");
	return r;
}

static int add_ref(const struct gitobj *g, struct span name, const struct gitobj_id *id,
                   struct err *e)
{
	char part[GITOBJ_REF_PART_MAX + 1];
	_own_fd_ int dir = -1;
	struct span next;
	int r = fd_open_beneath(g->repo_fd, ".", O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS,
	                        &dir, e);

	while (r == 0 && take_until(&name, '/', &next)) {
		int deeper = -1;

		if (next.len >= sizeof(part)) /* the name was judged */
			return err_set(e, -E2BIG, "a ref's name is too long");
		memcpy(part, next.at, next.len);
		part[next.len] = 0;
		if (name.len == 0)
			return write_ref(dir, part, id, e);
		r = make_dir(dir, part, &deeper, e);
		if (r == 0) {
			/* a directory that is new has to last, too */
			r = fsync(dir) < 0 ? err_sys(e, "write a ref") : 0;
			(void)close(dir);
			dir = deeper;
		}
	}
	return r;
}

static int each_ref(struct gitobj *g, const char *session, bool write, struct err *e)
{
	for (uint32_t i = 0; i < g->totals.refs + g->totals.refused; i++) {
		const struct gitobj_branch *branch = &g->branches[i];
		char room[SIDE_REF_MAX];
		struct buf name;
		int r;

		if (branch->refused)
			continue;
		buf_init(&name, room, sizeof(room));
		if (!gitobj_side_ref(session, branch->name, &name))
			return err_set(e, -E2BIG, "a branch's name is too long");
		r = check_ref(g, buf_span(&name), &branch->id, e);
		if (r == 0 && write)
			r = add_ref(g, buf_span(&name), &branch->id, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int gitobj_import(struct gitobj *g, const char *session, struct err *e)
{
	int r;

	if (!g->store)
		return err_set(e, -EOPNOTSUPP, "there is no repository to bring the commits to");
	if (g->totals.refs == 0)
		return 0;
	r = each_ref(g, session, false, e);
	if (r == 0)
		r = add_objects(g, e);
	return r == 0 ? each_ref(g, session, true, e) : r;
}
