#include "virtio/mmio.h"

#include "base/ck.h"
#include "virtio/mmio_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * This file is what a vCPU thread does: it decodes one access, with the lock held, and judges it
 * by the status register. Nothing here reaches a queue that is in use: the registers are notes the
 * driver leaves, and mmio_activate() copies them, on the loop's thread, when the driver says that
 * they are complete. From then on they cannot be written before the next reset.
 *
 *	status       may be written
 *	0            status
 *	ACK          status
 *	DRIVER       status, features, configuration
 *	FEATURES_OK  status, queues, configuration
 *	DRIVER_OK    status, QueueNotify, configuration
 *
 * The selectors and InterruptACK may be written always. FAILED and NEEDS_RESET leave those, the
 * status' way back to 0, and nothing else.
 */

enum {
	STEPS = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK,
	STOPPED = STATUS_FAILED | STATUS_NEEDS_RESET,
};

static void unlock_scope(pthread_mutex_t **lock)
{
	(void)pthread_mutex_unlock(*lock);
}

/* Held to the end of the scope. */
static pthread_mutex_t *take_lock(struct mmio *m)
{
	(void)pthread_mutex_lock(&m->lock); /* neither recursive nor robust: it cannot fail */
	return &m->lock;
}

static void refuse(struct mmio *m)
{
	m->refused_writes++;
}

static uint32_t half(uint64_t v, uint32_t high)
{
	if (high > 1)
		return 0;
	return (uint32_t)(v >> (32 * high));
}

static void set_half(uint64_t *v, uint32_t high, uint32_t to)
{
	uint64_t other = high ? *v & UINT32_MAX : *v & ~(uint64_t)UINT32_MAX;

	*v = other | (uint64_t)to << (32 * high);
}

/* -- registers, read ------------------------------------------------------------------------------
 */

static uint32_t read_reg(struct mmio *m, uint32_t off)
{
	const struct virtio_dev *dev = &m->dev;
	bool queue = m->queue_sel < dev->queue_count;

	switch (off) {
	case MMIO_MAGIC:
		return MMIO_MAGIC_VALUE;
	case MMIO_VERSION:
		return MMIO_VERSION_VALUE;
	case MMIO_DEVICE_ID:
		return dev->ops->type;
	case MMIO_VENDOR_ID:
		return MMIO_VENDOR_VALUE;
	case MMIO_DEVICE_FEATURES:
		return half(dev->offered, m->device_features_sel);
	case MMIO_QUEUE_NUM_MAX:
		return queue ? dev->queues[m->queue_sel].size_max : 0;
	case MMIO_QUEUE_READY:
		return queue ? m->regs[m->queue_sel].ready : 0;
	case MMIO_INTERRUPT_STATUS:
		return atomic_load(&m->dev.isr);
	case MMIO_STATUS:
		return m->status;
	case MMIO_SHM_LEN_LOW:
	case MMIO_SHM_LEN_HIGH:
	case MMIO_SHM_BASE_LOW:
	case MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case MMIO_CONFIG_GENERATION:
		return m->generation;
	default:
		return 0;
	}
}

static bool config_access(const struct mmio *m, uint32_t off, uint32_t len)
{
	return (len == 1 || len == 2 || len == 4 || len == 8) &&
	       ck_range(off, len, m->dev.config_bytes);
}

void virtio_mmio_read(struct virtio_dev *dev, uint32_t off, void *ret, uint32_t len)
{
	struct mmio *m = mmio_of(dev);
	_own_(unlock) pthread_mutex_t *held = take_lock(m);

	memset(ret, 0, len);
	if (off >= MMIO_CONFIG) {
		if (dev->ops->read_config && config_access(m, off - MMIO_CONFIG, len))
			dev->ops->read_config(dev->self, off - MMIO_CONFIG, ret, len);
	} else if (len == 4 && off % 4 == 0) {
		uint32_t v = htole32(read_reg(m, off));

		memcpy(ret, &v, sizeof(v));
	}
}

/* -- registers, written ---------------------------------------------------------------------------
 */

static void activate_job(void *arg)
{
	mmio_activate(arg);
}

static void reset_job(void *arg)
{
	mmio_reset(arg);
}

/* The bit that may follow `have`: none does a device that failed or broke. */
static uint32_t next_step(uint32_t have)
{
	switch (have) {
	case 0:
		return STATUS_ACKNOWLEDGE;
	case STATUS_ACKNOWLEDGE:
		return STATUS_DRIVER;
	case STATUS_ACKNOWLEDGE | STATUS_DRIVER:
		return STATUS_FEATURES_OK;
	case STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK:
		return STATUS_DRIVER_OK;
	default:
		return 0;
	}
}

