#include "work/gitobj_store.h"

#include "base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/*
 * A thing as the guest saw it: in the proposal, in the base, or a directory of both. The rules are
 * those of proposal.h, "Meaning".
 */
struct seen {
	bool in_proposal, in_base;
	struct proposal_node node;
	struct base_node base_node;
};

static int seen_root(const struct gitobj_place *p, struct seen *ret, struct err *e)
{
	*ret = (struct seen){ .in_base = true };
	base_root(p->base, &ret->base_node);
	if (p->proposal) {
		ret->in_proposal = proposal_find(p->proposal, span_str(""), &ret->node);
		if (!ret->in_proposal)
			return err_set(e, -EBADMSG, "the proposal has no root");
	}
	return 0;
}

static int in_base(const struct gitobj_place *p, const struct seen *dir, struct span name,
                   struct seen *ret)
{
	struct err why = { 0 };
	int r = -ENOENT;

	if (dir->in_base && dir->base_node.kind == WORK_DIR)
		r = base_lookup_at(p->base, &dir->base_node, name, &ret->base_node, &why);
	ret->in_base = r == 0;
	return r == -ENOTDIR ? -ENOENT : r;
}

/* What the base has beneath a directory of the proposal. */
static int below(const struct gitobj_place *p, const struct seen *dir, struct seen *s)
{
	struct err why = { 0 };
	int r;

	s->in_base = false;
	if (s->node.flags & PROPOSAL_OPAQUE ||
	    (s->node.why != PROPOSAL_WHY_NONE && s->node.why != PROPOSAL_WHY_DEEP))
		return 0;
	if (s->node.flags & PROPOSAL_REDIRECT) {
		r = base_lookup(p->base, s->node.target, &s->base_node, &why);
		s->in_base = r == 0;
	} else {
		r = in_base(p, dir, s->node.name, s);
	}
	if (s->in_base && s->base_node.kind != WORK_DIR)
		s->in_base = false;
	return r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

static int step(const struct gitobj_place *p, const struct seen *dir, struct span name,
                struct seen *ret)
{
	struct seen s = { .in_proposal = false };
	uint8_t room[WPATH_MAX + 1];
	struct buf path;
	int r;

	if (dir->in_proposal) {
		if (dir->node.kind != PROPOSAL_DIR)
			return -ENOENT;
		buf_init(&path, room, sizeof(room));
		wpath_put(&path, dir->node.path, name);
		if (!buf_ok(&path))
			return -ENOENT;
		s.in_proposal = proposal_find(p->proposal, buf_span(&path), &s.node);
	}
	if (!s.in_proposal)
		r = in_base(p, dir, name, &s);
	else if (s.node.kind == PROPOSAL_DIR)
		r = below(p, dir, &s);
	else
		r = s.node.kind == PROPOSAL_FILE && s.node.why == PROPOSAL_WHY_NONE ? 0 : -ENOENT;
	if (r == 0)
		*ret = s;
	return r;
}

static int see(const struct gitobj_place *p, struct span path, struct seen *ret, struct err *e)
{
	struct span parts[2] = { p->git_dir, path };
	struct seen at;
	struct span name;
	int r = seen_root(p, &at, e);

	for (int i = 0; r == 0 && i < 2; i++) {
		while (r == 0 && wpath_next(&parts[i], &name)) {
			struct seen dir = at;

			r = step(p, &dir, name, &at);
		}
	}
	if (r == 0)
		*ret = at;
	else if (r != -ENOENT && e && e->code == 0)
		(void)err_set(e, r, "the repository in the workspace cannot be read");
	return r;
}

/* -- files */

static int open_host(const struct gitobj_place *p, struct span path, struct gitobj_file *ret,
                     struct err *e)
{
	char name[WPATH_MAX + 1];
	_own_fd_ int fd = -1;
	struct err why = { 0 };
	struct stat st;
	int r;

	if (path.len >= sizeof(name))
		return -ENOENT;
	memcpy(name, path.at, path.len);
	name[path.len] = 0;
	r = fd_open_beneath(p->host_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0,
	                    RESOLVE_NO_SYMLINKS, &fd, &why);
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -ENXIO)
		return -ENOENT;
	if (r < 0)
		return err_set(e, r, "%s", why.text);
	if (fstat(fd, &st) < 0)
		return err_sys(e, "look at a file of the repository");
	if (!S_ISREG(st.st_mode))
		return -ENOENT;
	*ret = (struct gitobj_file){ .size = (uint64_t)st.st_size, .fd = steal_fd(&fd) };
	return 0;
}

int gitobj_file_open(const struct gitobj_place *p, struct span path, struct gitobj_file *ret,
                     struct err *e)
{
	struct gitobj_file f = { .fd = -1, .base = p->base };
	struct seen s;
	int r;

	if (!p->base)
		return open_host(p, path, ret, e);
	r = see(p, path, &s, e);
	if (r != 0)
		return r;
	if (s.in_proposal) {
		if (s.node.kind != PROPOSAL_FILE)
			return -ENOENT;
		f.proposal = p->proposal;
		f.node = s.node;
		f.size = s.node.size;
	} else {
		if (s.base_node.kind != WORK_FILE)
			return -ENOENT;
		f.base_node = s.base_node;
		f.size = s.base_node.size;
	}
	*ret = f;
	return 0;
}

