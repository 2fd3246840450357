/*
 * The balloon under anything a guest does, over a private mapping of a template or over shared
 * memory, as the input's last byte says; the others are virtio_fuzz.h's.
 *
 * Checked besides: the template's bytes, of which the guest has overwritten every one before the
 * device was made, never come back.
 */
#include "virtio_fuzz.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
	int template_fd, shared_fd;
	bool shared, mapped;
	uint8_t *ram;
	uint8_t page[GUEST_PAGE_BYTES]; /* of the template: all are the same */
	uint8_t kept[VFUZZ_RAM_BYTES];
};

/* Puts a file behind the guest's memory, whose bytes stay. */
static void back_with_file(struct memory *m, uint8_t *ram)
{
	int flags = MAP_FIXED | (m->shared ? MAP_SHARED : MAP_PRIVATE);
	void *got;

	memcpy(m->kept, ram, VFUZZ_RAM_BYTES);
	got = mmap(ram, VFUZZ_RAM_BYTES, PROT_READ | PROT_WRITE, flags,
	           m->shared ? m->shared_fd : m->template_fd, 0);
	assert(got == ram);
	memcpy(ram, m->kept, VFUZZ_RAM_BYTES);
	m->ram = ram;
	m->mapped = true;
}

static int make_balloon(void *arg, const struct virtio_place *at, struct virtio_dev **ret,
                        struct err *e)
{
	struct memory *m = arg;
	struct balloon_config c = { .mem_private = !m->shared };

	if (!m->mapped)
		back_with_file(m, at->mem->slots[0].base);
	return balloon_new(at, &c, ret, e);
}

static void own(void *arg, struct vfuzz *v, struct span *in)
{
	const struct memory *m = arg;
	struct balloon_counts c;
	uint32_t pages;

	balloon_get_counts(v->dev, &c);
	assert(c.maps <= c.dropped_pages + c.kept_pages);
	assert(!m->shared || c.maps == 0);
	assert(c.target_pages <= VFUZZ_RAM_BYTES / GUEST_PAGE_BYTES);
	if (in && take_le32(in, &pages))
		balloon_set_target(v->dev, pages);
}

static void open_files(struct memory *m)
{
	m->template_fd = memfd_create("template", MFD_CLOEXEC);
	m->shared_fd = memfd_create("ram", MFD_CLOEXEC);
	if (ftruncate(m->shared_fd, VFUZZ_RAM_BYTES) < 0)
		abort();
	for (unsigned i = 0; i < sizeof(m->page); i++)
		m->page[i] = (uint8_t)(i * 131 + i / 256 * 17 + 0x5d);
	for (off_t at = 0; at < VFUZZ_RAM_BYTES; at += (off_t)sizeof(m->page))
		if (pwrite(m->template_fd, m->page, sizeof(m->page), at) < 0)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct memory m = { .template_fd = -1 };
	struct vfuzz_target t = { .make = make_balloon, .own = own, .arg = &m };

	if (m.template_fd < 0)
		open_files(&m);
	m.shared = size > 0 && (data[size - 1] & 1) != 0;
	m.mapped = false;
	vfuzz_run(&t, span_of(data, size));
	/* whole pages: a fuzzer that watches comparisons puts a page's beginning into the image */
	for (unsigned at = 0; at < VFUZZ_RAM_BYTES; at += GUEST_PAGE_BYTES)
		assert(memcmp(m.ram + at, m.page, GUEST_PAGE_BYTES) != 0);
	return 0;
}
