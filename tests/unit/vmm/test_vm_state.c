/* Saving a machine and going on from there, with guests of a few instructions. */
#include "tiny.h"

#include "base/clock.h"
#include "failalloc.h"
#include "vmm/cpu_state.h"
#include "vmm/state.h"
#include "vmm/vm_parts.h"

enum { ROOM = STATE_BYTES_MAX };

/*
 * Counts in a register and shows it: 1: inc %ebx; mov %ebx,0x8000; jmp 1b. The count goes on only
 * where registers do.
 */
static const uint8_t code_count[] = { 0x43, 0x89, 0x1d, 0x00, 0x80, 0, 0, 0xeb, 0xf7 };

struct saved {
	uint8_t *room;
	struct buf b;
};

static void save(struct tiny *t, struct saved *s)
{
	struct err e = { 0 };

	s->room = malloc(ROOM);
	CHECK(s->room);
	buf_init(&s->b, s->room, ROOM);
	state_put_header(&s->b);
	CHECK_OK(vm_save(t->vm, &s->b, &e), &e);
	CHECK(state_finish(&s->b));
}

/* Loads all sections but those of type `but`. */
static int load(struct vm *vm, struct span in, uint32_t but, struct err *e)
{
	struct state_section s = { 0 };
	uint32_t count;

	CHECK_EQ(state_parse_header(&in, &count), 0);
	while (s.type != STATE_END) {
		int r;

		CHECK_EQ(state_parse_section(&in, &s), 0);
		if (s.type == STATE_END || s.type == but)
			continue;
		r = vm_load_section(vm, &s, e);
		if (r < 0)
			return r;
	}
	return vm_load_done(vm, e);
}

/* A second machine on a private view of the first one's memory. */
static void child_of(const struct tiny *t, uint32_t cpus, struct tiny *ret)
{
	struct err e = { 0 };
	struct vm_config c = {
		.kvm_fd = tiny_kvm(),
		.ram_fd = t->ram_fd,
		.ram_bytes = TINY_RAM,
		.cpus = cpus,
		.ended = tiny_on_ended,
		.arg = ret,
	};

	*ret = (struct tiny){ .kvm_fd = c.kvm_fd, .ram_fd = dup(t->ram_fd) };
	ret->ended_fd = eventfd(0, EFD_CLOEXEC);
	ret->paused_fd = eventfd(0, EFD_CLOEXEC);
	CHECK_OK(vm_new(&c, &ret->vm, &e), &e);
}

static uint32_t count_at(const struct tiny *t, uint64_t off, uint32_t old)
{
	uint64_t until = clock_mono_ms() + TINY_WAIT_MS;

	while (tiny_data(t, off) <= old) {
		CHECK(clock_mono_ms() < until);
		(void)poll(NULL, 0, 1);
	}
	return tiny_data(t, off);
}

static uint32_t count_past(const struct tiny *t, uint32_t old)
{
	return count_at(t, 0, old);
}

static void start_counting(struct tiny *t, uint32_t cpus)
{
	struct err e = { 0 };

	tiny_new(t, cpus);
	tiny_boot(t, code_count, sizeof(code_count), true);
	tiny_start(t, false);
	(void)count_past(t, 1000);
	CHECK_OK(vm_pause(t->vm, &e), &e);
}

TEST(a_child_goes_on_where_its_parent_stood)
{
	struct err e = { 0 };
	struct saved s;
	struct tiny t;
	uint32_t at;

	start_counting(&t, 1);
	save(&t, &s);
	at = tiny_data(&t, 0);
	for (int i = 0; i < 5; i++) {
		struct tiny child;
		uint32_t n;

		child_of(&t, 1, &child);
		CHECK_EQ(tiny_data(&child, 0), at);
		CHECK_OK(load(child.vm, buf_span(&s.b), 0, &e), &e);
		CHECK_EQ(tiny_data(&child, 0), at);
		tiny_start(&child, false);
		n = count_past(&child, at);
		CHECK(n > at);
		CHECK_EQ(tiny_data(&t, 0), at); /* its memory is its own */
		tiny_free(&child);
	}
	vm_resume(t.vm);
	(void)count_past(&t, at);
	tiny_free(&t);
	free(s.room);
}

