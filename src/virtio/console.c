/*
 * Theory of operation
 *
 * Guest to host: the chains of the agent's port go out of guest memory by sendmsg(2), as many as
 * fit one call, and are given back when they are sent. When the socket is full they stay where
 * they are, in the guest's queue; all we know is how much of the first was sent. Host to guest:
 * recvmsg(2) fills the guest's receive buffers; the socket is read only while there are any and
 * the guest has the port open, else its sender waits. So no byte is ever in our hands, and memory
 * is flat whoever floods whom. The log port never waits: what the pipe does not take is dropped.
 *
 * Control messages to the guest are a bit each, per port, of what is still to be said; their
 * values are what is true when the guest gives room for them. A guest that asks for ever without
 * listening changes bits that are set already.
 *
 * The far side of the agent's port is either told open or told closed. Told closed, all the guest
 * sends is dropped. Once it was told closed while its own end was open, it is not told open before
 * it closed that end: a driver shows a program that the host was gone only while it is gone, so
 * nothing less proves that what was half said is forgotten. This is how a restored guest, whose
 * stream broke off anywhere, comes to begin a new one with a whole frame.
 *
 * Each turn of the loop does a bounded part of the work (ROUNDS_MAX); the rest waits for the next
 * turn, behind the other devices.
 *
 * Source: VIRTIO 1.2, section 5.3; Linux, drivers/char/virtio_console.c, for what a driver waits
 * for: it spins until a control message or log output is taken.
 */
#include "virtio/console_internal.h"

#include "base/fdio.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#define F_MULTIPORT (UINT64_C(1) << 1)
#define AGENT_NAME  "berm.agent"

enum {
	CONFIG_BYTES = 8,
	CONFIG_MAX_NR_PORTS = 4,

	CONTROL_BYTES = 8, /* le32 port, le16 event, le16 value */
	CONTROL_MAX = CONTROL_BYTES + (int)sizeof(AGENT_NAME), /* the longest of ours */

	SAVED_VERSION = 1,
	SAVED_BYTES = 12,
};

/* Section 5.3.6.2. */
enum control_event {
	DEVICE_READY = 0,
	PORT_ADD = 1,
	PORT_READY = 3,
	CONSOLE_PORT = 4,
	PORT_OPEN = 6,
	PORT_NAME = 7,
};

/* What is still to be said of a port, in the order in which it is said. */
enum {
	SAY_ADD = 1,
	SAY_CONSOLE = 2,
	SAY_NAME = 4,
	SAY_OPEN = 8,
	SAY_ALL = 15,
};

/* -- control, to the guest ------------------------------------------------------------------------
 */

static void put_control(struct buf *b, uint32_t port, enum control_event event, uint16_t value)
{
	buf_put_le32(b, port);
	buf_put_le16(b, (uint16_t)event);
	buf_put_le16(b, value);
}

/* The next thing to say of a port. Returns its bit, 0 for none. */
static uint8_t next_message(const struct console *c, uint32_t port, struct buf *b)
{
	uint8_t say = c->ports[port].to_say;

	if (say & SAY_ADD) {
		put_control(b, port, PORT_ADD, 1);
		return SAY_ADD;
	}
	if (say & SAY_CONSOLE) {
		put_control(b, port, CONSOLE_PORT, 1);
		return SAY_CONSOLE;
	}
	if (say & SAY_NAME) {
		put_control(b, port, PORT_NAME, 1);
		buf_put_str(b, AGENT_NAME); /* without a NUL, says 5.3.6.2 */
		return SAY_NAME;
	}
	if (say & SAY_OPEN)
		put_control(b, port, PORT_OPEN, port == LOG || c->told_open);
	return say & SAY_OPEN;
}

/* Says one thing. STEP_DONE: there is nothing to say, or no buffer to say it in. */
static enum step say_one(struct console *c, struct virtqueue *q)
{
	uint8_t raw[CONTROL_MAX];
	struct chain chain;
	uint64_t written;
	uint32_t port = LOG;
	uint8_t said;
	struct buf b;
	int r;

	buf_init(&b, raw, sizeof(raw));
	said = next_message(c, port, &b);
	if (said == 0)
		said = next_message(c, ++port, &b);
	if (said == 0)
		return STEP_DONE;
	r = virtqueue_pop(q, &chain);
	if (r == -EAGAIN)
		return virtqueue_enable_kicks(q) ? STEP_MORE : STEP_DONE;
	if (r < 0 || !chain_write(c->mem, &chain, 0, raw, b.len, &written) || written < b.len ||
	    !virtqueue_push(q, chain.head, (uint32_t)written))
		return STEP_BROKEN;
	c->ports[port].to_say &= (uint8_t)~said;
	return STEP_MORE;
}

