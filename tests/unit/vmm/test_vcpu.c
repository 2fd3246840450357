/* Exits as KVM may report them, in a run area of the test's own: no KVM is needed. */
#include "test.h"

#include "vmm/vcpu.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { RUN_BYTES = 8192, DATA_AT = 4096 };

struct place {
	struct vm vm;
	struct kvm_ops ops;
	struct vcpu *v;
	struct kvm_run *run;
	int ended;
	uint64_t rip, cs_base;
	struct kvm_vcpu_events events;
	bool events_refused;
};

static int answer(void *arg, int fd, unsigned long request, void *data)
{
	struct place *p = arg;

	(void)fd;
	switch (request) {
	case KVM_GET_REGS:
		*(struct kvm_regs *)data = (struct kvm_regs){ .rip = p->rip, .rsp = 0x7000 };
		return 0;
	case KVM_GET_SREGS:
		*(struct kvm_sregs *)data = (struct kvm_sregs){
			.cs = { .base = p->cs_base, .selector = 0x10 },
			.cr2 = 0x1234,
			.cr3 = 0x5000,
			.efer = 0xd01,
		};
		return 0;
	case KVM_GET_VCPU_EVENTS:
		*(struct kvm_vcpu_events *)data = p->events;
		return p->events_refused ? -EINVAL : 0;
	default:
		return -ENOSYS;
	}
}

static void on_ended(void *arg)
{
	((struct place *)arg)->ended++;
}

static struct place *place_new(uint32_t exit_reason)
{
	struct place *p = calloc(1, sizeof(*p));

	CHECK(p);
	p->ops = (struct kvm_ops){ .call = answer, .arg = p };
	p->rip = 0xffffffff81000123;
	p->vm.ops = &p->ops;
	p->vm.cpus = 1;
	p->vm.ended = on_ended;
	p->vm.arg = p;
	CHECK_EQ(pthread_mutex_init(&p->vm.lock, NULL), 0);
	CHECK_EQ(pthread_cond_init(&p->vm.changed, NULL), 0);
	p->v = &p->vm.vcpus[0];
	p->run = calloc(1, RUN_BYTES);
	CHECK(p->run);
	*p->v = (struct vcpu){ .vm = &p->vm, .fd = 7, .run = p->run, .run_bytes = RUN_BYTES };
	p->run->exit_reason = exit_reason;
	return p;
}

static void place_free(struct place *p)
{
	free(p->run);
	free(p);
}

static void check_ends(struct place *p, enum vm_end want, const char *text)
{
	CHECK_EQ(vcpu_handle_exit(p->v), 1);
	CHECK_EQ(p->vm.end, want);
	CHECK_STR(p->vm.end_text, text);
	CHECK_EQ(p->vm.want, VM_WANT_STOP);
	CHECK_EQ(p->run->immediate_exit, 1);
	CHECK_EQ(p->ended, 1);
	place_free(p);
}

TEST(every_end_has_its_reason)
{
	struct place *p = place_new(KVM_EXIT_SHUTDOWN);

	check_ends(p, VM_END_TRIPLE, "CPU 0 took a triple fault");
	p = place_new(KVM_EXIT_FAIL_ENTRY);
	p->run->fail_entry.hardware_entry_failure_reason = 0x80000021;
	check_ends(p, VM_END_ENTRY, "CPU 0 cannot enter the guest: hardware reason 0x80000021");
	p = place_new(KVM_EXIT_INTERNAL_ERROR);
	p->run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
	check_ends(
		p, VM_END_INTERNAL,
		"KVM gave up at 0xffffffff81000123: suberror 1, an instruction it cannot emulate");
	p = place_new(KVM_EXIT_INTERNAL_ERROR);
	p->run->internal.suberror = 99;
	check_ends(p, VM_END_INTERNAL,
	           "KVM gave up at 0xffffffff81000123: suberror 99, no more is known");
	p = place_new(KVM_EXIT_SYSTEM_EVENT);
	p->run->system_event.type = KVM_SYSTEM_EVENT_SHUTDOWN;
	check_ends(p, VM_END_RESET, "the guest asked for a reset (system event 1)");
	p = place_new(KVM_EXIT_SYSTEM_EVENT);
	p->run->system_event.type = KVM_SYSTEM_EVENT_CRASH;
	check_ends(p, VM_END_UNKNOWN, "system event 3");
	p = place_new(KVM_EXIT_HLT);
	check_ends(p, VM_END_UNKNOWN, "CPU 0 halted without an interrupt controller");
	p = place_new(4242);
	check_ends(p, VM_END_UNKNOWN, "KVM exit 4242");
}

