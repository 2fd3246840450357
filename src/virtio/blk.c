/*
 * blk: one virtqueue of block requests against one raw image.
 *
 * Hostile   every descriptor chain and all it points at
 * Shape     header (u32 type, u32 reserved, u64 sector) | data | status (1 byte, the last writable)
 * Units     a sector is 512 bytes, whatever the disk below uses
 * Broken    a chain too short for header and status. Everything else the driver gets wrong is
 *           answered with IOERR or UNSUPP, and costs nothing
 * Source    VIRTIO 1.2, section 5.2 (block device)
 *
 * Theory of operation
 *
 * A request is judged whole before anything of it is done: its 16 bytes of header and, for
 * discards and zeroing, its ranges are copied out of the guest's memory once. What passes becomes
 * jobs for blk_io, one after the other, in a slot of a fixed table; the data goes between guest
 * memory and disk without a copy of ours, as nobody judges it. When no slot is free, requests stay
 * in the queue, and completions bring us back to it.
 *
 * A turn takes what is there, hands it over as one batch, and interrupts once. It ends after
 * BLK_TURN_REQUESTS or BLK_TURN_BYTES, so that a busy disk does not starve the console, and asks to
 * be called again.
 *
 * A flush is no barrier: it covers the writes that were completed before it was asked for, and
 * those are in the host's page cache by then. A driver that does not take the flush feature gets
 * each write on the disk before it is told that it is done.
 */
#include "base/ck.h"
#include "virtio/blk_io.h"
#include "virtio/devices.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum {
	BLK_QUEUE_SIZE = 512, /* no chain may be longer: a power of two above BLK_SEG_MAX */
	/* what one of Linux's bios has: with fewer, a MiB of scattered pages is several requests */
	BLK_SEG_MAX = 256,
	BLK_SECTOR = 512,
	BLK_PHYSICAL_EXP = 3, /* 2^3 sectors are one page of the host's cache */
	BLK_HEADER_BYTES = 16,
	BLK_ID_BYTES = 20,
	BLK_CONFIG_BYTES = 60, /* up to and with write_zeroes_may_unmap, padded */

	BLK_RANGE_BYTES = 16,
	BLK_RANGES_MAX = 16,               /* of one discard or zeroing */
	BLK_DISCARD_SECTORS_MAX = 1 << 21, /* 1 GiB: holes cost little */
	/* 64 MiB: maybe written out byte for byte, and a pause waits for it */
	BLK_ZERO_SECTORS_MAX = 1 << 17,

	BLK_TURN_REQUESTS = 256,
	BLK_TURN_BYTES = 8 << 20, /* 2 to 4 ms of copying */
};
_Static_assert((int)BLK_SEG_MAX + 2 <= (int)CHAIN_SEGS_MAX, "header and status have room");
_Static_assert((int)BLK_SEG_MAX + 2 <= (int)BLK_QUEUE_SIZE, "a chain of the longest is legal");

#define BLK_F_SEG_MAX      (UINT64_C(1) << 2)
#define BLK_F_RO           (UINT64_C(1) << 5)
#define BLK_F_BLK_SIZE     (UINT64_C(1) << 6)
#define BLK_F_FLUSH        (UINT64_C(1) << 9)
#define BLK_F_TOPOLOGY     (UINT64_C(1) << 10)
#define BLK_F_DISCARD      (UINT64_C(1) << 13)
#define BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

enum blk_type {
	BLK_T_IN = 0,
	BLK_T_OUT = 1,
	BLK_T_FLUSH = 4,
	BLK_T_GET_ID = 8,
	BLK_T_DISCARD = 11,
	BLK_T_WRITE_ZEROES = 13,
};

enum blk_status {
	BLK_S_OK = 0,
	BLK_S_IOERR = 1,
	BLK_S_UNSUPP = 2,
	BLK_S_LATER = 0x100, /* none of the specification's: a job will tell */
};

enum { BLK_RANGE_UNMAP = 1 };

/* What a discard or zeroing asks for, in bytes: judged. */
struct blk_range {
	uint64_t off, bytes;
	bool unmap;
};

/* A request under way. */
struct blk_slot {
	struct blk_job job;
	bool busy;
	bool forgotten; /* by a reset that did not see its end: nobody is to be told */
	uint16_t head;
	struct gpa status;
	uint32_t written; /* what the used ring says if all goes well */
	uint16_t next_free;
	unsigned range, range_count; /* the one under way */
	struct blk_range ranges[BLK_RANGES_MAX];
	struct iovec iov[CHAIN_SEGS_MAX];
};