static void speak(struct console *c)
{
	enum step step = STEP_MORE;
	struct virtqueue *q;

	if (!console_works(c) || (c->ports[LOG].to_say | c->ports[AGENT].to_say) == 0)
		return;
	q = console_queue(c, QUEUE_CONTROL_RX);
	virtqueue_disable_kicks(q);
	for (int n = 0; n < ROUNDS_MAX && step == STEP_MORE; n++)
		step = say_one(c, q);
	if (step == STEP_BROKEN)
		virtio_broken(c->dev, "a control receive buffer is bad or too short");
	else if (step == STEP_MORE)
		virtio_again(c->dev, QUEUE_CONTROL_RX);
	virtio_notify(c->dev, q);
}

static void say(struct console *c, uint32_t port, uint8_t what)
{
	c->ports[port].to_say |= what;
}

/* -- open and closed ------------------------------------------------------------------------------
 */

/* The far side is gone, or another one from now on. */
static void tell_closed(struct console *c)
{
	if (!c->told_open)
		return;
	c->told_open = false;
	c->must_reopen = c->ports[AGENT].guest_open;
	say(c, AGENT, SAY_OPEN);
}

static void tell_open(struct console *c)
{
	if (c->told_open || c->must_reopen || c->agent_fd < 0 || !c->ports[AGENT].ready)
		return;
	c->told_open = true;
	say(c, AGENT, SAY_OPEN);
}

/* What is under way is void. */
static void break_off(struct console *c)
{
	c->emptying = true;
	c->tx_done = 0;
	tell_closed(c);
}

void console_detach(struct console *c)
{
	if (c->watch != 0)
		loop_drop(c->loop, c->watch);
	c->watch = 0;
	c->agent_fd = -1;
	c->full = false;
	c->starved = false;
	break_off(c);
}

/* -- turns ---------------------------------------------------------------------------------------
 */

static void update_watch(struct console *c)
{
	uint32_t events = 0;

	if (c->watch == 0)
		return;
	if (console_may_read(c))
		events |= EPOLLIN;
	if (console_works(c) && c->full)
		events |= EPOLLOUT;
	loop_set(c->loop, c->watch, events);
}

/* After anything was done. */
static void settle(struct console *c)
{
	if (c->emptying && console_works(c))
		console_send(c);
	speak(c);
	update_watch(c);
}

