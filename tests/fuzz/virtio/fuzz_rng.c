/* The entropy device under anything a guest does. */
#include "virtio_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int make_rng(void *arg, const struct virtio_place *at, struct virtio_dev **ret,
                    struct err *e)
{
	(void)arg;
	return rng_new(at, ret, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vfuzz_target t = { .make = make_rng };

	vfuzz_run(&t, span_of(data, size));
	return 0;
}