struct blk {
	struct virtio_dev *dev; /* from activate to reset */
	const struct guest_mem *mem;
	struct blk_io *io;
	uint64_t bytes; /* whole sectors */
	bool read_only;
	bool paused;
	bool stable; /* the driver took no flush feature */
	bool hungry; /* requests wait for a slot */
	bool pushed; /* and not told yet */
	uint8_t id[BLK_ID_BYTES];
	uint8_t config[BLK_CONFIG_BYTES];
	struct blk_counts counts;
	uint16_t first_free; /* BLK_JOBS_MAX: none. Last in, first out: the rest stays untouched */
	uint16_t fresh;      /* from here on no slot was ever used */
	struct blk_slot slots[BLK_JOBS_MAX];
};

/* One request, as its header has it. */
struct blk_header {
	uint32_t type;
	uint64_t sector;
};

/* -- slots ----------------------------------------------------------------------------------------
 */

static bool has_slot(const struct blk *b)
{
	return b->first_free < BLK_JOBS_MAX || b->fresh < BLK_JOBS_MAX;
}

static struct blk_slot *take_slot(struct blk *b)
{
	struct blk_slot *s;

	assert(has_slot(b));
	if (b->first_free < BLK_JOBS_MAX) {
		s = &b->slots[b->first_free];
		b->first_free = s->next_free;
	} else {
		s = &b->slots[b->fresh++];
	}
	assert(!s->busy);
	s->busy = true;
	s->forgotten = false;
	s->range = s->range_count = 0;
	return s;
}

static void free_slot(struct blk *b, struct blk_slot *s)
{
	s->busy = false;
	s->next_free = b->first_free;
	b->first_free = (uint16_t)(s - b->slots);
}

/* -- the end of a request -------------------------------------------------------------------------
 */

static void give_back(struct blk *b, uint16_t head, struct gpa status_at, uint32_t written,
                      enum blk_status status)
{
	struct virtqueue *q = &b->dev->queues[0];
	uint8_t byte = (uint8_t)status;

	if (status == BLK_S_IOERR)
		b->counts.errors++;
	if (b->dev->broken)
		return; /* its queue is dead */
	/* both were checked to be RAM, which stays where it is */
	if (!guest_mem_write(b->mem, status_at, &byte, sizeof(byte)) ||
	    !virtqueue_push(q, head, status == BLK_S_OK ? written : (uint32_t)sizeof(byte)))
		virtio_broken(b->dev, "the status or the used ring cannot be written");
	else
		b->pushed = true;
}

static void start_range(struct blk *b, struct blk_slot *s)
{
	const struct blk_range *r = &s->ranges[s->range];

	if (s->job.kind != BLK_JOB_DISCARD)
		s->job.kind = r->unmap ? BLK_JOB_ZERO_UNMAP : BLK_JOB_ZERO;
	s->job.off = r->off;
	s->job.bytes = r->bytes;
	blk_io_start(b->io, &s->job);
}

/* No room on the disk's own disk, or none for a page of the guest's checked RAM. */
static bool is_hosts_fault(int result)
{
	return result == -ENOSPC || result == -EDQUOT || result == -EFAULT;
}

static void on_done(void *arg, struct blk_job *job, int result)
{
	struct blk *b = arg;
	struct blk_slot *s = (struct blk_slot *)(void *)job; /* its first member */

	assert(s->busy);
	if (result == -ENOSPC || result == -EDQUOT)
		b->counts.no_space++;
	if (!s->forgotten && is_hosts_fault(result) && virtio_lost(b->dev, result)) {
		free_slot(b, s);
		return;
	}
	if (result >= 0 && !s->forgotten && s->range + 1 < s->range_count) {
		s->range++;
		start_range(b, s);
		return;
	}
	if (!s->forgotten)
		give_back(b, s->head, s->status, s->written, result < 0 ? BLK_S_IOERR : BLK_S_OK);
	free_slot(b, s);
}

/* -- judging a request ----------------------------------------------------------------------------
 */

static bool read_header(const struct blk *b, const struct chain *c, struct blk_header *ret)
{
	uint8_t raw[BLK_HEADER_BYTES];
	struct span in = span_of(raw, sizeof(raw));
	uint32_t reserved;
	uint64_t got;

	return chain_read(b->mem, c, 0, raw, sizeof(raw), &got) && got == sizeof(raw) &&
	       take_le32(&in, &ret->type) && take_le32(&in, &reserved) &&
	       take_le64(&in, &ret->sector);
}

