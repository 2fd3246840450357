#include "wire/wire.h"

/* Writes the header, its length still to come. Returns where the frame starts. */
static size_t frame_begin(struct buf *out, uint8_t type, uint8_t channel, uint32_t stream,
                          uint32_t epoch)
{
	size_t start = out->len;

	buf_put_le16(out, WIRE_MAGIC);
	buf_put_u8(out, type);
	buf_put_u8(out, channel);
	buf_put_le32(out, stream);
	buf_put_le32(out, epoch);
	buf_put_le32(out, 0);
	return start;
}

void wire_set_length(struct buf *out, size_t start)
{
	size_t bytes = out->len - start - WIRE_HEADER_BYTES;

	for (unsigned i = 0; i < 4; i++)
		out->at[start + 12 + i] = (uint8_t)(bytes >> (8 * i));
}

/* Fills in the length; or, if something did not fit, leaves no part of the frame behind. */
static void frame_end(struct buf *out, size_t start)
{
	if (out->over || out->len - start > WIRE_FRAME_MAX) {
		out->len = start;
		out->over = true;
		return;
	}
	wire_set_length(out, start);
}

/* The reader's limit is the writer's too. */
static void put_text(struct buf *out, struct span s, size_t len_max)
{
	if (s.len > len_max)
		out->over = true;
	buf_put_str16(out, s);
}

/* A sentence for a person: what is too long is cut, as half a reason is better than none. */
static void put_sentence(struct buf *out, struct span s)
{
	if (s.len > WIRE_TEXT_MAX)
		s.len = WIRE_TEXT_MAX;
	buf_put_str16(out, s);
}

void wire_put(struct buf *out, uint8_t type, uint8_t channel, uint32_t stream, uint32_t epoch,
              struct span payload)
{
	size_t start = frame_begin(out, type, channel, stream, epoch);

	buf_put_span(out, payload);
	frame_end(out, start);
}

void wire_put_u8(struct buf *out, uint8_t type, uint32_t stream, uint32_t epoch, uint8_t v)
{
	wire_put(out, type, 0, stream, epoch, span_of(&v, 1));
}

void wire_put_u32(struct buf *out, uint8_t type, uint8_t channel, uint32_t stream, uint32_t epoch,
                  uint32_t v)
{
	size_t start = frame_begin(out, type, channel, stream, epoch);

	buf_put_le32(out, v);
	frame_end(out, start);
}

void wire_put_u64(struct buf *out, uint8_t type, uint32_t stream, uint32_t epoch, uint64_t v)
{
	size_t start = frame_begin(out, type, 0, stream, epoch);

	buf_put_le64(out, v);
	frame_end(out, start);
}

void wire_put_text(struct buf *out, uint8_t type, uint32_t epoch, const char *text)
{
	size_t start = frame_begin(out, type, 0, 0, epoch);

	put_sentence(out, span_str(text));
	frame_end(out, start);
}

void wire_put_hello(struct buf *out, uint32_t epoch, const struct wire_hello *h)
{
	size_t start = frame_begin(out, WIRE_HELLO, 0, 0, epoch);

	buf_put_le32(out, h->version);
	buf_put_le32(out, h->features);
	put_text(out, h->agent_version, WIRE_NAME_MAX);
	put_text(out, h->kernel, WIRE_NAME_MAX);
	frame_end(out, start);
}

static void put_network(struct buf *out, const struct wire_network *n)
{
	buf_put(out, n->ip4, sizeof(n->ip4));
	buf_put(out, n->router4, sizeof(n->router4));
	buf_put(out, n->dns4, sizeof(n->dns4));
	buf_put_u8(out, n->prefix4);
	buf_put_u8(out, n->prefix6);
	buf_put(out, n->ip6, sizeof(n->ip6));
	buf_put(out, n->router6, sizeof(n->router6));
	buf_put_le16(out, n->mtu);
}

void wire_put_identity(struct buf *out, uint32_t epoch, const struct wire_identity *id)
{
	size_t start = frame_begin(out, WIRE_IDENTITY, 0, 0, epoch);

	buf_put_le64(out, id->realtime_ns);
	buf_put_le32(out, id->pids_max);
	buf_put_le64(out, id->memory_max);
	buf_put_le32(out, id->keep_stream);
	buf_put(out, id->entropy, sizeof(id->entropy));
	buf_put(out, id->machine_id, sizeof(id->machine_id));
	put_text(out, id->hostname, WIRE_HOSTNAME_MAX);
	buf_put_u8(out, id->has_network);
	if (id->has_network)
		put_network(out, &id->network);
	buf_put_u8(out, id->has_trust);
	if (id->has_trust) {
		buf_put_le32(out, id->trust.name_hash);
		put_text(out, id->trust.pem, WIRE_CERT_MAX);
	}
	buf_put_u8(out, id->has_workspace);
	if (id->has_workspace)
		put_text(out, id->workspace.path, WIRE_PATH_MAX);
	frame_end(out, start);
}

