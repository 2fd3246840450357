#include "state/jread.h"

#include <errno.h>
#include <string.h>

int jread_object(struct span text, json_t **ret, struct err *e)
{
	json_error_t why;
	json_t *got = json_loadb((const char *)text.at, text.len, JSON_REJECT_DUPLICATES, &why);

	if (!got && json_error_code(&why) == json_error_out_of_memory)
		return err_set(e, -ENOMEM, "out of memory");
	if (!got)
		return err_set(e, -EBADMSG, "bad JSON at byte %d: %s", why.position, why.text);
	if (!json_is_object(got)) {
		json_decref(got);
		return err_set(e, -EBADMSG, "bad JSON: not an object");
	}
	*ret = got;
	return 0;
}

bool jread_text(const json_t *o, const char *key, char *ret, size_t size)
{
	const json_t *v = json_object_get(o, key);
	const char *text = json_string_value(v);
	size_t len;

	if (!v || json_is_null(v))
		return true;
	if (!text)
		return false;
	len = json_string_length(v);
	if (len >= size) {
		len = size - 1;
		while (len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80)
			len--; /* a continuation byte: its character began before the cut */
	}
	memcpy(ret, text, len);
	ret[len] = '\0';
	return true;
}

bool jread_u64(const json_t *o, const char *key, uint64_t max, uint64_t *ret)
{
	const json_t *v = json_object_get(o, key);
	json_int_t got = json_integer_value(v);

	if (!v || json_is_null(v))
		return true;
	if (!json_is_integer(v) || got < 0 || (uint64_t)got > max)
		return false;
	*ret = (uint64_t)got;
	return true;
}