TEST(where_a_fault_was)
{
	struct place *p = place_new(KVM_EXIT_SHUTDOWN);
	char where[VM_WHERE_MAX];

	p->v->exits = 41;
	vm_where(&p->vm, where);
	CHECK_STR(where, ""); /* there was none */
	CHECK_EQ(vcpu_handle_exit(p->v), 1);
	vm_where(&p->vm, where);
	CHECK_STR(where, "after 42 exits at rip 0xffffffff81000123 rsp 0x7000 rflags 0x0 cs 0x10 "
	                 "cr0 0x0 cr2 0x1234 cr3 0x5000 cr4 0x0 efer 0xd01 gdt 0x0 idt 0x0 tss "
	                 "0x0");
	p->events.exception.injected = 1;
	p->events.exception.nr = 14;
	p->events.exception.error_code = 2;
	p->events.interrupt.injected = 1;
	p->events.interrupt.nr = 0xec;
	p->events.interrupt.shadow = 1;
	p->events.nmi.pending = 1;
	vm_where(&p->vm, where);
	CHECK_STR(strchr(where, ','),
	          ", exception 14 with 0x2, interrupt 0xec, an NMI, interrupt shadow 1");
	p->events_refused = true;
	vm_where(&p->vm, where);
	CHECK_STR(where, "after 42 exits, with registers that KVM does not tell");
	p->events_refused = false;
	p->rip = 0xfff0;
	p->cs_base = 0xffff0000;
	vm_where(&p->vm, where);
	CHECK_STR(where, "after 42 exits, with registers that KVM has reset");
	place_free(p);
}

TEST(other_ends_have_no_place)
{
	struct place *p = place_new(KVM_EXIT_HLT);
	char where[VM_WHERE_MAX];

	CHECK_EQ(vcpu_handle_exit(p->v), 1);
	vm_where(&p->vm, where);
	CHECK_STR(where, "");
	p->run->exit_reason = KVM_EXIT_SHUTDOWN; /* too late: that is not what it ended for */
	CHECK_EQ(vcpu_handle_exit(p->v), 1);
	vm_where(&p->vm, where);
	CHECK_STR(where, "");
	place_free(p);
}

TEST(the_first_reason_counts)
{
	struct place *p = place_new(KVM_EXIT_SHUTDOWN);

	CHECK_EQ(vcpu_handle_exit(p->v), 1);
	p->run->exit_reason = 4242;
	CHECK_EQ(vcpu_handle_exit(p->v), 1);
	CHECK_EQ(p->vm.end, VM_END_TRIPLE);
	CHECK_EQ(p->ended, 1);
	place_free(p);
}

TEST(interruptions_are_no_end)
{
	struct place *p = place_new(KVM_EXIT_INTR);

	CHECK_EQ(vcpu_handle_exit(p->v), 0);
	p->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
	CHECK_EQ(vcpu_handle_exit(p->v), 0);
	CHECK_EQ(p->vm.end, VM_RUNNING);
	place_free(p);
}

static void set_io(struct place *p, uint8_t direction, uint16_t port, uint8_t size, uint32_t count)
{
	p->run->io.direction = direction;
	p->run->io.port = port;
	p->run->io.size = size;
	p->run->io.count = count;
	p->run->io.data_offset = DATA_AT;
}