static void on_socket(void *arg, uint32_t events)
{
	struct console *c = arg;

	if (console_works(c) && c->full && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
		console_send(c);
	if (console_may_read(c) && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
		console_receive(c);
	settle(c);
}

/* -- control, from the guest ----------------------------------------------------------------------
 */

static bool on_port_ready(struct console *c, uint32_t port, bool ok)
{
	c->ports[port].ready = ok;
	if (!ok)
		return true; /* it has no memory for it; nothing to be done from here */
	if (port == LOG) {
		say(c, LOG, SAY_CONSOLE | SAY_OPEN);
		return true;
	}
	say(c, AGENT, SAY_NAME);
	if (c->told_open)
		say(c, AGENT, SAY_OPEN); /* it asked again */
	tell_open(c);
	return true;
}

static bool on_port_open(struct console *c, uint32_t port, bool open)
{
	c->ports[port].guest_open = open;
	if (port != AGENT || open || !c->must_reopen)
		return true;
	/* what it wrote before it closed is in the queue already, and for nobody */
	console_drop(c);
	c->must_reopen = false;
	tell_open(c);
	return true;
}

/* One message. False: there is no such message, or not to us. */
static bool on_control(struct console *c, struct span in)
{
	uint32_t port;
	uint16_t event;
	uint16_t value;

	if (!take_le32(&in, &port) || !take_le16(&in, &event) || !take_le16(&in, &value) ||
	    in.len != 0 || value > 1)
		return false;
	if (event == DEVICE_READY) {
		if (value == 1) {
			say(c, LOG, SAY_ADD);
			say(c, AGENT, SAY_ADD);
		}
		return true;
	}
	if (port >= PORTS)
		return false;
	if (event == PORT_READY)
		return on_port_ready(c, port, value == 1);
	if (event == PORT_OPEN)
		return on_port_open(c, port, value == 1);
	return false;
}

static enum step control_round(struct console *c, struct virtqueue *q)
{
	uint8_t raw[CONTROL_BYTES + 1]; /* one more, to see that it is too long */
	struct chain chain;
	uint64_t len;
	int r = virtqueue_pop(q, &chain);

	if (r == -EAGAIN)
		return virtqueue_enable_kicks(q) ? STEP_MORE : STEP_DONE;
	if (r < 0 || !chain_read(c->mem, &chain, 0, raw, sizeof(raw), &len))
		return STEP_BROKEN;
	if (!on_control(c, span_of(raw, len)))
		c->counts.control_refused++;
	return virtqueue_push(q, chain.head, 0) ? STEP_MORE : STEP_BROKEN;
}

static void pump_control(struct console *c)
{
	struct virtqueue *q = console_queue(c, QUEUE_CONTROL_TX);
	enum step step = STEP_MORE;

	virtqueue_disable_kicks(q);
	for (int n = 0; n < ROUNDS_MAX && step == STEP_MORE; n++)
		step = control_round(c, q);
	if (step == STEP_BROKEN)
		virtio_broken(c->dev, "a control message is malformed");
	else if (step == STEP_MORE)
		virtio_again(c->dev, QUEUE_CONTROL_TX);
	virtio_notify(c->dev, q);
}

/* -- operations -----------------------------------------------------------------------------------
 */

static void console_read_config(const void *self, uint32_t off, void *ret, uint32_t len)
{
	uint8_t config[CONFIG_BYTES] = { 0 }; /* columns and rows: not offered */

	(void)self;
	config[CONFIG_MAX_NR_PORTS] = PORTS;
	memcpy(ret, config + off, len);
}

static int console_activate(void *self, struct virtio_dev *dev)
{
	struct console *c = self;

	c->dev = dev;
	/* a driver fills these buffer by buffer, and a kick for each would tell us nothing */
	virtqueue_disable_kicks(console_queue(c, QUEUE_LOG_RX));
	virtqueue_disable_kicks(console_queue(c, QUEUE_CONTROL_RX));
	virtqueue_disable_kicks(console_queue(c, QUEUE_AGENT_RX));
	if (c->tx_done > 0) /* half a chain went to another host: this one gets none of it */
		break_off(c);
	else if (c->agent_fd < 0)
		tell_closed(c);
	tell_open(c);
	return 0; /* the first kick does the rest */
}

static void console_kick(void *self, unsigned index)
{
	struct console *c = self;

	if (!console_works(c))
		return;
	switch (index) {
	case QUEUE_LOG_TX:
		console_log(c);
		break;
	case QUEUE_CONTROL_RX:
		speak(c);
		break;
	case QUEUE_CONTROL_TX:
		pump_control(c);
		break;
	case QUEUE_AGENT_RX:
		if (!c->starved)
			break;
		c->starved = false;
		if (console_may_read(c))
			console_receive(c);
		break;
	case QUEUE_AGENT_TX:
		if (!c->full)
			console_send(c);
		break;
	default: /* nothing is ever typed into the log */
		break;
	}
	settle(c);
}

static void forget(struct console *c)
{
	c->dev = NULL;
	memset(c->ports, 0, sizeof(c->ports));
	c->told_open = c->must_reopen = false;
	c->full = c->starved = c->emptying = false;
	c->tx_done = 0;
	c->rx_ahead = RX_AHEAD_MIN;
}

static void console_reset(void *self)
{
	struct console *c = self;

	forget(c);
	update_watch(c);
}

static void console_pause(void *self)
{
	struct console *c = self;

	c->paused = true;
	update_watch(c);
}

static void console_resume(void *self)
{
	struct console *c = self;

	c->paused = false;
	settle(c);
}

/* Version, flags, what is to be said of each port: a byte each; and le64 tx_done. Loading judges
 * them, activate draws the conclusions. */
static void console_save(const void *self, struct buf *b)
{
	const struct console *c = self;
	unsigned flags = (unsigned)c->told_open | (unsigned)c->must_reopen << 1;

	for (unsigned i = 0; i < PORTS; i++)
		flags |= ((unsigned)c->ports[i].ready | (unsigned)c->ports[i].guest_open << 1)
		         << (2 + 2 * i);
	buf_put_u8(b, SAVED_VERSION);
	buf_put_u8(b, (uint8_t)flags);
	buf_put_u8(b, c->ports[LOG].to_say);
	buf_put_u8(b, c->ports[AGENT].to_say);
	buf_put_le64(b, c->tx_done);
}

static int console_load(void *self, struct span in, struct err *e)
{
	struct console *c = self;
	uint8_t version;
	uint8_t flags;
	uint8_t say[PORTS];
	uint64_t tx_done;

	if (in.len != SAVED_BYTES || !take_u8(&in, &version) || !take_u8(&in, &flags) ||
	    !take_u8(&in, &say[LOG]) || !take_u8(&in, &say[AGENT]) || !take_le64(&in, &tx_done))
		return err_set(e, -EBADMSG, "saved console: not %d bytes", SAVED_BYTES);
	if (version != SAVED_VERSION)
		return err_set(e, -ENOTSUP, "saved console: of version %u", version);
	if (flags >> (2 + 2 * PORTS) != 0 || ((say[LOG] | say[AGENT]) & ~SAY_ALL) != 0 ||
	    (say[LOG] & SAY_NAME) != 0 || (say[AGENT] & SAY_CONSOLE) != 0 ||
	    tx_done > CHAIN_BYTES_MAX)
		return err_set(e, -EBADMSG, "saved console: a field is out of range");

	forget(c);
	c->told_open = flags & 1;
	c->must_reopen = flags >> 1 & 1;
	for (unsigned i = 0; i < PORTS; i++) {
		c->ports[i].ready = flags >> (2 + 2 * i) & 1;
		c->ports[i].guest_open = flags >> (3 + 2 * i) & 1;
		c->ports[i].to_say = say[i];
	}
	c->tx_done = tx_done;
	return 0;
}

static void console_free(void *self)
{
	struct console *c = self;

	if (c->watch != 0)
		loop_drop(c->loop, c->watch);
	free(c);
}

static const struct virtio_ops console_ops = {
	.name = "console",
	.type = VIRTIO_CONSOLE,
	.read_config = console_read_config,
	.activate = console_activate,
	.kick = console_kick,
	.reset = console_reset,
	.pause = console_pause,
	.resume = console_resume,
	.save = console_save,
	.load = console_load,
	.free = console_free,
};

/* -- making ---------------------------------------------------------------------------------------
 */

static struct console *console_of(const struct virtio_dev *dev)
{
	assert(dev->ops == &console_ops);
	return dev->self;
}

static int attach(struct console *c, int fd, struct err *e)
{
	int r;

	if (fd < 0)
		return 0;
	r = loop_watch(c->loop, fd, 0, on_socket, c, &c->watch, e);
	if (r < 0)
		return err_wrap(e, "console");
	c->agent_fd = fd;
	return 0;
}

int console_set_agent(struct virtio_dev *dev, int agent_fd, struct err *e)
{
	struct console *c = console_of(dev);
	int r;

	console_detach(c);
	r = attach(c, agent_fd, e);
	tell_open(c);
	settle(c);
	return r;
}

bool console_has_agent(const struct virtio_dev *dev)
{
	return console_of(dev)->agent_fd >= 0;
}

void console_get_counts(const struct virtio_dev *dev, struct console_counts *ret)
{
	*ret = console_of(dev)->counts;
}

int console_new(const struct virtio_place *at, const struct console_config *config,
                struct virtio_dev **ret, struct err *e)
{
	struct virtio_new n = {
		.ops = &console_ops,
		.mem = at->mem,
		.loop = at->loop,
		.irq_fd = at->irq_fd,
		/*
		 * Linux loses what was spliced to a port when the pages do not fit the queue
		 * (port_fops_splice_write: the pipe is emptied, then there is no room). With a
		 * table for each chain there is room for it if there is for anything.
		 */
		.features = F_MULTIPORT | VIRTIO_F_INDIRECT_DESC,
		.config_bytes = CONFIG_BYTES,
		.queue_count = QUEUES,
		/*
		 * A driver fills every receive queue with pages at once, and uses them in turn, so
		 * that each costs a fork a page in the end. It waits after each message to the log
		 * and of control.
		 */
		.queue_sizes = {
			[QUEUE_LOG_RX] = 4,
			[QUEUE_LOG_TX] = 16,
			[QUEUE_CONTROL_RX] = 16,
			[QUEUE_CONTROL_TX] = 16,
			[QUEUE_AGENT_RX] = 64,
			[QUEUE_AGENT_TX] = 256,
		},
	};
	struct console *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->loop = at->loop;
	c->mem = at->mem;
	c->log_fd = config->log_fd;
	c->agent_fd = -1;
	forget(c);
	r = c->log_fd < 0 ? 0 : fd_set_nonblock(c->log_fd);
	if (r < 0)
		r = err_set(e, r, "console: the log's pipe: %s", strerror(-r));
	else
		r = attach(c, config->agent_fd, e);
	if (r < 0) {
		console_free(c);
		return r;
	}
	n.self = c;
	return virtio_dev_new(&n, ret, e);
}
