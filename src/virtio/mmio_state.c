#include "virtio/mmio.h"
#include "virtio/mmio_internal.h"

#include <assert.h>
#include <errno.h>

/*
 * Theory of operation
 *
 * What is saved is what the driver wrote into registers, how far each queue has been read, and the
 * device's own part. A paused device holds no chain, so each queue was read as far as it was given
 * back: one number would do, and that there are two lets load tell a damaged file. Where the rings
 * stand is in guest memory, and must agree.
 *
 * load repeats what the guest once did, through the same checks: features against what is offered,
 * queues by mmio_freeze_queues(). The device itself begins at resume, so nothing happens in the
 * guest's memory before the whole machine is there.
 *
 * Shape, little endian
 *	u32 version, type, queue_count, status | u64 driver_features
 *	u32 device_features_sel, driver_features_sel, queue_sel, isr, generation
 *	a queue: u32 num, ready | u64 desc, driver, device | u16 next_avail, next_used
 *	u32 bytes, then as many of the device's own
 */

enum { SAVE_VERSION = 1 };

/* What a saved state says of a queue beside its registers. */
struct place {
	uint16_t next_avail, next_used;
};

/* -- pause and save -------------------------------------------------------------------------------
 */

void virtio_pause(struct virtio_dev *dev)
{
	struct mmio *m = mmio_of(dev);

	if (m->paused)
		return;
	m->paused = true;
	if (m->active && dev->ops->pause)
		dev->ops->pause(dev->self);
}

static void save_queue(const struct mmio *m, unsigned i, struct buf *b)
{
	const struct virtqueue *q = &m->dev.queues[i];
	const struct mmio_queue *r = &m->regs[i];

	assert(!q->ready || q->held_count == 0); /* ops->pause gave all back */
	buf_put_le32(b, r->num);
	buf_put_le32(b, r->ready);
	buf_put_le64(b, r->desc);
	buf_put_le64(b, r->driver);
	buf_put_le64(b, r->device);
	buf_put_le16(b, q->ready ? q->next_avail : 0);
	buf_put_le16(b, q->ready ? q->next_used : 0);
}

void virtio_save(const struct virtio_dev *dev, struct buf *b)
{
	const struct mmio *m = mmio_of(dev);
	uint8_t storage[VIRTIO_STATE_MAX];
	struct buf own;

	assert(m->paused);
	buf_put_le32(b, SAVE_VERSION);
	buf_put_le32(b, dev->ops->type);
	buf_put_le32(b, dev->queue_count);
	buf_put_le32(b, m->status);
	buf_put_le64(b, m->driver_features);
	buf_put_le32(b, m->device_features_sel);
	buf_put_le32(b, m->driver_features_sel);
	buf_put_le32(b, m->queue_sel);
	buf_put_le32(b, atomic_load(&m->dev.isr));
	buf_put_le32(b, m->generation);
	for (unsigned i = 0; i < dev->queue_count; i++)
		save_queue(m, i, b);

	buf_init(&own, storage, sizeof(storage));
	if (dev->ops->save)
		dev->ops->save(dev->self, &own);
	assert(buf_ok(&own)); /* ours: VIRTIO_STATE_MAX */
	buf_put_le32(b, (uint32_t)own.len);
	buf_put_span(b, buf_span(&own));
}

/* -- load -----------------------------------------------------------------------------------------
 */

/* Has the driver come as far as `steps`, and is the rest of the word possible? */
static bool status_possible(uint32_t status)
{
	switch (status & ~(uint32_t)(STATUS_FAILED | STATUS_NEEDS_RESET)) {
	case 0:
	case STATUS_ACKNOWLEDGE:
	case STATUS_ACKNOWLEDGE | STATUS_DRIVER:
	case STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK:
		return (status & STATUS_NEEDS_RESET) == 0; /* only a live device breaks */
	case STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK:
		return true;
	default:
		return false;
	}
}

static bool features_possible(const struct mmio *m)
{
	uint64_t f = m->driver_features;

	if ((m->status & STATUS_DRIVER) == 0)
		return f == 0;
	if ((m->status & STATUS_FEATURES_OK) == 0)
		return true; /* not judged yet */
	return (f & ~m->dev.offered) == 0 && (f & VIRTIO_F_VERSION_1) != 0;
}

static bool live(const struct mmio *m)
{
	return (m->status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) == STATUS_DRIVER_OK;
}

static int load_registers(struct mmio *m, struct span *in, struct err *e)
{
	const char *name = m->dev.ops->name;
	uint32_t version;
	uint32_t type;
	uint32_t count;
	uint32_t status;
	uint32_t isr;
	uint32_t generation;

	if (!take_le32(in, &version) || !take_le32(in, &type) || !take_le32(in, &count))
		return err_set(e, -EBADMSG, "virtio-%s: the saved state is cut short", name);
	if (version != SAVE_VERSION)
		return err_set(e, -EBADMSG, "virtio-%s: saved state of version %u, not %d", name,
		               version, SAVE_VERSION);
	if (type != m->dev.ops->type || count != m->dev.queue_count)
		return err_set(e, -EBADMSG,
		               "virtio-%s: the saved state is of device type %u with %u queues",
		               name, type, count);
	if (!take_le32(in, &status) || !take_le64(in, &m->driver_features) ||
	    !take_le32(in, &m->device_features_sel) || !take_le32(in, &m->driver_features_sel) ||
	    !take_le32(in, &m->queue_sel) || !take_le32(in, &isr) || !take_le32(in, &generation))
		return err_set(e, -EBADMSG, "virtio-%s: the saved state is cut short", name);
	if (!status_possible(status))
		return err_set(e, -EBADMSG, "virtio-%s: saved status 0x%x is impossible", name,
		               status);
	m->status = status;
	m->generation = generation;
	if (!features_possible(m))
		return err_set(e, -EBADMSG, "virtio-%s: saved features 0x%jx, offered are 0x%jx",
		               name, (uintmax_t)m->driver_features, (uintmax_t)m->dev.offered);
	if ((isr & ~(uint32_t)(ISR_USED | ISR_CONFIG)) != 0 ||
	    (isr != 0 && (status & STATUS_DRIVER_OK) == 0))
		return err_set(e, -EBADMSG, "virtio-%s: saved interrupt status 0x%x is impossible",
		               name, isr);
	atomic_store(&m->dev.isr, isr);
	return 0;
}

