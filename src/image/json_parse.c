#include "image/json.h"

#include <errno.h>

int json_parse_depth(struct span in, unsigned *ret_depth)
{
	unsigned depth = 0;
	unsigned deepest = 0;
	bool text = false;

	for (size_t i = 0; i < in.len; i++) {
		uint8_t c = in.at[i];

		if (text) {
			if (c == '\\')
				i++;
			else if (c == '"')
				text = false;
		} else if (c == '"') {
			text = true;
		} else if (c == '{' || c == '[') {
			if (++depth > deepest)
				deepest = depth;
		} else if (c == '}' || c == ']') {
			if (depth-- == 0)
				return -EBADMSG;
		}
	}
	if (depth != 0 || text)
		return -EBADMSG;
	*ret_depth = deepest;
	return 0;
}
