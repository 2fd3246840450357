#include "vmm/kvm.h"

#include <errno.h>
#include <stddef.h>
#include <sys/ioctl.h>

static int call(void *arg, int fd, unsigned long request, void *data)
{
	int r = ioctl(fd, request, data);

	(void)arg;
	return r < 0 ? -errno : r;
}

static const struct kvm_ops real = { .call = call, .arg = NULL };

const struct kvm_ops *kvm_ops_real(void)
{
	return &real;
}