TEST(two_cpus_go_on)
{
	struct err e = { 0 };
	struct saved s;
	struct tiny t;
	struct tiny child;

	tiny_new(&t, 2);
	tiny_boot_two(&t);
	tiny_start(&t, false);
	(void)count_at(&t, TINY_AP_COUNT, 100);
	CHECK_OK(vm_pause(t.vm, &e), &e);
	save(&t, &s);
	child_of(&t, 2, &child);
	CHECK_OK(load(child.vm, buf_span(&s.b), 0, &e), &e);
	tiny_start(&child, false);
	(void)count_at(&child, 0, tiny_data(&t, 0));
	(void)count_at(&child, TINY_AP_COUNT, tiny_data(&t, TINY_AP_COUNT));
	tiny_free(&child);
	tiny_free(&t);
	free(s.room);
}

/* The second CPU waits for its start in the parent; the child's must, too. */
TEST(a_cpu_that_waits_for_its_start_is_saved_so)
{
	static const uint8_t code[] = {
		0x83, 0x3d, 0x04, 0x80, 0x00, 0x00, 0x00,                   /* 1: cmpl $0,0x8004 */
		0x74, 0xf7,                                                 /* je 1b */
		0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, /* LAPIC on */
		0xc7, 0x05, 0x10, 0x03, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x01, /* to LAPIC 1 */
		0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x00, 0x00, /* INIT */
		0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x0a, 0x46, 0x00, 0x00, /* SIPI */
		0xeb, 0xfe,                                                 /* 2: jmp 2b */
	};
	static const uint8_t second[] = { 0x66, 0xff, 0x06, 0x10, 0x80, 0xeb, 0xf9 };
	const uint32_t go = 1;
	struct err e = { 0 };
	struct saved s;
	struct tiny t;
	struct tiny child;

	tiny_new(&t, 2);
	tiny_boot(&t, code, sizeof(code), true);
	CHECK(guest_mem_write(vm_mem(t.vm), gpa_of(TINY_AP_AT), second, sizeof(second)));
	tiny_start(&t, false);
	CHECK_OK(vm_pause(t.vm, &e), &e);
	save(&t, &s);
	child_of(&t, 2, &child);
	CHECK_OK(load(child.vm, buf_span(&s.b), 0, &e), &e);
	CHECK_EQ(tiny_data(&child, TINY_AP_COUNT), 0);
	tiny_start(&child, false);
	CHECK(guest_mem_write(vm_mem(child.vm), gpa_of(TINY_DATA_AT + 4), &go, sizeof(go)));
	(void)count_at(&child, TINY_AP_COUNT, 100);
	tiny_free(&child);
	tiny_free(&t);
	free(s.room);
}

TEST(a_saved_state_loads_to_the_same_state)
{
	struct err e = { 0 };
	struct saved s;
	struct saved again;
	struct tiny t;
	struct tiny child;

	start_counting(&t, 2);
	save(&t, &s);
	child_of(&t, 2, &child);
	tiny_start(&child, true);
	CHECK_OK(load(child.vm, buf_span(&s.b), 0, &e), &e);
	save(&child, &again);
	CHECK_EQ(s.b.len, again.b.len);
	tiny_free(&child);
	tiny_free(&t);
	free(s.room);
	free(again.room);
}

/* The first CPU's section with what `spoil` makes of it; everything else as it was. */
static int load_spoilt(struct vm *vm, struct span in, void (*spoil)(struct cpu_state *s),
                       struct err *e)
{
	static uint8_t room[1 << 17];
	struct state_section s = { 0 };
	uint32_t count;

	CHECK_EQ(state_parse_header(&in, &count), 0);
	while (s.type != STATE_END) {
		static struct cpu_state cpu;
		struct buf b;
		int r;

		CHECK_EQ(state_parse_section(&in, &s), 0);
		if (s.type == STATE_END)
			continue;
		if (s.type == STATE_VCPU) {
			CHECK_EQ(cpu_state_parse(s.payload, &cpu), 0);
			spoil(&cpu);
			buf_init(&b, room, sizeof(room));
			cpu_state_put(&cpu, &b);
			s.payload = buf_span(&b);
		}
		r = vm_load_section(vm, &s, e);
		if (r < 0)
			return r;
	}
	return vm_load_done(vm, e);
}

static void long_mode_by_half(struct cpu_state *s)
{
	s->sregs.cs.l = 1;
}

static void a_state_there_is_not(struct cpu_state *s)
{
	s->mp.mp_state = 77;
}

