#include "image/unpack.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "image/layer.h"
#include "image/oci.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ID_TEXT_MAX = 128 + IMAGE_LAYERS_MAX * 96,
	LAYER_NAME_MAX = 40,
};

struct build {
	struct job *job;
	const struct unpack *args;
	struct tree *tree;
	struct squash *squash;
	struct registries *registries;
	int disk_fd;
	uint64_t disk_bytes;
};

static void build_fini(struct build *b)
{
	squash_free(b->squash);
	tree_free(b->tree);
	free(b->registries);
	if (b->disk_fd >= 0)
		(void)close(b->disk_fd);
}

static int build_init(struct build *b, struct job *j, const struct unpack *u, struct err *e)
{
	uint64_t seed[2];
	int r;

	*b = (struct build){ .job = j, .args = u, .disk_fd = -1 };
	b->registries = calloc(1, sizeof(*b->registries));
	if (!b->registries)
		return err_set(e, -ENOMEM, "out of memory");
	random_bytes(seed, sizeof(seed));
	r = fd_open_beneath(u->staging_fd, "disk.sqfs", O_RDWR | O_CREAT | O_EXCL, 0600, 0,
	                    &b->disk_fd, e);
	if (r == 0)
		r = squash_new(b->disk_fd, &b->squash, e);
	if (r == 0)
		r = tree_new(seed, &b->tree, e);
	return r;
}

static int write_meta(struct build *b, const struct image_meta *m, struct err *e)
{
	_own_free_ uint8_t *storage = malloc(IMAGE_STORED_JSON_MAX);
	_own_fd_ int fd = -1;
	struct buf out;
	int r;

	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&out, storage, IMAGE_STORED_JSON_MAX);
	image_meta_put(&out, m);
	if (!buf_ok(&out))
		return err_set(e, -E2BIG, "the image's config is larger than %d MiB",
		               IMAGE_STORED_JSON_MAX >> 20);
	r = fd_open_beneath(b->args->staging_fd, "image.json", O_WRONLY | O_CREAT | O_EXCL, 0600, 0,
	                    &fd, e);
	if (r == 0)
		r = fd_write_all(fd, out.at, out.len, e);
	if (r == 0 && fsync(fd) < 0)
		r = err_sys(e, "write image.json to disk");
	return r;
}

/* All layers are in: tables, then what the store needs to know. */
static int finish(struct build *b, struct image_meta *m, struct err *e)
{
	int r;

	job_progress(b->job);
	job_phase(b->job, "write");
	r = tree_finish(b->tree, e);
	if (r == 0)
		r = squash_finish(b->squash, b->tree, &b->disk_bytes, e);
	if (r < 0)
		return r;
	m->unpacked_bytes = b->job->out_bytes;
	m->disk_bytes = b->disk_bytes;
	m->entries = tree_inode_count(b->tree);
	m->registries = b->registries->list;
	r = write_meta(b, m, e);
	if (r == 0)
		job_say_id(b->job, REPORT_DONE, m->id);
	return r;
}

/* --- an image of layers --- */

