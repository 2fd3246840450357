#include "work/proposal_job.h"

#include "work/proposal_spool.h"
#include "work/proposal_write.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum {
	WINDOW_BYTES = PROPOSAL_HEAD_MAX + (512 << 10),
	TEXT_LOOK_BYTES = 8 << 10, /* git looks at as many for a NUL */
	ZEROS_BYTES = 64 << 10,
	PATH_SHOWN_MAX = 160, /* of a path in a message */
};

struct run {
	struct spool *spool;
	struct index_writer *writer;
	struct proposal_check *check;
	EVP_MD_CTX *sum;       /* of the present file */
	uint64_t holes_hashed; /* of all files */
	uint64_t stored_bytes;
	uint32_t refused;
	unsigned depth; /* of the last directory's children */
	struct proposal_order order;
	uint32_t open[WPATH_DEPTH_MAX + 1]; /* indices of directories */
	/* of the present entry: what it points to in the window is gone once content is read */
	uint8_t path[WPATH_MAX], target[PROPOSAL_TARGET_MAX];
	struct proposal_extent extents[PROPOSAL_EXTENTS_MAX];
	uint8_t packed[PROPOSAL_EXTENTS_MAX * INDEX_EXTENT_BYTES];
	uint8_t zeros[ZEROS_BYTES];
};

/* --- refusing --- */

static int refuse(const struct run *run, enum proposal_bad bad, struct err *e)
{
	uint8_t room[PATH_SHOWN_MAX];
	struct span last = span_of(run->order.path, run->order.len);
	struct buf shown;

	if (run->order.entries == 0)
		return err_set(e, -EBADMSG, "the proposal is refused: its first entry: %s",
		               proposal_bad_text(bad));
	buf_init(&shown, room, sizeof(room));
	buf_put_escaped(&shown, last.len > 0 ? last : span_str("."));
	return err_set(e, bad == PROPOSAL_BAD_ENTRIES ? -E2BIG : -EBADMSG,
	               "the proposal is refused: entry %llu, after '%s': %s",
	               (unsigned long long)run->order.entries + 1,
	               buf_ok(&shown) ? buf_cstr(&shown) : "...", proposal_bad_text(bad));
}

/* --- content --- */

struct content {
	uint64_t at; /* in the file */
	bool hashed, binary;
};

static int eat(struct run *run, struct content *c, const uint8_t *at, size_t len, struct err *e)
{
	if (c->at < TEXT_LOOK_BYTES) {
		uint64_t look = TEXT_LOOK_BYTES - c->at;

		c->binary |= memchr(at, 0, look < len ? (size_t)look : len) != NULL;
	}
	c->at += len;
	if (c->hashed && EVP_DigestUpdate(run->sum, at, len) != 1)
		return err_set(e, -EIO, "sha256 failed");
	return 0;
}

static int eat_hole(struct run *run, struct content *c, uint64_t end, struct err *e)
{
	int r = 0;

	if (end > c->at && c->at < TEXT_LOOK_BYTES)
		c->binary = true;
	if (!c->hashed)
		c->at = end;
	while (r == 0 && c->at < end) {
		uint64_t left = end - c->at;

		r = eat(run, c, run->zeros, left < ZEROS_BYTES ? (size_t)left : ZEROS_BYTES, e);
	}
	return r;
}

/* So many bytes of the stream; to the file's content, or zeros that are skipped. */
static int eat_stream(struct run *run, struct content *c, uint64_t len, struct err *e)
{
	while (len > 0) {
		struct span here = spool_here(run->spool);
		size_t n = here.len < len ? here.len : (size_t)len;
		bool more;
		int r;

		if (n == 0) {
			r = spool_fill(run->spool, &more, e);
			if (r < 0)
				return r;
			if (!more)
				return refuse(run, PROPOSAL_BAD_CUT, e);
			continue;
		}
		if (!c && !proposal_all_zero(span_of(here.at, n)))
			return refuse(run, PROPOSAL_BAD_PADDING, e);
		r = c ? eat(run, c, here.at, n, e) : 0;
		if (r == 0)
			r = spool_take(run->spool, n, e);
		if (r < 0)
			return r;
		len -= n;
	}
	return 0;
}

