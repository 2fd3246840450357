#include "work/gitdir.h"

#include <errno.h>
#include <string.h>

int gitdir_parse_pointer(struct span text, struct span *ret_path)
{
	static const char word[] = "gitdir: ";
	struct span head;

	if (!take_span(&text, sizeof(word) - 1, &head) || !span_is(head, word))
		return -EBADMSG;
	while (text.len > 0 && (text.at[text.len - 1] == '\n' || text.at[text.len - 1] == '\r'))
		text.len--;
	if (text.len == 0 || memchr(text.at, 0, text.len) != NULL)
		return -EBADMSG;
	*ret_path = text;
	return 0;
}

bool gitdir_path_stays(struct span path, unsigned depth)
{
	struct span part;

	if (path.len == 0 || path.at[0] == '/' || memchr(path.at, 0, path.len) != NULL)
		return false;
	while (take_until(&path, '/', &part)) {
		if (span_is(part, "..") && depth-- == 0)
			return false;
		if (part.len > 0 && !span_is(part, ".") && !span_is(part, ".."))
			depth++;
	}
	return true;
}

static bool ends_authority(uint8_t c)
{
	return c <= ' ' || c == '/' || c == '?' || c == '#' || c == '"' || c == '\'' || c == '<' ||
	       c == '>' || c == '`';
}

static bool ends_with(struct span s, const char *tail)
{
	struct span t = span_str(tail);

	return s.len >= t.len && memcmp(s.at + s.len - t.len, t.at, t.len) == 0;
}

/*
 * How much of what follows "://" is a user and password with its "@"? A name alone is an address in
 * all schemes but the web's, where it can be a token.
 */
static size_t secret_len(struct span before, struct span after)
{
	size_t end = 0, at = 0;
	bool found = false;

	while (end < after.len && !ends_authority(after.at[end])) {
		if (after.at[end] == '@') {
			at = end;
			found = true;
		}
		end++;
	}
	if (!found)
		return 0;
	if (!ends_with(before, "http") && !ends_with(before, "https") &&
	    memchr(after.at, ':', at) == NULL)
		return 0;
	return at + 1;
}

bool gitdir_take_uncut(struct span *text, struct span *ret_piece, bool *ret_cut)
{
	const struct span all = *text;

	if (all.len == 0)
		return false;
	for (size_t i = 0; i + 3 <= all.len; i++) {
		size_t cut;

		if (memcmp(all.at + i, "://", 3) != 0)
			continue;
		cut = secret_len(span_of(all.at, i), span_of(all.at + i + 3, all.len - i - 3));
		if (cut == 0)
			continue;
		*ret_piece = span_of(all.at, i + 3);
		*ret_cut = true;
		*text = span_of(all.at + i + 3 + cut, all.len - i - 3 - cut);
		return true;
	}
	*ret_piece = all;
	*ret_cut = false;
	*text = span_of(all.at + all.len, 0);
	return true;
}
