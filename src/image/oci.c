#include "image/oci.h"

#include "image/ref.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OFFERS_TEXT_MAX = 300 }; /* of what an archive holds, in a message */

/* Walking the documents of one archive. */
struct walk {
	struct job *job;
	struct source *source;
	const char *select;
	struct oci_image *image;
};

void oci_image_free(struct oci_image *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->layer_count; i++)
		free(o->layers[i].blob);
	for (size_t i = 0; i < o->name_count; i++)
		free((void *)(uintptr_t)o->names[i]);
	image_meta_free(o->meta);
	free(o);
}

/* Keeps a name the archive has for its image, if it is one. */
static int add_name(struct oci_image *o, const char *name, struct err *e)
{
	char storage[IMAGE_NAME_MAX + 1];
	struct buf b;
	char *copy;

	buf_init(&b, storage, sizeof(storage));
	ref_put_canonical(&b, span_str(name));
	if (b.len == 0 || !buf_ok(&b) || o->name_count >= IMAGE_NAMES_MAX)
		return 0;
	for (size_t i = 0; i < o->name_count; i++)
		if (span_equal(span_str(o->names[i]), buf_span(&b)))
			return 0;
	copy = strdup(buf_cstr(&b));
	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	o->names[o->name_count++] = copy;
	return 0;
}

static bool same_name(const char *a, const char *b)
{
	char storage[2][IMAGE_NAME_MAX + 1];
	struct buf out[2];

	buf_init(&out[0], storage[0], sizeof(storage[0]));
	buf_init(&out[1], storage[1], sizeof(storage[1]));
	ref_put_canonical(&out[0], span_str(a));
	ref_put_canonical(&out[1], span_str(b));
	return out[0].len > 0 && buf_ok(&out[0]) && buf_ok(&out[1]) &&
	       span_equal(buf_span(&out[0]), buf_span(&out[1]));
}

/* Reads a document whose digest is known. want NULL: take it as it is. */
static int read_doc(struct walk *w, struct span name, const char *want, const char *what,
                    json_t **ret, char ret_digest[IMAGE_ID_LEN + 1], struct err *e)
{
	char digest[IMAGE_ID_LEN + 1];
	_own_free_ char *text = NULL;
	size_t len;
	int r = source_read(w->source, name, IMAGE_JSON_MAX, &text, &len, e);

	if (r == -ENOENT)
		return err_set(e, -EBADMSG, "%s is missing from the archive: '%.*s'", what,
		               name.len < 200 ? (int)name.len : 200, (const char *)name.at);
	if (r == 0)
		r = digest_bytes(text, len, digest, e);
	if (r < 0)
		return r;
	if (want && strcmp(want, digest) != 0)
		return err_set(e, -EBADMSG, "%s is sha256:%.12s..., not sha256:%.12s... as it says",
		               what, digest, want);
	r = json_load(span_of(text, len), IMAGE_JSON_MAX, what, ret, e);
	if (r < 0)
		return r;
	if (ret_digest)
		memcpy(ret_digest, digest, sizeof(digest));
	return 0;
}

/* A descriptor's digest as hex and as the name of its blob. */
static int read_descriptor(const json_t *d, char ret_hex[IMAGE_ID_LEN + 1], struct buf *ret_name,
                           struct err *e)
{
	const char *digest;
	int r = json_get_text(d, "digest", &digest, e);

	if (r == 0)
		r = source_blob_name(span_str(digest), ret_name, e);
	if (r == 0)
		memcpy(ret_hex, digest + 7, IMAGE_ID_LEN + 1);
	return r;
}

/* --- the config --- */

/* Drops what would be refused in image.json, saying so: such images exist and run elsewhere. */
static void mend_config(struct job *j, struct image_config *c, const char **env)
{
	size_t to = 0;

	for (size_t i = 0; env[i]; i++) {
		const char *eq = strchr(env[i], '=');

		if (eq && eq != env[i])
			env[to++] = env[i];
		else
			job_warn(j, "environment: '%.60s' is not NAME=VALUE; it is left out",
			         env[i]);
	}
	env[to] = NULL;
	if (c->workdir[0] != '\0' && c->workdir[0] != '/') {
		job_warn(j, "working directory '%.100s' is not absolute; '/' is taken", c->workdir);
		c->workdir = "/";
	}
}

static const char *const *keep(struct image_meta *m, const char **list)
{
	m->lists[m->list_count++] = list;
	return list;
}