static int load_queue_registers(struct mmio *m, unsigned i, struct span *in, struct place *ret,
                                struct err *e)
{
	const char *name = m->dev.ops->name;
	struct mmio_queue *r = &m->regs[i];
	struct place at;

	if (!take_le32(in, &r->num) || !take_le32(in, &r->ready) || !take_le64(in, &r->desc) ||
	    !take_le64(in, &r->driver) || !take_le64(in, &r->device) ||
	    !take_le16(in, &at.next_avail) || !take_le16(in, &at.next_used))
		return err_set(e, -EBADMSG, "virtio-%s: the saved state is cut short", name);
	if (r->ready > 1)
		return err_set(e, -EBADMSG, "virtio-%s: queue %u: saved ready is %u", name, i,
		               r->ready);
	if ((m->status & STATUS_FEATURES_OK) == 0 &&
	    (r->num | r->ready | r->desc | r->driver | r->device) != 0)
		return err_set(e, -EBADMSG, "virtio-%s: queue %u: saved registers before features",
		               name, i);
	if (at.next_avail != at.next_used || (at.next_avail != 0 && !(live(m) && r->ready == 1)))
		return err_set(e, -EBADMSG, "virtio-%s: queue %u: saved indices %u and %u", name, i,
		               at.next_avail, at.next_used);
	*ret = at;
	return 0;
}

/* The rings in the guest's memory against where we say we are. */
static int load_place(struct mmio *m, unsigned i, const struct place *at, struct err *e)
{
	struct virtqueue *q = &m->dev.queues[i];
	uint16_t avail;
	uint16_t used;

	if (!q->ready)
		return 0;
	if (!guest_mem_load16(q->mem, gpa_of(q->avail.v + 2), &avail) ||
	    !guest_mem_load16(q->mem, gpa_of(q->used.v + 2), &used) || used != at->next_used ||
	    (uint16_t)(avail - at->next_avail) > q->size)
		return err_set(e, -EBADMSG,
		               "virtio-%s: queue %u: saved index %u does not fit its rings",
		               m->dev.ops->name, i, at->next_avail);
	q->next_avail = at->next_avail;
	q->next_used = at->next_used;
	q->told_used = at->next_used; /* resume interrupts in any case */
	return 0;
}

static int load_queues(struct mmio *m, struct span *in, struct err *e)
{
	struct place at[VIRTIO_QUEUES_MAX] = { 0 };
	int r = 0;

	for (unsigned i = 0; i < m->dev.queue_count && r == 0; i++)
		r = load_queue_registers(m, i, in, &at[i], e);
	if (r < 0 || !live(m))
		return r;
	if (!mmio_freeze_queues(m))
		return err_set(e, -EBADMSG, "virtio-%s: a saved queue's size or address is none",
		               m->dev.ops->name);
	for (unsigned i = 0; i < m->dev.queue_count && r == 0; i++)
		r = load_place(m, i, &at[i], e);
	return r;
}

static int load_own(struct mmio *m, struct span *in, struct err *e)
{
	const struct virtio_ops *ops = m->dev.ops;
	struct span own;
	uint32_t bytes;
	int r;

	if (!take_le32(in, &bytes) || bytes > VIRTIO_STATE_MAX || bytes != in->len ||
	    !take_span(in, bytes, &own) || (!ops->load && bytes != 0))
		return err_set(e, -EBADMSG,
		               "virtio-%s: the device's own saved state has another length",
		               ops->name);
	if (!ops->load)
		return 0;
	m->reset_due = true;
	r = ops->load(m->dev.self, own, e);
	return r < 0 ? err_wrap(e, "virtio-%s", ops->name) : 0;
}

int virtio_load(struct virtio_dev *dev, struct span in, struct err *e)
{
	struct mmio *m = mmio_of(dev);
	int r;

	assert(!m->reset_due && !m->loaded && m->status == 0);
	m->loaded = true;
	m->paused = true;
	r = load_registers(m, &in, e);
	if (r == 0)
		r = load_queues(m, &in, e);
	if (r == 0)
		r = load_own(m, &in, e);
	dev->broken = (m->status & STATUS_NEEDS_RESET) != 0;
	return r;
}

/* -- resume ---------------------------------------------------------------------------------------
 */

void virtio_resume(struct virtio_dev *dev)
{
	struct mmio *m = mmio_of(dev);

	if (!m->paused)
		return;
	m->paused = false;
	if (m->loaded && live(m)) {
		mmio_begin(m);
	} else if (m->active) {
		if (dev->ops->resume)
			dev->ops->resume(dev->self);
		for (unsigned i = 0; i < dev->queue_count; i++)
			if (dev->queues[i].ready)
				virtio_again(dev, i);
	}
	m->loaded = false;
	/* one that the machine's state did not hold any more or not yet */
	if (m->active)
		mmio_interrupt(m, ISR_USED);
	else if (atomic_load(&dev->isr) != 0)
		mmio_interrupt(m, 0);
}
