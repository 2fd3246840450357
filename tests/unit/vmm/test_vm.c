/* The machine, with guests of a few instructions. Where there is no /dev/kvm all are skipped. */
#include "tiny.h"

#include "base/clock.h"
#include "base/kernel_gaps.h"
#include "failalloc.h"
#include "vmm/vm_parts.h"

#include <pthread.h>
#include <stdatomic.h>

#define MMIO_AT UINT64_C(0xd0000000)
#define RESET   0xb0, 0xfe, 0xe6, 0x64 /* mov $0xfe,%al; out %al,$0x64 */

/* incl TINY_DATA_AT; 1: hlt; jmp 1b */
static const uint8_t code_hlt[] = { 0xff, 0x05, 0x00, 0x80, 0, 0, 0xf4, 0xeb, 0xfd };

/* 1: incl TINY_DATA_AT; jmp 1b */
static const uint8_t code_loop[] = { 0xff, 0x05, 0x00, 0x80, 0, 0, 0xeb, 0xf8 };

static void sleep_ms(int ms)
{
	(void)poll(NULL, 0, ms);
}

/* Waits until the guest has written something else than `old`. */
static uint32_t wait_at(const struct tiny *t, uint64_t off, uint32_t old)
{
	uint64_t until = clock_mono_ms() + TINY_WAIT_MS;

	while (tiny_data(t, off) == old) {
		CHECK(clock_mono_ms() < until);
		sleep_ms(1);
	}
	return tiny_data(t, off);
}

static uint32_t wait_data(const struct tiny *t, uint32_t old)
{
	return wait_at(t, 0, old);
}

TEST(reset_ends_it)
{
	static const uint8_t code[] = { RESET, 0xf4 };
	char text[VM_END_TEXT_MAX];
	struct tiny t;

	tiny_new(&t, 1);
	tiny_boot(&t, code, sizeof(code), true);
	CHECK_EQ(vm_end(t.vm, text), VM_RUNNING);
	tiny_start(&t, false);
	CHECK_EQ(tiny_end(&t), VM_END_RESET);
	vm_stop(t.vm);
	CHECK_EQ(vm_end(t.vm, text), VM_END_RESET);
	CHECK_STR(text, "the guest asked for a reset");
	tiny_free(&t);
}

TEST(triple_fault_ends_it)
{
	/* lidt an empty table; mov $0xfff8,%ax; mov %ax,%ds */
	static const uint8_t code[] = { 0x0f, 0x01, 0x1d, 0x00, 0x90, 0x00, 0x00,
		                        0x66, 0xb8, 0xf8, 0xff, 0x8e, 0xd8 };
	struct tiny t;

	tiny_new(&t, 1);
	tiny_boot(&t, code, sizeof(code), true);
	tiny_start(&t, false);
	CHECK_EQ(tiny_end(&t), VM_END_TRIPLE);
	tiny_free(&t);
}

struct seen {
	uint32_t offs[8];
	uint32_t lens[8];
	uint64_t values[8];
	unsigned writes;
};

static void bus_read(void *arg, uint32_t off, void *ret, uint32_t len)
{
	uint64_t v = 0x8877665544332211 + off;

	(void)arg;
	memcpy(ret, &v, len);
}

static void bus_write(void *arg, uint32_t off, const void *data, uint32_t len)
{
	struct seen *s = arg;

	CHECK(s->writes < 8);
	s->offs[s->writes] = off;
	s->lens[s->writes] = len;
	memcpy(&s->values[s->writes++], data, len);
}

