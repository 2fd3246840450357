/*
 * The console under anything a guest and its host do. The first byte says whether a host is there
 * when the device is made; VFUZZ_DEVICE is host.h's, or another host, or none. Beside what
 * virtio_fuzz.h checks: once a host has ended or failed its socket is left alone.
 */
#include "host.h"
#include "virtio/console.h"

#include <assert.h>
#include <fcntl.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct setup {
	int log_fd;
	bool with_host;
};

static int make_console(void *arg, const struct virtio_place *at, struct virtio_dev **ret,
                        struct err *e)
{
	const struct setup *s = arg;
	struct console_config c = { .log_fd = s->log_fd, .agent_fd = -1 };

	host_reset();
	if (s->with_host)
		c.agent_fd = HOST_FD;
	return console_new(at, &c, ret, e);
}

/* A saved state of its own, as a hostile file has it, into a console nobody uses. */
static void try_load(void *arg, const struct vfuzz *v, struct span *in)
{
	struct virtio_place at = { .mem = &v->mem, .loop = v->loop, .irq_fd = -1 };
	struct virtio_dev *dev = NULL;
	struct err e = { 0 };
	int r = make_console(arg, &at, &dev, &e);

	assert(r == 0);
	r = dev->ops->load(dev->self, *in, &e);
	assert(r == 0 || (r < 0 && e.len > 0));
	virtio_dev_free(dev);
	*in = span_of(NULL, 0);
}

static void play(void *arg, struct vfuzz *v, struct span *in)
{
	uint8_t what;

	if (!in) {
		host_turn();
	} else if (in->len > 0 && (in->at[0] & 0xf0) == 0xe0) {
		(void)!take_u8(in, &what);
		try_load(arg, v, in);
		return; /* the host is not the device's any more */
	} else if (in->len > 0 && in->at[0] >= 0xf0 && take_u8(in, &what)) {
		host_reset();
		if (console_set_agent(v->dev, what & 1 ? HOST_FD : -1, NULL) < 0)
			assert(false);
		assert(console_has_agent(v->dev) == (what & 1));
	} else {
		host_play(v, in);
	}
	host.gone = !console_has_agent(v->dev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int pipe_ends[2] = { -1, -1 };
	struct setup s = { .with_host = size == 0 || (data[0] & 1) == 0 };
	struct vfuzz_target t = { .make = make_console, .own = play, .arg = &s };

	if (pipe_ends[0] < 0 && pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return 0;
	s.log_fd = pipe_ends[1];
	vfuzz_run(&t, span_of(data + (size > 0), size - (size > 0)));
	assert(host_watches() == 0);
	return 0;
}