void gitobj_file_close(struct gitobj_file *f)
{
	own_close_fd(&f->fd);
	f->fd = -1;
}

static int read_fd(int fd, uint64_t off, uint8_t *at, size_t len, struct err *e)
{
	size_t got;

	if (fd_read_at(fd, off, at, len, &got) < 0)
		return err_sys(e, "read the repository");
	if (got < len)
		return err_set(e, -EBADMSG, "a file of the repository was cut");
	return 0;
}

int gitobj_file_read(const struct gitobj_file *f, uint64_t off, void *ret, size_t len,
                     struct err *e)
{
	if (off > f->size || len > f->size - off)
		return err_set(e, -EBADMSG, "a file of the repository is cut");
	if (f->proposal)
		return proposal_read(f->proposal, &f->node, off, ret, len, e);
	if (f->base)
		return base_read(f->base, &f->base_node, off, ret, len, e);
	return read_fd(f->fd, off, ret, len, e);
}

int gitobj_file_text(const struct gitobj_file *f, size_t max, uint8_t **ret, struct err *e)
{
	_own_free_ uint8_t *at = NULL;
	int r;

	if (f->size > max)
		return err_set(e, -E2BIG, "a file of the repository is over %zu bytes", max);
	at = malloc((size_t)f->size + 1);
	if (!at)
		return err_set(e, -ENOMEM, "out of memory");
	r = gitobj_file_read(f, 0, at, (size_t)f->size, e);
	if (r < 0)
		return r;
	at[f->size] = 0;
	*ret = steal_ptr(&at);
	return 0;
}

/* -- directories */

static int list_host(const struct gitobj_place *p, struct span path, gitobj_list_fn *each,
                     void *arg, struct err *e)
{
	char text[WPATH_MAX + 1];
	_own_fd_ int fd = -1;
	struct err why = { 0 };
	struct dirent *d;
	DIR *dir;
	int r;

	if (path.len >= sizeof(text))
		return 0;
	memcpy(text, path.at, path.len);
	text[path.len] = 0;
	r = fd_open_beneath(p->host_fd, text, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, &fd,
	                    &why);
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP)
		return 0;
	if (r < 0)
		return err_set(e, r, "%s", why.text);
	dir = fdopendir(fd);
	if (!dir)
		return err_sys(e, "read a directory of the repository");
	fd = -1; /* the stream's now */
	while (r == 0 && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			r = each(arg, span_str(d->d_name), d->d_type == DT_DIR, e);
	(void)closedir(dir);
	return r;
}

struct lister {
	const struct gitobj_place *place;
	const struct seen *dir;
	gitobj_list_fn *each;
	void *arg;
};

/* A name of the base, unless the proposal says something of it. */
static int base_name(void *arg, struct span name, const struct base_node *node, struct err *e)
{
	const struct lister *l = arg;
	struct seen s;
	int r;

	if (!l->dir->in_proposal)
		return l->each(l->arg, name, node->kind == WORK_DIR, e);
	r = step(l->place, l->dir, name, &s);
	if (r == -ENOENT || (r == 0 && s.in_proposal))
		return 0;
	if (r < 0)
		return err_set(e, r, "the repository in the workspace cannot be read");
	return l->each(l->arg, name, node->kind == WORK_DIR, e);
}

static int list_proposal(const struct gitobj_place *p, const struct seen *dir, gitobj_list_fn *each,
                         void *arg, struct err *e)
{
	uint32_t i = dir->node.index + 1;
	struct proposal_node n;
	int r = 0;

	if (!dir->in_proposal || dir->node.kind != PROPOSAL_DIR)
		return 0;
	while (r == 0 && proposal_child(p->proposal, &dir->node, &i, &n))
		if (n.kind == PROPOSAL_FILE || n.kind == PROPOSAL_DIR)
			r = each(arg, n.name, n.kind == PROPOSAL_DIR, e);
	return r;
}

int gitobj_list_new(const struct gitobj_place *p, struct span path, gitobj_list_fn *each, void *arg,
                    struct err *e)
{
	struct seen dir;
	int r = p->proposal ? see(p, path, &dir, e) : -ENOENT;

	if (r != 0)
		return r == -ENOENT ? 0 : r;
	return list_proposal(p, &dir, each, arg, e);
}

int gitobj_list(const struct gitobj_place *p, struct span path, gitobj_list_fn *each, void *arg,
                struct err *e)
{
	struct lister l = { .place = p, .each = each, .arg = arg };
	struct seen dir;
	int r;

	if (!p->base)
		return list_host(p, path, each, arg, e);
	r = see(p, path, &dir, e);
	if (r != 0)
		return r == -ENOENT ? 0 : r;
	l.dir = &dir;
	r = list_proposal(p, &dir, each, arg, e);
	if (r == 0 && dir.in_base && dir.base_node.kind == WORK_DIR)
		r = base_list(p->base, &dir.base_node, base_name, &l, e);
	return r;
}
