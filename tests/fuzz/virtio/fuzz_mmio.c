/* The transport under anything a guest does, over a device that has all a transport deals with. */
#include "virtio_fake.h"
#include "virtio_fuzz.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of two devices one is left when a machine moves. */
struct fakes {
	struct fake f[2];
	unsigned made;
};

static int make_fake(void *arg, const struct virtio_place *at, struct virtio_dev **ret,
                     struct err *e)
{
	struct fakes *all = arg;
	struct fake *f = &all->f[all->made++ % 2];

	*f = (struct fake){ 0 };
	return fake_new(f, at->mem, at->loop, at->irq_fd, ret, e);
}

static void own(void *arg, struct vfuzz *v, struct span *in)
{
	struct fakes *all = arg;
	struct fake *f = &all->f[(all->made + 1) % 2];
	uint8_t what;

	if (!in || !take_u8(in, &what))
		return;
	if (what % 4 == 0)
		virtio_broken(v->dev, "the input says so");
	else if (what % 4 == 1)
		virtio_config_changed(v->dev);
	else
		fake_finish(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fakes all = { 0 };
	struct vfuzz_target t = { .make = make_fake, .own = own, .arg = &all };

	vfuzz_run(&t, span_of(data, size));
	return 0;
}