static void flags_from_nowhere(struct cpu_state *s)
{
	s->events.flags = UINT32_MAX;
}

static void a_foreign_msr(struct cpu_state *s)
{
	s->msrs[0].index = 0x480;
}

TEST(registers_no_cpu_can_have_are_refused)
{
	static const struct {
		void (*spoil)(struct cpu_state *s);
		int code;
		const char *text;
	} bad[] = {
		{ long_mode_by_half, -EINVAL,
		  "CPU 0: KVM does not take its state: KVM_SET_SREGS: Invalid argument" },
		{ a_state_there_is_not, -EINVAL,
		  "CPU 0: KVM does not take its state: KVM_SET_MP_STATE: Invalid argument" },
		{ flags_from_nowhere, -EINVAL,
		  "CPU 0: KVM does not take its state: KVM_SET_VCPU_EVENTS: Invalid argument" },
		{ a_foreign_msr, -EBADMSG, "CPU 0: it sets MSR 0x480, which no state of ours has" },
	};
	struct saved s;
	struct tiny t;

	start_counting(&t, 1);
	save(&t, &s);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };
		struct tiny child;

		child_of(&t, 1, &child);
		CHECK_EQ(load_spoilt(child.vm, buf_span(&s.b), bad[i].spoil, &e), bad[i].code);
		CHECK_STR(e.text, bad[i].text);
		tiny_free(&child);
	}
	tiny_free(&t);
	free(s.room);
}

TEST(what_is_missing_is_refused)
{
	static const uint32_t types[] = { STATE_HOST, STATE_MACHINE, STATE_VM, STATE_VCPU };
	struct err e = { 0 };
	struct saved s;
	struct tiny t;

	start_counting(&t, 1);
	save(&t, &s);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct tiny child;

		child_of(&t, 1, &child);
		CHECK_EQ(load(child.vm, buf_span(&s.b), types[i], &e), -EBADMSG);
		tiny_free(&child);
	}
	tiny_free(&t);
	free(s.room);
}

TEST(another_shape_is_refused)
{
	struct err e = { 0 };
	struct saved s;
	struct tiny t;
	struct tiny child;

	start_counting(&t, 1);
	CHECK_EQ(vm_is_paused(t.vm), true);
	save(&t, &s);
	child_of(&t, 2, &child);
	CHECK_EQ(load(child.vm, buf_span(&s.b), 0, &e), -EINVAL);
	CHECK_STR(e.text, "it has 1 CPUs, this machine 2");
	tiny_free(&child);
	tiny_free(&t);
	free(s.room);
}

TEST(a_running_machine_is_not_saved)
{
	static uint8_t room[4096];
	struct err e = { 0 };
	struct tiny t;
	struct buf b;

	start_counting(&t, 1);
	vm_resume(t.vm);
	buf_init(&b, room, sizeof(room));
	CHECK_EQ(vm_save(t.vm, &b, &e), -EBUSY);
	CHECK_OK(vm_pause(t.vm, &e), &e);
	CHECK_EQ(vm_save(t.vm, &b, &e), -ENOSPC);
	tiny_free(&t);
}

TEST(each_allocation_of_a_save_may_fail)
{
	struct saved s = { .room = malloc(ROOM) };
	struct tiny t;

	CHECK(s.room);
	start_counting(&t, 2);
	FAILALLOC_EACH()
	{
		struct err e = { 0 };
		int r;

		buf_init(&s.b, s.room, ROOM);
		r = vm_save(t.vm, &s.b, &e);
		if (failalloc_hit())
			CHECK_EQ(r, -ENOMEM);
		else
			CHECK_OK(r, &e);
	}
	tiny_free(&t);
	free(s.room);
}

TEST(each_allocation_of_a_load_may_fail)
{
	bool hit = true;
	struct saved s;
	struct tiny t;

	start_counting(&t, 2);
	save(&t, &s);
	for (unsigned long n = 1; hit; n++) {
		struct err e = { 0 };
		struct tiny child;
		int r;

		child_of(&t, 2, &child);
		failalloc_at(n);
		r = load(child.vm, buf_span(&s.b), 0, &e);
		hit = failalloc_hit();
		if (hit)
			CHECK_EQ(r, -ENOMEM);
		else
			CHECK_OK(r, &e);
		tiny_free(&child);
	}
	tiny_free(&t);
	free(s.room);
}

TEST_MAIN()
