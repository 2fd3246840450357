#include "review/links.h"

bool review_links_take(struct span *body, struct span *ret_name, struct span *ret_to)
{
	return take_str16(body, WPATH_MAX, ret_name) && take_str16(body, WPATH_MAX, ret_to);
}

bool review_links_parse(struct span body, uint32_t count)
{
	enum wpath_fault fault;
	struct span name;
	struct span to;

	for (uint32_t i = 0; i < count; i++)
		if (!review_links_take(&body, &name, &to) || name.len == 0 ||
		    wpath_parse(name, &fault) < 0 || wpath_parse(to, &fault) < 0)
			return false;
	return body.len == 0;
}

/* The part in front of the first '/', and what is behind it. */
static struct span take_part(struct span *rest)
{
	struct span part = *rest;

	for (size_t i = 0; i < rest->len; i++)
		if (rest->at[i] == '/') {
			part.len = i;
			*rest = span_of(rest->at + i + 1, rest->len - i - 1);
			return part;
		}
	*rest = span_of(rest->at + rest->len, 0);
	return part;
}

static bool part_is(struct span part, const char *text)
{
	return span_equal(part, span_str(text));
}

bool review_links_resolve(struct span root, struct span link, struct span target, struct buf *out)
{
	enum wpath_fault fault;
	struct span rest;

	buf_reset(out);
	if (target.len > 0 && target.at[0] == '/') {
		if (!wpath_beneath(root, target, &rest))
			return false;
	} else {
		buf_put_span(out, wpath_parent(link));
		rest = target;
	}
	while (rest.len > 0) {
		struct span part = take_part(&rest);

		if (part.len == 0 || part_is(part, "."))
			continue;
		if (part_is(part, "..")) {
			if (out->len == 0)
				return false;
			out->len = wpath_parent(buf_span(out)).len;
			continue;
		}
		if (out->len > 0)
			buf_put_u8(out, '/');
		buf_put_span(out, part);
	}
	return buf_ok(out) && target.len > 0 && wpath_parse(buf_span(out), &fault) == 0;
}