TEST(mmio_reaches_its_window_and_nothing_else)
{
	static const uint8_t code[] = {
		0xb8,  0x44, 0x33, 0x22, 0x11,             /* mov $0x11223344,%eax */
		0xa3,  0x04, 0x00, 0x00, 0xd0,             /* mov %eax,0xd0000004 */
		0xa1,  0x08, 0x00, 0x00, 0xd0,             /* mov 0xd0000008,%eax */
		0xa3,  0x00, 0x80, 0x00, 0x00,             /* mov %eax,0x8000 */
		0xc6,  0x05, 0x10, 0x00, 0x00, 0xd0, 0x5a, /* movb $0x5a,0xd0000010 */
		0x66,  0xa1, 0x12, 0x00, 0x00, 0xd0,       /* mov 0xd0000012,%ax */
		0x66,  0xa3, 0x04, 0x80, 0x00, 0x00,       /* mov %ax,0x8004 */
		0xa1,  0x00, 0x00, 0x00, 0xe0,             /* mov 0xe0000000,%eax */
		0xa3,  0x08, 0x80, 0x00, 0x00,             /* mov %eax,0x8008 */
		0xa3,  0x00, 0x00, 0x00, 0xe0,             /* mov %eax,0xe0000000 */
		RESET,
	};
	struct seen seen = { .writes = 0 };
	struct vm_bus bus = { MMIO_AT, 0x1000, bus_read, bus_write, &seen };
	struct vm_counts counts;
	struct err e = { 0 };
	struct tiny t;

	tiny_new(&t, 1);
	CHECK_OK(vm_add_bus(t.vm, &bus, &e), &e);
	tiny_boot(&t, code, sizeof(code), true);
	tiny_start(&t, false);
	CHECK_EQ(tiny_end(&t), VM_END_RESET);
	CHECK_EQ(seen.writes, 2);
	CHECK_EQ(seen.offs[0], 4);
	CHECK_EQ(seen.lens[0], 4);
	CHECK_EQ(seen.values[0], 0x11223344);
	CHECK_EQ(seen.offs[1], 0x10);
	CHECK_EQ(seen.lens[1], 1);
	CHECK_EQ(seen.values[1], 0x5a);
	CHECK_EQ(tiny_data(&t, 0), 0x44332219);
	CHECK_EQ(tiny_data(&t, 4), 0x2223);
	CHECK_EQ(tiny_data(&t, 8), 0xffffffff);
	vm_get_counts(t.vm, &counts);
	CHECK_EQ(counts.exits_mmio, 6);
	CHECK_EQ(counts.unknown_mmio, 2);
	CHECK_EQ(counts.exits_pio, 1);
	CHECK_EQ(counts.unknown_pio, 0);
	tiny_free(&t);
}

TEST(windows_lie_in_the_hole_and_apart)
{
	struct vm_bus bus = { MMIO_AT, 0x1000, bus_read, bus_write, NULL };
	struct err e = { 0 };
	struct tiny t;

	tiny_new(&t, 1);
	CHECK_OK(vm_add_bus(t.vm, &bus, &e), &e);
	bus.start += 0xfff;
	CHECK_EQ(vm_add_bus(t.vm, &bus, &e), -EEXIST);
	bus.start = MMIO_AT - 0xfff;
	CHECK_EQ(vm_add_bus(t.vm, &bus, &e), -EEXIST);
	bus.start = 0x1000;
	CHECK_EQ(vm_add_bus(t.vm, &bus, &e), -EINVAL);
	bus.start = UINT64_MAX - 5;
	CHECK_EQ(vm_add_bus(t.vm, &bus, &e), -EINVAL);
	bus.start = UINT64_C(0x100000000);
	CHECK_EQ(vm_add_bus(t.vm, &bus, &e), -EINVAL);
	bus.start = MMIO_AT + 0x1000;
	bus.bytes = 0;
	CHECK_EQ(vm_add_bus(t.vm, &bus, &e), -EINVAL);
	bus.bytes = 0x1000;
	for (int i = 1; i < VM_BUS_MAX; i++, bus.start += 0x1000)
		CHECK_OK(vm_add_bus(t.vm, &bus, &e), &e);
	CHECK_EQ(vm_add_bus(t.vm, &bus, &e), -ENOSPC);
	tiny_free(&t);
}

TEST(ports_answer_like_an_empty_machine)
{
	static const uint8_t code[] = {
		0xe4,  0x64,                   /* in $0x64,%al */
		0xa2,  0x00, 0x80, 0x00, 0x00, /* mov %al,0x8000 */
		0xe4,  0x60,                   /* in $0x60,%al */
		0xa2,  0x01, 0x80, 0x00, 0x00, /* mov %al,0x8001 */
		0x66,  0xba, 0x34, 0x12,       /* mov $0x1234,%dx */
		0xed,                          /* in (%dx),%eax */
		0xa3,  0x04, 0x80, 0x00, 0x00, /* mov %eax,0x8004 */
		0xe6,  0x80,                   /* out %al,$0x80 */
		RESET,
	};
	struct vm_counts counts;
	struct tiny t;

	tiny_new(&t, 1);
	tiny_boot(&t, code, sizeof(code), true);
	tiny_start(&t, false);
	CHECK_EQ(tiny_end(&t), VM_END_RESET);
	CHECK_EQ(tiny_data(&t, 0), 0xff00);
	CHECK_EQ(tiny_data(&t, 4), 0xffffffff);
	vm_get_counts(t.vm, &counts);
	CHECK_EQ(counts.exits_pio, 5);
	CHECK_EQ(counts.unknown_pio, 3);
	tiny_free(&t);
}

