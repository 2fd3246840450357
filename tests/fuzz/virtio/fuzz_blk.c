/*
 * The block device under anything a guest does.
 *
 * The input's last byte says how the device is made; the others are virtio_fuzz.h's. The target's
 * own operation cuts the file short, and mends it, so that requests fail half-way. Checked besides:
 * the file keeps its length, and its content if the disk is read-only.
 */
#include "virtio_fuzz.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	DISK_BYTES = 64 << 10,
	CUT_BYTES = 20 * 512 + 100,
	READ_ONLY = 1,
	WITH_RING = 2,
};

struct disk {
	int fd;
	bool read_only, ring;
	bool cut; /* now */
	uint8_t want[DISK_BYTES];
	uint8_t got[DISK_BYTES];
};

static void mend(struct disk *d)
{
	int r = ftruncate(d->fd, DISK_BYTES);

	assert(r == 0);
	if (pwrite(d->fd, d->want, DISK_BYTES, 0) != DISK_BYTES)
		abort();
	d->cut = false;
}

static int make_blk(void *arg, const struct virtio_place *at, struct virtio_dev **ret,
                    struct err *e)
{
	struct disk *d = arg;
	struct blk_config c = {
		.fd = d->fd,
		.read_only = d->read_only,
		.serial = "fuzz",
		.no_ring = !d->ring,
	};

	if (d->cut)
		mend(d); /* a saved disk is there again with all its bytes */
	return blk_new(at, &c, ret, e);
}

static void own(void *arg, struct vfuzz *v, struct span *in)
{
	struct disk *d = arg;
	uint8_t how = 0;
	int r;

	(void)v;
	if (!in || !take_u8(in, &how))
		return;
	if (how % 2 == 0 && !d->cut) {
		r = ftruncate(d->fd, CUT_BYTES);
		assert(r == 0);
		d->cut = true;
	} else if (d->cut) {
		mend(d);
	}
}

static void check(struct disk *d)
{
	off_t end = lseek(d->fd, 0, SEEK_END);

	assert(d->cut || end == DISK_BYTES);
	if (d->cut || !d->read_only) {
		mend(d);
		return;
	}
	if (pread(d->fd, d->got, DISK_BYTES, 0) != DISK_BYTES)
		abort();
	assert(memcmp(d->got, d->want, DISK_BYTES) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct disk d = { .fd = -1 }; /* made once; each input finds it whole */
	struct vfuzz_target t = { .make = make_blk, .own = own, .arg = &d };
	uint8_t how = size > 0 ? data[size - 1] : 0;

	if (d.fd < 0) {
		d.fd = memfd_create("disk", MFD_CLOEXEC);
		for (unsigned i = 0; i < DISK_BYTES; i++)
			d.want[i] = (uint8_t)(i / 512 + i);
		mend(&d);
	}
	d.read_only = (how & READ_ONLY) != 0;
	d.ring = (how & WITH_RING) != 0;
	vfuzz_run(&t, span_of(data, size));
	check(&d);
	return 0;
}
