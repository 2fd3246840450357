#include "base/log.h"
#include "cli/egress/live_egress.h"
#include "cli/verbs.h"
#include "lib/egress_ask.h"
#include "lib/egress_plan.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { LINE_BYTES_MAX = 256 };

static const struct opt forward_opts[] = { OPT_JSON_ROW, OPT_END_ROW };

struct forward {
	struct cli *c;
	struct egress_plan plan; /* its ports are what is listened on */
	struct client *client;   /* closes when the sandbox has ended */
	int ask_fd;
};

static void forward_fini(struct forward *f)
{
	egress_plan_fini(&f->plan);
	client_free(f->client);
	if (f->ask_fd >= 0)
		(void)close(f->ask_fd);
}

static inline void forward_fini_scope(struct forward *f)
{
	forward_fini(f);
}

static int announce(const struct forward *f, const struct publish *wish, unsigned at, struct err *e)
{
	struct publish real = *wish;
	char room[LINE_BYTES_MAX];
	struct buf b;

	real.host_port = f->plan.ports[at].at.port;
	buf_init(&b, room, sizeof(room));
	if (f->c->json) {
		buf_put_str(&b, "{\"publish\":\"");
		publish_put(&b, &real);
		buf_printf(&b, "\",\"host\":%u,\"guest\":%u}\n", real.host_port, real.guest_port);
	} else {
		publish_put(&b, &real);
		buf_put_u8(&b, '\n');
	}
	if (cli_out(b.at, b.len, e) < 0)
		return e->code;
	return fflush(stdout) == 0 ? 0 : err_sys(e, "write");
}

static bool peer_of(const struct sockaddr_storage *from, struct control_accepted *who)
{
	if (from->ss_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, from, sizeof(in));
		who->family = 4;
		memcpy(who->addr, &in.sin_addr, 4);
		who->port = ntohs(in.sin_port);
		return true;
	}
	if (from->ss_family == AF_INET6) {
		struct sockaddr_in6 in;

		memcpy(&in, from, sizeof(in));
		who->family = 6;
		memcpy(who->addr, &in.sin6_addr, 16);
		who->port = ntohs(in.sin6_port);
		return true;
	}
	return false;
}

static int accept_one(const struct forward *f, const struct egress_port *port, struct err *e)
{
	struct control_accepted who = { .guest_port = port->at.guest_port };
	struct sockaddr_storage from = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(from);
	_own_fd_ int fd =
		accept4(port->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
		return err_sys(e, "accept a connection");
	if (fd < 0 || !peer_of(&from, &who))
		return 0; /* it has gone again */
	return egress_ask_forward(f->ask_fd, &who, fd, e);
}

/* Until the sandbox has ended, or a signal ends us. */
static int serve(struct forward *f, struct err *e)
{
	int r = client_send(f->client, e);

	while (r == 0) {
		struct pollfd p[EGRESS_PORTS_MAX + 1] = { { .fd = f->client->fd,
			                                    .events = POLLIN } };
		struct wire_frame frame;

		for (unsigned i = 0; i < f->plan.port_count; i++)
			p[i + 1] = (struct pollfd){ .fd = f->plan.ports[i].fd, .events = POLLIN };
		if (poll(p, f->plan.port_count + 1, -1) < 0 && errno != EINTR)
			return err_sys(e, "poll");
		if (p[0].revents) {
			r = client_receive(f->client, e);
			while (r == 0 && client_next(f->client, &frame, e) == 0)
				continue;
		}
		for (unsigned i = 0; r == 0 && i < f->plan.port_count; i++)
			if (p[i + 1].revents)
				r = accept_one(f, &f->plan.ports[i], e);
	}
	if (r == -ENODATA || r == -EPIPE) { /* it has ended: so has this */
		err_clear(e);
		return 0;
	}
	return r;
}

static int begin(struct forward *f, const char *ref, struct err *e)
{
	_own_(jread_free) json_t *info = NULL;
	const json_t *egress = NULL;
	struct state_info who;
	int r = live_egress_info(f->c, ref, &who, &info, &egress, e);

	if (r == 0)
		r = live_egress_open(f->c, who.id, &f->ask_fd, e);
	if (r == 0)
		r = reach_client(f->c, who.id, NULL, &f->client, e);
	if (r == 0)
		wire_put(&f->client->out, WIRE_WAIT, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	return r;
}

static int run_forward(struct cli *c, const struct args *a)
{
	_own_(forward_fini) struct forward f = { .c = c, .ask_fd = -1 };
	struct publish wishes[EGRESS_PORTS_MAX];
	struct err e = { 0 };
	unsigned count = 0;

	egress_plan_init(&f.plan);
	for (size_t i = 1; i < a->word_count; i++) {
		if (count == EGRESS_PORTS_MAX)
			return cli_usage(a, "at most %d ports", EGRESS_PORTS_MAX);
		if (publish_parse(a->words[i], &wishes[count++], &e) < 0)
			return cli_usage(a, "%s", e.text);
	}
	if (begin(&f, a->words[0], &e) < 0)
		return live_egress_fail(&e);
	for (unsigned i = 0; i < count; i++)
		if (egress_plan_publish(&f.plan, &wishes[i], &e) < 0 ||
		    announce(&f, &wishes[i], i, &e) < 0)
			return live_egress_fail(&e);
	return serve(&f, &e) < 0 ? live_egress_fail(&e) : 0;
}

const struct verb verb_forward = {
	.name = "forward",
	.summary = "Let connections to a port of this host into a running sandbox",
	.args = "SANDBOX [ADDR:]HOST:GUEST...",
	.about =
		"Listens on 127.0.0.1, unless another address is given, until ctrl-c or until the sandbox\n"
		"ends, and prints where, a line each; HOST 0 takes any free port. The guest has to have a\n"
		"network. berm run -p does the same from the start.\n"
		"\n"
		"Exit status: 0 the sandbox has ended; 3 no such sandbox; 4 a port is in use; 5 the\n"
		"sandbox has no network; 125 anything else.\n",
	.examples = "berm forward web 8080:80\n"
		    "berm forward web 0:80 [::1]:5432:5432\n",
	.opts = forward_opts,
	.run = run_forward,
	.words_min = 2,
	.words_max = EGRESS_PORTS_MAX + 1,
	.words = COMPLETE_SANDBOX,
};