TEST(string_ports_move_every_element)
{
	static const uint8_t code[] = {
		0xfc,                          /* cld */
		0xbf,  0x00, 0x80, 0x00, 0x00, /* mov $0x8000,%edi */
		0xb9,  0x08, 0x00, 0x00, 0x00, /* mov $8,%ecx */
		0xba,  0x60, 0x00, 0x00, 0x00, /* mov $0x60,%edx */
		0xf3,  0x6c,                   /* rep insb */
		0xbe,  0x00, 0x80, 0x00, 0x00, /* mov $0x8000,%esi */
		0xb9,  0x02, 0x00, 0x00, 0x00, /* mov $2,%ecx */
		0xf3,  0x6f,                   /* rep outsl */
		RESET,
	};
	struct vm_counts counts;
	struct tiny t;

	tiny_new(&t, 1);
	tiny_boot(&t, code, sizeof(code), true);
	tiny_start(&t, false);
	CHECK_EQ(tiny_end(&t), VM_END_RESET);
	CHECK_EQ(tiny_data(&t, 0), 0xffffffff);
	CHECK_EQ(tiny_data(&t, 4), 0xffffffff);
	CHECK_EQ(tiny_data(&t, 8), 0);
	vm_get_counts(t.vm, &counts);
	CHECK_EQ(counts.unknown_pio, 10);
	tiny_free(&t);
}

TEST(a_kernel_without_the_note_starts_in_long_mode)
{
	static const uint8_t code[] = {
		0x48,  0xb8, 1,    2,    3,    4,    5,    6,
		7,     8, /* movabs $0x0807060504030201,%rax */
		0x48,  0x89, 0x04, 0x25, 0x00, 0x80, 0x00, 0x00, /* mov %rax,0x8000 */
		0x89,  0x34, 0x25, 0x08, 0x80, 0x00, 0x00,       /* mov %esi,0x8008 */
		RESET,
	};
	struct tiny t;

	tiny_new(&t, 1);
	tiny_boot(&t, code, sizeof(code), false);
	tiny_start(&t, false);
	CHECK_EQ(tiny_end(&t), VM_END_RESET);
	CHECK_EQ(tiny_data(&t, 0), 0x04030201);
	CHECK_EQ(tiny_data(&t, 4), 0x08070605);
	CHECK_EQ(tiny_data(&t, 8), 0x7000);
	tiny_free(&t);
}

TEST(a_store_rings_its_eventfd)
{
	static const uint8_t code[] = {
		0xb8,  0x03, 0x00, 0x00, 0x00, /* mov $3,%eax */
		0xa3,  0x50, 0x00, 0x00, 0xd0, /* mov %eax,0xd0000050 */
		RESET,
	};
	struct vm_counts counts;
	struct err e = { 0 };
	struct tiny t;
	int fd = eventfd(0, EFD_CLOEXEC);
	int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t n;

	tiny_new(&t, 1);
	CHECK_OK(vm_bind_store(t.vm, fd, gpa_of(MMIO_AT + 0x50), 3, &e), &e);
	CHECK_OK(vm_bind_store(t.vm, other, gpa_of(MMIO_AT + 0x50), 2, &e), &e);
	tiny_boot(&t, code, sizeof(code), true);
	tiny_start(&t, false);
	CHECK_EQ(tiny_end(&t), VM_END_RESET);
	tiny_wait(fd);
	CHECK_EQ(read(other, &n, sizeof(n)), -1);
	vm_get_counts(t.vm, &counts);
	CHECK_EQ(counts.exits_mmio, 0);
	tiny_free(&t);
	(void)close(fd);
	(void)close(other);
}

