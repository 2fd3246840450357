#include "screen/tui_inner.h"

#include <stdarg.h>
#include <string.h>

void tui_ask(struct tui *t, enum tui_ask what, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(t->question, sizeof(t->question), fmt, ap);
	va_end(ap);
	t->ask = what;
	t->input_len = 0;
}

bool tui_ask_typed(const struct tui *t)
{
	return t->ask == TUI_ASK_SEARCH || t->ask == TUI_ASK_PATH || t->ask == TUI_ASK_DISCARD;
}

/* --- typing --- */

static void type(struct tui *t, uint32_t c)
{
	char at[4];
	size_t len = 0;

	if (c < ' ' || c >= TUI_KEY_BASE || c == 0x7f)
		return;
	if (c < 0x80) {
		at[len++] = (char)c;
	} else if (c < 0x800) {
		at[len++] = (char)(0xc0 | c >> 6);
		at[len++] = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		at[len++] = (char)(0xe0 | c >> 12);
		at[len++] = (char)(0x80 | (c >> 6 & 0x3f));
		at[len++] = (char)(0x80 | (c & 0x3f));
	} else {
		at[len++] = (char)(0xf0 | c >> 18);
		at[len++] = (char)(0x80 | (c >> 12 & 0x3f));
		at[len++] = (char)(0x80 | (c >> 6 & 0x3f));
		at[len++] = (char)(0x80 | (c & 0x3f));
	}
	if (len > sizeof(t->input) - t->input_len)
		return;
	memcpy(t->input + t->input_len, at, len);
	t->input_len += len;
}

static void rub_out(struct tui *t)
{
	while (t->input_len > 0 && ((uint8_t)t->input[t->input_len - 1] & 0xc0) == 0x80)
		t->input_len--;
	if (t->input_len > 0)
		t->input_len--;
}

static void search_typed(struct tui *t)
{
	if (t->input_len > 0) {
		memcpy(t->search, t->input, t->input_len);
		t->search_len = t->input_len;
	}
	if (t->search_len == 0)
		return;
	if (t->screen == TUI_ITEM)
		tui_item_search(t, false);
	else
		tui_list_key(t, 'n');
}

static void typed(struct tui *t)
{
	enum tui_ask what = t->ask;

	t->ask = TUI_ASK_NONE;
	switch (what) {
	case TUI_ASK_SEARCH:
		search_typed(t);
		break;
	case TUI_ASK_PATH:
		tui_take_asked(t, t->ask_item, what, span_of(t->input, t->input_len));
		break;
	case TUI_ASK_DISCARD:
		t->discard = t->ended = span_is(span_of(t->input, t->input_len), "discard");
		tui_page_close(t);
		if (!t->discard)
			tui_say(t, "nothing was discarded");
		break;
	case TUI_ASK_NONE:
	case TUI_ASK_CONFLICT:
	case TUI_ASK_LINKS:
	case TUI_ASK_MANY:
	case TUI_ASK_ALL:
	case TUI_ASK_APPLY:
	case TUI_ASK_REST:
	case TUI_ASK_QUIT:
		break;
	}
}

static void typing_key(struct tui *t, uint32_t key)
{
	bool discarding = t->ask == TUI_ASK_DISCARD;

	switch (key) {
	case TUI_KEY_ENTER:
		typed(t);
		break;
	case TUI_KEY_BACKSPACE:
		rub_out(t);
		break;
	case TUI_KEY_ESCAPE:
		t->ask = TUI_ASK_NONE;
		if (discarding)
			tui_page_close(t);
		break;
	default:
		type(t, key);
		break;
	}
}

/* --- one key --- */

static void yes(struct tui *t, enum tui_ask what)
{
	switch (what) {
	case TUI_ASK_CONFLICT:
	case TUI_ASK_LINKS:
		tui_take_asked(t, t->ask_item, what, span_of("", 0));
		break;
	case TUI_ASK_MANY:
		tui_decide_below_asked(t);
		break;
	case TUI_ASK_ALL:
		tui_take_all_asked(t);
		break;
	case TUI_ASK_NONE:
	case TUI_ASK_SEARCH:
	case TUI_ASK_PATH:
	case TUI_ASK_DISCARD:
	case TUI_ASK_APPLY:
	case TUI_ASK_REST:
	case TUI_ASK_QUIT:
		break;
	}
}

/* The summary is on the screen; it can be paged through while the question stands. */
static void apply_key(struct tui *t, uint32_t key)
{
	bool rest = t->ask == TUI_ASK_REST;

	if (key == 'w' || (key == TUI_KEY_ENTER && !rest)) {
		t->ask = TUI_ASK_NONE;
		tui_page_close(t);
		tui_apply(t, rest ? APPLY_REST : APPLY_ALL);
		return;
	}
	if (key == 'q' || key == TUI_KEY_ESCAPE || key == 'n') {
		t->ask = TUI_ASK_NONE;
		tui_page_close(t);
		tui_say(t, "nothing was applied; w asks again");
		return;
	}
	tui_page_key(t, key);
}

void tui_ask_key(struct tui *t, uint32_t key)
{
	enum tui_ask what = t->ask;

	if (tui_ask_typed(t)) {
		typing_key(t, key);
		return;
	}
	if (what == TUI_ASK_APPLY || what == TUI_ASK_REST) {
		apply_key(t, key);
		return;
	}
	t->ask = TUI_ASK_NONE;
	if (what == TUI_ASK_QUIT) {
		t->ended = key == 'q';
		if (key == 'w')
			tui_apply_ask(t);
	} else if (key == 'y') {
		yes(t, what);
	} else {
		tui_say(t, "not done");
	}
}
