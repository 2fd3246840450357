#include "agent/control.h"

#include "agent/agent.h"
#include "agent/collect.h"
#include "agent/identity.h"
#include "agent/power.h"
#include "agent/stats.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void answer(struct agent *a, uint8_t type)
{
	wire_put(port_out(&a->port), type, 0, 0, a->epoch, span_of(NULL, 0));
}

static int on_hello_ok(struct agent *a, const struct wire_frame *f)
{
	uint32_t version;
	char why[128];

	if (wire_parse_u32(f->payload, &version) < 0)
		return -EPROTO;
	if (version == WIRE_VERSION)
		return 0;
	(void)snprintf(why, sizeof(why),
	               "the guest agent speaks version %d of the protocol, the host version %u",
	               WIRE_VERSION, version);
	agent_die(a, WIRE_REFUSE, why);
}

static int on_refuse(struct agent *a, const struct wire_frame *f)
{
	struct span why = span_of("", 0);

	(void)a;
	if (wire_parse_text(f->payload, &why) < 0)
		why = span_str("(a malformed reason)");
	log_error("the host refused: %.*s", (int)why.len, (const char *)why.at);
	power_cut();
}

static int on_identity(struct agent *a, const struct wire_frame *f)
{
	struct wire_trusted where = { 0 };
	struct wire_identity id;
	struct err e = { 0 };
	bool renewed;

	if (wire_parse_identity(f->payload, &id) < 0)
		return -EPROTO;
	renewed = f->epoch != a->epoch;
	if (a->hold != HOLD_NONE && !renewed)
		return -EPROTO;
	if (renewed)
		streams_renew(a, id.keep_stream);
	a->epoch = f->epoch;
	a->quiescing = false;
	if (identity_adopt(a, &id, &where, &e) < 0)
		agent_die(a, WIRE_FATAL, e.text);
	hold_end(a); /* only now does anything run again */
	wire_put_trusted(port_out(&a->port), a->epoch, &where);
	if (renewed)
		streams_tell(a, id.keep_stream);
	return 0;
}

static int on_ping(struct agent *a, const struct wire_frame *f)
{
	uint64_t cookie;

	if (wire_parse_u64(f->payload, &cookie) < 0)
		return -EPROTO;
	wire_put_u64(port_out(&a->port), WIRE_PONG, 0, a->epoch, cookie);
	return 0;
}

static int on_stats(struct agent *a, const struct wire_frame *f)
{
	struct wire_stats s;

	(void)f;
	stats_read(a, &s);
	wire_put_stats(port_out(&a->port), a->epoch, &s);
	return 0;
}

static int on_freeze(struct agent *a, const struct wire_frame *f)
{
	(void)f;
	a->freezing = true;
	a->frozen = true;
	a->freeze_until_ms = clock_mono_ms() + AGENT_FREEZE_MS;
	if (cgroup_freeze(&a->cg, true, NULL) < 0)
		a->freeze_until_ms = 0;
	control_on_cgroup(a);
	return 0;
}

static int on_thaw(struct agent *a, const struct wire_frame *f)
{
	(void)f;
	a->freezing = a->frozen = false;
	if (cgroup_freeze(&a->cg, false, NULL) < 0)
		return -EPROTO;
	stream_refill(a);
	answer(a, WIRE_THAW_OK);
	return 0;
}

static int on_hold(struct agent *a, const struct wire_frame *f)
{
	(void)f;
	return hold_begin(a);
}

static int on_release(struct agent *a, const struct wire_frame *f)
{
	struct err e = { 0 };
	uint64_t realtime_ns;

	if (wire_parse_u64(f->payload, &realtime_ns) < 0)
		return -EPROTO;
	if (identity_set_clock(realtime_ns, &e) < 0)
		log_warn("%s", e.text);
	hold_end(a);
	answer(a, WIRE_RELEASE_OK);
	return 0;
}

void control_on_cgroup(struct agent *a)
{
	uint64_t frozen;

	if (!a->freezing || !port_has_room(&a->port))
		return;
	if (!cgroup_read_key(a->cg.events_fd, "frozen", &frozen) || frozen == 0)
		return;
	a->freezing = false;
	answer(a, WIRE_FREEZE_OK);
}