TEST(interrupt_lines_are_those_of_the_ioapic)
{
	struct err e = { 0 };
	struct tiny t;
	int fd = eventfd(0, EFD_CLOEXEC);

	tiny_new(&t, 1);
	CHECK_OK(vm_bind_irq(t.vm, fd, 5, &e), &e);
	CHECK_EQ(vm_bind_irq(t.vm, fd, 24, &e), -EINVAL);
	CHECK_EQ(vm_bind_irq(t.vm, -1, 6, &e), -EBADF);
	tiny_free(&t);
	(void)close(fd);
}

TEST(pause_holds_a_busy_guest)
{
	struct err e = { 0 };
	struct tiny t;
	uint32_t n;

	tiny_new(&t, 1);
	tiny_boot(&t, code_loop, sizeof(code_loop), true);
	tiny_start(&t, false);
	n = wait_data(&t, 0);
	for (int i = 0; i < 100; i++) {
		CHECK_OK(vm_pause(t.vm, &e), &e);
		CHECK(vm_is_paused(t.vm));
		n = tiny_data(&t, 0);
		if (i % 10 == 0)
			sleep_ms(2);
		CHECK_EQ(tiny_data(&t, 0), n);
		vm_resume(t.vm);
		CHECK(!vm_is_paused(t.vm));
		if (i % 3 == 0)
			n = wait_data(&t, n);
	}
	vm_stop(t.vm);
	tiny_free(&t);
}

TEST(pause_wakes_a_halted_guest)
{
	struct err e = { 0 };
	struct tiny t;

	tiny_new(&t, 1);
	tiny_boot(&t, code_hlt, sizeof(code_hlt), true);
	tiny_start(&t, false);
	CHECK_EQ(wait_data(&t, 0), 1);
	for (int i = 0; i < 20; i++) {
		CHECK_OK(vm_pause(t.vm, &e), &e);
		vm_resume(t.vm);
	}
	CHECK_EQ(tiny_data(&t, 0), 1);
	vm_stop(t.vm);
	tiny_free(&t);
}

TEST(a_machine_may_start_paused)
{
	struct err e = { 0 };
	struct tiny t;

	tiny_new(&t, 4);
	tiny_boot(&t, code_loop, sizeof(code_loop), true);
	tiny_start(&t, true);
	CHECK_OK(vm_pause(t.vm, &e), &e);
	sleep_ms(5);
	CHECK_EQ(tiny_data(&t, 0), 0);
	vm_resume(t.vm);
	(void)wait_data(&t, 0);
	vm_stop(t.vm);
	tiny_free(&t);
}

TEST(others_are_told_of_a_pause)
{
	struct tiny t;

	tiny_new(&t, 3);
	tiny_boot(&t, code_loop, sizeof(code_loop), true);
	tiny_start(&t, false);
	for (int i = 0; i < 50; i++) {
		vm_pause_begin(t.vm);
		tiny_wait(t.paused_fd);
		CHECK(vm_is_paused(t.vm));
		vm_resume(t.vm);
	}
	vm_stop(t.vm);
	tiny_free(&t);
}

TEST(two_cpus_run_and_pause_together)
{
	struct err e = { 0 };
	struct tiny t;

	tiny_new(&t, 2);
	tiny_boot_two(&t);
	tiny_start(&t, false);
	for (int i = 0; i < 20; i++) {
		uint32_t one;
		uint32_t two;

		(void)wait_at(&t, 0, tiny_data(&t, 0));
		(void)wait_at(&t, TINY_AP_COUNT, tiny_data(&t, TINY_AP_COUNT));
		CHECK_OK(vm_pause(t.vm, &e), &e);
		one = tiny_data(&t, 0);
		two = tiny_data(&t, TINY_AP_COUNT);
		sleep_ms(1);
		CHECK_EQ(tiny_data(&t, 0), one);
		CHECK_EQ(tiny_data(&t, TINY_AP_COUNT), two);
		vm_resume(t.vm);
	}
	vm_stop(t.vm);
	tiny_free(&t);
}

struct gate {
	int entered_fd, leave_fd;
	_Atomic unsigned done;
};

static void gate_read(void *arg, uint32_t off, void *ret, uint32_t len)
{
	struct gate *g = arg;

	(void)off;
	tiny_tell(g->entered_fd);
	tiny_wait(g->leave_fd);
	memset(ret, 0x77, len);
	atomic_fetch_add(&g->done, 1);
}

static void gate_write(void *arg, uint32_t off, const void *data, uint32_t len)
{
	(void)arg;
	(void)off;
	(void)data;
	(void)len;
}

