#include "cli/egress/live_egress.h"

#include "lib/egress_ask.h"

#include <errno.h>

/* Files of the command line may be missing as well, which is another matter. */
static int unreached(int r, struct err *e)
{
	if (r == -ENOENT || r == -ECONNREFUSED || r == -ENODATA || r == -EPIPE)
		r = e->code = -ESRCH;
	return r;
}

int live_egress_fail(const struct err *e)
{
	int status = cli_fail(e);

	switch (e->code) {
	case -ESRCH:
	case -EPIPE: /* it ended meanwhile */
		return EXIT_NO_SANDBOX;
	case -ESTALE:
	case -EADDRINUSE:
		return EXIT_TAKEN;
	case -ENODEV:
		return EXIT_NO_NETWORK;
	default:
		return status;
	}
}

int live_egress_find(struct cli *c, const char *ref, bool ended, struct state_info *ret,
                     struct err *e)
{
	return unreached(reach_find(c, ref, ended, ret, e), e);
}

int live_egress_open(struct cli *c, const char *id, int *ret_fd, struct err *e)
{
	return unreached(egress_ask_open(c->state_fd, id, ret_fd, e), e);
}

int live_egress_info(struct cli *c, const char *ref, struct state_info *ret_who, json_t **ret_info,
                     const json_t **ret_egress, struct err *e)
{
	_own_(client_free) struct client *client = NULL;
	_own_(jread_free) json_t *info = NULL;
	_own_free_ char *text = NULL;
	const json_t *egress;
	int r = reach_client(c, ref, ret_who, &client, e);

	if (r == 0)
		r = reach_info(client, &text, e);
	r = unreached(r, e);
	if (r == 0)
		r = jread_object(span_str(text), &info, e);
	if (r < 0)
		return r;
	egress = json_object_get(info, "egress");
	if (!json_is_object(egress))
		return err_set(e, -ENODEV,
		               "'%s' was started without a network; start it with --preset none, "
		               "and a policy can be set later",
		               ref);
	*ret_info = steal_ptr(&info);
	*ret_egress = egress;
	return 0;
}

int live_egress_policy(struct cli *c, const char *id, struct policy **ret, struct err *e)
{
	_own_free_ uint8_t *tlv = NULL;
	size_t len = 0;
	int r = egress_policy_read(c->state_fd, id, &tlv, &len, e);

	return r < 0 ? r : policy_load(span_of(tlv, len), ret, e);
}
