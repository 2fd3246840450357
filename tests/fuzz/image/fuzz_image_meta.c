/*
 * image.json as a captured berm-unpack would leave it, and a person's config: what is taken is
 * written canonically, and that reads the same.
 */
#include "image/meta.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_MAX = 1 << 20 };

static void check_again(const struct image_meta *m)
{
	struct image_meta *again = NULL;
	uint8_t *first = malloc(OUT_MAX);
	uint8_t *second = malloc(OUT_MAX);
	struct buf a;
	struct buf b;

	assert(first && second);
	buf_init(&a, first, OUT_MAX);
	buf_init(&b, second, OUT_MAX);
	image_meta_put(&a, m);
	if (buf_ok(&a)) {
		assert(image_meta_parse(buf_span(&a), &again, NULL) == 0);
		image_meta_put(&b, again);
		assert(span_equal(buf_span(&a), buf_span(&b)));
	}
	image_meta_free(again);
	free(first);
	free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct image_meta *person = calloc(1, sizeof(*person));
	struct image_meta *m = NULL;
	const char **warm = NULL;

	assert(person);
	if (image_meta_parse(in, &m, NULL) == 0) {
		check_again(m);
		if (image_warm(&m->config, &warm, NULL) == 0)
			free(warm);
	} else {
		assert(!m);
	}
	(void)image_config_parse(in, person, NULL);
	image_meta_free(person);
	image_meta_free(m);
	return 0;
}
