/*
 * kvm: the ioctls of KVM, through a table, so that a test can answer in KVM's place.
 *
 * Errors    negative errno; else what the ioctl returned
 */
#pragma once

#include "base/own.h"

/* `data` is a pointer, or a number for those ioctls that take one. */
struct kvm_ops {
	int (*call)(void *arg, int fd, unsigned long request, void *data);
	void *arg;
};

const struct kvm_ops *kvm_ops_real(void);

static inline int kvm_call(const struct kvm_ops *k, int fd, unsigned long request, void *data)
{
	return k->call(k->arg, fd, request, data);
}

/* For ioctls that take a number. */
static inline int kvm_call_number(const struct kvm_ops *k, int fd, unsigned long request,
                                  unsigned long number)
{
	return k->call(k->arg, fd, request, (void *)number);
}
