#include "work/gitobj_stream.h"

#include <errno.h>
#include <string.h>

static const char magic[] = { 'b', 'e', 'r', 'm', 'g', 'i', 't', '1' };

bool gitobj_branch_ok(struct span name)
{
	struct span part;

	if (span_is(name, "HEAD"))
		return true;
	if (!gitobj_parse_ref_comes(name) || !gitobj_parse_ref_name_ok(name))
		return false;
	if (!gitobj_parse_ref_is_branch(name))
		return true;
	name = span_of(name.at + GITOBJ_HEADS_BYTES, name.len - GITOBJ_HEADS_BYTES);
	if (!take_until(&name, '/', &part))
		part = name;
	/* on the host it would be in the way of the one above, or of all that is no branch */
	return !span_is(part, "HEAD") && !span_is(part, "refs");
}

int gitobj_parse_stream_head(struct span *in)
{
	struct span got;

	if (in->len < sizeof(magic) || memcmp(in->at, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	return take_span(in, sizeof(magic), &got) ? 0 : -EBADMSG;
}

static bool parse_object(struct span *in, struct gitobj_record *rec, bool *bad)
{
	uint8_t type;

	if (!take_u8(in, &type) || !take_bytes(in, rec->id.b, GITOBJ_ID_BYTES) ||
	    !take_le64(in, &rec->len))
		return false;
	*bad = type < GITOBJ_COMMIT || type > GITOBJ_BLOB || rec->len > GITOBJ_BYTES_MAX;
	rec->type = (enum gitobj_type)type;
	return true;
}

static bool take_text(struct span *in, size_t max, struct span *ret, bool *bad)
{
	uint16_t len;

	if (!take_le16(in, &len))
		return false;
	if (len > max)
		*bad = true;
	return *bad || take_span(in, len, ret);
}

static bool parse_body(struct span *in, uint8_t kind, struct gitobj_record *rec, bool *bad)
{
	switch (kind) {
	case GITOBJ_REC_OBJECT:
		return parse_object(in, rec, bad);
	case GITOBJ_REC_REF:
		if (!take_bytes(in, rec->id.b, GITOBJ_ID_BYTES) ||
		    !take_text(in, GITOBJ_REF_MAX, &rec->name, bad))
			return false;
		*bad = *bad || !gitobj_branch_ok(rec->name);
		return true;
	case GITOBJ_REC_REFUSED:
		return take_text(in, GITOBJ_REF_MAX, &rec->name, bad) &&
		       (*bad || take_text(in, ERR_TEXT_MAX, &rec->reason, bad));
	case GITOBJ_REC_END:
		return take_le32(in, &rec->objects) && take_le32(in, &rec->refs) &&
		       take_le32(in, &rec->refused);
	default:
		*bad = true;
		return true;
	}
}

int gitobj_parse_record(struct span *in, struct gitobj_record *ret)
{
	struct gitobj_record rec = { .len = 0 };
	struct span rest = *in;
	bool bad = false;
	uint8_t kind;

	if (!take_u8(&rest, &kind) || !parse_body(&rest, kind, &rec, &bad))
		return -EAGAIN;
	if (bad)
		return -EBADMSG;
	rec.kind = (enum gitobj_record_kind)kind;
	*in = rest;
	*ret = rec;
	return 0;
}

void gitobj_put_stream_head(struct buf *out)
{
	buf_put(out, magic, sizeof(magic));
}

void gitobj_put_record(struct buf *out, const struct gitobj_record *rec)
{
	buf_put_u8(out, (uint8_t)rec->kind);
	switch (rec->kind) {
	case GITOBJ_REC_OBJECT:
		buf_put_u8(out, (uint8_t)rec->type);
		buf_put(out, rec->id.b, GITOBJ_ID_BYTES);
		buf_put_le64(out, rec->len);
		break;
	case GITOBJ_REC_REF:
		buf_put(out, rec->id.b, GITOBJ_ID_BYTES);
		buf_put_str16(out, rec->name);
		break;
	case GITOBJ_REC_REFUSED:
		buf_put_str16(out, rec->name);
		buf_put_str16(out, rec->reason);
		break;
	case GITOBJ_REC_END:
		buf_put_le32(out, rec->objects);
		buf_put_le32(out, rec->refs);
		buf_put_le32(out, rec->refused);
		break;
	}
}
