/*
 * oci: from the documents of an image archive to its config and the blobs of its layers.
 *
 * Hostile   manifest.json, index.json, manifests and configs; their digests are checked as they are
 *           read, so what is believed is what the outermost document named
 * Errors    -ENOTSUP: for another architecture; -EBADMSG: not as the specification has it, or a
 *           digest that does not match; -EPERM, -E2BIG: as in source.h and limits.h
 * Source    image-spec v1.1 (index, manifest, config); moby image-spec v1.2 for manifest.json
 */
#pragma once

#include "image/json.h"
#include "image/meta.h"
#include "image/source.h"

struct oci_layer {
	char *blob;                    /* the member that holds it */
	char digest[IMAGE_ID_LEN + 1]; /* "" when only the diff id is known */
};

struct oci_image {
	struct image_meta *meta; /* all but id, sizes and entries; layers are the diff ids */
	char config_digest[IMAGE_ID_LEN + 1];
	struct oci_layer layers[IMAGE_LAYERS_MAX]; /* bottom first, as many as meta->layers */
	size_t layer_count;
	const char *names[IMAGE_NAMES_MAX + 1]; /* behind meta->names; owned */
	size_t name_count;
};

/* `select`: the name of one image of several, or NULL. */
_must_ int oci_load(struct job *j, struct source *s, const char *select, struct oci_image **ret,
                    struct err *e);
void oci_image_free(struct oci_image *o);
OWN_DEFINE(struct oci_image, oci_image_free)

/* The config document alone, into o->meta: the part a fuzzer can reach. `doc` is taken. */
_must_ int oci_parse_config(struct job *j, struct oci_image *o, json_t *doc, struct err *e);
