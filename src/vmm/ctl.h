/*
 * ctl: what berm-vmm and whoever started it say to each other over a SOCK_SEQPACKET pair.
 *
 * One message is one packet of exactly CTL_BYTES: no framing, nothing to be half of. berm-vmm
 * answers every request with CTL_DONE of the same seq, and tells by itself that the machine ended,
 * and that its network card lost the gate: once, and again behind every answer, as whoever waits
 * for one passes over all else. Both sides check type, version and length of what they get;
 * berm-vmm holds guest memory, so its words are as hostile as the guest's.
 *
 * Shape     u8 type | u8 version | u16 text_len | u32 seq | i32 code | u32 0 | u64 a[6]
 *           | text, then zeros. Little endian. A field its type does not use is 0.
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdint.h>

enum { CTL_VERSION = 1, CTL_TEXT_MAX = 192, CTL_BYTES = 256 };

enum ctl_type {
	CTL_RESUME = 1, /* let the CPUs run */
	CTL_PAUSE = 2,  /* stop CPUs and devices */
	/* paused: write state to the fd that comes along (SCM_RIGHTS); with a second one, memory */
	CTL_SAVE = 3,
	CTL_STATS = 4,
	CTL_BALLOON = 5, /* a[0]: pages the guest is to give up */
	CTL_QUIT = 6,
	CTL_TOUCHED =
		7, /* write to the fd that comes along which pages were used since the restore */
	CTL_DONE = 16,      /* code: 0 or -errno; text: why. STATS: a[] are the counts below */
	CTL_ENDED = 17,     /* a[0]: enum vm_end; text */
	CTL_GATE_LOST = 18, /* text: why */
};

enum ctl_stat {
	CTL_EXITS,
	CTL_EXITS_MMIO,
	CTL_EXITS_PIO,
	CTL_EXITS_HALT,
	CTL_KICKS,
	CTL_INTERRUPTS,
	CTL_STAT_COUNT
};

struct ctl {
	uint8_t type;
	uint32_t seq;
	int32_t code;
	uint64_t a[CTL_STAT_COUNT];
	uint16_t text_len;
	char text[CTL_TEXT_MAX]; /* not NUL-ended; of the other side: for the logger alone */
};

/* Cuts `text` to what fits. */
void ctl_set_text(struct ctl *c, const char *text);

void ctl_put(const struct ctl *c, uint8_t ret[CTL_BYTES]);

/* One whole packet. 0, or -EBADMSG: another length or version, an unknown type, a field that its
 * type does not have. Whether the type is the other side's to send is for the caller to ask. */
_must_ int ctl_parse(struct span in, struct ctl *ret);