/* Do so many bytes from this sector on lie on the disk? */
static bool on_disk(const struct blk *b, uint64_t sector, uint64_t bytes, uint64_t *ret_off)
{
	uint64_t off;

	if (!ck_mul(sector, BLK_SECTOR, &off) || !ck_range(off, bytes, b->bytes))
		return false;
	*ret_off = off;
	return true;
}

static enum blk_status judge_transfer(struct blk *b, const struct chain *c,
                                      const struct blk_header *h, struct blk_slot *s)
{
	bool in = h->type == BLK_T_IN;
	uint64_t bytes = in ? c->writable_bytes - 1 : c->readable_bytes - BLK_HEADER_BYTES;
	uint64_t other = in ? c->readable_bytes - BLK_HEADER_BYTES : c->writable_bytes - 1;
	int n;

	if (other != 0 || bytes % BLK_SECTOR != 0 || !on_disk(b, h->sector, bytes, &s->job.off))
		return BLK_S_IOERR;
	if (bytes == 0)
		return BLK_S_OK;
	n = chain_iov(b->mem, c, in, in ? 0 : BLK_HEADER_BYTES, bytes, s->iov, CHAIN_SEGS_MAX);
	if (n <= 0)
		return BLK_S_IOERR;
	s->job.kind = in ? BLK_JOB_READ : BLK_JOB_WRITE;
	s->job.bytes = bytes;
	s->job.iov = s->iov;
	s->job.iov_count = (unsigned)n;
	/* with the header it is at most CHAIN_BYTES_MAX, so it fits */
	s->written = in ? (uint32_t)c->writable_bytes : 1;
	return BLK_S_LATER;
}

static enum blk_status judge_range(const struct blk *b, const uint8_t raw[BLK_RANGE_BYTES],
                                   bool discard, struct blk_range *ret)
{
	struct span in = span_of(raw, BLK_RANGE_BYTES);
	uint64_t sector = 0;
	uint32_t sectors = 0;
	uint32_t flags = 0;

	if (!take_le64(&in, &sector) || !take_le32(&in, &sectors) || !take_le32(&in, &flags))
		return BLK_S_IOERR;
	/* the specification's word: unknown flags, and unmap for a discard */
	if ((flags & ~(uint32_t)(discard ? 0 : BLK_RANGE_UNMAP)) != 0)
		return BLK_S_UNSUPP;
	if (sectors > (discard ? BLK_DISCARD_SECTORS_MAX : BLK_ZERO_SECTORS_MAX))
		return BLK_S_IOERR;
	ret->bytes = (uint64_t)sectors * BLK_SECTOR;
	ret->unmap = (flags & BLK_RANGE_UNMAP) != 0;
	return on_disk(b, sector, ret->bytes, &ret->off) ? BLK_S_OK : BLK_S_IOERR;
}

static enum blk_status judge_ranges(struct blk *b, const struct chain *c,
                                    const struct blk_header *h, struct blk_slot *s)
{
	bool discard = h->type == BLK_T_DISCARD;
	uint8_t raw[BLK_RANGES_MAX * BLK_RANGE_BYTES];
	uint64_t bytes = c->readable_bytes - BLK_HEADER_BYTES;
	uint64_t got;

	if (!virtio_has(b->dev, discard ? BLK_F_DISCARD : BLK_F_WRITE_ZEROES))
		return BLK_S_UNSUPP;
	if (c->writable_bytes != 1 || bytes == 0 || bytes % BLK_RANGE_BYTES != 0 ||
	    bytes > sizeof(raw) || !chain_read(b->mem, c, BLK_HEADER_BYTES, raw, bytes, &got) ||
	    got != bytes)
		return BLK_S_IOERR;
	for (uint64_t at = 0; at < bytes; at += BLK_RANGE_BYTES) {
		enum blk_status st = judge_range(b, raw + at, discard, &s->ranges[s->range_count]);

		if (st != BLK_S_OK)
			return st;
		if (s->ranges[s->range_count].bytes > 0)
			s->range_count++;
	}
	s->job.kind = discard ? BLK_JOB_DISCARD : BLK_JOB_ZERO;
	s->written = 1;
	return s->range_count > 0 ? BLK_S_LATER : BLK_S_OK;
}

