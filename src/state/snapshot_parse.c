#include "state/snapshot_note.h"

#include <errno.h>
#include <string.h>

static const char head[] = "berm-snapshot 1\n";

/* "word value\n" */
static bool take_line(struct span *s, const char *word, struct span *ret)
{
	size_t len = strlen(word);
	struct span line;
	struct span got;

	/* without its end it was cut */
	if (!s->len || !memchr(s->at, '\n', s->len) || !take_until(s, '\n', &line))
		return false;
	if (!take_span(&line, len, &got) || !span_is(got, word) || line.len == 0 ||
	    line.at[0] != ' ')
		return false;
	*ret = span_of(line.at + 1, line.len - 1);
	return true;
}

/* "word BYTES\n" and the bytes. */
static bool take_block(struct span *s, const char *word, size_t bytes_max, struct span *ret)
{
	struct span number;
	uint64_t bytes;

	return take_line(s, word, &number) && span_to_u64(number, &bytes) && bytes <= bytes_max &&
	       take_span(s, (size_t)bytes, ret);
}

/* What may stand in a line of a terminal and in a path: the grammars of ids and names hold here. */
static bool word_ok(struct span s, size_t len_max)
{
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.at[i];

		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    c != '-' && c != '_' && c != '.')
			return false;
	}
	return s.len <= len_max;
}

int snapshot_parse_note(struct span in, struct snapshot_note *ret)
{
	struct snapshot_note got = { 0 };
	struct span word;

	if (!take_span(&in, sizeof(head) - 1, &word) || !span_is(word, head))
		return -EBADMSG;
	if (!take_line(&in, "created", &word) || !span_to_u64(word, &got.created_ns) ||
	    got.created_ns > INT64_MAX)
		return -EBADMSG;
	if (!take_line(&in, "id", &got.id) || got.id.len != SPEC_ID_LEN ||
	    !word_ok(got.id, SPEC_ID_LEN) || !take_line(&in, "name", &got.name) ||
	    !word_ok(got.name, SPEC_NAME_MAX))
		return -EBADMSG;
	if (!take_block(&in, "machine", SNAPSHOT_MACHINE_MAX, &got.machine) ||
	    !take_block(&in, "spec", SPEC_BYTES_MAX, &got.spec) || in.len > 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}