static int parse_run(struct job *j, struct image_meta *m, const json_t *o, struct err *e)
{
	struct image_config *c = &m->config;
	const char **env = NULL;
	const char **list;
	int r;

	if (o && !json_is_null(o) && !json_is_object(o))
		return err_set(e, -EBADMSG, "config: 'config' is not an object");
	r = json_get_list(o, "Env", IMAGE_ENV_MAX, &env, e);
	if (r == 0)
		c->env = keep(m, env);
	if (r == 0)
		r = json_get_list(o, "Entrypoint", IMAGE_ARGS_MAX, &list, e);
	if (r == 0)
		c->entrypoint = keep(m, list);
	if (r == 0)
		r = json_get_list(o, "Cmd", IMAGE_ARGS_MAX, &list, e);
	if (r == 0)
		c->cmd = keep(m, list);
	if (r == 0)
		r = json_get_pairs(o, "Labels", IMAGE_LABELS_MAX, &list, e);
	if (r == 0)
		c->labels = keep(m, list);
	if (r == 0)
		r = json_get_text(o, "User", &c->user, e);
	if (r == 0)
		r = json_get_text(o, "WorkingDir", &c->workdir, e);
	if (r == 0)
		r = json_get_text(o, "StopSignal", &c->stop_signal, e);
	if (r < 0)
		return r;
	mend_config(j, c, env);
	return image_config_check(c, e);
}

/* "sha256:<hex>" to "<hex>", in place: the texts are the document's, and live as long. */
static int parse_diff_ids(struct image_meta *m, const json_t *doc, size_t *ret_count, struct err *e)
{
	const char **ids;
	size_t count = 0;
	int r = json_get_list(json_object_get(doc, "rootfs"), "diff_ids", IMAGE_LAYERS_MAX, &ids,
	                      e);

	if (r < 0)
		return r;
	m->layers = keep(m, ids);
	for (; ids[count]; count++) {
		struct span hex = span_str(ids[count]);

		if (hex.len != 7 + IMAGE_ID_LEN || memcmp(hex.at, "sha256:", 7) != 0 ||
		    strspn(ids[count] + 7, "0123456789abcdef") != IMAGE_ID_LEN)
			return err_set(e, -EBADMSG, "config: a diff id is no sha256");
		ids[count] += 7;
	}
	*ret_count = count;
	return 0;
}

int oci_parse_config(struct job *j, struct oci_image *o, json_t *doc, struct err *e)
{
	struct image_meta *m = calloc(1, sizeof(*m));
	int r;

	if (!m) {
		json_decref(doc);
		return err_set(e, -ENOMEM, "out of memory");
	}
	m->doc = doc;
	o->meta = m;
	if (!json_is_object(doc))
		return err_set(e, -EBADMSG, "the config is not an object");
	r = json_get_text(doc, "architecture", &m->architecture, e);
	if (r == 0)
		r = json_get_text(doc, "os", &m->os, e);
	if (r == 0)
		r = json_get_text(doc, "created", &m->created, e);
	if (r == 0 && (strcmp(m->architecture, "amd64") != 0 || strcmp(m->os, "linux") != 0))
		return err_set(e, -ENOTSUP,
		               "this image is for %.40s/%.40s; this machine runs linux/amd64",
		               m->os[0] ? m->os : "an unnamed system",
		               m->architecture[0] ? m->architecture : "an unnamed processor");
	if (r == 0)
		r = parse_run(j, m, json_object_get(doc, "config"), e);
	if (r == 0)
		r = parse_diff_ids(m, doc, &o->layer_count, e);
	m->names = o->names;
	return r;
}

static int load_config(struct walk *w, struct span name, const char *want, size_t layers,
                       struct err *e)
{
	struct oci_image *o = w->image;
	json_t *doc;
	int r = read_doc(w, name, want, "the image's config", &doc, o->config_digest, e);

	if (r == 0)
		r = oci_parse_config(w->job, o, doc, e);
	if (r == 0 && o->layer_count != layers)
		return err_set(e, -EBADMSG, "the manifest has %zu layers and the config %zu",
		               layers, o->layer_count);
	return r;
}

static int set_layer(struct oci_image *o, size_t i, const char *blob, const char *digest,
                     struct err *e)
{
	o->layers[i].blob = strdup(blob);
	if (!o->layers[i].blob)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(o->layers[i].digest, digest, strlen(digest) + 1);
	return 0;
}

/* --- OCI --- */

static int load_manifest(struct walk *w, const json_t *doc, struct err *e)
{
	const json_t *layers = json_object_get(doc, "layers");
	size_t count = json_array_size(layers);
	char storage[128];
	char hex[IMAGE_ID_LEN + 1];
	struct buf name;
	int r;

	if (!json_is_array(layers) || !json_is_object(json_object_get(doc, "config")))
		return err_set(e, -EBADMSG, "a manifest without config or layers");
	if (count > IMAGE_LAYERS_MAX)
		return err_set(e, -E2BIG, "more than %d layers", IMAGE_LAYERS_MAX);
	buf_init(&name, storage, sizeof(storage));
	r = read_descriptor(json_object_get(doc, "config"), hex, &name, e);
	if (r == 0)
		r = load_config(w, buf_span(&name), hex, count, e);
	for (size_t i = 0; r == 0 && i < count; i++) {
		buf_reset(&name);
		r = read_descriptor(json_array_get(layers, i), hex, &name, e);
		if (r == 0)
			r = set_layer(w->image, i, buf_cstr(&name), hex, e);
	}
	return r;
}

