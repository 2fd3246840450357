#include "screen/tui_inner.h"

#include <errno.h>
#include <inttypes.h>

enum {
	DIGEST_MAX_MIB =
		256, /* larger ones would be read for seconds, for a line nobody asked for */
	LINK_MAX = 64 << 10,
};

static const char *kind_name(const struct change_side *s)
{
	static const char *const names[] = { "something that is neither file, directory nor link",
		                             "file", "directory", "link" };

	return s->kind <= WORK_LINK ? names[s->kind] : names[0];
}

static void put_digest(struct tui *t, uint32_t item, enum review_side side, uint64_t size,
                       struct buf *out)
{
	uint8_t digest[32];
	struct err e = { 0 };

	if (size >> 20 > DIGEST_MAX_MIB) {
		buf_printf(out, "  sha256: not computed, it has over %d MiB\n", DIGEST_MAX_MIB);
		return;
	}
	if (review_digest(t->o->review, item, side, digest, &e) < 0) {
		buf_put_str(out, "  cannot be read: ");
		buf_put_escaped(out, span_str(e.text));
		buf_put_str(out, "\n");
		return;
	}
	buf_put_str(out, "  sha256 ");
	for (unsigned i = 0; i < sizeof(digest); i++)
		buf_printf(out, "%02x", digest[i]);
	buf_put_str(out, "\n");
}

static void put_target(struct tui *t, uint32_t item, enum review_side side, struct buf *out)
{
	_own_free_ char *target = NULL;
	struct err e = { 0 };
	size_t len = 0;

	if (review_content(t->o->review, item, side, LINK_MAX, &target, &len, &e) < 0) {
		buf_put_str(out, "  cannot be read: ");
		buf_put_escaped(out, span_str(e.text));
	} else {
		buf_put_str(out, "  points to: ");
		buf_put_escaped(out, span_of(target, len));
	}
	buf_put_str(out, "\n");
}

static void put_side(struct tui *t, uint32_t item, enum review_side side, const char *title,
                     const struct change_side *s, struct buf *out)
{
	buf_printf(out, "= %s\n", title);
	if (!s->exists) {
		buf_put_str(out, "  nothing\n\n");
		return;
	}
	buf_printf(out, "  %s", kind_name(s));
	if (s->kind == WORK_FILE)
		buf_printf(out, ", %" PRIu64 " bytes", s->size);
	if (s->kind != WORK_LINK)
		buf_printf(out, ", mode %04o", (unsigned)s->mode);
	buf_put_str(out, "\n");
	if (s->kind == WORK_FILE)
		put_digest(t, item, side, s->size, out);
	else if (s->kind == WORK_LINK)
		put_target(t, item, side, out);
	buf_put_str(out, "\n");
}

void tui_info_put(struct tui *t, uint32_t item, struct buf *out)
{
	const struct review_item *it = tui_at(t, item);
	const struct change *c = it->change;

	buf_put_str(out, "= ");
	buf_put_str(out, view_op_text(c));
	buf_put_str(out, "\n  ");
	buf_put_escaped(out, c->path);
	if (!span_equal(c->from, c->path)) {
		buf_put_str(out, "\n  from ");
		buf_put_escaped(out, c->from);
	}
	if (c->hint.len > 0) {
		buf_put_str(out, "\n  it seems to be here now: ");
		buf_put_escaped(out, c->hint);
	}
	buf_printf(out, "\n  %s: ", review_section_title((enum review_section)it->section));
	buf_put_str(out, review_section_about((enum review_section)it->section));
	if (review_reason(it)) {
		buf_put_str(out, "\n  ");
		buf_put_escaped(out, span_str(review_reason(it)));
	}
	if (c->identity.nlink > 1 && c->host.exists && c->host.kind == WORK_FILE)
		buf_printf(out, "\n  your file has %u names (hard links)", c->identity.nlink);
	if (c->flags & CHANGE_MODE_OF_HOST)
		buf_put_str(out, "\n  you changed its mode: that stays");
	if (c->flags & CHANGE_DIR_KEEPS)
		buf_put_str(out, "\n  you have other things in it: it stays, with them");
	buf_put_str(out, "\n\n");
	put_side(t, item, REVIEW_BASE, "when it was packed", &c->base, out);
	put_side(t, item, REVIEW_HOST, "yours, now", &c->host, out);
	put_side(t, item, REVIEW_GUEST, "the agent's", &c->guest, out);
	buf_put_str(out, "  keys: 1, 2, 3 show these contents whole; d the difference\n");
}
