#include "image/path.h"

#include <errno.h>
#include <string.h>

static enum path_fault add_component(struct span c, struct buf *out, size_t start, unsigned *depth)
{
	if (c.len == 0 || span_is(c, "."))
		return PATH_OK;
	if (span_is(c, ".."))
		return PATH_DOTDOT;
	if (c.len > TREE_NAME_MAX)
		return PATH_TOO_LONG;
	if (++*depth > TREE_DEPTH_MAX)
		return PATH_TOO_DEEP;
	if (out->len > start)
		buf_put_u8(out, '/');
	buf_put_span(out, c);
	return buf_ok(out) && out->len - start <= TREE_PATH_MAX ? PATH_OK : PATH_TOO_LONG;
}

int image_path_parse(struct span in, struct buf *out, enum path_fault *ret_fault)
{
	enum path_fault fault = PATH_OK;
	struct buf before = *out;
	struct span component;
	unsigned depth = 0;

	if (in.len == 0)
		fault = PATH_EMPTY;
	else if (memchr(in.at, 0, in.len))
		fault = PATH_NUL;
	while (fault == PATH_OK && take_until(&in, '/', &component))
		fault = add_component(component, out, before.len, &depth);
	if (fault == PATH_OK)
		return 0;
	*out = before;
	if (ret_fault)
		*ret_fault = fault;
	return -EBADMSG;
}

const char *path_fault_text(enum path_fault f)
{
	switch (f) {
	case PATH_DOTDOT:
		return "goes up with '..'";
	case PATH_TOO_LONG:
		return "is longer than 4095 bytes, or has a name longer than 255";
	case PATH_TOO_DEEP:
		return "is more than 255 directories deep";
	case PATH_NUL:
		return "holds a NUL byte";
	case PATH_EMPTY:
		return "is empty";
	case PATH_OK:
		break;
	}
	return "is fine";
}
