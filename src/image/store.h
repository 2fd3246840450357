/*
 * store: images on disk, by id and by name.
 *
 *   images/<id>/disk.sqfs      what the guest's root is made of; read-only
 *   images/<id>/image.json     struct image_meta
 *   images/names/<escaped>     the id a name stands for
 *   images/.staging-<salt>/    an import in the making, locked by whoever makes it
 *   images/.trash-<salt>/      an image being removed
 *   images/.lock               held (flock) while one of the above changes its name
 *
 * The user's store is searched first, then the installed one, which is never written. A directory's
 * own flock says that it is in use: shared by sandboxes, exclusive by an import. There is no index.
 *
 * Hostile   what berm-unpack wrote and says: it has been reading hostile bytes
 * Errors    -ENOENT: no such image; -EEXIST: a prefix that is not unique; -EBUSY: in use; and for
 *           an import the codes of image_fail_of_code()
 * Threads   one caller at a time per struct; processes may share the directories freely
 */
#pragma once

#include "image/meta.h"
#include "image/report.h"

#include <stdbool.h>

struct image_store;

/*
 * state_fd     the state directory, borrowed; its images/ is made on first use. -1: none, and then
 *              only the installed store is read
 * share_path   PREFIX/share/berm; an images/ there is optional
 */
_must_ int image_store_open(int state_fd, const char *share_path, struct image_store **ret,
                            struct err *e);
void image_store_free(struct image_store *s);
OWN_DEFINE(struct image_store, image_store_free)

/* An image in use: while the struct, or a copy of one of its fds, lives, nobody removes it. */
struct image {
	struct image_meta *meta;
	int disk_fd;    /* O_RDONLY, flock(LOCK_SH) */
	int lock_fd;    /* the image's directory, flock(LOCK_SH) */
	bool installed; /* in the read-only store */
};

/*
 * ref: a name, an id, or a prefix of an id that is unique. -ENOENT says how to get one, -EEXIST
 * which images begin so.
 */
_must_ int image_open(struct image_store *s, const char *ref, struct image **ret, struct err *e);
void image_free(struct image *i);
OWN_DEFINE(struct image, image_free)

/* --- import (store_import.c) --- */

struct image_import {
	const char *unpack_path; /* libexec/berm/berm-unpack */
	int archive_fd;          /* a file, a pipe, or an OCI layout's directory; borrowed */
	int config_fd;           /* for a plain tar; -1: none */
	const char *name;        /* NULL: the names the archive has */
	const char *select;      /* NULL: the archive's only image */
	uint64_t unpacked_max;   /* 0: IMAGE_UNPACKED_BYTES_DEFAULT */
	/* Progress and warnings; text in a report is hostile. May be NULL. */
	void (*on_report)(void *arg, const struct report *r);
	void *arg;
};

/*
 * Imports, or finds that the image is there already (ret_known). On failure nothing is left.
 * ret_id: IMAGE_ID_LEN + 1 bytes.
 */
_must_ int image_import(struct image_store *s, const struct image_import *im, char *ret_id,
                        bool *ret_known, struct err *e);

/* The class of an import's error code, for exit codes. */
enum image_fail image_fail_of_code(int code);

/* --- names, listing, removal (store_names.c) --- */

struct image_row {
	struct image_meta *meta; /* NULL: damaged */
	char id[IMAGE_ID_LEN + 1];
	char **names; /* NULL-ended */
	uint64_t imported_ns;
	bool installed, in_use;
};

struct image_list {
	struct image_row *rows; /* newest first */
	size_t count;
};

_must_ int image_list(struct image_store *s, struct image_list **ret, struct err *e);
void image_list_free(struct image_list *l);
OWN_DEFINE(struct image_list, image_list_free)

/* Gives an image of either store a name in the user's, taking it from another if need be. */
_must_ int image_name_set(struct image_store *s, const char *name, const char *id, struct err *e);

/* The names an image has, NULL-ended; each and the list are freed by image_names_free(). */
_must_ int image_names_of(struct image_store *s, const char *id, char ***ret, struct err *e);
void image_names_free(char **names);

enum image_removed { IMAGE_REMOVED_NAME, IMAGE_REMOVED };

/*
 * By name: drops the name, and the image with its last one. By id: drops the image if it has no
 * name. -EBUSY: names are in the way; -ETXTBSY: sandboxes that live; force removes all the same (a
 * guest that runs keeps its disk until it ends). -EROFS: in the installed store.
 */
_must_ int image_remove(struct image_store *s, const char *ref, bool force, enum image_removed *ret,
                        struct err *e);

/* Removes images that have no name and are not in use; ret_bytes: what that freed. */
_must_ int image_prune(struct image_store *s, unsigned *ret_images, uint64_t *ret_bytes,
                       struct err *e);

/* Removes what dead imports and removals left. Quick when there is nothing. */
void image_store_sweep(struct image_store *s);
