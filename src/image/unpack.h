/*
 * unpack: one import job, from an archive to disk.sqfs and image.json in a staging directory.
 *
 * Runs in berm-unpack, jailed. What it writes is judged again by the store (store_import.c).
 */
#pragma once

#include "image/job.h"

/* The fds berm-unpack is started with. */
enum {
	UNPACK_FD_ARCHIVE = 3,
	UNPACK_FD_STAGING = 4,
	UNPACK_FD_REPORT = 5,
	UNPACK_FD_CONFIG = 6, /* only with --config */
	UNPACK_FD_COUNT = 7,
};

struct unpack {
	int archive_fd, staging_fd;
	int config_fd;      /* -1: none */
	const char *select; /* NULL: the archive holds one image */
};

/* On success the report's last line is "done ID"; on failure the caller says why. */
_must_ int unpack_run(struct job *j, const struct unpack *u, struct err *e);
