#include "base/log.h"
#include "virtio/mmio.h"
#include "virtio/mmio_internal.h"

#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/*
 * Theory of operation
 *
 * The transport's other half: what happens on the loop's thread, where the device lives. A kick is
 * a readable eventfd, whoever wrote it: KVM for the guest's store (ioeventfd), the vCPU thread
 * that got the store as an exit, or virtio_again(). An interrupt is a bit of the interrupt status,
 * then a write to the eventfd KVM turns into the line (irqfd). The bit comes first, so a driver
 * that takes the interrupt at once finds it.
 */

static void ring(int fd)
{
	/* full, which takes 2^64-2 writes nobody read: it is readable then, too */
	(void)!eventfd_write(fd, 1);
}

void mmio_interrupt(struct mmio *m, uint32_t bits)
{
	atomic_fetch_or(&m->dev.isr, bits);
	m->interrupts++;
	if (m->dev.irq_fd >= 0)
		ring(m->dev.irq_fd);
}

/* -- the device's side ----------------------------------------------------------------------------
 */

void virtio_notify(struct virtio_dev *dev, struct virtqueue *q)
{
	if (virtqueue_wants_interrupt(q))
		mmio_interrupt(mmio_of(dev), ISR_USED);
}

void virtio_config_changed(struct virtio_dev *dev)
{
	struct mmio *m = mmio_of(dev);

	m->generation++;
	if ((m->status & STATUS_DRIVER_OK) != 0)
		mmio_interrupt(m, ISR_CONFIG);
}

void virtio_again(struct virtio_dev *dev, unsigned queue)
{
	assert(queue < dev->queue_count);
	ring(mmio_of(dev)->kick[queue].fd);
}

static void kill_queues(struct virtio_dev *dev)
{
	for (unsigned i = 0; i < dev->queue_count; i++)
		dev->queues[i].ready = false;
}

static void say_broken(struct mmio *m, const char *why)
{
	if (m->broken_lines >= VIRTIO_BROKEN_LINES)
		return;
	m->broken_lines++;
	log_warn("virtio-%s: the guest's driver broke the rules: %s%s", m->dev.ops->name, why,
	         m->broken_lines == VIRTIO_BROKEN_LINES ? " (not said again)" : "");
}

void virtio_broken(struct virtio_dev *dev, const char *why)
{
	struct mmio *m = mmio_of(dev);

	if (dev->broken)
		return;
	dev->broken = true;
	kill_queues(dev);
	m->broken++;
	m->status |= STATUS_NEEDS_RESET;
	say_broken(m, why);
	virtio_config_changed(dev);
}

/* -- kicks ----------------------------------------------------------------------------------------
 */

static void serve_queue(struct mmio *m, unsigned i)
{
	if (m->active && !m->paused && m->dev.queues[i].ready && m->dev.ops->kick)
		m->dev.ops->kick(m->dev.self, i);
}

static void on_kick(void *arg, uint32_t events)
{
	const struct mmio_kick *k = arg;
	eventfd_t unused;

	(void)events;
	/* before the queue is looked at: what the driver adds later makes it readable anew */
	if (eventfd_read(k->fd, &unused) < 0)
		return;
	k->mmio->kicks++;
	serve_queue(k->mmio, k->index);
}

void virtio_poll_kicks(struct virtio_dev *dev)
{
	struct mmio *m = mmio_of(dev);

	for (unsigned i = 0; i < dev->queue_count; i++)
		on_kick(&m->kick[i], EPOLLIN);
}

int virtio_kick_fd(const struct virtio_dev *dev, unsigned queue)
{
	assert(queue < dev->queue_count);
	return mmio_of(dev)->kick[queue].fd;
}

/* -- DRIVER_OK and reset --------------------------------------------------------------------------
 */

bool mmio_freeze_queues(struct mmio *m)
{
	struct virtio_dev *dev = &m->dev;
	bool event_idx = (m->driver_features & VIRTIO_F_EVENT_IDX) != 0;
	bool indirect = (m->driver_features & VIRTIO_F_INDIRECT_DESC) != 0;

	for (unsigned i = 0; i < dev->queue_count; i++) {
		const struct mmio_queue *r = &m->regs[i];
		struct virtqueue *q = &dev->queues[i];

		if (!r->ready)
			continue;
		if (r->num > QUEUE_SIZE_MAX)
			return false;
		q->size = (uint16_t)r->num;
		q->desc = gpa_of(r->desc);
		q->avail = gpa_of(r->driver);
		q->used = gpa_of(r->device);
		q->event_idx = event_idx;
		q->indirect = indirect;
		if (!virtqueue_valid(q))
			return false;
	}
	for (unsigned i = 0; i < dev->queue_count; i++)
		dev->queues[i].ready = m->regs[i].ready != 0;
	return true;
}

