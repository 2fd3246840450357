/*
 * agent: PID 1 of the guest. One process, one thread, one epoll loop; all memory is set aside at
 * start.
 *
 * Trusts    the host's frames (they are checked for form, and a malformed one ends the guest)
 * Distrusts the workload, root included: it may kill, fill and stall anything but this process
 */
#pragma once

#include "agent/cgroup.h"
#include "agent/hold.h"
#include "agent/identity.h"
#include "agent/network.h"
#include "agent/port.h"
#include "agent/stream.h"
#include "agent/trust.h"
#include "agent/workspace.h"

enum {
	AGENT_FREEZE_MS = 2000, /* a process in the kernel may take a while to stop */
	AGENT_REFILL_MS = 200,  /* after an exec started: not while its command needs the CPU */
	AGENT_LOOK_MS = 25,     /* between looks at a command that may have started */
	AGENT_LAZY_MS = 5,      /* how long a frame may wait for company (port_out_lazy) */
	AGENT_DRAIN_MS = 2000,  /* last words to the host before the power goes */
	AGENT_GRACE_MAX_MS = 60000,
	AGENT_EPOLL_EVENTS = 64,
	AGENT_DISK_LOW_SHIFT = 7,         /* below 1/128 free ... */
	AGENT_DISK_LOW_BYTES = 256 << 10, /* ... or this, the disk counts as full */
};

/* What an epoll event is about; a stream's carry its slot and enum stream_event above 8 bits. */
enum agent_event {
	AGENT_EV_PORT,
	AGENT_EV_SIGNAL,
	AGENT_EV_MEMORY,
	AGENT_EV_PIDS,
	AGENT_EV_CGROUP,
	AGENT_EV_STREAM
};

enum power_state { POWER_ON, POWER_TERM, POWER_KILL, POWER_OFF };

struct agent {
	int epoll_fd, signal_fd, random_fd, scratch_fd;
	uint32_t epoch;
	struct port port;
	struct cgroups cg;
	struct identity_files names;
	struct network network;
	struct trust trust;
	struct workspace workspace;
	/* started to export what another guest left: it has no root, and runs nothing */
	bool rescue;
	bool boot_id_hidden;
	struct stream streams[WIRE_STREAMS_MAX];
	struct child spare;
	uint64_t refill_ms; /* when to make the next spare; 0: not planned */
	unsigned turn;      /* the stream that moves first */

	uint64_t lazy_ms; /* when what waits for company is sent; 0: nothing waits */
	bool watch_writable;
	bool frozen, freezing, quiescing;
	uint64_t freeze_until_ms;
	enum hold hold;
	uint64_t hold_until_ms; /* while asked: for the workload to stand still */
	enum power_state power;
	uint64_t power_until_ms;

	uint64_t oom_told;
	uint64_t oom_told_ms; /* when */
	uint64_t oom_due_ms;  /* when to report one that no stream died of; 0: none */
	uint64_t disk_count;
};

/* Watches fd for edges; events are EPOLLIN and so on. */
_must_ int agent_watch(struct agent *a, int fd, uint32_t events, enum agent_event what,
                       unsigned slot, unsigned sub, struct err *e);

/* Says why, as far as a host listens, and cuts the power. */
_Noreturn void agent_die(struct agent *a, uint8_t type, const char *why);
