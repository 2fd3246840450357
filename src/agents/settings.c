#include "agents/settings.h"

#include "base/clock.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

OWN_DEFINE(json_t, json_decref)

enum {
	PATH_ROOM = 1024, /* bytes of "a.b.c" in the list of what was left out */
	GROWTH = 80,      /* "[1," in 32 levels becomes 2 * 32 blanks, 1, a comma and a line end */
};

const char *settings_format_word(enum settings_format f)
{
	static const char *const words[SETTINGS_FORMATS] = {
		[SETTINGS_TEXT] = "text", [SETTINGS_JSON] = "json",     [SETTINGS_JSONC] = "jsonc",
		[SETTINGS_TOML] = "toml", [SETTINGS_FOLDER] = "folder",
	};

	return words[f];
}

/* --- JSON --- */

struct walk {
	struct settings_out *out;
	char path[PATH_ROOM];
	const char *const *keys;
};

static void note_removed(struct walk *w, size_t len)
{
	w->out->removed_count++;
	buf_put(&w->out->removed, w->path, len);
	buf_put_u8(&w->out->removed, 0);
}

/* Puts "key" behind what the path has, cut where there is no more room. */
static size_t push(struct walk *w, size_t len, const char *key)
{
	int put = snprintf(w->path + len, sizeof(w->path) - len, "%s%s", len > 0 ? "." : "", key);
	size_t end = len + (put > 0 ? (size_t)put : 0);

	return end < sizeof(w->path) ? end : sizeof(w->path) - 1;
}

static bool listed(const struct walk *w, const char *key)
{
	for (size_t i = 0; w->keys[i]; i++)
		if (strcmp(w->keys[i], key) == 0)
			return true;
	return false;
}

static bool secret_text(const json_t *v)
{
	return json_is_string(v) &&
	       settings_parse_secret_value(span_of(json_string_value(v), json_string_length(v)));
}

static void clean(struct walk *w, json_t *v, size_t len);

static void clean_list(struct walk *w, json_t *list, size_t len)
{
	for (size_t i = json_array_size(list); i > 0; i--) {
		json_t *item = json_array_get(list, i - 1);

		if (secret_text(item)) {
			note_removed(w, len);
			(void)json_array_remove(list, i - 1);
		} else {
			clean(w, item, len);
		}
	}
}

/* Its depth has a maximum: settings_jsonc_parse() looked. */
static void clean(struct walk *w, json_t *v, size_t len) // NOLINT(misc-no-recursion)
{
	const char *key;
	json_t *item;
	void *next;

	if (json_is_array(v))
		clean_list(w, v, len);
	if (!json_is_object(v))
		return;
	json_object_foreach_safe(v, next, key, item)
	{
		size_t inner = push(w, len, key);

		if (settings_parse_secret_key(span_str(key)) || secret_text(item) ||
		    (len == 0 && !listed(w, key))) {
			note_removed(w, inner);
			(void)json_object_del(v, key);
		} else {
			clean(w, item, inner);
		}
	}
}

static int put_chunk(const char *text, size_t len, void *arg)
{
	buf_put(arg, text, len);
	return 0;
}

static int bad_json(const char *label, enum settings_format f, struct err *e)
{
	return err_set(
		e, -EINVAL,
		"%s: is no JSON that could be read: brackets that do not match, a text without "
		"its end%s, or over %d levels",
		label, f == SETTINGS_JSON ? ", a comment" : "", SETTINGS_DEPTH_MAX);
}

static int filter_json(const char *label, enum settings_format f, struct span in,
                       const char *const *keys, struct settings_out *out, struct err *e)
{
	_own_free_ char *plain = malloc(in.len + 1);
	_own_free_ struct walk *w = calloc(1, sizeof(*w));
	_own_(json_decref) json_t *root = NULL;
	json_error_t why;
	struct buf b;
	size_t seed;

	if (!plain || !w)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, plain, in.len);
	if (settings_jsonc_parse(in, f == SETTINGS_JSONC, &b) < 0)
		return bad_json(label, f, e);
	random_bytes(&seed, sizeof(seed)); /* or jansson opens a device for it */
	json_object_seed(seed | 1);
	root = json_loadb(plain, b.len, JSON_REJECT_DUPLICATES, &why);
	if (!root)
		return err_set(e, -EINVAL, "%s:%d: %s", label, why.line, why.text);
	if (!json_is_object(root))
		return err_set(e, -EINVAL, "%s: is no object: { \"key\": value }", label);
	w->out = out;
	w->keys = keys;
	clean(w, root, 0);
	if (json_dump_callback(root, put_chunk, &out->text, JSON_INDENT(2) | JSON_SORT_KEYS) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	buf_put_str(&out->text, "\n");
	return 0;
}

static int filter_toml(const char *label, struct span in, const char *const *keys,
                       struct settings_out *out, struct err *e)
{
	unsigned line = 0;
	int r = settings_toml_parse(in, keys, out, &line);

	if (r == -EBADMSG)
		return err_set(e, -EINVAL, "%s:%u: is no TOML, or a part of it that is not read",
		               label, line);
	return 0; /* too long is told by the caller, as for the others */
}

static int keep(const struct settings_out *out, struct settings_file **ret, struct err *e)
{
	_own_(settings_file_free) struct settings_file *f = calloc(1, sizeof(*f));

	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	f->text = malloc(out->text.len + 1);
	f->removed = malloc(out->removed.len + 1);
	if (!f->text || !f->removed)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(f->text, out->text.at, out->text.len);
	memcpy(f->removed, out->removed.at, out->removed.len);
	f->text[out->text.len] = '\0';
	f->removed[out->removed.len] = '\0';
	f->len = out->text.len;
	f->removed_len = out->removed.len;
	f->removed_count = out->removed_count;
	*ret = steal_ptr(&f);
	return 0;
}

int settings_filter(const char *label, enum settings_format f, struct span in,
                    const char *const *keys, struct settings_file **ret, struct err *e)
{
	size_t room = in.len < SETTINGS_OUT_MAX / GROWTH ? GROWTH * (in.len + 1) : SETTINGS_OUT_MAX;
	_own_free_ char *text = malloc(room);
	_own_free_ char *removed = malloc(SETTINGS_REMOVED_MAX);
	struct settings_out out = { .removed_count = 0 };
	int r = 0;

	if (!text || !removed)
		return err_set(e, -ENOMEM, "out of memory");
	if (in.len > SETTINGS_FILE_MAX)
		return err_set(e, -EFBIG, "%s: over %d bytes", label, SETTINGS_FILE_MAX);
	buf_init(&out.text, text, room);
	buf_init(&out.removed, removed, SETTINGS_REMOVED_MAX);
	if (f == SETTINGS_TEXT || f == SETTINGS_FOLDER)
		buf_put_span(&out.text, in);
	else if (f == SETTINGS_TOML)
		r = filter_toml(label, in, keys, &out, e);
	else
		r = filter_json(label, f, in, keys, &out, e);
	if (r < 0)
		return r;
	if (!buf_ok(&out.text))
		return err_set(e, -EFBIG, "%s: over %d bytes", label, SETTINGS_OUT_MAX);
	return keep(&out, ret, e);
}

void settings_file_free(struct settings_file *f)
{
	if (!f)
		return;
	free(f->text);
	free(f->removed);
	free(f);
}
