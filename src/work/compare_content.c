#include "work/compare_inner.h"

#include "base/fdio.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 64 << 10 };

static size_t chunk_of(uint64_t size, uint64_t off)
{
	return size - off < CHUNK_BYTES ? (size_t)(size - off) : CHUNK_BYTES;
}

static int same_link(const struct compare_options *opt, const struct proposal_node *p,
                     const struct base_node *b, struct err *e)
{
	char target[BASE_LINK_MAX + 1];
	size_t len;
	int r = base_read_link(opt->base, b, target, &len, e);

	return r < 0 ? r : span_equal(p->target, span_of(target, len));
}

int compare_guest_base(const struct compare_options *opt, const struct proposal_node *p,
                       const struct base_node *b, struct err *e)
{
	uint8_t theirs[CHUNK_BYTES], ours[CHUNK_BYTES];

	if (p->kind == PROPOSAL_LINK)
		return same_link(opt, p, b, e);
	if (p->size != b->size)
		return 0;
	for (uint64_t off = 0; off < p->size; off += CHUNK_BYTES) {
		size_t n = chunk_of(p->size, off);
		int r = proposal_read(opt->proposal, p, off, theirs, n, e);

		if (r == 0)
			r = base_read(opt->base, b, off, ours, n, e);
		if (r < 0)
			return r;
		if (memcmp(theirs, ours, n) != 0)
			return 0;
	}
	return 1;
}

/* ---- against the host ---- */

