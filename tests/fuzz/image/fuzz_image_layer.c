/*
 * Two layers as tars of any bytes, the first half of the input above the second, merged and written
 * to a disk. Whatever they are, it ends in an image or in an error with a text.
 */
#include "base/fdio.h"
#include "image/layer.h"

#include <assert.h>
#include <locale.h>
#include <stdlib.h>
#include <sys/mman.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	(void)setlocale(LC_CTYPE, "C.UTF-8");
	return 0;
}

static int apply(struct job *j, struct tree *t, struct squash *s, int16_t number, struct blob b,
                 struct err *e)
{
	const struct layer l = {
		.blob = b, .number = number, .whiteouts = true, .name = "a layer"
	};

	return layer_apply(j, &l, t, s, NULL, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint64_t seed[2] = { 1, 2 };
	int in = memfd_create("in", MFD_CLOEXEC);
	int out = memfd_create("out", MFD_CLOEXEC);
	struct blob top = { .fd = in, .size = size / 1024 * 512 };
	struct blob low = { .fd = in, .off = top.size, .size = size - top.size };
	struct squash *s = NULL;
	struct tree *t = NULL;
	struct err e = { 0 };
	uint64_t bytes = 0;
	struct job j;
	int r;

	assert(in >= 0 && out >= 0 && fd_write_all(in, data, size, NULL) == 0);
	job_init(&j, -1, 4 << 20);
	if (tree_new(seed, &t, &e) < 0 || squash_new(out, &s, &e) < 0)
		abort();
	r = top.size > 0 ? apply(&j, t, s, 1, top, &e) : 0;
	if (r == 0 && low.size > 0)
		r = apply(&j, t, s, 0, low, &e);
	if (r == 0)
		r = tree_finish(t, &e);
	if (r == 0)
		r = squash_finish(s, t, &bytes, &e);
	if (r < 0)
		assert(e.code < 0 && e.len > 0);
	else
		assert(bytes > 0 && bytes % 4096 == 0);
	squash_free(s);
	tree_free(t);
	(void)close(in);
	(void)close(out);
	return 0;
}
