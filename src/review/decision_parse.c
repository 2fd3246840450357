#include "review/decision.h"

#include <errno.h>
#include <string.h>

enum { GENERATION_MAX = 1 << 20, AT_DIGITS_MAX = 12 };

static bool take_word(struct span *in, const char *word)
{
	size_t len = strlen(word);

	if (in->len < len || memcmp(in->at, word, len) != 0)
		return false;
	in->at += len;
	in->len -= len;
	return true;
}

/* Up to the next quote, which is taken too. None of our texts holds an escape. */
static bool take_text(struct span *in, struct span *ret)
{
	const uint8_t *end = memchr(in->at, '"', in->len);

	if (end == NULL)
		return false;
	*ret = span_of(in->at, (size_t)(end - in->at));
	in->len -= ret->len + 1;
	in->at = end + 1;
	return true;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex(struct span *in, uint8_t *ret, size_t bytes)
{
	if (in->len < 2 * bytes)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		int high = hex_digit(in->at[2 * i]), low = hex_digit(in->at[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		ret[i] = (uint8_t)(high << 4 | low);
	}
	in->at += 2 * bytes;
	in->len -= 2 * bytes;
	return true;
}

/* Digits, the one way to write a number. */
static bool take_number(struct span *in, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;
	size_t n = 0;

	while (n < in->len && n < AT_DIGITS_MAX && in->at[n] >= '0' && in->at[n] <= '9')
		v = 10 * v + (uint64_t)(in->at[n++] - '0');
	if (n == 0 || (n > 1 && in->at[0] == '0') || v > max)
		return false;
	in->at += n;
	in->len -= n;
	*ret = v;
	return true;
}

static bool take_choice(struct span *in, uint8_t *ret)
{
	static const char *const words[] = { "undecided\"", "accept\"", "reject\"", "hunks\"" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (take_word(in, words[i])) {
			*ret = (uint8_t)i;
			return true;
		}
	}
	return false;
}

static bool take_bool(struct span *in, bool *ret)
{
	*ret = take_word(in, "true");
	return *ret || take_word(in, "false");
}

static bool take_side(struct span *in, bool *ret)
{
	*ret = take_word(in, "gone\"");
	return *ret || take_word(in, "here\"");
}

static bool are_digits(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] != '0' && s.at[i] != '1')
			return false;
	}
	return s.len > 0 && s.len <= HUNK_COUNT_MAX;
}

static bool take_hunks(struct span *in, struct decision *d)
{
	if (!take_word(in, ",\"hunks\":\""))
		return d->choice != DECISION_HUNKS;
	return d->choice == DECISION_HUNKS && take_text(in, &d->hunks) && are_digits(d->hunks);
}

static bool take_result(struct span *in, struct decision *d)
{
	d->has_result = take_word(in, ",\"result\":\"");
	return !d->has_result ||
	       (take_hex(in, d->result, sizeof(d->result)) && take_word(in, "\""));
}

static bool take_end(struct span *in, struct decision *d)
{
	uint64_t n = 0;

	d->done = take_word(in, ",\"done\":");
	if (d->done && !take_number(in, GENERATION_MAX, &n))
		return false;
	d->generation = (uint32_t)n;
	d->back = take_word(in, ",\"back\":true");
	return take_word(in, ",\"at\":") && take_number(in, UINT64_MAX, &d->at_s) &&
	       take_word(in, "}") && in->len == 0;
}

int decision_parse(struct span line, struct decision *ret)
{
	struct decision d = { 0 };
	bool ok = take_word(&line, "{\"path\":\"") && take_text(&line, &d.path) &&
	          take_word(&line, ",\"side\":\"") && take_side(&line, &d.gone) &&
	          take_word(&line, ",\"choice\":\"") && take_choice(&line, &d.choice) &&
	          take_word(&line, ",\"links\":") && take_bool(&line, &d.links) &&
	          take_word(&line, ",\"what\":\"") && take_hex(&line, d.what, sizeof(d.what)) &&
	          take_word(&line, "\",\"host\":\"") && take_hex(&line, d.host, sizeof(d.host)) &&
	          take_word(&line, "\"") && take_result(&line, &d) && take_hunks(&line, &d) &&
	          take_end(&line, &d);

	if (!ok || d.path.len == 0 || d.path.len > DECISION_PATH_MAX)
		return -EBADMSG;
	*ret = d;
	return 0;
}

static bool is_plain(uint8_t c)
{
	return c > ' ' && c <= '~' && c != '"' && c != '%' && c != '\\';
}

bool decision_path(struct span in_line, struct buf *out)
{
	size_t from = out->len;

	while (in_line.len > 0) {
		uint8_t c = in_line.at[0];
		struct span hex = span_of(in_line.at + 1, in_line.len - 1);

		if (c == '%') {
			if (!take_hex(&hex, &c, 1) || is_plain(c)) /* one way to write it */
				return false;
		} else if (!is_plain(c)) {
			return false;
		}
		buf_put_u8(out, c);
		in_line = hex;
	}
	return buf_ok(out) && wpath_parse(span_of(out->at + from, out->len - from), NULL) == 0;
}
