#include "cli/agent/agent_build.h"

#include "base/log.h"
#include "lib/registries.h"
#include "policy/limits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * Theory of operation: one table row a package manager: the question where it takes packages from,
 * how it installs, and how it says what is there. Questions are asked before anything of that
 * manager ran: apt is asked of the base image as it is, npm once apt has brought it.
 *
 * Names of packages come from the profile, which lets nothing through that begins with '-'; they
 * are words of an argv, never of a shell.
 */

enum { ARGV_MAX = AGENT_WORDS_MAX + 16 };
enum { APT, NPM, PIP, MANAGERS };

static const struct manager {
	const char *name;        /* also its program, for messages */
	const char *from;        /* which field of the profile brings the program */
	const char *question;    /* a shell script that prints URLs; the shell is the image's */
	const char *before[4];   /* a command before the installation, or { NULL } */
	const char *install[10]; /* the packages' names follow */
	const char *versions;    /* a shell script; the names are its arguments */
} managers[MANAGERS] = {
	{
		.name = "apt-get",
		.from = "image.base: it is no Debian and no Ubuntu",
		.question =
			"apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | sort -u",
		.before = { "apt-get", "-q", "update", NULL },
		.install = { "apt-get", "-q", "-y", "--no-install-recommends", "install", NULL },
		.versions = "dpkg-query -W -f='${Package} ${Version}\\n' \"$@\"",
	},
	{
		.name = "npm",
		.from = "image.packages.apt: [nodejs, npm]",
		.question = "npm config get registry",
		.install = { "npm", "install", "--global", "--no-audit", "--no-fund",
	                     "--no-update-notifier", "--no-progress", NULL },
		.versions =
			"npm ls --global --depth=0 --parseable --long | sed -n '2,$s/^[^:]*://p' |"
			" sed 's/:.*//'",
	},
	{
		.name = "pip",
		.from = "image.packages.apt: [python3-pip]",
		.question = "python3 -m pip config get global.index-url 2>/dev/null ||"
			    " python3 -c 'from pip._internal.models.index import PyPI as p;"
			    " print(p.url, p.file_storage_domain)'",
		.install = { "python3", "-m", "pip", "install", "--no-cache-dir", "--progress-bar",
	                     "off", NULL },
		.versions = "python3 -m pip list --format=freeze",
	},
};

static const struct agent_words *words_of(const struct agent *a, unsigned manager)
{
	return manager == APT ? &a->apt : manager == NPM ? &a->npm : &a->pip;
}

/* --- running, and saying what went wrong --- */

static int failed(struct build *b, const struct manager *m, int code, struct err *e)
{
	if (code == CLI_EXIT_NOT_FOUND)
		return err_set(e, -ENOENT, "step %u, %s: the image has no '%s' (%s)",
		               b->step_number, b->step, m->name, m->from);
	return err_set(e, -EIO, "step %u, %s: '%s' ended with status %d", b->step_number, b->step,
	               m->name, code);
}

static int run(struct build *b, const struct manager *m, const char *const *argv, struct err *e)
{
	const struct build_command cmd = { .argv = argv, .out_fd = -1 };
	int code = 0;
	int r = build_guest_run(b, &cmd, &code, e);

	return r == 0 && code != 0 ? failed(b, m, code, e) : r;
}

/* A script of ours, with words behind it; its stdout is `answer`, NUL-ended. */
static int ask(struct build *b, const char *script, const struct agent_words *words, char *answer,
               int *ret_code, struct err *e)
{
	const char *argv[ARGV_MAX] = { "sh", "-c", script, "sh" };
	struct build_command cmd = { .argv = argv, .out_fd = -1 };
	struct buf out;
	int r;

	for (unsigned i = 0; words && i < words->count; i++)
		argv[4 + i] = words->at[i];
	buf_init(&out, answer, BUILD_ANSWER_MAX - 1);
	cmd.answer = &out;
	r = build_guest_run(b, &cmd, ret_code, e);
	answer[r == 0 ? out.len : 0] = '\0';
	return r;
}

/* --- registries --- */