static void *pauser(void *arg)
{
	struct err e = { 0 };

	CHECK_OK(vm_pause(arg, &e), &e);
	return NULL;
}

/* The guest's load is answered while it is to pause: the register must have its value then. */
TEST(pause_finishes_an_access_under_way)
{
	static const uint8_t code[] = {
		0xa1, 0x00, 0x00, 0x00, 0xd0, /* mov 0xd0000000,%eax */
		0xa3, 0x00, 0x80, 0x00, 0x00, /* mov %eax,0x8000 */
		0xf4, 0xeb, 0xfd,
	};
	struct gate gate = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC), 0 };
	struct vm_bus bus = { MMIO_AT, 0x1000, gate_read, gate_write, &gate };
	struct err e = { 0 };
	pthread_t thread;
	struct tiny t;

	tiny_new(&t, 1);
	CHECK_OK(vm_add_bus(t.vm, &bus, &e), &e);
	tiny_boot(&t, code, sizeof(code), true);
	tiny_start(&t, false);
	tiny_wait(gate.entered_fd);
	CHECK_EQ(pthread_create(&thread, NULL, pauser, t.vm), 0);
	sleep_ms(200); /* until it has asked for the pause, on a busy machine too */
	CHECK(!vm_is_paused(t.vm));
	tiny_tell(gate.leave_fd);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(atomic_load(&gate.done), 1);
	CHECK_EQ(tiny_data(&t, 0), 0);
	vm_resume(t.vm);
	CHECK_EQ(wait_data(&t, 0), 0x77777777);
	CHECK_EQ(atomic_load(&gate.done), 1); /* not asked twice */
	vm_stop(t.vm);
	tiny_free(&t);
}

TEST(stop_is_quick_and_final)
{
	char text[VM_END_TEXT_MAX];
	struct err e = { 0 };
	struct tiny t;

	tiny_new(&t, 4);
	tiny_boot(&t, code_loop, sizeof(code_loop), true);
	tiny_start(&t, false);
	(void)wait_data(&t, 0);
	vm_stop(t.vm);
	CHECK_EQ(vm_end(t.vm, text), VM_END_STOPPED);
	CHECK_STR(vm_end_name(VM_END_STOPPED), "stopped");
	CHECK_EQ(vm_pause(t.vm, &e), -ESHUTDOWN);
	vm_resume(t.vm);
	vm_stop(t.vm);
	CHECK_EQ(vm_end(t.vm, text), VM_END_STOPPED);
	tiny_free(&t);
}

TEST(stop_ends_a_paused_machine)
{
	struct err e = { 0 };
	struct tiny t;

	tiny_new(&t, 2);
	tiny_boot(&t, code_loop, sizeof(code_loop), true);
	tiny_start(&t, false);
	CHECK_OK(vm_pause(t.vm, &e), &e);
	vm_stop(t.vm);
	tiny_free(&t);
}

TEST(a_machine_that_never_ran_is_freed)
{
	struct tiny t;

	tiny_new(&t, 32);
	tiny_free(&t);
	vm_free(NULL);
}

static int bad_jail(void *arg, struct err *e)
{
	(void)arg;
	return err_set(e, -EPERM, "no jail today");
}

TEST(a_thread_without_its_jail_runs_nothing)
{
	char text[VM_END_TEXT_MAX];
	struct err e = { 0 };
	struct tiny t;

	tiny_new(&t, 2);
	tiny_boot(&t, code_loop, sizeof(code_loop), true);
	CHECK_OK(vm_start(t.vm, bad_jail, NULL, false, &e), &e);
	CHECK_EQ(tiny_end(&t), VM_END_HOST);
	(void)vm_end(t.vm, text);
	CHECK(strstr(text, "no jail today") != NULL);
	tiny_free(&t);
}

