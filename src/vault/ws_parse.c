#include "vault/ws_parse.h"

#include <errno.h>
#include <string.h>

enum {
	FIN = 0x80,
	RESERVED = 0x70,
	OPCODE = 0x0f,
	OPCODE_CONTROL = 0x08,
	MASKED = 0x80,
	LENGTH = 0x7f,
	LENGTH_CONTROL_MAX = 125,
	LENGTH_16 = 126,
	LENGTH_64 = 127,
};

/* How long the head is that begins with these two bytes. */
static unsigned head_size(const struct ws *w)
{
	unsigned length = w->head[1] & LENGTH;

	return 2u +
	       (length == LENGTH_64   ? 8u
	        : length == LENGTH_16 ? 2u
	                              : 0u) +
	       (w->head[1] & MASKED ? 4u : 0u);
}

static bool judge_start(const struct ws *w)
{
	uint8_t opcode = w->head[0] & OPCODE;
	bool control = opcode & OPCODE_CONTROL;

	if (w->head[0] & RESERVED || (opcode > 2 && opcode < 8) || opcode > 10)
		return false;
	if (control && (!(w->head[0] & FIN) || (w->head[1] & LENGTH) > LENGTH_CONTROL_MAX))
		return false;
	return !(w->head[1] & MASKED) == !w->client;
}

/* The head is whole: how much payload comes. */
static bool judge_length(struct ws *w)
{
	unsigned length = w->head[1] & LENGTH;
	unsigned bytes = length == LENGTH_64 ? 8 : length == LENGTH_16 ? 2 : 0;
	uint64_t v = bytes == 0 ? length : 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | w->head[2 + i];
	w->left = v;
	w->taken = 0;
	return v >> 63 == 0 && (bytes != 2 || v > LENGTH_CONTROL_MAX) && (bytes != 8 || v > 0xffff);
}

static bool is_whole(const struct ws *w)
{
	return w->head_len >= 2 && w->head_len == head_size(w);
}

static void put(struct ws *w, struct span wire, size_t at, size_t n, struct view *v)
{
	const uint8_t *mask = w->head + w->head_len - 4;

	v->segments[v->segments_count++] =
		(struct view_segment){ .at = (uint32_t)v->len, .from = (uint32_t)at, .width = 1 };
	for (size_t i = 0; i < n; i++) {
		uint8_t key = w->client ? mask[(w->taken + i) % 4] : 0;

		v->text[v->len++] = wire.at[at + i] ^ key;
	}
}

int ws_parse(struct ws *w, struct span wire, enum ws_what what, struct view *v)
{
	size_t at = 0;

	while (at < wire.len) {
		bool control = w->head[0] & OPCODE_CONTROL;
		size_t n = wire.len - at;

		if (!is_whole(w)) {
			w->head[w->head_len++] = wire.at[at++];
			if (w->head_len == 2 && !judge_start(w))
				return -EBADMSG;
			if (is_whole(w) && !judge_length(w))
				return -EBADMSG;
		} else if (w->left > 0) {
			n = n < w->left ? n : (size_t)w->left;
			if (v && control == (what == WS_CONTROL))
				put(w, wire, at, n, v);
			at += n;
			w->taken += n;
			w->left -= n;
		}
		if (is_whole(w) && w->left == 0)
			w->head_len = 0;
	}
	return 0;
}
