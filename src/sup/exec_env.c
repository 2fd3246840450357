#include "sup/exec_env.h"

#include <string.h>

static bool is_set(struct span envv, struct span name)
{
	struct span one;

	while (wire_next_str(&envv, &one))
		if (one.len > name.len && memcmp(one.at, name.at, name.len) == 0 &&
		    one.at[name.len] == '=')
			return true;
	return false;
}

/* A variable that is set to something, and is one of these. */
static bool is_one_of(struct span var, const struct exec_var *vars, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct span name = vars[i].name;

		if (var.len > name.len + 1 && memcmp(var.at, name.at, name.len) == 0 &&
		    var.at[name.len] == '=')
			return true;
	}
	return false;
}

static void put_var(struct buf *out, const struct exec_var *v)
{
	buf_put_le16(out, (uint16_t)(v->name.len + 1 + v->value.len));
	buf_put_span(out, v->name);
	buf_put_u8(out, '=');
	buf_put_span(out, v->value);
}

/* flags, rows, cols, user, cwd, argc, then the count of variables */
static void set_count(const struct buf *out, size_t start, const struct wire_exec *x, uint32_t envc)
{
	size_t at = start + WIRE_HEADER_BYTES + 4 + 2 + 2 + 2 + x->user.len + 2 + x->cwd.len + 4;

	for (unsigned i = 0; i < 4; i++)
		out->at[at + i] = (uint8_t)(envc >> (8 * i));
}

static bool parse(const struct buf *out, size_t start, struct wire_exec *ret)
{
	if (out->over || out->len - start < WIRE_HEADER_BYTES)
		return false;
	return wire_parse_exec(span_of(out->at + start + WIRE_HEADER_BYTES,
	                               out->len - start - WIRE_HEADER_BYTES),
	                       ret) == 0;
}

void exec_env_add(struct buf *out, size_t start, const struct exec_var *vars, size_t count)
{
	const size_t len = out->len;
	struct wire_exec x;
	uint32_t envc;

	if (count == 0 || !parse(out, start, &x))
		return;
	envc = x.envc;
	/* the environment comes last, and x points into what the buffer holds, which stays put */
	for (size_t i = 0; i < count; i++) {
		if (is_set(x.envv, vars[i].name))
			continue;
		put_var(out, &vars[i]);
		envc++;
	}
	if (out->over || envc > WIRE_ARGS_MAX || out->len - start > WIRE_FRAME_MAX) {
		out->len = len;
		out->over = false;
		return;
	}
	set_count(out, start, &x, envc);
	wire_set_length(out, start);
}

void exec_env_replace(struct buf *out, size_t start, const struct exec_var *vars, size_t count)
{
	struct wire_exec x;
	struct span rest, one;
	size_t to;

	if (count == 0 || !parse(out, start, &x))
		return;
	rest = x.envv;
	to = out->len - rest.len;
	while (wire_next_str(&rest, &one)) {
		size_t bytes = 2 + one.len; /* with its length in front */

		if (is_one_of(one, vars, count)) {
			x.envc--;
			continue;
		}
		memmove(out->at + to, one.at - 2, bytes);
		to += bytes;
	}
	explicit_bzero(out->at + to, out->len - to);
	out->len = to;
	set_count(out, start, &x, x.envc);
	wire_set_length(out, start);
	exec_env_add(out, start, vars, count);
}
