#include "lib/doctor.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "lib/companion.h"

#include <errno.h>

/* Both as a sandbox's supervisor starts them, with nobody's guest behind the card. */
struct trial {
	struct companion gate, vault;
	struct companion *all[COMPANIONS_MAX];
	bool ready[COMPANIONS_MAX];
};

static void trial_fini(struct trial *t)
{
	companion_end(&t->gate);
	companion_end(&t->vault);
}

static inline void trial_fini_scope(struct trial *t)
{
	trial_fini(t);
}

static int start(const struct paths *p, struct trial *t, int *ret_card, struct err *e)
{
	static const char id[] = "000000000000"; /* no sandbox's */
	struct companion_start gate = { .libexec = p->libexec,
		                        .program = "berm-gate",
		                        .words = "berm-gate",
		                        .id = id,
		                        .fd_count = COMPANION_GATE_COUNT };
	struct companion_start vault = { .libexec = p->libexec,
		                         .program = "berm-vault",
		                         .words = "berm-vault",
		                         .id = id,
		                         .fd_count = COMPANION_VAULT_COUNT };
	int card[2];
	int pair[2];
	int r = fd_socketpair(card, e);

	if (r < 0)
		return r;
	*ret_card = card[0];
	r = fd_socketpair(pair, e);
	if (r == 0) {
		gate.fds[COMPANION_GATE_LINK] = card[1];
		gate.fds[COMPANION_GATE_VAULT] = pair[0];
		vault.fds[COMPANION_VAULT_GATE] = pair[1];
		r = companion_start(&vault, &t->vault, e);
		if (r == 0)
			r = companion_start(&gate, &t->gate, e);
		(void)close(pair[0]);
		(void)close(pair[1]);
	}
	(void)close(card[1]);
	return r;
}

/* READY is the first thing either says. */
static int hear(struct trial *t, unsigned i, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_packet p;
	struct span packet;
	int r = companion_recv(t->all[i], room, &packet, e);

	if (r == -EAGAIN)
		return 0;
	if (r == -EPIPE)
		return companion_gone(t->all[i], e);
	if (r < 0)
		return r;
	if (control_parse_packet(packet, i == 0 ? CONTROL_FROM_GATE : CONTROL_FROM_VAULT, &p) < 0 ||
	    p.kind != CONTROL_READY)
		return err_set(e, -EPROTO, "%s is of another version", t->all[i]->words);
	t->ready[i] = true;
	return 0;
}

int doctor_try_network(const struct paths *p, struct err *e)
{
	__attribute__((cleanup(trial_fini_scope))) struct trial t = { .ready = { false } };
	const uint64_t deadline_ms = clock_mono_ms() + COMPANION_READY_MS;
	_own_fd_ int card_fd = -1;
	int r;

	companion_init(&t.gate);
	companion_init(&t.vault);
	t.all[0] = &t.gate;
	t.all[1] = &t.vault;
	r = start(p, &t, &card_fd, e);
	while (r == 0 && !(t.ready[0] && t.ready[1])) {
		struct companion *due[COMPANIONS_MAX];
		unsigned count = 0;

		for (unsigned i = 0; i < COMPANIONS_MAX; i++)
			if (!t.ready[i])
				due[count++] = t.all[i];
		r = companion_wait(due, count, false, deadline_ms, e);
		for (unsigned i = 0; r == 0 && i < COMPANIONS_MAX; i++)
			if (!t.ready[i])
				r = hear(&t, i, e);
	}
	return r;
}
