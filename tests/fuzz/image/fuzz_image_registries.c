/*
 * Configuration files of package managers: a path, a newline, the file. What is found is always a
 * host as image.json takes it, and it stands in the file.
 */
#include "image/registries.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct registries *r = calloc(1, sizeof(*r));
	struct span in = span_of(data, size);
	struct span path = { 0 };
	struct span rest;
	struct span host;
	unsigned found = 0;

	assert(r);
	(void)!take_until(&in, '\n', &path);
	registries_begin(r, path, in.len);
	registries_data(r, 0, in);
	registries_end(r);
	assert(r->count == 0 || registries_parse_path(path));
	for (unsigned i = 0; i < r->count; i++)
		assert(registries_parse_ok(span_str(r->list[i])));
	for (rest = in; registries_take_host(&rest, &host); found++)
		assert(memmem(in.at, in.len, host.at, host.len) && host.len <= IMAGE_REGISTRY_MAX);
	assert(rest.len == 0 && r->count <= found);
	free(r);
	return 0;
}