TEST(refuses_what_it_cannot_be)
{
	struct err e = { 0 };
	struct vm *vm = NULL;
	struct vm_config c = { .kvm_fd = tiny_kvm(), .ram_bytes = TINY_RAM, .cpus = 1 };

	c.ram_fd = tiny_memfd("ram", TINY_RAM);
	c.cpus = 0;
	CHECK_EQ(vm_new(&c, &vm, &e), -EINVAL);
	c.cpus = VM_CPUS_MAX + 1;
	CHECK_EQ(vm_new(&c, &vm, &e), -EINVAL);
	CHECK_STR(e.text, "a guest has 1 to 32 CPUs here, not 33");
	c.cpus = 1;
	c.ram_bytes = TINY_RAM + 4096;
	CHECK_EQ(vm_new(&c, &vm, &e), -EINVAL);
	CHECK_STR(e.text, "the memory file has fewer than 16781312 bytes");
	c.ram_bytes = TINY_RAM;
	(void)close(c.kvm_fd);
	c.kvm_fd = c.ram_fd;
	CHECK_EQ(vm_new(&c, &vm, &e), -ENODEV);
	CHECK(!vm);
	(void)close(c.ram_fd);
}

/* The machine's KVM, but for one request (of one number) that it refuses `times` times. */
struct picky {
	unsigned long request;
	unsigned long number; /* for KVM_CHECK_EXTENSION */
	int answer;
	int times;
};

static int picky_call(void *arg, int fd, unsigned long request, void *data)
{
	struct picky *p = arg;

	if (request == p->request && p->times > 0 &&
	    (request != KVM_CHECK_EXTENSION || p->number == (unsigned long)data)) {
		p->times--;
		return p->answer;
	}
	return kvm_call(kvm_ops_real(), fd, request, data);
}

static int new_on(struct picky *p, struct err *e)
{
	struct kvm_ops ops = { picky_call, p };
	struct vm_config c = { .kvm_fd = tiny_kvm(), .ram_bytes = TINY_RAM, .cpus = 1 };
	struct vm *vm = NULL;
	int r;

	c.ram_fd = tiny_memfd("ram", TINY_RAM);
	r = vm_new_on(&ops, &c, &vm, e);
	CHECK((r == 0) == (vm != NULL));
	vm_free(vm);
	(void)close(c.kvm_fd);
	(void)close(c.ram_fd);
	return r;
}

TEST(what_kvm_lacks_is_named)
{
	static const struct {
		unsigned long cap;
		const char *text;
	} lost[] = {
		{ KVM_CAP_IRQCHIP, "KVM here lacks interrupt controllers in the kernel" },
		{ KVM_CAP_IMMEDIATE_EXIT, "KVM here lacks immediate_exit" },
		{ KVM_CAP_TSC_DEADLINE_TIMER, "KVM here lacks the TSC deadline timer" },
		{ KVM_CAP_KVMCLOCK_CTRL, "KVM here lacks KVM_KVMCLOCK_CTRL" },
	};

	for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
		struct picky p = { KVM_CHECK_EXTENSION, lost[i].cap, 0, 1 };
		struct err e = { 0 };

		CHECK_EQ(new_on(&p, &e), -ENOTSUP);
		CHECK_STR(e.text, lost[i].text);
	}
}

TEST(creating_is_tried_again_after_a_signal)
{
	struct picky p = { KVM_CREATE_VM, 0, -EINTR, 5 };
	struct err e = { 0 };

	CHECK_OK(new_on(&p, &e), &e);
	p.times = 1000000;
	CHECK_EQ(new_on(&p, &e), -EINTR);
	CHECK_STR(e.text, "KVM_CREATE_VM: Interrupted system call");
}

/* As on a file system that has no page left for a hole: KVM_RUN itself fails. */
TEST(memory_the_host_cannot_give_ends_the_machine_with_a_word)
{
	struct picky p = { KVM_RUN, 0, -EFAULT, 1 };
	struct kvm_ops ops = { picky_call, &p };
	struct tiny t = { .kvm_fd = tiny_kvm(), .ram_fd = tiny_memfd("ram", TINY_RAM) };
	struct vm_config c = { .kvm_fd = t.kvm_fd,
		               .ram_fd = t.ram_fd,
		               .ram_bytes = TINY_RAM,
		               .cpus = 1,
		               .ended = tiny_on_ended,
		               .arg = &t };
	char text[VM_END_TEXT_MAX];
	struct err e = { 0 };

	t.ended_fd = eventfd(0, EFD_CLOEXEC);
	t.paused_fd = -1;
	CHECK_OK(vm_new_on(&ops, &c, &t.vm, &e), &e);
	tiny_start(&t, false);
	tiny_wait(t.ended_fd);
	CHECK_EQ(vm_end(t.vm, text), VM_END_HOST);
	CHECK_STR(text, GUEST_MEM_LOST);
	tiny_free(&t);
}