static enum blk_status judge_flush(const struct blk *b, const struct chain *c, struct blk_slot *s)
{
	if (c->readable_bytes != BLK_HEADER_BYTES || c->writable_bytes != 1)
		return BLK_S_IOERR;
	if (b->read_only)
		return BLK_S_OK;
	s->job.kind = BLK_JOB_FLUSH;
	s->written = 1;
	return BLK_S_LATER;
}

static enum blk_status answer_id(const struct blk *b, const struct chain *c, struct blk_slot *s)
{
	uint64_t room = c->writable_bytes - 1;
	uint64_t got;

	if (c->readable_bytes != BLK_HEADER_BYTES ||
	    !chain_write(b->mem, c, 0, b->id, room < sizeof(b->id) ? room : sizeof(b->id), &got))
		return BLK_S_IOERR;
	s->written = (uint32_t)got + 1;
	return BLK_S_OK;
}

static enum blk_status judge(struct blk *b, const struct chain *c, const struct blk_header *h,
                             struct blk_slot *s)
{
	s->written = 1;
	switch (h->type) {
	case BLK_T_IN:
		b->counts.reads++;
		return judge_transfer(b, c, h, s);
	case BLK_T_OUT:
		b->counts.writes++;
		return b->read_only ? BLK_S_IOERR : judge_transfer(b, c, h, s);
	case BLK_T_FLUSH:
		b->counts.flushes++;
		return judge_flush(b, c, s);
	case BLK_T_GET_ID:
		return answer_id(b, c, s);
	case BLK_T_DISCARD:
	case BLK_T_WRITE_ZEROES:
		return b->read_only ? BLK_S_IOERR : judge_ranges(b, c, h, s);
	default:
		return BLK_S_UNSUPP;
	}
}

/* -- turns ----------------------------------------------------------------------------------------
 */

/*
 * The chain has a whole header and at least one writable byte: take_requests() saw to it. So all
 * that is judged may subtract them, and the last segment, none being empty, ends in the status.
 */
static void start_request(struct blk *b, const struct chain *c, const struct blk_header *h)
{
	const struct chain_seg *last = &c->segs[c->seg_count - 1];
	struct blk_slot *s = take_slot(b);
	enum blk_status st;

	s->head = c->head;
	s->status = gpa_of(last->at.v + last->len - 1);
	s->job = (struct blk_job){ .stable = b->stable };
	st = judge(b, c, h, s);
	if (st != BLK_S_LATER) {
		give_back(b, s->head, s->status, s->written, st);
		free_slot(b, s);
	} else if (s->range_count > 0) {
		start_range(b, s);
	} else {
		blk_io_start(b->io, &s->job);
	}
}

/* What is left of a turn. */
struct turn {
	unsigned requests;
	uint64_t bytes;
};

static bool turn_over(const struct turn *t)
{
	return t->requests == 0 || t->bytes == 0;
}

/* Takes requests off the queue while there are any, and slots for them. How many. */
static unsigned take_requests(struct blk *b, struct turn *t)
{
	struct virtqueue *q = &b->dev->queues[0];
	struct blk_header h;
	struct chain c;
	unsigned n = 0;

	for (; has_slot(b) && !turn_over(t); n++) {
		uint64_t bytes;
		int r = virtqueue_pop(q, &c);

		if (r == -EAGAIN)
			return n;
		if (r < 0 || c.writable_bytes == 0 || !read_header(b, &c, &h)) {
			virtio_broken(b->dev, "a malformed block request");
			return 0;
		}
		bytes = c.readable_bytes + c.writable_bytes;
		t->requests--;
		t->bytes -= bytes < t->bytes ? bytes : t->bytes;
		start_request(b, &c, &h);
	}
	return n;
}

static void tell(struct blk *b)
{
	if (b->pushed && !b->dev->broken)
		virtio_notify(b->dev, &b->dev->queues[0]);
	b->pushed = false;
}

static void serve(struct blk *b)
{
	struct turn t = { .requests = BLK_TURN_REQUESTS, .bytes = BLK_TURN_BYTES };
	struct virtqueue *q = &b->dev->queues[0];

	b->hungry = false;
	virtqueue_disable_kicks(q);
	for (;;) {
		bool took = take_requests(b, &t) > 0;

		blk_io_submit(b->io);
		if (b->dev->broken)
			break;
		if (turn_over(&t)) {
			virtio_again(b->dev, 0);
			break;
		}
		if (!has_slot(b)) {
			b->hungry = true; /* and the next completion comes back here */
			break;
		}
		if (took)
			continue; /* what came meanwhile is taken before kicks are asked for */
		if (!virtqueue_enable_kicks(q))
			break;
		t.requests--; /* a ring that is empty and not, by turns, ends the turn as well */
	}
	tell(b);
}

