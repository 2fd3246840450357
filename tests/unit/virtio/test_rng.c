#include "virtio_driver.h"

#include "failalloc.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static void start(struct vdriver *d)
{
	struct virtio_place at;
	struct virtio_dev *dev = NULL;
	struct err e;

	vdriver_init(d);
	at = vdriver_place(d);
	CHECK_OK(rng_new(&at, &dev, &e), &e);
	vdriver_start(d, dev);
}

TEST(fills_what_it_says_and_no_more)
{
	struct vdriver d;
	struct vbuf b = { .len = 64, .writable = true };
	const uint8_t *bytes;
	unsigned zeros = 0;

	start(&d);
	CHECK(vdriver_probe(&d, VIRTIO_F_EVENT_IDX, 0));
	b.at = vdriver_alloc(&d, 128, 1);
	CHECK_EQ(vdriver_request(&d, 0, &b, 1), 64);
	bytes = vdriver_at(&d, b.at, 128);
	for (unsigned i = 0; i < 64; i++)
		zeros += bytes[i] == 0;
	CHECK(zeros < 16); /* 64 random bytes with 16 zeros: never */
	for (unsigned i = 64; i < 128; i++)
		CHECK_EQ(bytes[i], 0);
	vdriver_fini(&d);
}

TEST(gives_at_most_a_kilobyte_over_any_segments)
{
	struct vdriver d;
	struct vbuf b[3] = { { .len = 1000, .writable = true },
		             { .len = 0, .writable = true },
		             { .len = 1000, .writable = true } };

	start(&d);
	CHECK(vdriver_probe(&d, 0, 0));
	for (unsigned i = 0; i < 3; i++)
		b[i].at = vdriver_alloc(&d, 1000, 1);
	CHECK_EQ(vdriver_request(&d, 0, b, 3), 1024);
	b[0].len = 0;
	CHECK_EQ(vdriver_request(&d, 0, b, 1), 0);
	vdriver_fini(&d);
}

TEST(answers_differ)
{
	struct vdriver d;
	struct vbuf b = { .len = 32, .writable = true };
	uint8_t last[32] = { 0 };

	start(&d);
	CHECK(vdriver_probe(&d, VIRTIO_F_EVENT_IDX, 0));
	b.at = vdriver_alloc(&d, 32, 1);
	for (unsigned i = 0; i < 1000; i++) {
		CHECK_EQ(vdriver_request(&d, 0, &b, 1), 32);
		CHECK(memcmp(last, vdriver_at(&d, b.at, 32), 32) != 0);
		memcpy(last, vdriver_at(&d, b.at, 32), 32);
	}
	vdriver_fini(&d);
}

TEST(a_request_with_bytes_for_us_is_refused)
{
	struct vdriver d;
	struct vbuf b[2] = { { .len = 8 }, { .len = 8, .writable = true } };
	uint16_t head;
	uint32_t len;

	start(&d);
	CHECK(vdriver_probe(&d, 0, 0));
	b[0].at = b[1].at = vdriver_alloc(&d, 8, 1);
	(void)vdriver_add(&d, 0, b, 2);
	vdriver_kick(&d, 0);
	CHECK(vdriver_wait_needs_reset(&d));
	CHECK(!vdriver_used(&d, 0, &head, &len));

	CHECK(vdriver_probe(&d, 0, 0));
	CHECK_EQ(vdriver_request(&d, 0, &b[1], 1), 8);
	vdriver_fini(&d);
}

TEST(more_requests_than_places_in_a_turn)
{
	struct vdriver d;
	struct vbuf b = { .len = 16, .writable = true };
	uint16_t head;
	uint32_t len;

	start(&d);
	CHECK(vdriver_probe(&d, 0, 8));
	b.at = vdriver_alloc(&d, 16, 1);
	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = 0; i < 8; i++)
			(void)vdriver_add(&d, 0, &b, 1);
		vdriver_kick(&d, 0);
		for (unsigned i = 0; i < 8; i++) {
			CHECK(vdriver_wait_used(&d, 0, &head, &len));
			CHECK_EQ(head, i);
			CHECK_EQ(len, 16);
		}
	}
	vdriver_fini(&d);
}

TEST(no_memory_is_an_error_and_no_leak)
{
	struct vdriver d;
	struct virtio_place at;
	struct err e;

	vdriver_init(&d);
	at = vdriver_place(&d);
	FAILALLOC_EACH()
	{
		struct virtio_dev *dev = NULL;
		int r = rng_new(&at, &dev, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!dev);
		} else {
			CHECK_OK(r, &e);
			virtio_dev_free(dev);
		}
	}
	vdriver_fini(&d);
}

TEST_MAIN()
