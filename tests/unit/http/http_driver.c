/*
 * Reads cases on standard input and prints how src/http reads each: the other half of
 * tests/integration/http. A case is a line `request|response BYTES FLAGS`, then that many bytes;
 * FLAGS are letters: e (the peer closes at the end), h (the response is to a HEAD), o (opaque after
 * an upgrade), s (a %2F is kept), t (TLS), or - for none. The answer is h1_dump()'s lines and
 * then a line `.`.
 */
#include "base/units.h"
#include "http_dump.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CASE_BYTES_MAX = 1 << 20, LINE_MAX_BYTES = 128 };

static bool has(struct span flags, char letter)
{
	return flags.len > 0 && memchr(flags.at, letter, flags.len);
}

static int run_case(char *line, uint8_t *bytes, struct buf *out)
{
	struct span rest = span_str(line);
	struct span kind;
	struct span count;
	struct h1_dump d = { 0 };
	uint64_t len;

	if (!take_until(&rest, ' ', &kind) || !take_until(&rest, ' ', &count) ||
	    !span_to_u64(count, &len) || len > CASE_BYTES_MAX)
		return -1;
	if (fread(bytes, 1, len, stdin) != len)
		return -1;
	d.rules.response = span_is(kind, "response");
	d.rules.scheme = has(rest, 't') ? HTTP_TLS : HTTP_PLAIN;
	d.rules.keep_slash = has(rest, 's');
	d.rules.to_head = has(rest, 'h');
	d.eof = has(rest, 'e');
	d.opaque = has(rest, 'o');
	h1_dump(&d, span_of(bytes, len), out);
	return 0;
}

int main(void)
{
	static uint8_t bytes[CASE_BYTES_MAX];
	static uint8_t text[DUMP_BYTES_MAX];
	char line[LINE_MAX_BYTES];

	while (fgets(line, sizeof(line), stdin)) {
		struct buf out;

		line[strcspn(line, "\n")] = '\0';
		buf_init(&out, text, sizeof(text));
		if (run_case(line, bytes, &out) < 0) {
			fprintf(stderr, "no case: %s\n", line);
			return 1;
		}
		fwrite(out.at, 1, out.len, stdout);
		fputs(".\n", stdout);
		fflush(stdout);
	}
	return 0;
}
