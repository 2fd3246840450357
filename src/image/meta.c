#include "image/meta.h"

#include "image/json.h"
#include "image/ref.h"
#include "image/registries.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const config_keys[] = { "env",     "entrypoint", "cmd",         "user",
	                                   "workdir", "labels",     "stop_signal", NULL };

void image_meta_free(struct image_meta *m)
{
	if (!m)
		return;
	for (unsigned i = 0; i < m->list_count; i++)
		free(m->lists[i]);
	json_decref(m->doc);
	free(m);
}

/* Keeps a list alive with the meta. */
static const char *const *keep(struct image_meta *m, const char **list)
{
	assert(m->list_count < sizeof(m->lists) / sizeof(m->lists[0]));
	m->lists[m->list_count++] = list;
	return list;
}

static int take_list(struct image_meta *m, const json_t *o, const char *key, size_t max,
                     const char *const **ret, struct err *e)
{
	const char **list;
	int r = json_get_list(o, key, max, &list, e);

	if (r == 0)
		*ret = keep(m, list);
	return r;
}

static int parse_config(struct image_meta *m, const json_t *o, struct err *e)
{
	struct image_config *c = &m->config;
	const char **labels;
	int r;

	if (!json_is_object(o))
		return err_set(e, -EBADMSG, "the image's config is not an object");
	r = json_only_keys(o, config_keys, "config", e);
	if (r == 0)
		r = take_list(m, o, "env", IMAGE_ENV_MAX, &c->env, e);
	if (r == 0)
		r = take_list(m, o, "entrypoint", IMAGE_ARGS_MAX, &c->entrypoint, e);
	if (r == 0)
		r = take_list(m, o, "cmd", IMAGE_ARGS_MAX, &c->cmd, e);
	if (r == 0)
		r = json_get_pairs(o, "labels", IMAGE_LABELS_MAX, &labels, e);
	if (r == 0)
		c->labels = keep(m, labels);
	if (r == 0)
		r = json_get_text(o, "user", &c->user, e);
	if (r == 0)
		r = json_get_text(o, "workdir", &c->workdir, e);
	if (r == 0)
		r = json_get_text(o, "stop_signal", &c->stop_signal, e);
	return r < 0 ? r : image_config_check(c, e);
}

static bool is_hex_id(const char *s)
{
	return strlen(s) == IMAGE_ID_LEN && strspn(s, "0123456789abcdef") == IMAGE_ID_LEN;
}

static int check_meta(const struct image_meta *m, struct err *e)
{
	if (!is_hex_id(m->id))
		return err_set(e, -EBADMSG, "its id is no sha256");
	for (size_t i = 0; m->layers[i]; i++)
		if (!is_hex_id(m->layers[i]))
			return err_set(e, -EBADMSG, "a layer's digest is no sha256");
	for (size_t i = 0; m->names[i]; i++)
		if (!ref_is_name(span_str(m->names[i])))
			return err_set(e, -EBADMSG, "'%.100s' is not an image name", m->names[i]);
	for (size_t i = 0; m->registries[i]; i++)
		if (!registries_parse_ok(span_str(m->registries[i])))
			return err_set(e, -EBADMSG, "'%.100s' is not a registry's host",
			               m->registries[i]);
	return 0;
}

static int parse_meta(struct image_meta *m, const json_t *o, struct err *e)
{
	static const char *const keys[] = {
		"format",  "id",         "kind",           "architecture",
		"os",      "created",    "config",         "layers",
		"names",   "registries", "unpacked_bytes", "disk_bytes",
		"entries", NULL
	};
	uint64_t format;
	const char *id;
	int r = json_only_keys(o, keys, "image.json", e);

	if (r == 0)
		r = json_get_u64(o, "format", &format, e);
	if (r == 0 && format != META_FORMAT)
		return err_set(e, -EBADMSG, "image.json is of format %llu, and this berm knows %d",
		               (unsigned long long)format, META_FORMAT);
	if (r == 0)
		r = json_get_text(o, "id", &id, e);
	if (r == 0 && !is_hex_id(id))
		return err_set(e, -EBADMSG, "its id is no sha256");
	if (r == 0)
		memcpy(m->id, id, sizeof(m->id));
	if (r == 0)
		r = json_get_text(o, "kind", &m->kind, e);
	if (r == 0)
		r = json_get_text(o, "architecture", &m->architecture, e);
	if (r == 0)
		r = json_get_text(o, "os", &m->os, e);
	if (r == 0)
		r = json_get_text(o, "created", &m->created, e);
	if (r == 0)
		r = parse_config(m, json_object_get(o, "config"), e);
	if (r == 0)
		r = take_list(m, o, "layers", IMAGE_LAYERS_MAX, &m->layers, e);
	if (r == 0)
		r = take_list(m, o, "names", IMAGE_NAMES_MAX, &m->names, e);
	if (r == 0)
		r = take_list(m, o, "registries", IMAGE_REGISTRIES_MAX, &m->registries, e);
	if (r == 0)
		r = json_get_u64(o, "unpacked_bytes", &m->unpacked_bytes, e);
	if (r == 0)
		r = json_get_u64(o, "disk_bytes", &m->disk_bytes, e);
	if (r == 0)
		r = json_get_u64(o, "entries", &m->entries, e);
	return r != 0 ? r : check_meta(m, e);
}

int image_meta_parse(struct span json, struct image_meta **ret, struct err *e)
{
	_own_(image_meta_free) struct image_meta *m = calloc(1, sizeof(*m));
	json_t *doc;
	int r;

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	r = json_load(json, IMAGE_STORED_JSON_MAX, "image.json", &doc, e);
	if (r < 0)
		return r;
	m->doc = doc;
	r = parse_meta(m, doc, e);
	if (r == 0)
		*ret = steal_ptr(&m);
	return r;
}