enum fit { FIT_NO, FIT_UNSAID, FIT_YES };

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static enum fit platform_fit(const json_t *row)
{
	const json_t *p = json_object_get(row, "platform");

	if (!json_is_object(p))
		return FIT_UNSAID;
	return strcmp(text_of(p, "os"), "linux") == 0 &&
	                       strcmp(text_of(p, "architecture"), "amd64") == 0
	               ? FIT_YES
	               : FIT_NO;
}

static const char *row_name(const json_t *row)
{
	const json_t *notes = json_object_get(row, "annotations");
	const char *name = text_of(notes, "io.containerd.image.name");

	return *name ? name : text_of(notes, "org.opencontainers.image.ref.name");
}

/* What the rows of an index are for, for a message. */
static void put_offers(struct buf *out, const json_t *rows, bool names)
{
	size_t i;
	const json_t *row;

	json_array_foreach (rows, i, row) {
		const json_t *p = json_object_get(row, "platform");
		char text[128];
		struct buf one;

		buf_init(&one, text, sizeof(text));
		if (names)
			buf_put_str(&one, row_name(row));
		else
			buf_printf(&one, "%.40s/%.40s", text_of(p, "os"),
			           text_of(p, "architecture"));
		if (!buf_ok(&one) || one.len == 0)
			continue;
		if (out->len > 0)
			buf_put_str(out, ", ");
		buf_put_span(out, buf_span(&one));
	}
}

/* The one row of an index to follow. */
static int choose(const struct walk *w, const json_t *rows, unsigned depth, const json_t **ret,
                  struct err *e)
{
	char text[OFFERS_TEXT_MAX];
	const json_t *best = NULL;
	enum fit best_fit = FIT_NO;
	unsigned ties = 0;
	struct buf offers;
	const json_t *row;
	size_t i;

	json_array_foreach (rows, i, row) {
		enum fit fit = platform_fit(row);

		if (fit == FIT_NO ||
		    (depth == 0 && w->select && !same_name(w->select, row_name(row))))
			continue;
		if (fit > best_fit) {
			best = row;
			best_fit = fit;
			ties = 0;
		} else if (fit == best_fit &&
		           strcmp(text_of(row, "digest"), text_of(best, "digest")) != 0) {
			ties++;
		}
	}
	buf_init(&offers, text, sizeof(text));
	if (!best) {
		bool by_name = depth == 0 && w->select;

		put_offers(&offers, rows, by_name);
		return err_set(e, by_name ? -ENOEXEC : -ENOTSUP,
		               by_name ? "no image '%.100s' for linux/amd64 in the archive; it "
		                         "has: %s"
		                       : "%.0sthis image is for %s; this machine runs linux/amd64",
		               w->select ? w->select : "", buf_cstr(&offers));
	}
	/* within one image several rows of a platform are its variants, the plainest first */
	if (ties > 0 && depth == 0) {
		put_offers(&offers, rows, true);
		return err_set(e, -ENOEXEC,
		               "the archive holds several images (%s); choose one with --select",
		               buf_cstr(&offers));
	}
	*ret = best;
	return 0;
}

static int load_index(struct walk *w, const json_t *index, struct err *e)
{
	_own_(json_decref) json_t *doc = NULL;
	const json_t *here = index;

	for (unsigned depth = 0; depth < IMAGE_INDEX_DEPTH_MAX; depth++) {
		const json_t *rows = json_object_get(here, "manifests");
		char storage[128];
		char hex[IMAGE_ID_LEN + 1];
		const json_t *row = NULL;
		json_t *next = NULL;
		struct buf name;
		int r;

		if (!json_is_array(rows))
			return depth == 0 ? err_set(e, -EBADMSG, "index.json has no manifests")
			                  : load_manifest(w, here, e);
		if (json_array_size(rows) > IMAGE_MANIFESTS_MAX)
			return err_set(e, -E2BIG, "an index of more than %d manifests",
			               IMAGE_MANIFESTS_MAX);
		buf_init(&name, storage, sizeof(storage));
		r = choose(w, rows, depth, &row, e);
		if (r == 0 && (strchr(row_name(row), '/') || strchr(row_name(row), ':')))
			r = add_name(w->image, row_name(row), e);
		if (r == 0)
			r = read_descriptor(row, hex, &name, e);
		if (r == 0)
			r = read_doc(w, buf_span(&name), hex, "a manifest", &next, NULL, e);
		if (r < 0)
			return r;
		json_decref(doc);
		doc = next;
		here = doc;
	}
	return json_is_array(json_object_get(here, "manifests"))
	               ? err_set(e, -E2BIG, "indexes nest deeper than %d", IMAGE_INDEX_DEPTH_MAX)
	               : load_manifest(w, here, e);
}