/* Where each extent's bytes are in the spool, and its record. */
static struct span lay_extents(struct run *run, const struct proposal_entry *en)
{
	uint64_t spool = spool_at(run->spool);
	struct span map = en->map;
	struct buf out;

	buf_init(&out, run->packed, sizeof(run->packed));
	for (uint32_t i = 0; i < en->extent_count; i++) {
		struct proposal_extent *x = &run->extents[i];

		if (!en->sparse)
			*x = (struct proposal_extent){ .len = en->size };
		else if (!proposal_map_next(&map, x))
			abort(); /* the parser walked it */
		x->spool = spool;
		spool += x->len;
		index_put_extent(&out, x);
	}
	return buf_span(&out);
}

static int read_content(struct run *run, struct proposal_entry *en, struct proposal_node *n,
                        uint8_t sha256[PROPOSAL_SHA256_BYTES], struct err *e)
{
	uint64_t holes = en->size - en->stored_bytes;
	struct content c = { 0 };
	int r = 0;

	c.hashed = holes <= PROPOSAL_HOLES_HASHED_MAX - run->holes_hashed;
	run->holes_hashed += c.hashed ? holes : 0;
	if (EVP_DigestInit_ex(run->sum, EVP_sha256(), NULL) != 1)
		return err_set(e, -EIO, "sha256 failed");
	for (uint32_t i = 0; r == 0 && i < en->extent_count; i++) {
		r = eat_hole(run, &c, run->extents[i].at, e);
		if (r == 0)
			r = eat_stream(run, &c, run->extents[i].len, e);
	}
	if (r == 0)
		r = eat_hole(run, &c, en->size, e);
	if (r == 0)
		r = eat_stream(run, NULL, -en->stored_bytes % PROPOSAL_BLOCK_BYTES, e);
	if (r == 0 && EVP_DigestFinal_ex(run->sum, sha256, NULL) != 1)
		r = err_set(e, -EIO, "sha256 failed");
	if (r < 0)
		return r;
	n->flags |= c.binary ? 0 : PROPOSAL_TEXT;
	n->sha256 = c.hashed ? sha256 : NULL;
	return 0;
}

/* --- entries --- */

/* Directories that this entry is not in have ended. */
static int leave(struct run *run, unsigned depth, struct err *e)
{
	int r = 0;

	while (r == 0 && run->depth > depth)
		r = index_writer_end(run->writer, run->open[--run->depth], e);
	return r;
}

static struct span keep(uint8_t *room, struct span s)
{
	if (s.len > 0)
		memcpy(room, s.at, s.len);
	return span_of(room, s.len);
}

static int record(struct run *run, struct proposal_entry *en, struct err *e)
{
	uint8_t sha256[PROPOSAL_SHA256_BYTES] = { 0 };
	unsigned depth = wpath_depth(en->path);
	struct span extents = lay_extents(run, en);
	struct proposal_node n = { .kind = en->kind,
		                   .flags = en->flags,
		                   .why = en->why,
		                   .mode = en->mode,
		                   .mtime_s = en->mtime_s,
		                   .mtime_ns = en->mtime_ns,
		                   .size = en->size,
		                   .stored_bytes = en->stored_bytes,
		                   .extent_count = en->extent_count };
	uint32_t index = 0;
	int r;

	n.path = keep(run->path, en->path);
	n.target = keep(run->target, en->target);
	r = leave(run, depth, e);
	if (r < 0)
		return r;
	n.parent = depth > 0 ? run->open[depth - 1] : 0;
	if (n.kind == PROPOSAL_FILE)
		r = read_content(run, en, &n, sha256, e);
	if (r == 0)
		r = index_writer_add(run->writer, &n, extents, &index, e);
	if (r < 0)
		return r;
	if (n.kind == PROPOSAL_DIR) {
		run->open[depth] = index;
		run->depth = depth + 1;
	}
	run->refused += n.why != PROPOSAL_WHY_NONE;
	run->stored_bytes += n.stored_bytes;
	return 0;
}

