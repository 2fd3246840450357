/*
 * registries: where an image's package managers are set up to get packages from.
 *
 * Hostile   the files: whoever made the image wrote them. What is found are names of hosts, no more
 * Shape     HOST or HOST:PORT, lower case, of the http and https URLs that stand in the files of
 *           registries_parse_path(); lines that are comments are passed over
 * Source    sources.list(5), pip's, npm's, yarn's, uv's, Go's, Cargo's, gem's, bundler's, apk's
 *           and yum's pages about their configuration
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "image/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Pure: does a package manager read this file? A path as image_path_parse() leaves it. */
bool registries_parse_path(struct span path);

/*
 * Pure: the next host, spelled as in the text. False: there is no more of them. An address, a
 * wildcard and whatever else is no host's name is passed over.
 */
_must_ bool registries_take_host(struct span *text, struct span *ret_host);

/* Pure: HOST or HOST:PORT in lower case, as they are stored? */
bool registries_parse_ok(struct span host);

/* The hosts of one image, and the file that is being read. */
struct registries {
	unsigned count;
	char hosts[IMAGE_REGISTRIES_MAX][IMAGE_REGISTRY_MAX + 1];
	const char *list[IMAGE_REGISTRIES_MAX + 1]; /* NULL-ended */
	bool reading;
	size_t len;
	uint8_t text[IMAGE_REGISTRY_FILE_MAX];
};

/* A file's content: begin, data at offsets, end. Other files cost nothing. */
void registries_begin(struct registries *r, struct span path, uint64_t size);
void registries_data(struct registries *r, uint64_t off, struct span data);
void registries_end(struct registries *r);