TEST(each_refusal_of_kvm_is_told)
{
	static const struct {
		unsigned long request;
		int answer, code;
		const char *text;
	} bad[] = {
		{ KVM_GET_API_VERSION, 11, -ENOTSUP, "KVM speaks version 11, not 12" },
		{ KVM_GET_API_VERSION, -EACCES, -EACCES, "no permission to use KVM" },
		{ KVM_CREATE_VM, -ENOMEM, -ENOMEM, "KVM_CREATE_VM: Cannot allocate memory" },
		{ KVM_CREATE_IRQCHIP, -EEXIST, -EEXIST, "KVM_CREATE_IRQCHIP: File exists" },
		{ KVM_SET_USER_MEMORY_REGION, -EINVAL, -EINVAL,
		  "KVM_SET_USER_MEMORY_REGION: Invalid argument" },
		{ KVM_GET_VCPU_MMAP_SIZE, 16, -EPROTO, "KVM_GET_VCPU_MMAP_SIZE answers 16" },
		{ KVM_CREATE_VCPU, -ENOMEM, -ENOMEM, "KVM_CREATE_VCPU: Cannot allocate memory" },
		{ KVM_SET_CPUID2, -EINVAL, -EINVAL, "KVM_SET_CPUID2: Invalid argument" },
		{ KVM_GET_SUPPORTED_CPUID, -E2BIG, -E2BIG,
		  "KVM_GET_SUPPORTED_CPUID: Argument list too long" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct picky p = { bad[i].request, 0, bad[i].answer, 1 };
		struct err e = { 0 };

		CHECK_EQ(new_on(&p, &e), bad[i].code);
		CHECK_STR(e.text, bad[i].text);
	}
}

/* A KVM that maps two pages at a time, and is interrupted once. */
struct slow_kvm {
	bool able;
	unsigned calls;
	uint64_t mapped, next;
};

static int slow_call(void *arg, int fd, unsigned long request, void *data)
{
	struct kvm_pre_fault_memory *range = data;
	struct slow_kvm *k = arg;
	uint64_t part;

	if (request == KVM_CHECK_EXTENSION && (unsigned long)data == KVM_CAP_PRE_FAULT_MEMORY)
		return k->able;
	if (request != KVM_PRE_FAULT_MEMORY)
		return kvm_call(kvm_ops_real(), fd, request, data);
	if (k->calls++ == 1)
		return -EINTR;
	part = range->size < 8192 ? range->size : 8192;
	CHECK_EQ(range->gpa, k->next);
	k->next += part;
	k->mapped += part;
	range->gpa += part;
	range->size -= part;
	return 0;
}

TEST(pages_are_mapped_ahead_where_kvm_can)
{
	for (int able = 0; able <= 1; able++) {
		struct slow_kvm k = { .able = able, .next = 0x100000 };
		struct kvm_ops ops = { slow_call, &k };
		struct vm_config c = { .ram_fd = -1, .ram_bytes = TINY_RAM, .cpus = 1 };
		struct err e = { 0 };
		struct vm *vm = NULL;

		c.kvm_fd = tiny_kvm();
		CHECK_OK(vm_new_on(&ops, &c, &vm, &e), &e);
		CHECK_EQ(vm_prefault(vm, gpa_of(0x100000), 5 * 4096), able);
		CHECK_EQ(k.mapped, able ? 5 * 4096 : 0);
		CHECK_EQ(k.calls, able ? 4 : 0);
		vm_free(vm);
		(void)close(c.kvm_fd);
	}
}

TEST(each_allocation_may_fail)
{
	struct vm_config c = { .kvm_fd = tiny_kvm(), .ram_bytes = TINY_RAM, .cpus = 2 };
	int kernel = tiny_kernel(code_hlt, sizeof(code_hlt), true);

	c.ram_fd = tiny_memfd("ram", TINY_RAM);
	FAILALLOC_EACH()
	{
		struct err e = { 0 };
		struct vm *vm = NULL;
		int r = vm_new(&c, &vm, &e);

		if (r == 0)
			r = vm_boot(vm, kernel, -1, "", &e);
		if (failalloc_hit())
			CHECK_EQ(r, -ENOMEM);
		else
			CHECK_OK(r, &e);
		vm_free(vm);
	}
	(void)close(kernel);
	(void)close(c.kvm_fd);
	(void)close(c.ram_fd);
}

TEST_MAIN()
