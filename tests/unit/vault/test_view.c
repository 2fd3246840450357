#include "test.h"

#include "forms.h"
#include "vault/view.h"

static uint8_t text[4096];
static struct view_segment segments[4096];
static bool has[256];
static struct view v = { .text = text, .segments = segments, .has = has };

__attribute__((constructor)) static void all_matter(void)
{
	memset(has, true, sizeof(has));
}

static const char *unescaped(const char *in)
{
	static char out[4096];

	if (!view_unescape(span_str(in), VIEW_ESCAPES, &v))
		return "nothing";
	memcpy(out, v.text, v.len);
	out[v.len] = 0;
	return out;
}

static const char *squeezed(const char *in, size_t len)
{
	static char out[4096];

	if (!view_squeeze(span_of(in, len), &v))
		return "nothing";
	memcpy(out, v.text, v.len);
	out[v.len] = 0;
	return out;
}

TEST(escapes)
{
	CHECK_STR(unescaped("a%41b%4a%4Az"), "aAbJJz");
	CHECK_STR(unescaped("\\u0041\\x42\\/\\\\\\\""), "AB/\\\"");
	CHECK_STR(unescaped("&#65;&#x42;&#x0043;&amp;&lt;&quot;"), "ABC&<\"");
	CHECK_STR(unescaped("%2541"), "%41");
	CHECK_STR(unescaped("100% of 5 & 6 \\ 7 %zz \\q &none; \\u1234x &#999;"), "nothing");
	CHECK_STR(unescaped("%41%zz%42"), "A%zzB");
	CHECK_STR(unescaped(""), "nothing");
}

TEST(an_unfinished_escape_at_the_end_is_left_out)
{
	static const char *const ends[] = { "%",      "%4",   "\\",    "\\u",  "\\u0", "\\u00",
		                            "\\u004", "\\x4", "&",     "&#",   "&#6",  "&#x",
		                            "&#x4",   "&am",  "&quot", "&#065" };

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		char in[40] = "%41b";

		memcpy(in + 4, ends[i], strlen(ends[i]) + 1);
		CHECK_STR(unescaped(in), "Ab");
		CHECK_STR(unescaped(in + 3), "b");
	}
}

TEST(what_does_not_matter_stays)
{
	memset(has, false, sizeof(has));
	has['A'] = true;
	CHECK_STR(unescaped("a\\\"b\\nc%20d&amp; e\\\\n"), "nothing");
	CHECK_STR(unescaped("\\\"%41\\n"), "\\\"A\\n");
	CHECK_STR(unescaped("%2541\\\\u0041&amp;#65;"), "%41\\u0041&#65;");
	CHECK_STR(unescaped("0123456789abcdef\\r\\nABC"), "0123456789abcdef\r\nABC");
	CHECK_STR(unescaped("1123456789abcde\\r\\nABC"), "nothing");
}

TEST(quoted_printable)
{
	struct span in = span_str("a=3Db=zz=");

	CHECK(view_unescape(in, VIEW_QUOTED_PRINTABLE, &v));
	CHECK_SPAN(span_of(v.text, v.len), "a=b=zz");
}

TEST(lines_are_joined)
{
	CHECK_STR(squeezed("ab\r\ncd\nef", 9), "abcdef");
	CHECK_STR(squeezed("ab\r\n \tcd ef", 11), "abcd ef");
	CHECK_STR(squeezed("a\0b\0c\0", 6), "abc");
	CHECK_STR(squeezed("ab=\r\ncd", 7), "abcd");
	CHECK_STR(squeezed("abcdefghijklmn=", 15), "abcdefghijklmn");
	CHECK_STR(squeezed("no break in this line of text", 29), "nothing");
	CHECK_STR(squeezed("", 0), "nothing");
	CHECK_STR(squeezed("\n", 1), "");
	CHECK_STR(squeezed("=", 1), "");
}

/* Whatever the view says of a byte, there it stood: checked for random texts full of escapes. */
TEST(the_map_leads_back)
{
	static const char *const parts[] = {
		"%41",    "x",  "\\u0061", "&amp;", "\\n", "%", "longer run of plain",
		"&#x41;", "\n", "=",       "=\r\n", "\\",  "yz"
	};
	uint32_t seed = 7;
	char in[2048];

	for (unsigned round = 0; round < 2000; round++) {
		size_t len = 0;
		size_t last = 0;

		while (len < 1000) {
			const char *p = parts[form_random(&seed) % 13];

			memcpy(in + len, p, strlen(p));
			len += strlen(p);
		}
		if (round % 2 ? !view_squeeze(span_of(in, len), &v)
		              : !view_unescape(span_of(in, len), VIEW_ESCAPES, &v))
			continue;
		for (size_t i = 0; i < v.len; i++) {
			size_t width;
			size_t from = view_from(&v, i, &width);

			CHECK(from >= last && width >= 1 && from + width <= len);
			CHECK(width > 1 || v.text[i] == (uint8_t)in[from]);
			last = from + width;
		}
	}
}

TEST_MAIN()