/* --- docker save --- */

/* The digest in a name such as "<hex>.json" or "blobs/sha256/<hex>", or NULL. */
static const char *digest_in_name(const char *name, char storage[IMAGE_ID_LEN + 1])
{
	const char *base = strrchr(name, '/');

	base = base ? base + 1 : name;
	if (strspn(base, "0123456789abcdef") != IMAGE_ID_LEN ||
	    (strcmp(base + IMAGE_ID_LEN, ".json") != 0 && base[IMAGE_ID_LEN] != '\0'))
		return NULL;
	memcpy(storage, base, IMAGE_ID_LEN);
	storage[IMAGE_ID_LEN] = '\0';
	return storage;
}

static bool has_tag(const json_t *row, const char *name)
{
	const json_t *tag;
	size_t i;

	json_array_foreach (json_object_get(row, "RepoTags"), i, tag) {
		if (json_is_string(tag) && same_name(json_string_value(tag), name))
			return true;
	}
	return false;
}

static int choose_docker(const struct walk *w, const json_t *rows, const json_t **ret,
                         struct err *e)
{
	size_t count = json_array_size(rows);
	const json_t *row;
	size_t i;

	if (!json_is_array(rows) || count == 0)
		return err_set(e, -EBADMSG, "manifest.json lists no image");
	if (count > IMAGE_MANIFESTS_MAX)
		return err_set(e, -E2BIG, "more than %d images in one archive",
		               IMAGE_MANIFESTS_MAX);
	if (!w->select && count == 1) {
		*ret = json_array_get(rows, 0);
		return 0;
	}
	if (!w->select)
		return err_set(e, -ENOEXEC,
		               "the archive holds %zu images; choose one with --select NAME",
		               count);
	json_array_foreach (rows, i, row) {
		if (has_tag(row, w->select)) {
			*ret = row;
			return 0;
		}
	}
	return err_set(e, -ENOEXEC, "no image '%.100s' in the archive", w->select);
}

static int load_docker(struct walk *w, const json_t *rows, struct err *e)
{
	_own_free_ const char **layers = NULL;
	_own_free_ const char **tags = NULL;
	char hex[IMAGE_ID_LEN + 1];
	const json_t *row = NULL;
	const char *config;
	size_t count = 0;
	int r = choose_docker(w, rows, &row, e);

	if (r == 0)
		r = json_get_text(row, "Config", &config, e);
	if (r == 0)
		r = json_get_list(row, "Layers", IMAGE_LAYERS_MAX, &layers, e);
	if (r == 0)
		r = json_get_list(row, "RepoTags", IMAGE_NAMES_MAX, &tags, e);
	for (size_t i = 0; r == 0 && tags[i]; i++)
		r = add_name(w->image, tags[i], e);
	while (r == 0 && layers[count])
		count++;
	if (r == 0)
		r = load_config(w, span_str(config), digest_in_name(config, hex), count, e);
	/* a layer named by a digest is checked twice; the diff id alone would do */
	for (size_t i = 0; r == 0 && i < count; i++)
		r = set_layer(w->image, i, layers[i], "", e);
	return r;
}

int oci_load(struct job *j, struct source *s, const char *select, struct oci_image **ret,
             struct err *e)
{
	_own_(oci_image_free) struct oci_image *o = calloc(1, sizeof(*o));
	struct walk w = { .job = j, .source = s, .select = select, .image = o };
	_own_(json_decref) json_t *doc = NULL;
	struct blob found;
	bool docker;
	int r;

	if (!o)
		return err_set(e, -ENOMEM, "out of memory");
	docker = source_kind(s) == SOURCE_ARCHIVE &&
	         source_find(s, span_str("manifest.json"), &found, NULL) == 0;
	if (docker)
		r = read_doc(&w, span_str("manifest.json"), NULL, "manifest.json", &doc, NULL, e);
	else
		r = read_doc(&w, span_str("index.json"), NULL, "index.json", &doc, NULL, e);
	if (r == 0)
		r = docker ? load_docker(&w, doc, e) : load_index(&w, doc, e);
	if (r != 0)
		return r;
	o->meta->kind = docker ? "docker-archive" : "oci";
	*ret = steal_ptr(&o);
	return 0;
}