/* The id names the config and the unpacked layers, so how they were packed does not matter. */
static int oci_id(struct oci_image *o, struct err *e)
{
	char text[ID_TEXT_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	buf_printf(&b, "berm image 1\nconfig %s\n", o->config_digest);
	for (size_t i = 0; i < o->layer_count; i++)
		buf_printf(&b, "layer %s\n", o->meta->layers[i]);
	return digest_bytes(b.at, b.len, o->meta->id, e);
}

static int apply_layer(struct build *b, struct source *s, struct oci_image *o, size_t i,
                       struct err *e)
{
	const struct oci_layer *from = &o->layers[i];
	char name[LAYER_NAME_MAX];
	struct layer l = { .number = (int16_t)i,
		           .whiteouts = true,
		           .name = name,
		           .digest = from->digest[0] ? from->digest : NULL,
		           .diff_id = o->meta->layers[i],
		           .registries = b->registries };
	int r = source_find(s, span_str(from->blob), &l.blob, e);

	(void)snprintf(name, sizeof(name), "layer %zu of %zu", i + 1, o->layer_count);
	if (r == -ENOENT)
		return err_set(e, -EBADMSG, "%s is missing from the archive: '%.200s'", name,
		               from->blob);
	if (r == 0 && source_kind(s) == SOURCE_LAYOUT_DIR)
		b->job->in_total += l.blob.size;
	return r < 0 ? r : layer_apply(b->job, &l, b->tree, b->squash, NULL, e);
}

static int unpack_layers(struct build *b, struct source *s, struct err *e)
{
	_own_(oci_image_free) struct oci_image *o = NULL;
	int r;

	if (b->args->config_fd >= 0)
		return err_set(e, -EINVAL,
		               "this archive has a config of its own; --config is for a plain tar "
		               "of files");
	r = oci_load(b->job, s, b->args->select, &o, e);
	if (r == 0)
		r = oci_id(o, e);
	if (r < 0)
		return r;
	job_say_id(b->job, REPORT_ID, o->meta->id);
	job_phase(b->job, "unpack");
	for (size_t i = o->layer_count; r == 0 && i > 0; i--)
		r = apply_layer(b, s, o, i - 1, e);
	return r < 0 ? r : finish(b, o->meta, e);
}

/* --- a plain root file system --- */

static int rootfs_id(struct image_meta *m, const char *plain, struct err *e)
{
	_own_free_ uint8_t *storage = malloc(IMAGE_STORED_JSON_MAX);
	char config[IMAGE_ID_LEN + 1];
	char text[ID_TEXT_MAX];
	struct buf b;
	int r;

	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, storage, IMAGE_STORED_JSON_MAX);
	image_config_put(&b, &m->config);
	if (!buf_ok(&b))
		return err_set(e, -E2BIG, "the config is larger than %d MiB",
		               IMAGE_STORED_JSON_MAX >> 20);
	r = digest_bytes(b.at, b.len, config, e);
	if (r < 0)
		return r;
	buf_init(&b, text, sizeof(text));
	buf_printf(&b, "berm image 1\nrootfs %s\nconfig %s\n", plain, config);
	return digest_bytes(b.at, b.len, m->id, e);
}

static int rootfs_config(const struct build *b, struct image_meta *m, struct err *e)
{
	static const char fallback[] =
		"{\"env\":[\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"],"
		"\"cmd\":[\"/bin/sh\"]}";
	_own_free_ char *text = NULL;
	size_t len = 0;
	int r;

	if (b->args->config_fd < 0)
		return image_config_parse(span_str(fallback), m, e);
	r = fd_read_text(b->args->config_fd, IMAGE_JSON_MAX, &text, &len, e);
	if (r == 0)
		r = image_config_parse(span_of(text, len), m, e);
	return r < 0 ? err_wrap(e, "--config") : 0;
}

static int unpack_rootfs(struct build *b, struct source *s, struct err *e)
{
	_own_(image_meta_free) struct image_meta *m = calloc(1, sizeof(*m));
	const struct layer l = { .blob = source_rootfs(s),
		                 .name = "the archive",
		                 .registries = b->registries };
	static const char *const no_names[] = { NULL };
	char plain[IMAGE_ID_LEN + 1];
	const char *layers[] = { plain, NULL };
	int r;

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	if (b->args->select)
		return err_set(e, -ENOEXEC, "a plain tar of files holds no named images");
	r = rootfs_config(b, m, e);
	if (r < 0)
		return r;
	job_phase(b->job, "unpack");
	r = layer_apply(b->job, &l, b->tree, b->squash, plain, e);
	if (r == 0)
		r = rootfs_id(m, plain, e);
	if (r < 0)
		return r;
	m->architecture = "amd64";
	m->os = "linux";
	m->created = "";
	m->kind = "rootfs";
	m->layers = layers;
	m->names = no_names;
	return finish(b, m, e);
}

int unpack_run(struct job *j, const struct unpack *u, struct err *e)
{
	_own_(source_free) struct source *s = NULL;
	struct build b = { .disk_fd = -1 };
	int r;

	job_phase(j, "read");
	r = source_open(j, u->archive_fd, u->staging_fd, &s, e);
	if (r == 0)
		r = build_init(&b, j, u, e);
	if (r == 0)
		r = source_kind(s) == SOURCE_ROOTFS ? unpack_rootfs(&b, s, e)
		                                    : unpack_layers(&b, s, e);
	build_fini(&b);
	return r;
}
