#include "review/review_inner.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

enum { CHUNK_BYTES = 256 << 10 };

/* One side's content, to be read from any place. */
struct source {
	struct review *r;
	enum review_side side;
	uint64_t size;
	struct proposal_node node; /* GUEST */
	struct base_node base;     /* BASE */
	int fd;                    /* HOST, of a file */
	struct span target;        /* of a link, in `room` or the proposal */
	bool is_link;
	char room[WPATH_MAX + 2];
};

static const struct change_side *side_of(const struct change *c, enum review_side side)
{
	switch (side) {
	case REVIEW_BASE:
		return &c->base;
	case REVIEW_HOST:
		return &c->host;
	case REVIEW_GUEST:
		break;
	}
	return &c->guest;
}

static int stale(struct err *e)
{
	return err_set(e, -ESTALE,
	               "the file was changed in the workspace meanwhile; open the review again");
}

static bool is_identity(const struct change_identity *id, const struct stat *st)
{
	return id->dev == st->st_dev && id->ino == st->st_ino && id->mode == st->st_mode &&
	       id->size == (uint64_t)st->st_size && id->mtime_s == st->st_mtim.tv_sec &&
	       id->mtime_ns == (uint32_t)st->st_mtim.tv_nsec && id->ctime_s == st->st_ctim.tv_sec &&
	       id->ctime_ns == (uint32_t)st->st_ctim.tv_nsec;
}

static int open_host(struct source *s, const struct change *c, struct err *e)
{
	int flags = c->host.kind == WORK_LINK ? O_PATH | O_NOFOLLOW
	                                      : O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	struct span dir = wpath_parent(c->place), name = wpath_last(c->place);
	_own_fd_ int at = -1;
	struct stat st;
	ssize_t n;
	int got;

	memcpy(s->room, dir.len > 0 ? (const char *)dir.at : ".", dir.len > 0 ? dir.len : 1);
	s->room[dir.len > 0 ? dir.len : 1] = '\0';
	got = fd_open_beneath(s->r->on.root_fd, s->room, O_PATH | O_DIRECTORY, 0,
	                      RESOLVE_NO_SYMLINKS, &at, e);
	memcpy(s->room, name.at, name.len);
	s->room[name.len] = '\0';
	if (got == 0)
		got = fd_openat(at, s->room, flags, 0, &s->fd, e);
	if (got == -ENOENT || got == -ELOOP || got == -ENOTDIR)
		return stale(e);
	if (got < 0)
		return got;
	if (fstat(s->fd, &st) < 0 || !is_identity(&c->identity, &st))
		return stale(e);
	if (c->host.kind != WORK_LINK)
		return 0;
	n = readlinkat(s->fd, "", s->room, sizeof(s->room));
	if (n < 0 || (uint64_t)n != c->host.size)
		return stale(e);
	s->target = span_of(s->room, (size_t)n);
	return 0;
}

static int open_side(struct source *s, const struct change *c, struct err *e)
{
	size_t len;
	int got = 0;

	switch (s->side) {
	case REVIEW_BASE:
		s->base = c->base_node;
		if (s->is_link)
			got = base_read_link(s->r->base, &s->base, s->room, &len, e);
		if (s->is_link && got == 0)
			s->target = span_of(s->room, len);
		return got;
	case REVIEW_HOST:
		return open_host(s, c, e);
	case REVIEW_GUEST:
		break;
	}
	proposal_node(s->r->proposal, c->proposal_index, &s->node);
	s->target = s->node.target;
	return 0;
}

static int source_open(struct review *r, const struct change *c, enum review_side side,
                       struct source *s, struct err *e)
{
	const struct change_side *is = side_of(c, side);

	s->r = r;
	s->side = side;
	s->fd = -1;
	s->size = is->size;
	s->is_link = is->kind == WORK_LINK;
	if (!is->exists)
		return err_set(e, -ENOENT, "there is nothing on that side");
	if (is->kind != WORK_FILE && is->kind != WORK_LINK)
		return err_set(e, -EISDIR, "it is neither a file nor a link on that side");
	return open_side(s, c, e);
}

