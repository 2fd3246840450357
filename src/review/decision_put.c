#include "review/decision.h"

#include <inttypes.h>

static const char hex[] = "0123456789abcdef";

static void put_hex(struct buf *out, const uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		buf_put_u8(out, (uint8_t)hex[at[i] >> 4]);
		buf_put_u8(out, (uint8_t)hex[at[i] & 15]);
	}
}

static void put_path(struct buf *out, struct span path)
{
	for (size_t i = 0; i < path.len; i++) {
		uint8_t c = path.at[i];

		if (c > ' ' && c <= '~' && c != '"' && c != '%' && c != '\\') {
			buf_put_u8(out, c);
		} else {
			buf_put_u8(out, '%');
			put_hex(out, &c, 1);
		}
	}
}

void decision_put(struct buf *out, struct span path, const struct decision *d)
{
	static const char *const choices[] = { "undecided", "accept", "reject", "hunks" };

	buf_put_str(out, "{\"path\":\"");
	put_path(out, path);
	buf_printf(out, "\",\"side\":\"%s\",\"choice\":\"%s\",\"links\":%s,\"what\":\"",
	           d->gone ? "gone" : "here", choices[d->choice], d->links ? "true" : "false");
	put_hex(out, d->what, sizeof(d->what));
	buf_put_str(out, "\",\"host\":\"");
	put_hex(out, d->host, sizeof(d->host));
	buf_put_str(out, "\"");
	if (d->has_result) {
		buf_put_str(out, ",\"result\":\"");
		put_hex(out, d->result, sizeof(d->result));
		buf_put_str(out, "\"");
	}
	if (d->choice == DECISION_HUNKS) {
		buf_put_str(out, ",\"hunks\":\"");
		buf_put_span(out, d->hunks);
		buf_put_str(out, "\"");
	}
	if (d->done)
		buf_printf(out, ",\"done\":%u", d->generation);
	if (d->back)
		buf_put_str(out, ",\"back\":true");
	buf_printf(out, ",\"at\":%" PRIu64 "}\n", d->at_s);
}