/* Lines of a guest's: whatever is no host with a name is passed over. */
static int add_hosts(struct build *b, const char *answer, struct err *e)
{
	char line[AGENT_WORD_MAX + 32];
	const char *env[] = { line, NULL };
	struct span rest = span_str(answer);
	struct span one;
	int r = 0;

	while (r == 0 && take_until(&rest, '\n', &one)) {
		if (one.len > AGENT_WORD_MAX)
			continue;
		/* as the variable of an index is read: URLs or hosts, with blanks between */
		(void)snprintf(line, sizeof(line), "PIP_INDEX_URL=%.*s", (int)one.len,
		               (const char *)one.at);
		r = registries_find(&b->hosts, env, NULL, e);
	}
	return r;
}

static void say_hosts(const struct build *b, const struct manager *m, size_t before)
{
	for (size_t i = before; i < b->hosts.count; i++)
		log_debug("%s takes packages from %s", m->name, b->hosts.items[i]);
}

static int permit(struct build *b, const struct manager *m, struct err *e)
{
	char answer[BUILD_ANSWER_MAX];
	size_t before = b->hosts.count;
	int code = 0;
	int r = ask(b, m->question, NULL, answer, &code, e);

	if (r == 0 && code != 0)
		return failed(b, m, code, e);
	if (r == 0)
		r = add_hosts(b, answer, e);
	if (r < 0)
		return r;
	say_hosts(b, m, before);
	if (b->hosts.count == 0)
		return err_set(e, -ENOENT,
		               "step %u, %s: '%s' does not say where it takes packages from; "
		               "name it with --env (PIP_INDEX_URL, NPM_CONFIG_REGISTRY, ...)",
		               b->step_number, b->step, m->name);
	return build_guest_permit(b, e);
}

/* --- the steps --- */

static int install(struct build *b, const struct manager *m, const struct agent_words *words,
                   struct err *e)
{
	const char *argv[ARGV_MAX] = { NULL };
	size_t n = 0;

	while (m->install[n]) {
		argv[n] = m->install[n];
		n++;
	}
	for (unsigned i = 0; i < words->count; i++)
		argv[n++] = words->at[i];
	return run(b, m, argv, e);
}

static int install_with(struct build *b, unsigned manager, struct err *e)
{
	const struct manager *m = &managers[manager];
	const struct agent_words *words = words_of(b->agent, manager);
	char what[BUILD_STEP_MAX];
	int code = 0;
	int r;

	if (words->count == 0)
		return 0;
	(void)snprintf(what, sizeof(what), "%s: where packages come from", m->name);
	build_step(b, what);
	r = permit(b, m, e);
	if (r == 0 && m->before[0]) {
		(void)snprintf(what, sizeof(what), "%s: lists of packages", m->name);
		build_step(b, what);
		r = run(b, m, m->before, e);
	}
	if (r == 0) {
		(void)snprintf(what, sizeof(what), "%s: %u package%s", m->name, words->count,
		               words->count == 1 ? "" : "s");
		build_step(b, what);
		r = install(b, m, words, e);
	}
	if (r == 0)
		r = ask(b, m->versions, words, b->packages[manager], &code, e);
	return r == 0 && code != 0 ? failed(b, m, code, e) : r;
}

/* What is only of use for installing more, and what would be the same in every guest. */
static int clean(struct build *b, struct err *e)
{
	static const struct manager shell = { .name = "sh", .from = "image.base" };
	static const char script[] =
		"apt-get clean 2>/dev/null;"
		"rm -rf /var/lib/apt/lists/* /root/.npm /root/.cache /tmp/* /var/tmp/*;"
		"find /var/log -type f -delete 2>/dev/null;"
		/* what each guest is given anew */
		"rm -f /etc/resolv.conf /etc/hostname /var/lib/dbus/machine-id"
		" /var/lib/systemd/random-seed; : >/etc/machine-id;"
		/* this guest's certificate authority, which is gone with it */
		"rm -f /usr/local/share/ca-certificates/berm.crt"
		" /etc/pki/ca-trust/source/anchors/berm.crt;"
		"if command -v update-ca-certificates >/dev/null; then"
		" update-ca-certificates --fresh >/dev/null 2>&1; fi;"
		"sync; true";
	const char *const argv[] = { "sh", "-c", script, NULL };

	build_step(b, "cleaning");
	return run(b, &shell, argv, e);
}

int build_install(struct build *b, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < MANAGERS; i++)
		r = install_with(b, i, e);
	return r == 0 ? clean(b, e) : r;
}