void wire_put_trusted(struct buf *out, uint32_t epoch, const struct wire_trusted *t)
{
	size_t start = frame_begin(out, WIRE_IDENTITY_OK, 0, 0, epoch);

	put_text(out, t->cert, WIRE_NAME_MAX);
	put_text(out, t->bundle, WIRE_NAME_MAX);
	frame_end(out, start);
}

/* Returns how many strings the NULL-ended list has, and marks out as over past the maximum. */
static uint32_t list_count(struct buf *out, const char *const *list)
{
	uint32_t n = 0;

	while (list && list[n]) {
		if (++n > WIRE_ARGS_MAX) {
			out->over = true;
			break;
		}
	}
	return n;
}

static void put_list(struct buf *out, const char *const *list, uint32_t count)
{
	for (uint32_t i = 0; i < count && !out->over; i++)
		buf_put_str16(out, span_str(list[i]));
}

void wire_put_exec(struct buf *out, uint32_t stream, uint32_t epoch, const struct wire_exec *x,
                   const char *const *argv, const char *const *envv)
{
	size_t start = frame_begin(out, WIRE_EXEC, 0, stream, epoch);
	uint32_t argc = list_count(out, argv);
	uint32_t envc = list_count(out, envv);

	if (x->rlimit_count > WIRE_RLIMITS_MAX || argc == 0)
		out->over = true;
	buf_put_le32(out, x->flags);
	buf_put_le16(out, x->rows);
	buf_put_le16(out, x->cols);
	put_text(out, x->user, WIRE_USER_MAX);
	put_text(out, x->cwd, WIRE_PATH_MAX);
	buf_put_le32(out, argc);
	buf_put_le32(out, envc);
	buf_put_le32(out, x->rlimit_count);
	for (uint32_t i = 0; i < x->rlimit_count && !out->over; i++) {
		buf_put_le32(out, x->rlimits[i].resource);
		buf_put_le64(out, x->rlimits[i].soft);
		buf_put_le64(out, x->rlimits[i].hard);
	}
	put_list(out, argv, argc);
	put_list(out, envv, envc);
	frame_end(out, start);
}

void wire_put_fail(struct buf *out, uint8_t type, uint32_t stream, uint32_t epoch,
                   const struct wire_fail *f)
{
	size_t start = frame_begin(out, type, 0, stream, epoch);

	buf_put_le32(out, f->code);
	buf_put_u8(out, f->stage);
	put_sentence(out, f->text);
	frame_end(out, start);
}

void wire_put_exit(struct buf *out, uint32_t stream, uint32_t epoch, const struct wire_exit *x)
{
	size_t start = frame_begin(out, WIRE_EXIT, 0, stream, epoch);

	buf_put_u8(out, x->signaled);
	buf_put_le32(out, x->value);
	buf_put_le64(out, x->user_us);
	buf_put_le64(out, x->sys_us);
	buf_put_le64(out, x->maxrss_bytes);
	frame_end(out, start);
}

void wire_put_file(struct buf *out, uint8_t type, uint32_t stream, uint32_t epoch,
                   const struct wire_file *f)
{
	size_t start = frame_begin(out, type, 0, stream, epoch);

	put_text(out, f->path, WIRE_PATH_MAX);
	put_text(out, f->user, WIRE_USER_MAX);
	buf_put_u8(out, f->follow);
	frame_end(out, start);
}

void wire_put_event(struct buf *out, uint32_t epoch, const struct wire_event *v)
{
	size_t start = frame_begin(out, WIRE_EVENT, 0, 0, epoch);

	buf_put_u8(out, v->kind);
	buf_put_u8(out, v->killed);
	buf_put_le64(out, v->count);
	frame_end(out, start);
}

void wire_put_snapshot(struct buf *out, uint32_t epoch, const struct wire_snapshot *s)
{
	size_t start = frame_begin(out, WIRE_SNAPSHOT, 0, 0, epoch);

	buf_put_u8(out, s->flags);
	put_text(out, s->name, WIRE_NAME_MAX);
	frame_end(out, start);
}

void wire_put_stats(struct buf *out, uint32_t epoch, const struct wire_stats *s)
{
	size_t start = frame_begin(out, WIRE_STATS_OK, 0, 0, epoch);

	buf_put_le64(out, s->cpu_us);
	buf_put_le64(out, s->memory_bytes);
	buf_put_le64(out, s->memory_peak_bytes);
	buf_put_le64(out, s->disk_bytes);
	buf_put_le64(out, s->disk_max_bytes);
	buf_put_le32(out, s->pids);
	buf_put_le32(out, s->streams);
	buf_put_le64(out, s->oom_kills);
	buf_put_le64(out, s->pids_refused);
	buf_put_le64(out, s->uptime_ms);
	frame_end(out, start);
}

void wire_put_resize(struct buf *out, uint32_t stream, uint32_t epoch, uint16_t rows, uint16_t cols)
{
	size_t start = frame_begin(out, WIRE_RESIZE, 0, stream, epoch);

	buf_put_le16(out, rows);
	buf_put_le16(out, cols);
	frame_end(out, start);
}