static int read_host(int fd, uint64_t off, uint8_t *ret, size_t len, struct err *e)
{
	for (size_t have = 0; have < len;) {
		ssize_t n = pread(fd, ret + have, len - have, (off_t)(off + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read a file of the workspace");
		if (n == 0)
			return stale(e);
		have += (size_t)n;
	}
	return 0;
}

static int source_read(const struct source *s, uint64_t off, void *ret, size_t len, struct err *e)
{
	if (s->is_link) {
		if (off + len > s->target.len)
			return err_set(e, -EIO, "a link's target was cut");
		if (len > 0)
			memcpy(ret, s->target.at + off, len);
		return 0;
	}
	switch (s->side) {
	case REVIEW_BASE:
		return base_read(s->r->base, &s->base, off, ret, len, e);
	case REVIEW_HOST:
		return read_host(s->fd, off, ret, len, e);
	case REVIEW_GUEST:
		break;
	}
	return proposal_read(s->r->proposal, &s->node, off, ret, len, e);
}

/* It was not written to while it was read. */
static int source_end(const struct source *s, const struct change *c, struct err *e)
{
	struct stat st;

	if (s->side != REVIEW_HOST)
		return 0;
	return fstat(s->fd, &st) == 0 && is_identity(&c->identity, &st) ? 0 : stale(e);
}

static int read_whole(const struct source *s, const struct change *c, char **ret, size_t *ret_len,
                      struct err *e)
{
	_own_free_ char *text = malloc((size_t)s->size + 1);
	int got;

	if (text == NULL)
		return err_set(e, -ENOMEM, "no memory for a content of %llu bytes",
		               (unsigned long long)s->size);
	got = source_read(s, 0, text, (size_t)s->size, e);
	if (got == 0)
		got = source_end(s, c, e);
	if (got < 0)
		return got;
	text[s->size] = '\0';
	*ret = steal_ptr(&text);
	*ret_len = (size_t)s->size;
	return 0;
}

int review_side_bytes(struct review *r, const struct change *c, enum review_side side, size_t max,
                      char **ret, size_t *ret_len, struct err *e)
{
	struct source s = { .fd = -1 };
	int got = source_open(r, c, side, &s, e);

	if (got == 0 && s.size > max)
		got = err_set(e, -E2BIG, "over %zu bytes", max);
	if (got == 0)
		got = read_whole(&s, c, ret, ret_len, e);
	own_close_fd(&s.fd);
	return got;
}

static int digest_all(const struct source *s, EVP_MD_CTX *sum, uint8_t *room, struct err *e)
{
	for (uint64_t off = 0; off < s->size;) {
		size_t n = s->size - off < CHUNK_BYTES ? (size_t)(s->size - off) : CHUNK_BYTES;
		int got = source_read(s, off, room, n, e);

		if (got < 0)
			return got;
		if (EVP_DigestUpdate(sum, room, n) != 1)
			return err_set(e, -EIO, "sha256 failed");
		off += n;
	}
	return 0;
}

static int digest_source(const struct source *s, const struct change *c,
                         uint8_t ret[REVIEW_DIGEST_BYTES], struct err *e)
{
	_own_free_ uint8_t *room = malloc(CHUNK_BYTES);
	EVP_MD_CTX *sum = EVP_MD_CTX_new();
	uint8_t digest[REVIEW_DIGEST_BYTES];
	int got = 0;

	if (room == NULL || sum == NULL || EVP_DigestInit_ex(sum, EVP_sha256(), NULL) != 1)
		got = err_set(e, -ENOMEM, "no memory to make a digest");
	if (got == 0)
		got = digest_all(s, sum, room, e);
	if (got == 0)
		got = source_end(s, c, e);
	if (got == 0 && EVP_DigestFinal_ex(sum, digest, NULL) != 1)
		got = err_set(e, -EIO, "sha256 failed");
	EVP_MD_CTX_free(sum);
	if (got == 0)
		memcpy(ret, digest, sizeof(digest));
	return got;
}

int review_side_digest(struct review *r, const struct change *c, enum review_side side,
                       uint8_t ret[REVIEW_DIGEST_BYTES], struct err *e)
{
	struct source s = { .fd = -1 };
	int got = source_open(r, c, side, &s, e);

	if (got == 0)
		got = digest_source(&s, c, ret, e);
	own_close_fd(&s.fd);
	return got;
}

int review_content(struct review *r, size_t i, enum review_side side, size_t max, char **ret,
                   size_t *ret_len, struct err *e)
{
	return review_side_bytes(r, r->items[i].change, side,
	                         max < HUNK_TEXT_MAX ? max : HUNK_TEXT_MAX, ret, ret_len, e);
}

int review_digest(struct review *r, size_t i, enum review_side side, uint8_t ret[32], struct err *e)
{
	return review_side_digest(r, r->items[i].change, side, ret, e);
}
