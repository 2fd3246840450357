/*
 * probe_guest: the smallest VM there is, for probe.c's child alone. It opens, runs and says how far
 * it came. Makes no allocation and takes no lock: it runs after a fork.
 */
#pragma once

#include "base/own.h"

#include <stdint.h>

/* How far it came, told to the parent as it goes. Fixed size: one write, one read. */
struct probe_news {
	uint32_t kind; /* enum probe_news_kind */
	int32_t code;  /* negative errno of a failed step */
	uint32_t step; /* index into probe_guest_steps */
	uint32_t pad;
	uint64_t insns;
	uint64_t ns;
};

enum probe_news_kind {
	PROBE_NEWS_READY = 1, /* the VM is made; instructions follow */
	PROBE_NEWS_SPEED,     /* insns took ns, 64-bit ring 0 */
	PROBE_NEWS_FAILED,    /* at step */
	PROBE_NEWS_DONE,
};

/* Names of steps: ioctls first, then instructions. */
const char *probe_guest_step_name(uint32_t step);

/* The whole of it. kvm_fd is /dev/kvm; news goes to news_fd. */
void probe_guest_run(int kvm_fd, int news_fd);
