/*
 * identity: what makes this guest another than its template's other children.
 *
 * In this order: entropy into the kernel's generator and a reseed, so that nothing is drawn from
 * the state the template was saved with; the clock; host name and machine-id; the network card;
 * the certificate it is to trust; the workload's limits. Only then is IDENTITY_OK said and may a
 * command start.
 *
 * The kernel draws /proc/sys/kernel/random/boot_id when it is first read. So each child of a
 * template has its own, if nobody read it before the template was saved; while warm-up commands run
 * another file lies over it. That is gone when the template is saved: for good it would do harm, as
 * a user namespace may mount a /proc only where nothing lies over parts of the one it sees.
 */
#pragma once

#include "base/err.h"
#include "wire/wire.h"

struct agent;

/*
 * The small files of /etc that carry it are kept open: after a restore a name is then one write,
 * not a walk along paths that the emulator has to translate first (10 ms of an 80 ms start). Opened
 * at boot and anew before each save, in case somebody replaced one; a file that was removed since
 * then is left alone, and so is one that is a mount of its own, or below one: whoever serves that
 * may be frozen.
 */
enum identity_file {
	IDENTITY_HOSTNAME,
	IDENTITY_HOSTS,
	IDENTITY_MACHINE,
	IDENTITY_DBUS, /* only where there is one */
	IDENTITY_FILES
};

struct identity_files {
	int fds[IDENTITY_FILES]; /* -1: not there, or not a plain file: the image's own business */
};

void identity_init(struct identity_files *f);

/* Opens them, after closing what was open. Only below an /etc that is a directory. */
void identity_open(struct identity_files *f);

/* Another boot_id for as long as warm-up commands run; of no effect the second time. */
void identity_hide_boot_id(struct agent *a);

/* The kernel's own again, which nobody has read. */
void identity_show_boot_id(struct agent *a);

/* /etc/hostname and /etc/hosts for this name, whatever they held. */
void identity_write_names(const struct identity_files *f, const char *hostname);

_must_ int identity_set_clock(uint64_t realtime_ns, struct err *e);

/*
 * ret_where: where a certificate went. -ENODEV: a network, and no card for it. What the workload of
 * a copy made of its card and its files is its own affair: there a failure is only logged.
 */
_must_ int identity_adopt(struct agent *a, const struct wire_identity *id,
                          struct wire_trusted *ret_where, struct err *e);

/* All files that are kept open, opened anew before the guest is saved. */
void identity_reopen(struct agent *a);
