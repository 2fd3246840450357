#include "cli/verbs.h"
#include "lib/doctor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	ID_WIDTH = 11, /* the longest id and a space */
	DOCTOR_EXIT_CANNOT_RUN = 1,
	COLUMNS_TEXT = 2 + 5 + ID_WIDTH,
};

static const struct opt doctor_opts[] = {
	OPT_JSON_ROW,
	OPT_END_ROW,
};

static const char *colour_of(enum doctor_severity s)
{
	switch (s) {
	case DOCTOR_OK:
		return "\033[32m";
	case DOCTOR_NOTE:
		return "\033[36m";
	case DOCTOR_WARN:
		return "\033[33m";
	case DOCTOR_FAIL:
		break;
	}
	return "\033[31m";
}

static void print_finding(const struct doctor_finding *f, bool colour)
{
	(void)printf("%s%-4s%s  %-*s", colour ? colour_of(f->severity) : "",
	             doctor_severity_name(f->severity), colour ? "\033[0m" : "", ID_WIDTH, f->id);
	cli_put_text(stdout, f->text);
	(void)putchar('\n');
	if (*f->remedy) {
		(void)printf("%*s-> ", COLUMNS_TEXT - 1, "");
		cli_put_text(stdout, f->remedy);
		(void)putchar('\n');
	}
}

static void print_report(const struct doctor_report *r, bool colour)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < r->count; i++) {
		print_finding(&r->findings[i], colour);
		failed += r->findings[i].severity == DOCTOR_FAIL;
	}
	if (r->can_run)
		(void)printf("\nberm can run here.\n");
	else
		(void)printf("\nberm cannot run here: %u finding%s to mend.\n", failed,
		             failed == 1 ? "" : "s");
}

static int print_json(const struct doctor_report *r, struct err *e)
{
	_own_free_ char *text = malloc(DOCTOR_JSON_MAX);
	struct buf b;

	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, text, DOCTOR_JSON_MAX);
	doctor_put_json(&b, r);
	buf_put_u8(&b, '\n');
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "the report is over %d bytes", DOCTOR_JSON_MAX);
	return cli_out(b.at, b.len, e);
}

static int doctor_run(struct cli *c, const struct args *a)
{
	_own_free_ struct doctor_report *r = malloc(sizeof(*r));
	struct err e = { 0 };

	(void)a;
	if (!r)
		return cli_fail(&(struct err){ .text = "out of memory" });
	/* not cli_state(): a state directory that cannot be used is a finding */
	if (cli_paths(c, &e) < 0 || doctor_examine(&c->paths, r, &e) < 0)
		return cli_fail(&e);
	if (!c->json)
		print_report(r, cli_colour(c));
	else if (print_json(r, &e) < 0)
		return cli_fail(&e);
	return r->can_run ? 0 : DOCTOR_EXIT_CANNOT_RUN;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.summary = "Say whether berm can run here, how well, and what to do about it",
	.args = "",
	.about =
		"Looks at /dev/kvm, QEMU, the guest's kernel, agent and image, gate and vault, the kernel's\n"
		"features for confining processes, control groups, disk and memory. Each finding\n"
		"is ok, note, warn or fail, with a remedy. Exits 0 if berm can run, 1 if not.\n",
	.examples = "berm doctor\n"
		    "berm doctor --json | jq '.findings[] | select(.severity == \"fail\")'\n",
	.opts = doctor_opts,
	.run = doctor_run,
};
