#include "image/ref.h"

#include <errno.h>
#include <string.h>

enum { REF_TAG_MAX = 128 };

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_lower(uint8_t c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_upper(uint8_t c)
{
	return c >= 'A' && c <= 'Z';
}

static bool is_hex(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_digit(s.at[i]) && !(s.at[i] >= 'a' && s.at[i] <= 'f'))
			return false;
	return s.len > 0;
}

/* Lower-case words joined by ".", "_", "__" or any number of dashes. */
static bool is_path_word(struct span s)
{
	size_t i = 0;

	for (;;) {
		size_t word = i;
		size_t sep;

		while (i < s.len && (is_lower(s.at[i]) || is_digit(s.at[i])))
			i++;
		if (i == word)
			return false;
		if (i == s.len)
			return true;
		sep = i;
		while (i < s.len && s.at[i] == s.at[sep] && strchr("._-", s.at[sep]))
			i++;
		if (i == sep || (s.at[sep] == '.' && i - sep > 1) ||
		    (s.at[sep] == '_' && i - sep > 2))
			return false;
	}
}

/* Labels of letters, digits and inner dashes, joined by dots; then perhaps ":" and a port. */
static bool is_host(struct span s)
{
	struct span host;
	struct span label;
	bool has_port = memchr(s.at, ':', s.len) != NULL;

	if (!take_until(&s, ':', &host) || host.len == 0)
		return false;
	if (has_port && (s.len == 0 || s.len > 5))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_digit(s.at[i]))
			return false;
	if (host.at[host.len - 1] == '.')
		return false;
	while (take_until(&host, '.', &label)) {
		if (label.len == 0 || label.at[0] == '-' || label.at[label.len - 1] == '-')
			return false;
		for (size_t i = 0; i < label.len; i++)
			if (!is_digit(label.at[i]) && !is_lower(label.at[i]) &&
			    !is_upper(label.at[i]) && label.at[i] != '-')
				return false;
	}
	return true;
}

/* What tells a host from a path word, when both could be: a dot, a port, a capital. */
static bool looks_like_host(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] == '.' || s.at[i] == ':' || is_upper(s.at[i]))
			return true;
	return span_is(s, "localhost");
}

static bool is_tag(struct span s)
{
	if (s.len == 0 || s.len > REF_TAG_MAX || s.at[0] == '.' || s.at[0] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_digit(s.at[i]) && !is_lower(s.at[i]) && !is_upper(s.at[i]) &&
		    !(s.at[i] == '_' || s.at[i] == '.' || s.at[i] == '-'))
			return false;
	return true;
}

/* The colon of a tag stands behind the last slash; one before it belongs to a port. */
static void split_tag(struct span in, struct span *ret_repo, struct span *ret_tag, bool *ret_has)
{
	size_t colon = in.len;

	for (size_t i = 0; i < in.len; i++) {
		if (in.at[i] == '/')
			colon = in.len;
		else if (in.at[i] == ':')
			colon = i;
	}
	*ret_has = colon < in.len;
	*ret_repo = span_of(in.at, colon);
	*ret_tag = *ret_has ? span_of(in.at + colon + 1, in.len - colon - 1) : span_of(in.at, 0);
}

static bool is_repo(struct span repo)
{
	struct span word;
	bool first = true;
	bool path = false;

	if (repo.len == 0 || repo.at[repo.len - 1] == '/')
		return false;
	while (take_until(&repo, '/', &word)) {
		/* a host alone is no name: a path follows */
		bool host = first && repo.len > 0 && looks_like_host(word) && is_host(word);

		if (!host && !is_path_word(word))
			return false;
		path = path || !host;
		first = false;
	}
	return path;
}

int ref_parse(struct span in, struct ref *ret)
{
	struct ref got = { .kind = REF_NAME };
	bool has_tag;

	if (in.len == 0)
		return -EBADMSG;
	if (in.len == IMAGE_ID_LEN + 7 && memcmp(in.at, "sha256:", 7) == 0) {
		got.id = span_of(in.at + 7, IMAGE_ID_LEN);
		if (!is_hex(got.id))
			return -EBADMSG;
		got.kind = REF_ID;
		*ret = got;
		return 0;
	}
	if (in.len > IMAGE_NAME_MAX)
		return -EBADMSG;
	if (is_hex(in) && in.len >= IMAGE_ID_PREFIX_MIN && in.len <= IMAGE_ID_LEN) {
		got.kind = in.len == IMAGE_ID_LEN ? REF_ID : REF_PREFIX;
		got.id = in;
		got.name = in;
		got.repo = in;
		got.tag = span_of(in.at, 0);
		*ret = got;
		return 0;
	}
	got.name = in;
	split_tag(in, &got.repo, &got.tag, &has_tag);
	if (!is_repo(got.repo) || (has_tag && !is_tag(got.tag)))
		return -EBADMSG;
	if (got.repo.len == IMAGE_ID_LEN && is_hex(got.repo))
		return -EBADMSG; /* an id with a tag is neither */
	*ret = got;
	return 0;
}

bool ref_is_name(struct span in)
{
	struct ref got;

	return ref_parse(in, &got) == 0 && got.kind != REF_ID;
}

void ref_put_canonical(struct buf *out, struct span in)
{
	struct ref got;

	if (ref_parse(in, &got) < 0 || got.kind == REF_ID)
		return;
	buf_put_span(out, span_is(got.tag, "latest") ? got.repo : got.name);
}

void ref_put_escaped(struct buf *out, struct span name)
{
	for (size_t i = 0; i < name.len; i++) {
		if (name.at[i] == '/')
			buf_put(out, "%2F", 3);
		else
			buf_put_u8(out, name.at[i]);
	}
}

int ref_unescape(struct span in, struct buf *out)
{
	size_t before = out->len;
	struct span name;

	while (in.len > 0) {
		if (in.len >= 3 && memcmp(in.at, "%2F", 3) == 0) {
			buf_put_u8(out, '/');
			in = span_of(in.at + 3, in.len - 3);
		} else if (in.at[0] == '%' || in.at[0] == '/') {
			break;
		} else {
			buf_put_u8(out, in.at[0]);
			in = span_of(in.at + 1, in.len - 1);
		}
	}
	name = span_of(out->at + before, out->len - before);
	if (in.len > 0 || !buf_ok(out) || !ref_is_name(name)) {
		out->len = before;
		return -EBADMSG;
	}
	return 0;
}