/* The end of the stream, which may only be what was promised of it. */
static int finish(struct run *run, const struct proposal_entry *en, const uint8_t *sum,
                  struct err *e)
{
	struct index_head h = { .refused = run->refused,
		                .stored_bytes = run->stored_bytes,
		                .spool_bytes = spool_bytes(run->spool) };
	int r = memcmp(sum, en->sha256, PROPOSAL_SHA256_BYTES) == 0
	                ? eat_stream(run, NULL, PROPOSAL_END_BYTES, e)
	                : refuse(run, PROPOSAL_BAD_SHA256, e);

	if (r == 0 && spool_at(run->spool) != h.spool_bytes)
		r = refuse(run, PROPOSAL_BAD_AFTER, e);
	if (r == 0)
		r = leave(run, 0, e);
	if (r == 0)
		r = spool_digest(run->spool, h.sha256, e);
	return r == 0 ? index_writer_finish(run->writer, &h, e) : r;
}

/* 0 and one entry, whose spans are in the window, taken from the stream; ret_sum is of before. */
static int next_entry(struct run *run, struct proposal_entry *ret, uint8_t *ret_sum, struct err *e)
{
	for (;;) {
		enum proposal_bad bad = PROPOSAL_BAD_NONE;
		struct span here = spool_here(run->spool);
		struct span rest = here;
		int r = proposal_parse_entry(&rest, ret, &bad);
		bool more;

		if (r == -EBADMSG)
			return refuse(run, bad, e);
		if (r == 0 && proposal_order_next(&run->order, ret, &bad) < 0)
			return refuse(run, bad, e);
		if (r == 0) {
			r = ret->end ? spool_digest(run->spool, ret_sum, e) : 0;
			return r == 0 ? spool_take(run->spool, here.len - rest.len, e) : r;
		}
		r = spool_fill(run->spool, &more, e);
		if (r < 0)
			return r;
		if (!more)
			return refuse(run, PROPOSAL_BAD_CUT, e);
	}
}

static int run_all(struct run *run, struct err *e)
{
	uint8_t sum[PROPOSAL_SHA256_BYTES] = { 0 };
	struct proposal_entry en;
	int r;

	do {
		r = next_entry(run, &en, sum, e);
		if (r < 0)
			return r;
		if (en.end)
			return finish(run, &en, sum, e);
		r = proposal_check_entry(run->check, &en, e);
		if (r == 0)
			r = record(run, &en, e);
	} while (r == 0);
	return r;
}

static void run_free(struct run *run)
{
	if (!run)
		return;
	spool_free(run->spool);
	index_writer_free(run->writer);
	proposal_check_free(run->check);
	EVP_MD_CTX_free(run->sum);
	free(run);
}
OWN_DEFINE(struct run, run_free)

int proposal_job_run(int spool_fd, const struct proposal_base *base, int index_fd, struct err *e)
{
	_own_(run_free) struct run *run = calloc(1, sizeof(*run));
	int r;

	if (!run)
		return err_set(e, -ENOMEM, "out of memory");
	run->sum = EVP_MD_CTX_new();
	if (!run->sum)
		return err_set(e, -ENOMEM, "out of memory");
	r = spool_open(spool_fd, WINDOW_BYTES, &run->spool, e);
	if (r == 0)
		r = index_writer_new(index_fd, &run->writer, e);
	if (r == 0)
		r = proposal_check_new(base, &run->check, e);
	return r == 0 ? run_all(run, e) : r;
}
