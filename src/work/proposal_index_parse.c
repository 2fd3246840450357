#include "work/proposal_index.h"

#include "base/ck.h"

#include <errno.h>
#include <string.h>

enum {
	NS_MAX = 999999999,
	MODE_MAX = 0777,
};

static const uint8_t magic[8] = { 'b', 'e', 'r', 'm', 'p', 'r', 'o', 'p' };

/* What a kind of node may have. */
struct kind_rule {
	uint8_t flags;
	bool mode, time, target, content;
	uint32_t whys; /* bits of enum proposal_why; bit 0: none */
};

#define WHY(w) (1U << PROPOSAL_WHY_##w)

static const struct kind_rule kinds[] = {
	[PROPOSAL_FILE] = { PROPOSAL_TEXT | PROPOSAL_MODE_CUT, true, true, false, true,
	                    WHY(NONE) | WHY(OURS) },
	[PROPOSAL_DIR] = { PROPOSAL_OPAQUE | PROPOSAL_REDIRECT | PROPOSAL_MODE_CUT, true, true,
	                   true, false,
	                   WHY(NONE) | WHY(DEEP) | WHY(ROOT) | WHY(NO_SOURCE) | WHY(SOURCE_TWICE) |
	                           WHY(OURS) },
	[PROPOSAL_LINK] = { 0, false, true, true, false, WHY(NONE) | WHY(OURS) },
	[PROPOSAL_WHITEOUT] = { 0, false, false, false, false,
	                        WHY(NONE) | WHY(NOT_IN_BASE) | WHY(OURS) },
	[PROPOSAL_OTHER] = { 0, false, false, false, false,
	                     WHY(FIFO) | WHY(SOCKET) | WHY(DEVICE) | WHY(METACOPY) | WHY(SPARSE) |
	                             WHY(OURS) },
};

int index_parse_head(struct span in, struct index_head *ret)
{
	struct index_head got = { 0 };
	uint8_t said[sizeof(magic)] = { 0 };
	uint32_t zero = 0;
	uint64_t table_bytes;

	if (!take_bytes(&in, said, sizeof(said)) || memcmp(said, magic, sizeof(magic)) != 0 ||
	    !take_le32(&in, &got.version))
		return -EBADMSG;
	if (got.version != PROPOSAL_VERSION) {
		ret->version = got.version;
		return -EPROTO;
	}
	if (!take_le32(&in, &got.entries) || !take_le64(&in, &got.table_at) ||
	    !take_le64(&in, &got.index_bytes) || !take_le64(&in, &got.spool_bytes) ||
	    !take_le64(&in, &got.stored_bytes) || !take_le32(&in, &got.refused) ||
	    !take_le32(&in, &zero) || !take_bytes(&in, got.sha256, sizeof(got.sha256)))
		return -EBADMSG;
	table_bytes = (uint64_t)got.entries * INDEX_SLOT_BYTES;
	if (zero != 0 || got.entries == 0 || got.entries > PROPOSAL_ENTRIES_MAX ||
	    got.refused > got.entries || got.stored_bytes > got.spool_bytes ||
	    got.spool_bytes > INT64_MAX || got.index_bytes > PROPOSAL_INDEX_BYTES_MAX ||
	    got.table_at < INDEX_HEAD_BYTES || got.table_at % 8 != 0 ||
	    !ck_range(got.table_at, table_bytes, got.index_bytes) ||
	    got.index_bytes - got.table_at != table_bytes)
		return -EBADMSG;
	*ret = got;
	return 0;
}

/* --- one record --- */

struct lengths {
	uint32_t bytes;
	uint16_t path, target, zero;
	uint8_t hashed;
};

static bool take_fixed(struct span *s, struct lengths *l, struct proposal_node *n)
{
	uint64_t seconds = 0;
	struct span sha256 = { 0 };

	if (!take_le32(s, &l->bytes) || !take_le32(s, &n->end) || !take_le32(s, &n->parent) ||
	    !take_u8(s, &n->kind) || !take_u8(s, &n->flags) || !take_u8(s, &n->why) ||
	    !take_u8(s, &l->hashed) || !take_le16(s, &n->mode) || !take_le16(s, &l->path) ||
	    !take_le16(s, &l->target) || !take_le16(s, &l->zero) ||
	    !take_le32(s, &n->extent_count) || !take_le32(s, &n->mtime_ns) ||
	    !take_le64(s, &seconds) || !take_le64(s, &n->size) || !take_le64(s, &n->stored_bytes) ||
	    !take_span(s, PROPOSAL_SHA256_BYTES, &sha256))
		return false;
	n->mtime_s = (int64_t)(seconds & INT64_MAX);
	n->sha256 = l->hashed ? sha256.at : NULL;
	return l->hashed <= 1 && l->zero == 0 && seconds <= INT64_MAX &&
	       (l->hashed || proposal_all_zero(sha256));
}