static int read_at(int fd, uint64_t off, uint8_t *ret, size_t len, struct err *e)
{
	for (size_t have = 0; have < len;) {
		ssize_t n = pread(fd, ret + have, len - have, (off_t)(off + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, -errno, "a file of the workspace cannot be read");
		if (n == 0)
			return -ENODATA; /* it has become shorter: another content */
		have += (size_t)n;
	}
	return 0;
}

/* 1 if the open file of the host holds what the guest has. */
static int fd_is_guest(const struct compare_options *opt, const struct proposal_node *p, int fd,
                       struct err *e)
{
	uint8_t theirs[CHUNK_BYTES], ours[CHUNK_BYTES];

	for (uint64_t off = 0; off < p->size; off += CHUNK_BYTES) {
		size_t n = chunk_of(p->size, off);
		int r = read_at(fd, off, ours, n, e);

		if (r == -ENODATA)
			return 0;
		if (r == 0)
			r = proposal_read(opt->proposal, p, off, theirs, n, e);
		if (r < 0)
			return r;
		if (memcmp(theirs, ours, n) != 0)
			return 0;
	}
	return 1;
}

/* 1 if the host's link or file has the guest's content. */
static int host_is_guest(const struct compare_options *opt, struct host *h, const struct change *c,
                         const struct stat *st, struct err *e)
{
	char target[BASE_LINK_MAX + 1];
	struct proposal_node p;
	_own_fd_ int fd = -1;
	size_t len;
	int r;

	if (c->host.kind != c->guest.kind)
		return 0;
	if (c->host.kind == WORK_DIR)
		return 1;
	proposal_node(opt->proposal, c->proposal_index, &p);
	if (c->host.kind == WORK_LINK) {
		r = host_read_link(h, c->place, target, &len, e);
		return r < 0 ? r : span_equal(p.target, span_of(target, len));
	}
	if ((uint64_t)st->st_size != p.size)
		return 0;
	r = host_open(h, c->place, st, &fd, e);
	return r < 0 ? r : fd_is_guest(opt, &p, fd, e);
}

/* 1 if the host's content is the base's. */
static int host_is_base(const struct compare_options *opt, struct host *h, const struct change *c,
                        const struct stat *st, struct err *e)
{
	char mine[BASE_LINK_MAX + 1], theirs[BASE_LINK_MAX + 1];
	struct host_record was;
	_own_fd_ int fd = -1;
	size_t mine_len = 0, theirs_len = 0;
	int r;

	if (c->host.kind != c->base.kind)
		return 0;
	if (c->host.kind == WORK_DIR)
		return 1;
	r = base_host_record(opt->base, &c->base_node, &was, e);
	if (r == 0 && host_record_same(&was, st))
		return 1;
	if (r < 0 && r != -ENOENT)
		return r;
	if (c->host.kind == WORK_LINK) {
		r = host_read_link(h, c->place, mine, &mine_len, e);
		if (r == 0)
			r = base_read_link(opt->base, &c->base_node, theirs, &theirs_len, e);
		return r < 0 ? r : span_equal(span_of(mine, mine_len), span_of(theirs, theirs_len));
	}
	if ((uint64_t)st->st_size != c->base.size)
		return 0;
	r = host_open(h, c->place, st, &fd, e);
	return r < 0 ? r : base_same_content(opt->base, &c->base_node, fd, e);
}

/* Git's rule, and the index's: no NUL in the first 8 KiB. */
static int host_is_text(struct host *h, const struct change *c, const struct stat *st,
                        struct err *e)
{
	uint8_t head[8 << 10];
	_own_fd_ int fd = -1;
	ssize_t n;
	int r = host_open(h, c->place, st, &fd, e);

	if (r < 0)
		return r;
	n = pread(fd, head, sizeof(head), 0);
	if (n < 0)
		return err_set(e, -errno, "a file of the workspace cannot be read");
	return memchr(head, 0, (size_t)n) == NULL;
}

/* ---- the outcome ---- */

static uint8_t kind_of(mode_t mode)
{
	return S_ISREG(mode) ? WORK_FILE : S_ISDIR(mode) ? WORK_DIR : S_ISLNK(mode) ? WORK_LINK : 0;
}

static void set_host(struct change *c, const struct stat *st)
{
	c->host = (struct change_side){
		.exists = true,
		.kind = kind_of(st->st_mode),
		.mode = st->st_mode & 0777,
		.size = (uint64_t)st->st_size,
		.mtime_s = st->st_mtim.tv_sec,
	};
	c->identity = (struct change_identity){
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.mtime_s = st->st_mtim.tv_sec,
		.mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
		.ctime_s = st->st_ctim.tv_sec,
		.ctime_ns = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
	};
}

static int outcome(struct change *c, enum change_state state, enum change_why why)
{
	c->state = (uint8_t)state;
	c->why = (uint8_t)why;
	return 0;
}

/* The first directory on the way that is gone may stand beside its old place under another name. */
static bool find_hint(const struct compare_options *opt, struct host *h, struct change *c,
                      uint8_t hint[WPATH_MAX])
{
	struct base_node node;
	struct host_record was;
	struct stat st;
	struct err ignored;
	size_t len;

	for (size_t i = 1; i < c->from.len; i++) {
		struct span dir = span_of(c->from.at, i), rest;

		if (c->from.at[i] != '/' || host_stat(h, dir, &st, &ignored) == HOST_THERE)
			continue;
		rest = span_of(c->from.at + i, c->from.len - i);
		if (base_lookup(opt->base, dir, &node, &ignored) < 0 ||
		    base_host_record(opt->base, &node, &was, &ignored) < 0 ||
		    host_find_renamed(h, dir, &was, hint, &len, &ignored) <= 0 ||
		    len + rest.len > WPATH_MAX)
			return false;
		memcpy(hint + len, rest.at, rest.len);
		c->hint = span_of(hint, len + rest.len);
		return true;
	}
	return false;
}

/* The host has nothing there. */
static int without_host(const struct compare_options *opt, struct host *h, struct change *c,
                        bool no_way, uint8_t hint[WPATH_MAX])
{
	if (no_way)
		return outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_WAY);
	if (!c->base.exists)
		return outcome(c, CHANGE_PROPOSED, CHANGE_WHY_NONE);
	if (!c->guest.exists)
		return outcome(c, CHANGE_THERE, CHANGE_WHY_NONE);
	if (span_equal(c->place, c->from) && find_hint(opt, h, c, hint))
		return outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_RENAMED);
	return outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_DELETED);
}

/* Both have made something where nothing was. */
static int both_added(const struct compare_options *opt, struct host *h, struct change *c,
                      const struct stat *st, struct err *e)
{
	int same;

	if (opt->hidden != NULL && opt->hidden(opt->hidden_arg, c->path))
		return outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_HIDDEN);
	same = host_is_guest(opt, h, c, st, e);
	if (same < 0)
		return same;
	if (same)
		c->result_mode = c->host.mode;
	return same ? outcome(c, CHANGE_THERE, CHANGE_WHY_NONE)
	            : outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_CREATED);
}

/* The mode of both, merged as if it were a line: who changed it is heard. False if both did. */
static bool merge_mode(struct change *c)
{
	if (c->host.mode == c->base.mode || c->host.mode == c->guest.mode) {
		c->result_mode = c->guest.mode;
		return true;
	}
	c->result_mode = c->host.mode;
	c->flags |= CHANGE_MODE_OF_HOST;
	return c->guest.mode == c->base.mode;
}