static void on_settled(void *arg)
{
	struct blk *b = arg;

	if (!b->dev)
		return;
	if (b->hungry && !b->paused && !b->dev->broken)
		serve(b);
	else
		tell(b);
}

/* -- the device -----------------------------------------------------------------------------------
 */

static void blk_read_config(const void *self, uint32_t off, void *ret, uint32_t len)
{
	const struct blk *b = self;

	assert(off <= sizeof(b->config) && len <= sizeof(b->config) - off);
	memcpy(ret, b->config + off, len);
}

static int blk_activate(void *self, struct virtio_dev *dev)
{
	struct blk *b = self;

	if (blk_io_under_way(b->io) > 0 && !blk_io_drain(b->io))
		return -EBUSY; /* reads of before the reset may still reach the guest's memory */
	b->dev = dev;
	b->stable = !virtio_has(dev, BLK_F_FLUSH);
	b->paused = b->hungry = b->pushed = false;
	return 0;
}

static void blk_kick(void *self, unsigned index)
{
	struct blk *b = self;

	(void)index;
	if (b->dev && !b->paused && !b->dev->broken)
		serve(b);
}

/* What is still under way belongs to nobody any more. */
static void forget_all(struct blk *b)
{
	for (unsigned i = 0; i < b->fresh; i++)
		b->slots[i].forgotten = true;
}

static void blk_reset(void *self)
{
	struct blk *b = self;

	forget_all(b);
	if (!blk_io_drain(b->io))
		b->counts.stuck++;
	b->dev = NULL;
}

static void blk_pause(void *self)
{
	struct blk *b = self;

	b->paused = true;
	if (!b->dev)
		return;
	if (!blk_io_drain(b->io)) {
		/* what comes too late is not told, so a snapshot is whole, and its guest knows */
		b->counts.stuck++;
		forget_all(b);
		virtio_broken(b->dev, "none: the host's disk does not answer");
	}
	tell(b);
}

static void blk_resume(void *self)
{
	struct blk *b = self;

	b->paused = false; /* the transport looks at the queue */
}

/* A snapshot's disk has to be there again: what the guest believes of it is in its memory. */
static void blk_save(const void *self, struct buf *out)
{
	const struct blk *b = self;

	buf_put_le64(out, b->bytes);
	buf_put_u8(out, b->read_only);
}

static int blk_load(void *self, struct span in, struct err *e)
{
	const struct blk *b = self;
	uint64_t bytes;
	uint8_t read_only;

	if (!take_le64(&in, &bytes) || !take_u8(&in, &read_only) || in.len > 0 || read_only > 1)
		return err_set(e, -EBADMSG, "the saved state is damaged");
	if (bytes != b->bytes || (read_only != 0) != b->read_only)
		return err_set(e, -EXDEV,
		               "saved with a %s disk of %llu bytes, started with a %s "
		               "one of %llu",
		               read_only ? "read-only" : "writable", (unsigned long long)bytes,
		               b->read_only ? "read-only" : "writable",
		               (unsigned long long)b->bytes);
	return 0;
}

static void blk_free(void *self)
{
	struct blk *b = self;

	if (!b)
		return;
	/*
	 * The kernel may hold addresses of guest memory for a disk that does not answer. Whoever
	 * unmaps that memory next lets it write into whatever comes to lie there: rather not.
	 */
	if (b->io && !blk_io_drain(b->io))
		abort();
	blk_io_free(b->io);
	free(b);
}
OWN_DEFINE(struct blk, blk_free)

static const struct virtio_ops blk_ops = {
	.name = "blk",
	.type = VIRTIO_BLK,
	.read_config = blk_read_config,
	.activate = blk_activate,
	.kick = blk_kick,
	.reset = blk_reset,
	.pause = blk_pause,
	.resume = blk_resume,
	.save = blk_save,
	.load = blk_load,
	.free = blk_free,
};

void blk_get_counts(const struct virtio_dev *dev, struct blk_counts *ret)
{
	const struct blk *b = dev->self;

	assert(dev->ops == &blk_ops);
	*ret = b->counts;
	ret->ring = blk_io_has_ring(b->io);
}