int image_config_parse(struct span json, struct image_meta *into, struct err *e)
{
	json_t *doc;
	int r = json_load(json, IMAGE_JSON_MAX, "the config", &doc, e);

	if (r < 0)
		return r;
	assert(!into->doc);
	into->doc = doc;
	return parse_config(into, doc, e);
}

static bool has_control(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return true;
	return false;
}

int image_config_check(const struct image_config *c, struct err *e)
{
	for (size_t i = 0; c->env[i]; i++) {
		const char *eq = strchr(c->env[i], '=');

		if (!eq || eq == c->env[i])
			return err_set(e, -EBADMSG, "env: '%.60s' is not NAME=VALUE", c->env[i]);
	}
	if (c->workdir[0] != '\0' && c->workdir[0] != '/')
		return err_set(e, -EBADMSG, "workdir: '%.100s' is not an absolute path",
		               c->workdir);
	if (strlen(c->workdir) > TREE_PATH_MAX)
		return err_set(e, -E2BIG, "workdir: longer than %d bytes", TREE_PATH_MAX);
	if (strlen(c->user) > TREE_NAME_MAX || has_control(c->user))
		return err_set(e, -EBADMSG, "user: not a user's name or number");
	if (strlen(c->stop_signal) > 32 || has_control(c->stop_signal))
		return err_set(e, -EBADMSG, "stop_signal: not a signal's name or number");
	return 0;
}

static void put_list(struct buf *out, const char *const *list)
{
	buf_put_u8(out, '[');
	for (size_t i = 0; list[i]; i++) {
		if (i > 0)
			buf_put_u8(out, ',');
		buf_put_json_str(out, span_str(list[i]));
	}
	buf_put_u8(out, ']');
}

static void put_pairs(struct buf *out, const char *const *list)
{
	buf_put_u8(out, '{');
	for (size_t i = 0; list[i]; i += 2) {
		if (i > 0)
			buf_put_u8(out, ',');
		buf_put_json_str(out, span_str(list[i]));
		buf_put_u8(out, ':');
		buf_put_json_str(out, span_str(list[i + 1]));
	}
	buf_put_u8(out, '}');
}

static void put_text(struct buf *out, const char *key, const char *value)
{
	buf_printf(out, ",\"%s\":", key);
	buf_put_json_str(out, span_str(value));
}

void image_config_put(struct buf *out, const struct image_config *c)
{
	buf_put_str(out, "{\"env\":");
	put_list(out, c->env);
	buf_put_str(out, ",\"entrypoint\":");
	put_list(out, c->entrypoint);
	buf_put_str(out, ",\"cmd\":");
	put_list(out, c->cmd);
	buf_put_str(out, ",\"labels\":");
	put_pairs(out, c->labels);
	put_text(out, "user", c->user);
	put_text(out, "workdir", c->workdir);
	put_text(out, "stop_signal", c->stop_signal);
	buf_put_u8(out, '}');
}

void image_meta_put(struct buf *out, const struct image_meta *m)
{
	buf_printf(out, "{\"format\":%d", META_FORMAT);
	put_text(out, "id", m->id);
	put_text(out, "kind", m->kind);
	put_text(out, "architecture", m->architecture);
	put_text(out, "os", m->os);
	put_text(out, "created", m->created);
	buf_put_str(out, ",\"config\":");
	image_config_put(out, &m->config);
	buf_put_str(out, ",\"layers\":");
	put_list(out, m->layers);
	buf_put_str(out, ",\"names\":");
	put_list(out, m->names);
	if (m->registries[0]) { /* else it is spelled as those of before are */
		buf_put_str(out, ",\"registries\":");
		put_list(out, m->registries);
	}
	buf_printf(out, ",\"unpacked_bytes\":%llu,\"disk_bytes\":%llu,\"entries\":%llu}\n",
	           (unsigned long long)m->unpacked_bytes, (unsigned long long)m->disk_bytes,
	           (unsigned long long)m->entries);
}

const char *image_label(const struct image_config *c, const char *key)
{
	for (size_t i = 0; c->labels[i]; i += 2)
		if (strcmp(c->labels[i], key) == 0)
			return c->labels[i + 1];
	return NULL;
}

/* Lays the texts behind the list, so that one free() takes both. */
static int copy_list(const char *const *from, const char ***ret, struct err *e)
{
	size_t count = 0;
	size_t bytes = 0;
	const char **list;
	char *at;

	for (; from[count]; count++)
		bytes += strlen(from[count]) + 1;
	list = malloc((count + 1) * sizeof(*list) + bytes);
	if (!list)
		return err_set(e, -ENOMEM, "out of memory");
	at = (char *)(list + count + 1);
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(from[i]) + 1;

		memcpy(at, from[i], len);
		list[i] = at;
		at += len;
	}
	list[count] = NULL;
	*ret = list;
	return 0;
}

int image_warm(const struct image_config *c, const char ***ret, struct err *e)
{
	const char *text = image_label(c, "berm.warm");
	_own_(json_decref) json_t *doc = NULL;
	_own_(json_decref) json_t *holder = NULL;
	_own_free_ const char **list = NULL;
	int r;

	if (!text) {
		*ret = NULL;
		return 0;
	}
	r = json_load(span_str(text), IMAGE_STRING_MAX, "the label berm.warm", &doc, e);
	if (r < 0)
		return r;
	holder = json_pack("{s:O}", "berm.warm", doc);
	if (!holder)
		return err_set(e, -ENOMEM, "out of memory");
	r = json_get_list(holder, "berm.warm", IMAGE_WARM_MAX, &list, e);
	return r < 0 ? r : copy_list(list, ret, e);
}