TEST(ports_wider_than_the_controllers_are_not_it)
{
	struct place *p = place_new(KVM_EXIT_IO);
	uint8_t *data = (uint8_t *)p->run + DATA_AT;

	memset(data, 0xfe, 4);
	set_io(p, KVM_EXIT_IO_OUT, 0x64, 2, 1);
	CHECK_EQ(vcpu_handle_exit(p->v), 0);
	set_io(p, KVM_EXIT_IO_IN, 0x64, 4, 1);
	CHECK_EQ(vcpu_handle_exit(p->v), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(data[i], 0xff);
	CHECK_EQ(p->v->unknown_pio, 2);
	place_free(p);
}

TEST(a_reset_may_be_anywhere_in_a_string)
{
	struct place *p = place_new(KVM_EXIT_IO);
	uint8_t *data = (uint8_t *)p->run + DATA_AT;

	memset(data, 0xd1, 100); /* a command we ignore */
	data[57] = 0xfe;
	set_io(p, KVM_EXIT_IO_OUT, 0x64, 1, 100);
	check_ends(p, VM_END_RESET, "the guest asked for a reset");
}

TEST(strings_end_with_the_run_area)
{
	static const struct {
		uint8_t size;
		uint32_t count;
		uint64_t offset;
	} bad[] = {
		{ 1, 4097, DATA_AT },    { 4, 1025, DATA_AT }, { 4, UINT32_MAX, DATA_AT },
		{ 1, 2, RUN_BYTES - 1 }, { 1, 1, RUN_BYTES },  { 1, 1, UINT64_MAX },
		{ 3, 1, DATA_AT },       { 0, 1, DATA_AT },    { 8, 1, DATA_AT },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct place *p = place_new(KVM_EXIT_IO);

		set_io(p, KVM_EXIT_IO_IN, 0x60, bad[i].size, bad[i].count);
		p->run->io.data_offset = bad[i].offset;
		CHECK_EQ(vcpu_handle_exit(p->v), 1);
		CHECK_EQ(p->vm.end, VM_END_UNKNOWN);
		place_free(p);
	}
}

struct seen {
	int reads, writes;
	uint32_t off, len;
};

static void bus_read(void *arg, uint32_t off, void *ret, uint32_t len)
{
	struct seen *s = arg;

	s->reads++;
	s->off = off;
	s->len = len;
	memset(ret, 0x42, len);
}

static void bus_write(void *arg, uint32_t off, const void *data, uint32_t len)
{
	struct seen *s = arg;

	(void)data;
	s->writes++;
	s->off = off;
	s->len = len;
}

static struct place *place_bus(struct seen *s)
{
	struct place *p = place_new(KVM_EXIT_MMIO);

	p->vm.bus[0] = (struct vm_bus){ 0xd0000000, 0x1000, bus_read, bus_write, s };
	p->vm.bus[1] = (struct vm_bus){ 0xd0001000, 0x1000, bus_read, bus_write, s };
	p->vm.bus_count = 2;
	return p;
}

TEST(an_access_lies_in_one_window)
{
	static const struct {
		uint64_t at;
		uint32_t len;
		bool hit;
		uint32_t off;
	} accesses[] = {
		{ 0xd0000000, 8, true, 0 },      { 0xd0000fff, 1, true, 0xfff },
		{ 0xd0000fff, 2, false, 0 },     { 0xd0000ff9, 8, false, 0 },
		{ 0xd0001000, 4, true, 0 },      { 0xd0002000, 1, false, 0 },
		{ 0xcfffffff, 2, false, 0 },     { UINT64_MAX, 8, false, 0 },
		{ UINT64_MAX - 6, 8, false, 0 }, { 0x1d0000000, 4, false, 0 },
	};

	for (size_t i = 0; i < sizeof(accesses) / sizeof(accesses[0]); i++) {
		struct seen s = { .off = 0 };
		struct place *p = place_bus(&s);

		p->run->mmio.phys_addr = accesses[i].at;
		p->run->mmio.len = accesses[i].len;
		CHECK_EQ(vcpu_handle_exit(p->v), 0);
		p->run->mmio.is_write = 1;
		CHECK_EQ(vcpu_handle_exit(p->v), 0);
		CHECK_EQ(s.reads, accesses[i].hit);
		CHECK_EQ(s.writes, accesses[i].hit);
		CHECK_EQ(s.off, accesses[i].off);
		CHECK_EQ(p->v->unknown_mmio, accesses[i].hit ? 0 : 2);
		CHECK_EQ(p->run->mmio.data[0], accesses[i].hit ? 0x42 : 0xff);
		CHECK_EQ(p->run->mmio.data[7],
		         accesses[i].hit && accesses[i].len == 8 ? 0x42 : 0xff);
		place_free(p);
	}
}

TEST(an_access_has_one_to_eight_bytes)
{
	static const uint32_t lens[] = { 0, 9, UINT32_MAX };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct seen s = { .off = 0 };
		struct place *p = place_bus(&s);

		p->run->mmio.phys_addr = 0xd0000000;
		p->run->mmio.len = lens[i];
		CHECK_EQ(vcpu_handle_exit(p->v), 1);
		CHECK_EQ(p->vm.end, VM_END_UNKNOWN);
		CHECK_EQ(s.reads, 0);
		place_free(p);
	}
}

TEST_MAIN()
