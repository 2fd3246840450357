/*
 * meta: what an image says about itself, and how the store keeps it: image.json.
 *
 * Hostile   the image's author chose every text; berm-unpack wrote the file. Both are judged here
 * Shape     one JSON object, keys in a fixed order, no spaces: the same image gives the same bytes
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "image/limits.h"

#include <stdint.h>

enum { META_FORMAT = 1 };

/* How commands are run in the image. Lists are NULL-ended and never NULL; texts may be "". */
struct image_config {
	const char *const *env; /* NAME=VALUE */
	const char *const *entrypoint;
	const char *const *cmd;
	const char *const *labels; /* key, value, key, value ..., sorted by key */
	const char *user;          /* "", NAME, UID, NAME:GROUP or UID:GID */
	const char *workdir;       /* "" or absolute */
	const char *stop_signal;
};

struct image_meta {
	char id[IMAGE_ID_LEN + 1];
	struct image_config config;
	const char *architecture, *os;
	const char *created;       /* as the image has it, "" if it does not say */
	const char *kind;          /* "docker-archive", "oci", "rootfs" */
	const char *const *layers; /* sha256 of each unpacked layer, bottom first */
	const char *const *names;  /* what the archive calls it, valid names only */
	/* hosts that its package managers are set up to use: registries.h. Not part of the id */
	const char *const *registries;
	uint64_t unpacked_bytes, disk_bytes, entries;
	/* -- owned memory behind the texts -- */
	void *doc;
	void *lists[8];
	unsigned list_count;
};

/*
 * Strict: every key present (but for registries where there are none), none other, all within
 * limits.h. Free with image_meta_free().
 */
_must_ int image_meta_parse(struct span json, struct image_meta **ret, struct err *e);
void image_meta_free(struct image_meta *m);
OWN_DEFINE(struct image_meta, image_meta_free)

void image_meta_put(struct buf *out, const struct image_meta *m);

/* The config alone, in the same form: part of a root file system's id. */
void image_config_put(struct buf *out, const struct image_config *c);

/*
 * A config a person wrote, for a tar that has none: the keys env, entrypoint, cmd, user, workdir,
 * labels, stop_signal, all optional. `keep` receives what must live as long as the config.
 */
_must_ int image_config_parse(struct span json, struct image_meta *keep, struct err *e);

/* Judges texts that go on to the guest: NAME=VALUE, absolute paths, no control characters in names.
 */
_must_ int image_config_check(const struct image_config *c, struct err *e);

/* The value of a label, or NULL. */
const char *image_label(const struct image_config *c, const char *key);

/*
 * The label berm.warm: a JSON list of shell commands that are run before a template is saved.
 * ret is NULL-ended, one allocation that the caller frees; NULL when the label is absent.
 */
_must_ int image_warm(const struct image_config *c, const char ***ret, struct err *e);
