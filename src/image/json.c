#include "image/json.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int json_load(struct span in, size_t max, const char *what, json_t **ret, struct err *e)
{
	json_error_t why;
	unsigned depth;
	size_t seed;
	json_t *got;

	if (in.len > max)
		return err_set(e, -E2BIG, "%s is larger than %zu bytes", what, max);
	if (json_parse_depth(in, &depth) < 0)
		return err_set(e, -EBADMSG, "%s is not JSON: its brackets do not match", what);
	if (depth > IMAGE_JSON_DEPTH_MAX)
		return err_set(e, -E2BIG, "%s nests deeper than %d", what, IMAGE_JSON_DEPTH_MAX);
	/*
	 * ours, so that jansson does not open a device to seed its tables; a second call does
	 * nothing
	 */
	random_bytes(&seed, sizeof(seed));
	json_object_seed(seed | 1);
	got = json_loadb((const char *)in.at, in.len, JSON_REJECT_DUPLICATES, &why);
	if (!got)
		return err_set(e, -EBADMSG, "%s is not JSON: line %d: %s", what, why.line,
		               why.text);
	*ret = got;
	return 0;
}

int json_get_text(const json_t *o, const char *key, const char **ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!v || json_is_null(v)) {
		*ret = "";
		return 0;
	}
	if (!json_is_string(v))
		return err_set(e, -EBADMSG, "'%s' is not a text", key);
	if (json_string_length(v) > IMAGE_STRING_MAX)
		return err_set(e, -E2BIG, "'%s' is longer than %d bytes", key, IMAGE_STRING_MAX);
	*ret = json_string_value(v);
	return 0;
}

static int new_list(size_t count, const char ***ret, struct err *e)
{
	*ret = calloc(count + 1, sizeof(const char *));
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int json_get_list(const json_t *o, const char *key, size_t max, const char ***ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);
	size_t count = json_array_size(v);
	_own_free_ const char **list = NULL;
	int r;

	if (v && !json_is_null(v) && !json_is_array(v))
		return err_set(e, -EBADMSG, "'%s' is not a list", key);
	if (count > max)
		return err_set(e, -E2BIG, "'%s' has more than %zu items", key, max);
	r = new_list(count, &list, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		const json_t *item = json_array_get(v, i);

		if (!json_is_string(item))
			return err_set(e, -EBADMSG, "'%s' holds something that is not a text", key);
		if (json_string_length(item) > IMAGE_STRING_MAX)
			return err_set(e, -E2BIG, "'%s' holds a text of more than %d bytes", key,
			               IMAGE_STRING_MAX);
		list[i] = json_string_value(item);
	}
	*ret = steal_ptr(&list);
	return 0;
}

static int by_key(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int json_get_pairs(const json_t *o, const char *key, size_t max, const char ***ret, struct err *e)
{
	json_t *v = json_object_get(o, key);
	size_t count = json_object_size(v);
	_own_free_ const char **list = NULL;
	size_t at = 0;
	const char *name;
	json_t *item;
	int r;

	if (v && !json_is_null(v) && !json_is_object(v))
		return err_set(e, -EBADMSG, "'%s' is not an object", key);
	if (count > max)
		return err_set(e, -E2BIG, "'%s' has more than %zu items", key, max);
	r = new_list(2 * count, &list, e);
	if (r < 0)
		return r;
	json_object_foreach (v, name, item) {
		if (!json_is_string(item) || json_string_length(item) > IMAGE_STRING_MAX ||
		    strlen(name) > IMAGE_STRING_MAX)
			return err_set(e, -EBADMSG, "'%s' holds something that is no short text",
			               key);
		list[at++] = name;
		list[at++] = json_string_value(item);
	}
	if (count > 1)
		qsort(list, count, 2 * sizeof(const char *), by_key);
	*ret = steal_ptr(&list);
	return 0;
}

int json_get_u64(const json_t *o, const char *key, uint64_t *ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return err_set(e, -EBADMSG, "'%s' is not a number", key);
	*ret = (uint64_t)json_integer_value(v);
	return 0;
}

int json_only_keys(const json_t *o, const char *const *keys, const char *what, struct err *e)
{
	const char *name;
	json_t *item;

	json_object_foreach ((json_t *)(uintptr_t)o, name, item) {
		size_t i = 0;

		while (keys[i] && strcmp(keys[i], name) != 0)
			i++;
		if (!keys[i])
			return err_set(e, -EBADMSG, "%s: unknown key '%.100s'", what, name);
	}
	return 0;
}
