/*
 * identity: what makes this guest another than its template's other children.
 *
 * In this order: entropy into the kernel's generator and a reseed, so that nothing is drawn from
 * the state the template was saved with; the clock; host name and machine-id; the workload's
 * limits. Only then is IDENTITY_OK said and may a command start.
 */
#pragma once

#include "base/err.h"
#include "wire/wire.h"

struct agent;

_must_ int identity_adopt(struct agent *a, const struct wire_identity *id, struct err *e);

/*
 * Writes one small file of /etc that programs look for. Only if /etc is a directory and the name is
 * absent or a plain file: what an image made a link or a device is the image's own business.
 */
void identity_write(const char *dir, const char *name, const char *text);

/* /etc/hostname and /etc/hosts for this name. */
void identity_write_names(const char *hostname);