/* A process stuck in the kernel keeps the rest from stopping: undo it, and stay silent, which the
 * host, who waits with a deadline of its own, takes for a no. */
void control_tick(struct agent *a, uint64_t now_ms)
{
	if (!a->freezing || now_ms < a->freeze_until_ms)
		return;
	a->freezing = a->frozen = false;
	if (cgroup_freeze(&a->cg, false, NULL) < 0)
		log_warn("the workload cannot be thawed");
}

static int on_quiesce(struct agent *a, const struct wire_frame *f)
{
	(void)f;
	a->quiescing = true;
	return 0;
}

void control_settle(struct agent *a)
{
	if (!a->quiescing || streams_count(a) > 0 || !port_has_room(&a->port))
		return;
	a->quiescing = false;
	cgroup_kill_left(&a->cg); /* what warm-up commands left running is not for every child */
	identity_show_boot_id(a);
	stream_refill(a);
	identity_reopen(a);
	sync();
	answer(a, WIRE_QUIESCE_OK);
}

static int on_poweroff(struct agent *a, const struct wire_frame *f)
{
	uint32_t grace_ms;

	if (wire_parse_u32(f->payload, &grace_ms) < 0)
		return -EPROTO;
	power_begin(a, grace_ms);
	return 0;
}

static int on_exec(struct agent *a, const struct wire_frame *f)
{
	struct span payload = f->payload;
	uint32_t flags;

	/* the rest of it is the child's to read */
	if (take_le32(&payload, &flags) && flags & WIRE_EXEC_WARM)
		identity_hide_boot_id(a);
	stream_open(a, f);
	return 0;
}

static int on_open(struct agent *a, const struct wire_frame *f)
{
	stream_open(a, f);
	return 0;
}

static int on_collect(struct agent *a, const struct wire_frame *f)
{
	collect_begin(a, f);
	return 0;
}

struct control_rule {
	int (*run)(struct agent *a, const struct wire_frame *f);
	bool any_epoch;
	bool while_held;
};

static const struct control_rule rules[WIRE_TYPE_COUNT] = {
	[WIRE_HELLO_OK] = { on_hello_ok, .any_epoch = true },
	[WIRE_REFUSE] = { on_refuse, .any_epoch = true, .while_held = true },
	[WIRE_IDENTITY] = { on_identity, .any_epoch = true, .while_held = true },
	[WIRE_PING] = { on_ping },
	[WIRE_STATS] = { on_stats },
	[WIRE_FREEZE] = { on_freeze },
	[WIRE_THAW] = { on_thaw },
	[WIRE_QUIESCE] = { on_quiesce },
	[WIRE_HOLD] = { on_hold },
	[WIRE_RELEASE] = { on_release, .while_held = true },
	[WIRE_POWEROFF] = { on_poweroff },
	[WIRE_EXEC] = { on_exec },
	[WIRE_PUT] = { on_open },
	[WIRE_GET] = { on_open },
	[WIRE_COLLECT] = { on_collect },
	[WIRE_DATA] = { stream_frame },
	[WIRE_EOF] = { stream_frame },
	[WIRE_CREDIT] = { stream_frame },
	[WIRE_RESIZE] = { stream_frame },
	[WIRE_SIGNAL] = { stream_frame },
	[WIRE_RESET] = { stream_frame },
};

static void dispatch(struct agent *a, const struct wire_frame *f)
{
	const struct control_rule *rule = &rules[f->type];
	char why[128];

	if (!rule->run)
		agent_die(a, WIRE_REFUSE, "the host sent a frame that has no meaning to a guest");
	if (!rule->any_epoch && f->epoch != a->epoch)
		return;
	if ((a->hold == HOLD_NONE || rule->while_held) && rule->run(a, f) == 0)
		return;
	(void)snprintf(why, sizeof(why), "the host sent a %s frame against the protocol",
	               wire_type_name(f->type));
	agent_die(a, WIRE_REFUSE, why);
}

void control_pump(struct agent *a)
{
	struct wire_frame f;
	int r;

	while (port_has_bytes(&a->port)) {
		r = port_next(&a->port, &f);
		if (r == -EAGAIN)
			return;
		if (r < 0)
			agent_die(a, WIRE_REFUSE, "the host sent bytes that are no frame");
		dispatch(a, &f);
	}
}