/* The host has the content that was packed. */
static int host_untouched(const struct compare_options *opt, struct host *h, struct change *c,
                          struct err *e)
{
	bool merged = true;
	int more;

	if (c->host.mode == c->base.mode)
		c->flags |= CHANGE_HOST_UNTOUCHED;
	else if (c->op == CHANGE_DELETE || c->op == CHANGE_TYPE) /* its new mode would be lost */
		return outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_EDITED);
	if (c->guest.exists && c->guest.kind == c->base.kind)
		merged = merge_mode(c);
	if (c->op == CHANGE_MODE && c->host.mode == c->guest.mode)
		return outcome(c, CHANGE_THERE, CHANGE_WHY_NONE);
	if (c->op == CHANGE_MODE && !merged)
		return outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_EDITED);
	if (c->op == CHANGE_DELETE && c->base.kind == WORK_DIR) {
		more = host_has_more(h, c->place, opt->base, &c->base_node, e);
		if (more < 0)
			return more;
		c->flags = (uint8_t)(c->flags | (more ? CHANGE_DIR_KEEPS : 0));
	}
	return outcome(c, CHANGE_PROPOSED, CHANGE_WHY_NONE);
}

/* The host has edited it as well. */
static int host_edited(const struct compare_options *opt, struct host *h, struct change *c,
                       const struct stat *st, struct err *e)
{
	int same, text;

	if (c->op == CHANGE_MODE &&
	    c->host.kind == c->base.kind) /* its content, the guest's mode */
		return merge_mode(c) ? outcome(c, CHANGE_PROPOSED, CHANGE_WHY_NONE)
		                     : outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_EDITED);
	if (!c->guest.exists || c->host.kind != c->guest.kind)
		return outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_EDITED);
	same = host_is_guest(opt, h, c, st, e);
	if (same < 0)
		return same;
	if (c->base.kind == c->guest.kind)
		(void)merge_mode(c);
	if (same && (c->guest.kind == WORK_LINK || c->result_mode == c->host.mode))
		return outcome(c, CHANGE_THERE, CHANGE_WHY_NONE);
	if (same) {
		c->op = CHANGE_MODE;
		return outcome(c, CHANGE_PROPOSED, CHANGE_WHY_NONE);
	}
	if (c->op != CHANGE_EDIT || c->guest.kind != WORK_FILE || (c->flags & CHANGE_TEXT) == 0)
		return outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_EDITED);
	text = host_is_text(h, c, st, e);
	if (text < 0)
		return text;
	return text ? outcome(c, CHANGE_BOTH, CHANGE_WHY_HOST_EDITED)
	            : outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_EDITED);
}

/* Where a renamed directory is to go nothing may stand that was not packed. */
static int check_rename(const struct compare_options *opt, struct host *h, struct change *c,
                        struct err *e)
{
	struct base_node node;
	struct stat st;
	int r;

	if (span_equal(c->path, c->place)) /* the host has done the same */
		return outcome(c, CHANGE_THERE, CHANGE_WHY_NONE);
	r = host_stat(h, c->path, &st, e);
	if (r == HOST_NO_WAY)
		return outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_WAY);
	if (r != HOST_THERE)
		return r;
	r = base_lookup(opt->base, c->path, &node, e);
	if (r == -ENOENT || r == -ENOTDIR)
		return outcome(c, CHANGE_CONFLICT, CHANGE_WHY_HOST_CREATED);
	return r;
}

int compare_with_host(const struct compare_options *opt, struct host *h, struct change *c,
                      uint8_t hint[WPATH_MAX], struct err *e)
{
	struct stat st;
	int found = host_stat(h, c->place, &st, e), same;

	c->result_mode = c->guest.mode;
	if (found < 0)
		return found;
	if (found != HOST_THERE)
		return without_host(opt, h, c, found == HOST_NO_WAY, hint);
	set_host(c, &st);
	if (!c->base.exists)
		return both_added(opt, h, c, &st, e);
	same = host_is_base(opt, h, c, &st, e);
	if (same < 0)
		return same;
	same = same ? host_untouched(opt, h, c, e) : host_edited(opt, h, c, &st, e);
	if (same == 0 && c->op == CHANGE_RENAME && c->state == CHANGE_PROPOSED)
		same = check_rename(opt, h, c, e);
	return same;
}
