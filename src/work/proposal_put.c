#include "work/proposal_index.h"

#include <string.h>

static const uint8_t magic[8] = { 'b', 'e', 'r', 'm', 'p', 'r', 'o', 'p' };

void index_put_head(struct buf *out, const struct index_head *h)
{
	buf_put(out, magic, sizeof(magic));
	buf_put_le32(out, PROPOSAL_VERSION);
	buf_put_le32(out, h->entries);
	buf_put_le64(out, h->table_at);
	buf_put_le64(out, h->index_bytes);
	buf_put_le64(out, h->spool_bytes);
	buf_put_le64(out, h->stored_bytes);
	buf_put_le32(out, h->refused);
	buf_put_le32(out, 0);
	buf_put(out, h->sha256, sizeof(h->sha256));
}

void index_put_extent(struct buf *out, const struct proposal_extent *x)
{
	buf_put_le64(out, x->at);
	buf_put_le64(out, x->len);
	buf_put_le64(out, x->spool);
}

void index_put_record(struct buf *out, const struct proposal_node *n, struct span extents)
{
	static const uint8_t zeros[PROPOSAL_SHA256_BYTES];
	size_t texts = n->path.len + n->target.len;
	size_t pad = -texts % 8;

	buf_put_le32(out, (uint32_t)(INDEX_FIXED_BYTES + texts + pad + extents.len));
	buf_put_le32(out, n->end);
	buf_put_le32(out, n->parent);
	buf_put_u8(out, n->kind);
	buf_put_u8(out, n->flags);
	buf_put_u8(out, n->why);
	buf_put_u8(out, n->sha256 != NULL);
	buf_put_le16(out, n->mode);
	buf_put_le16(out, (uint16_t)n->path.len);
	buf_put_le16(out, (uint16_t)n->target.len);
	buf_put_le16(out, 0);
	buf_put_le32(out, n->extent_count);
	buf_put_le32(out, n->mtime_ns);
	buf_put_le64(out, (uint64_t)n->mtime_s);
	buf_put_le64(out, n->size);
	buf_put_le64(out, n->stored_bytes);
	buf_put(out, n->sha256 ? n->sha256 : zeros, PROPOSAL_SHA256_BYTES);
	buf_put_span(out, n->path);
	buf_put_span(out, n->target);
	buf_put(out, zeros, pad);
	buf_put_span(out, extents);
}