void mmio_begin(struct mmio *m)
{
	struct virtio_dev *dev = &m->dev;

	dev->accepted = m->driver_features;
	m->reset_due = true;
	if (dev->ops->activate && dev->ops->activate(dev->self, dev) < 0) {
		virtio_broken(dev, "the device cannot work with its queues");
		return;
	}
	m->active = true;
	for (unsigned i = 0; i < dev->queue_count; i++)
		if (dev->queues[i].ready)
			virtio_again(dev, i); /* filled before we looked */
}

void mmio_activate(struct mmio *m)
{
	m->status |= STATUS_DRIVER_OK;
	if (mmio_freeze_queues(m))
		mmio_begin(m);
	else
		virtio_broken(&m->dev, "a queue's size or address is none");
}

static void clear_queue(struct virtio_dev *dev, unsigned i)
{
	uint16_t size_max = dev->queues[i].size_max;

	dev->queues[i] = (struct virtqueue){ .size_max = size_max, .mem = dev->mem };
}

void mmio_reset(struct mmio *m)
{
	struct virtio_dev *dev = &m->dev;

	/* the queues live until the device has let go of them */
	if (m->reset_due && dev->ops->reset)
		dev->ops->reset(dev->self);
	m->reset_due = false;
	m->active = false;
	for (unsigned i = 0; i < dev->queue_count; i++) {
		clear_queue(dev, i);
		m->regs[i] = (struct mmio_queue){ 0 };
	}
	m->device_features_sel = 0;
	m->driver_features_sel = 0;
	m->queue_sel = 0;
	m->driver_features = 0;
	dev->accepted = 0;
	dev->broken = false;
	atomic_store(&dev->isr, 0);
	m->status = 0;
}

/* -- making and unmaking --------------------------------------------------------------------------
 */

static int open_kick(struct mmio *m, unsigned i, struct err *e)
{
	struct mmio_kick *k = &m->kick[i];

	*k = (struct mmio_kick){ .mmio = m, .index = i };
	k->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (k->fd < 0)
		return err_sys(e, "eventfd for a queue of virtio-%s", m->dev.ops->name);
	return loop_watch(m->dev.loop, k->fd, EPOLLIN, on_kick, k, &k->watch, e);
}

static bool fits(const struct virtio_new *n)
{
	if (n->queue_count > VIRTIO_QUEUES_MAX || n->config_bytes > VIRTIO_CONFIG_MAX)
		return false;
	for (unsigned i = 0; i < n->queue_count; i++) {
		unsigned size = n->queue_sizes[i];

		if (size == 0 || size > QUEUE_SIZE_MAX || (size & (size - 1)) != 0)
			return false;
	}
	return true;
}

static struct mmio *new_mmio(const struct virtio_new *n)
{
	struct mmio *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	(void)pthread_mutex_init(&m->lock, NULL); /* without attributes it cannot fail */
	m->dev.ops = n->ops;
	m->dev.self = n->self;
	m->dev.mem = n->mem;
	m->dev.loop = n->loop;
	m->dev.offered = n->features | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX;
	m->dev.config_bytes = n->config_bytes;
	m->dev.queue_count = n->queue_count;
	m->dev.irq_fd = n->irq_fd;
	m->dev.transport = m;
	for (unsigned i = 0; i < n->queue_count; i++) {
		m->dev.queues[i].size_max = n->queue_sizes[i];
		clear_queue(&m->dev, i);
		m->kick[i].fd = -1;
	}
	return m;
}

bool virtio_lost(struct virtio_dev *dev, int code)
{
	if (dev->lost)
		dev->lost(dev->lost_arg, code);
	return dev->lost != NULL;
}

int virtio_dev_new(const struct virtio_new *n, struct virtio_dev **ret, struct err *e)
{
	_own_(virtio_dev_free) struct virtio_dev *dev = NULL;
	struct mmio *m;

	assert(fits(n)); /* ours: a device knows its own shape */
	m = new_mmio(n);
	if (!m) {
		if (n->ops->free)
			n->ops->free(n->self);
		return err_set(e, -ENOMEM, "out of memory");
	}
	dev = &m->dev;
	for (unsigned i = 0; i < n->queue_count; i++) {
		int r = open_kick(m, i, e);

		if (r < 0)
			return r;
	}
	*ret = steal_ptr(&dev);
	return 0;
}

void virtio_dev_free(struct virtio_dev *dev)
{
	struct mmio *m;

	if (!dev)
		return;
	m = mmio_of(dev);
	mmio_reset(m);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		if (m->kick[i].watch != 0)
			loop_drop(dev->loop, m->kick[i].watch);
		if (m->kick[i].fd >= 0)
			(void)close(m->kick[i].fd);
	}
	if (dev->ops->free)
		dev->ops->free(dev->self);
	(void)pthread_mutex_destroy(&m->lock);
	free(m);
}

void virtio_get_counts(const struct virtio_dev *dev, struct virtio_counts *ret)
{
	const struct mmio *m = mmio_of(dev);

	*ret = (struct virtio_counts){
		.kicks = m->kicks,
		.interrupts = m->interrupts,
		.broken = m->broken,
		.refused_writes = m->refused_writes,
	};
}
