/*
 * A spooled stream, read as the job reads it: head, order, check, content, next. Contracts: a
 * failure changes neither span nor output; PROPOSAL_HEAD_MAX bytes always decide; a path that is
 * taken is canonical, follows the last one and has its directory before it; a map stays in its file
 * and is as much as the stream brings; what the check leaves is what the reader of the index takes.
 */
#include "work/proposal_check.h"
#include "work/proposal_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* A base in which some paths are files, some directories, by their length. */
static int find(void *arg, struct span path, struct proposal_found *ret, struct err *e)
{
	(void)arg;
	(void)e;
	must(wpath_parse(path, NULL) == 0);
	*ret = (struct proposal_found){ .there = path.len % 3 != 0,
		                        .dir = path.len % 3 == 1,
		                        .id = path.len };
	return 0;
}

static void check_map(const struct proposal_entry *en)
{
	struct proposal_extent x;
	struct span map = en->map;
	uint64_t end = 0;
	uint64_t sum = 0;
	uint32_t n = 0;

	if (!en->sparse)
		return;
	while (proposal_map_next(&map, &x)) {
		must(x.len > 0 && x.at >= end && x.at <= en->size && x.len <= en->size - x.at);
		end = x.at + x.len;
		sum += x.len;
		n++;
	}
	must(map.len == 0 && n == en->extent_count && sum == en->stored_bytes);
}

/* A record made of it is one that the reader takes. */
static void check_record(const struct proposal_entry *en, uint64_t at)
{
	static uint8_t room[INDEX_RECORD_MAX];
	static uint8_t packed[PROPOSAL_EXTENTS_MAX * INDEX_EXTENT_BYTES];
	struct proposal_node n = { .kind = en->kind,
		                   .flags = en->flags,
		                   .why = en->why,
		                   .mode = en->mode,
		                   .mtime_s = en->mtime_s,
		                   .mtime_ns = en->mtime_ns,
		                   .size = en->size,
		                   .stored_bytes = en->stored_bytes,
		                   .extent_count = en->extent_count,
		                   .path = en->path,
		                   .target = en->target };
	struct proposal_node got;
	struct span map = en->map;
	struct buf extents;
	struct buf out;
	struct span in;

	buf_init(&extents, packed, sizeof(packed));
	for (uint32_t i = 0; i < en->extent_count; i++) {
		struct proposal_extent x = { .len = en->size };

		if (en->sparse)
			must(proposal_map_next(&map, &x));
		x.spool = at;
		at += x.len;
		index_put_extent(&extents, &x);
	}
	buf_init(&out, room, sizeof(room));
	index_put_record(&out, &n, buf_span(&extents));
	must(buf_ok(&out));
	in = buf_span(&out);
	must(index_parse_record(&in, at, &got) == 0 && in.len == 0);
	must(span_equal(got.path, en->path) && span_equal(got.target, en->target));
}

static int step(struct span *in, struct proposal_entry *en)
{
	enum proposal_bad bad = PROPOSAL_BAD_NONE;
	struct proposal_entry filled;
	struct span before = *in;
	int r;

	memset(&filled, 0xa5, sizeof(filled));
	memset(en, 0xa5, sizeof(*en));
	r = proposal_parse_entry(in, en, &bad);
	if (r == 0)
		return 0;
	must(r == -EAGAIN || (r == -EBADMSG && bad != PROPOSAL_BAD_NONE));
	must(in->at == before.at && in->len == before.len);
	must(memcmp(en, &filled, sizeof(filled)) == 0);
	must(r != -EAGAIN || before.len < PROPOSAL_HEAD_MAX);
	return r;
}

/*
 * A fuzzer finds no checksums: with a first byte of 1 the blocks that look like headers get theirs
 * first.
 */
static void mend(uint8_t *at, size_t len)
{
	for (size_t i = 0; i + PROPOSAL_BLOCK_BYTES <= len; i += PROPOSAL_BLOCK_BYTES) {
		uint8_t *h = at + i;
		unsigned sum = 0;

		if (memcmp(h + 257, "ustar", 5) != 0)
			continue;
		memset(h + 148, ' ', 8);
		for (unsigned j = 0; j < PROPOSAL_BLOCK_BYTES; j++)
			sum += h[j];
		for (int d = 5; d >= 0; d--, sum >>= 3)
			h[148 + d] = (uint8_t)('0' + (sum & 7));
		h[154] = 0;
	}
}

static void walk(struct span in)
{
	const struct proposal_base base = { .find = find };
	static struct proposal_order order;
	_own_(proposal_check_free) struct proposal_check *c = NULL;
	enum proposal_bad bad;
	struct proposal_entry en;
	struct span skipped;
	size_t all = in.len;

	order = (struct proposal_order){ 0 };
	while (step(&in, &en) == 0 && proposal_order_next(&order, &en, &bad) == 0 && !en.end) {
		must(wpath_parse(en.path, NULL) == 0);
		check_map(&en);
		/* a megabyte, which most inputs never need */
		must(c || proposal_check_new(&base, &c, NULL) == 0);
		must(proposal_check_entry(c, &en, NULL) == 0);
		check_record(&en, all - in.len);
		if (!take_span(&in, en.stored_bytes, &skipped) ||
		    !take_span(&in, -en.stored_bytes % PROPOSAL_BLOCK_BYTES, &skipped))
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (size < 1)
		return 0;
	copy = malloc(size); /* of its own, so that a byte too far is seen */
	must(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	if (data[0] == 1)
		mend(copy, size - 1);
	walk(span_of(copy, size - 1));
	free(copy);
	return 0;
}
