#include "state/snapshot_note.h"

#include <inttypes.h>

void snapshot_put_note(struct buf *out, const struct snapshot_note *n)
{
	buf_printf(out, "berm-snapshot 1\ncreated %" PRIu64 "\nid ", n->created_ns);
	buf_put_span(out, n->id);
	buf_put_str(out, "\nname ");
	buf_put_span(out, n->name);
	buf_printf(out, "\nmachine %zu\n", n->machine.len);
	buf_put_span(out, n->machine);
	buf_printf(out, "spec %zu\n", n->spec.len);
	buf_put_span(out, n->spec);
}
