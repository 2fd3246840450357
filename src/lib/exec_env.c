#include "lib/exec_env.h"

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

static void put_var(struct buf *out, const struct exec_var *v)
{
	buf_put_le16(out, (uint16_t)(v->name.len + 1 + v->value.len));
	buf_put_span(out, v->name);
	buf_put_u8(out, '=');
	buf_put_span(out, v->value);
}

void exec_env_add(struct buf *out, size_t start, const struct exec_var *vars, size_t count)
{
	const size_t len = out->len;
	struct wire_exec x;
	struct span payload;
	size_t count_at;
	uint32_t envc;

	if (count == 0 || out->over || len - start < WIRE_HEADER_BYTES)
		return;
	payload = span_of(out->at + start + WIRE_HEADER_BYTES, len - start - WIRE_HEADER_BYTES);
	if (wire_parse_exec(payload, &x) < 0)
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
	/* flags, rows, cols, user, cwd, argc, then the count */
	count_at = start + WIRE_HEADER_BYTES + 4 + 2 + 2 + 2 + x.user.len + 2 + x.cwd.len + 4;
	for (unsigned i = 0; i < 4; i++)
		out->at[count_at + i] = (uint8_t)(envc >> (8 * i));
	wire_set_length(out, start);
}