/* Drivers read the status and write it back with one bit more. */
static void write_status(struct mmio *m, uint32_t v)
{
	uint32_t now = m->status;
	uint32_t add = v & ~now;

	if (v == 0) {
		loop_call(m->dev.loop, reset_job, m);
		return;
	}
	if ((v & now & ~(uint32_t)STATUS_NEEDS_RESET) != (now & ~(uint32_t)STATUS_NEEDS_RESET)) {
		refuse(m); /* takes a bit away */
		return;
	}
	if (add == STATUS_FAILED) {
		m->status |= STATUS_FAILED;
		return;
	}
	if (add == 0)
		return;
	if (add != next_step(now)) {
		refuse(m);
		return;
	}
	if (add == STATUS_FEATURES_OK && ((m->driver_features & ~m->dev.offered) != 0 ||
	                                  (m->driver_features & VIRTIO_F_VERSION_1) == 0))
		return; /* the driver reads it back and sees that the bit did not stay */
	if (add == STATUS_DRIVER_OK)
		loop_call(m->dev.loop, activate_job, m);
	else
		m->status |= add;
}

static void write_features(struct mmio *m, uint32_t v)
{
	if (m->status != (STATUS_ACKNOWLEDGE | STATUS_DRIVER) || m->driver_features_sel > 1)
		refuse(m);
	else
		set_half(&m->driver_features, m->driver_features_sel, v);
}

/* Queue registers: between FEATURES_OK and DRIVER_OK, and then only while the queue is not ready.
 */
static void write_queue(struct mmio *m, uint32_t off, uint32_t v)
{
	uint32_t when = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
	struct mmio_queue *q;

	if (m->status != when || m->queue_sel >= m->dev.queue_count) {
		refuse(m);
		return;
	}
	q = &m->regs[m->queue_sel];
	if (off == MMIO_QUEUE_READY ? v > 1 : q->ready != 0) {
		refuse(m);
		return;
	}
	switch (off) {
	case MMIO_QUEUE_NUM:
		q->num = v;
		break;
	case MMIO_QUEUE_READY:
		q->ready = v;
		break;
	case MMIO_QUEUE_DESC_LOW:
	case MMIO_QUEUE_DESC_HIGH:
		set_half(&q->desc, off == MMIO_QUEUE_DESC_HIGH, v);
		break;
	case MMIO_QUEUE_DRIVER_LOW:
	case MMIO_QUEUE_DRIVER_HIGH:
		set_half(&q->driver, off == MMIO_QUEUE_DRIVER_HIGH, v);
		break;
	default:
		set_half(&q->device, off == MMIO_QUEUE_DEVICE_HIGH, v);
		break;
	}
}

/*
 * The way a kick goes when no ioeventfd caught it. In a machine every queue has one, so it is a
 * queue that does not exist; tests, which have no KVM, kick this way.
 */
static void write_notify(struct mmio *m, uint32_t v)
{
	if (m->status != STEPS || v >= m->dev.queue_count)
		refuse(m);
	else
		virtio_again(&m->dev, v);
}

static void write_reg(struct mmio *m, uint32_t off, uint32_t v)
{
	switch (off) {
	case MMIO_DEVICE_FEATURES_SEL:
		m->device_features_sel = v;
		break;
	case MMIO_DRIVER_FEATURES_SEL:
		m->driver_features_sel = v;
		break;
	case MMIO_DRIVER_FEATURES:
		write_features(m, v);
		break;
	case MMIO_QUEUE_SEL:
		m->queue_sel = v;
		break;
	case MMIO_QUEUE_NUM:
	case MMIO_QUEUE_READY:
	case MMIO_QUEUE_DESC_LOW:
	case MMIO_QUEUE_DESC_HIGH:
	case MMIO_QUEUE_DRIVER_LOW:
	case MMIO_QUEUE_DRIVER_HIGH:
	case MMIO_QUEUE_DEVICE_LOW:
	case MMIO_QUEUE_DEVICE_HIGH:
		write_queue(m, off, v);
		break;
	case MMIO_QUEUE_NOTIFY:
		write_notify(m, v);
		break;
	case MMIO_INTERRUPT_ACK:
		atomic_fetch_and(&m->dev.isr, ~v);
		break;
	case MMIO_STATUS:
		write_status(m, v);
		break;
	default:
		refuse(m);
		break;
	}
}

struct config_write {
	const struct virtio_dev *dev;
	uint32_t off;
	const void *data;
	uint32_t len;
};

static void config_job(void *arg)
{
	const struct config_write *w = arg;

	w->dev->ops->write_config(w->dev->self, w->off, w->data, w->len);
}

static void write_config(struct mmio *m, uint32_t off, const void *data, uint32_t len)
{
	struct config_write w = { .dev = &m->dev, .off = off, .data = data, .len = len };

	if (!m->dev.ops->write_config || !config_access(m, off, len) ||
	    (m->status & STATUS_DRIVER) == 0 || (m->status & STOPPED) != 0)
		refuse(m);
	else
		loop_call(m->dev.loop, config_job, &w);
}

void virtio_mmio_write(struct virtio_dev *dev, uint32_t off, const void *data, uint32_t len)
{
	struct mmio *m = mmio_of(dev);
	_own_(unlock) pthread_mutex_t *held = take_lock(m);
	uint32_t v;

	if (off >= MMIO_CONFIG) {
		write_config(m, off - MMIO_CONFIG, data, len);
	} else if (len != sizeof(v) || off % 4 != 0) {
		refuse(m);
	} else {
		memcpy(&v, data, sizeof(v));
		write_reg(m, off, le32toh(v));
	}
}