/* -- making it ------------------------------------------------------------------------------------
 */

/* The layout is the specification's, 5.2.4; what is not offered stays 0. */
static void fill_config(struct blk *b)
{
	struct buf out;

	buf_init(&out, b->config, sizeof(b->config));
	buf_put_le64(&out, b->bytes / BLK_SECTOR);
	buf_put_le32(&out, 0); /* size_max */
	buf_put_le32(&out, BLK_SEG_MAX);
	buf_put_le32(&out, 0); /* geometry */
	buf_put_le32(&out, BLK_SECTOR);
	buf_put_u8(&out, BLK_PHYSICAL_EXP);
	buf_put_u8(&out, 0);                       /* alignment_offset */
	buf_put_le16(&out, 1 << BLK_PHYSICAL_EXP); /* min_io_size */
	buf_put_le32(&out, 0);                     /* opt_io_size */
	buf_put_le16(&out, 0);                     /* writeback, unused */
	buf_put_le16(&out, 1);                     /* num_queues */
	buf_put_le32(&out, b->read_only ? 0 : BLK_DISCARD_SECTORS_MAX);
	buf_put_le32(&out, b->read_only ? 0 : BLK_RANGES_MAX);
	buf_put_le32(&out, 1 << BLK_PHYSICAL_EXP); /* discard_sector_alignment */
	buf_put_le32(&out, b->read_only ? 0 : BLK_ZERO_SECTORS_MAX);
	buf_put_le32(&out, b->read_only ? 0 : BLK_RANGES_MAX);
	buf_put_le32(&out, b->read_only ? 0 : 1); /* write_zeroes_may_unmap, padding */
	assert(buf_ok(&out) && out.len == sizeof(b->config));
}

static int find_size(int fd, bool read_only, uint64_t *ret, struct err *e)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;
	off_t end;

	if (flags < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "virtio-blk: look at the disk");
	if (((flags & O_ACCMODE) == O_RDONLY && !read_only) || (flags & O_DIRECT) != 0)
		return err_set(e, -EINVAL,
		               "virtio-blk: the disk is not opened as it is to be used");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -EINVAL, "virtio-blk: a disk is a file or a block device");
	/* the fd's position means nothing to us: all I/O says where */
	end = S_ISREG(st.st_mode) ? st.st_size : lseek(fd, 0, SEEK_END);
	if (end < 0)
		return err_sys(e, "virtio-blk: find the end of the disk");
	*ret = (uint64_t)end / BLK_SECTOR * BLK_SECTOR;
	return 0;
}

static int make_blk(const struct virtio_place *at, const struct blk_config *c, struct blk **ret,
                    struct err *e)
{
	_own_(blk_free) struct blk *b = calloc(1, sizeof(*b));
	struct blk_io_config io = {
		.fd = c->fd,
		.no_ring = c->no_ring,
		.loop = at->loop,
		.done = on_done,
		.settled = on_settled,
		.arg = b,
	};
	int r;

	if (!b)
		return err_set(e, -ENOMEM, "out of memory");
	b->mem = at->mem;
	b->read_only = c->read_only;
	b->first_free = BLK_JOBS_MAX;
	if (c->serial)
		memcpy(b->id, c->serial, strnlen(c->serial, sizeof(b->id)));
	r = find_size(c->fd, c->read_only, &b->bytes, e);
	if (r == 0)
		r = blk_io_new(&io, &b->io, e);
	if (r < 0)
		return r;
	fill_config(b);
	*ret = steal_ptr(&b);
	return 0;
}

int blk_new(const struct virtio_place *at, const struct blk_config *c, struct virtio_dev **ret,
            struct err *e)
{
	struct virtio_new n = {
		.ops = &blk_ops,
		.mem = at->mem,
		.loop = at->loop,
		.features =
			BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_TOPOLOGY | VIRTIO_F_INDIRECT_DESC,
		.config_bytes = BLK_CONFIG_BYTES,
		.queue_count = 1,
		.queue_sizes = { BLK_QUEUE_SIZE },
		.irq_fd = at->irq_fd,
	};
	struct blk *b = NULL;
	int r = make_blk(at, c, &b, e);

	if (r < 0)
		return r;
	n.features |= c->read_only ? BLK_F_RO : BLK_F_FLUSH | BLK_F_DISCARD | BLK_F_WRITE_ZEROES;
	n.self = b;
	return virtio_dev_new(&n, ret, e);
}
