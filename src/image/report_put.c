#include "image/report.h"

/* Text with nothing that would end the line early, cut to leave room for the newline. */
static void put_text(struct buf *out, size_t start, struct span text)
{
	for (size_t i = 0; i < text.len && out->len - start < REPORT_LINE_MAX - 1; i++)
		buf_put_u8(out, text.at[i] == '\n' || text.at[i] == 0 ? ' ' : text.at[i]);
}

void report_put(struct buf *out, const struct report *r)
{
	size_t start = out->len;

	switch (r->kind) {
	case REPORT_PHASE:
		buf_put_str(out, "phase ");
		put_text(out, start, r->text);
		break;
	case REPORT_PROGRESS:
		buf_printf(out, "progress %llu %llu %llu %llu", (unsigned long long)r->in_bytes,
		           (unsigned long long)r->total_bytes, (unsigned long long)r->out_bytes,
		           (unsigned long long)r->entries);
		break;
	case REPORT_ID:
		buf_put_str(out, "id ");
		put_text(out, start, r->text);
		break;
	case REPORT_DONE:
		buf_put_str(out, "done ");
		put_text(out, start, r->text);
		break;
	case REPORT_WARN:
		buf_put_str(out, "warn ");
		put_text(out, start, r->text);
		break;
	case REPORT_FAIL:
		buf_printf(out, "fail %s ", image_fail_name(r->fail));
		put_text(out, start, r->text);
		break;
	}
	buf_put_u8(out, '\n');
}