static bool kind_ok(const struct proposal_node *n)
{
	const struct kind_rule *rule;

	if (n->kind < PROPOSAL_FILE || n->kind > PROPOSAL_OTHER || n->why >= PROPOSAL_WHY_COUNT)
		return false;
	rule = &kinds[n->kind];
	if ((n->flags & ~rule->flags) != 0 || !(rule->whys & 1U << n->why) ||
	    n->mode > (rule->mode ? MODE_MAX : 0) || n->mtime_ns > NS_MAX)
		return false;
	if (!rule->time && (n->mtime_s != 0 || n->mtime_ns != 0))
		return false;
	if (!rule->target && n->target.len > 0)
		return false;
	return rule->content || (!n->sha256 && n->extent_count == 0 && n->stored_bytes == 0 &&
	                         (n->size == 0 || n->kind == PROPOSAL_LINK));
}

static bool target_ok(const struct proposal_node *n)
{
	bool redirect = n->flags & PROPOSAL_REDIRECT;

	if (n->kind == PROPOSAL_LINK)
		return n->target.len > 0 && n->target.len <= PROPOSAL_TARGET_MAX &&
		       n->size == n->target.len && !memchr(n->target.at, 0, n->target.len);
	if (!redirect)
		return n->target.len == 0;
	return !(n->flags & PROPOSAL_OPAQUE) && n->target.len > 0 &&
	       wpath_parse(n->target, NULL) == 0;
}

/* A mark that was refused is not there: the directory stands alone. */
static bool why_ok(const struct proposal_node *n)
{
	switch (n->why) {
	case PROPOSAL_WHY_NO_SOURCE:
	case PROPOSAL_WHY_SOURCE_TWICE:
		return n->flags & PROPOSAL_OPAQUE;
	case PROPOSAL_WHY_ROOT:
		return n->path.len == 0 && !(n->flags & (PROPOSAL_OPAQUE | PROPOSAL_REDIRECT));
	default:
		return true;
	}
}

static bool extents_ok(struct proposal_node *n, struct span in, uint64_t spool_bytes)
{
	struct proposal_extent x = { 0 };
	uint64_t end = 0;
	uint64_t sum = 0;

	if (n->size > PROPOSAL_FILE_BYTES_MAX)
		return false;
	n->extents_ = in.at;
	for (uint32_t i = 0; i < n->extent_count; i++) {
		if (!take_le64(&in, &x.at) || !take_le64(&in, &x.len) || !take_le64(&in, &x.spool))
			return false;
		if (x.len == 0 || x.at < end || !ck_range(x.at, x.len, n->size) ||
		    !ck_range(x.spool, x.len, spool_bytes))
			return false;
		end = x.at + x.len;
		sum += x.len;
	}
	return sum == n->stored_bytes;
}

int index_parse_record(struct span *in, uint64_t spool_bytes, struct proposal_node *ret)
{
	struct proposal_node got = { 0 };
	struct lengths l = { 0 };
	struct span whole = { 0 };
	struct span peek = *in;
	struct span pad;

	if (in->len < INDEX_FIXED_BYTES || !take_le32(&peek, &l.bytes))
		return -EAGAIN;
	if (l.bytes < INDEX_FIXED_BYTES || l.bytes > INDEX_RECORD_MAX || l.bytes % 8 != 0)
		return -EBADMSG;
	peek = *in;
	if (!take_span(&peek, l.bytes, &whole))
		return -EAGAIN;
	if (!take_fixed(&whole, &l, &got) || !take_span(&whole, l.path, &got.path) ||
	    !take_span(&whole, l.target, &got.target) ||
	    !take_span(&whole, -(size_t)(l.path + l.target) % 8, &pad) || !proposal_all_zero(pad) ||
	    got.extent_count > PROPOSAL_EXTENTS_MAX ||
	    whole.len != (size_t)got.extent_count * INDEX_EXTENT_BYTES)
		return -EBADMSG;
	if (wpath_parse(got.path, NULL) < 0 || !kind_ok(&got) || !target_ok(&got) ||
	    !why_ok(&got) || !extents_ok(&got, whole, spool_bytes))
		return -EBADMSG;
	got.name = wpath_last(got.path);
	*ret = got;
	*in = peek;
	return 0;
}

bool index_order_ok(const struct proposal_node *last, const struct proposal_node *parent,
                    const struct proposal_node *n)
{
	if (!last)
		return n->kind == PROPOSAL_DIR && n->path.len == 0 && n->parent == 0 &&
		       !(n->flags & (PROPOSAL_OPAQUE | PROPOSAL_REDIRECT));
	return n->path.len > 0 && wpath_cmp(last->path, n->path) < 0 &&
	       parent->kind == PROPOSAL_DIR && span_equal(wpath_parent(n->path), parent->path);
}
