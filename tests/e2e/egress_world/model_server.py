"""A model that plays a script: what coding agents ask of their vendors' services, as far as they need it to work.

    model_server.py ADDRESS CERT KEY RECORD

Speaks the streamed form of POST /v1/messages (Anthropic), of POST /v1/responses (OpenAI) and of POST
/v1beta/models/MODEL:streamGenerateContent (Google) over TLS, and POST /v1/chat/completions at once. To the first
question that offers a tool which runs commands it answers with one call of that tool: SCRIPT. Once the result of the
call comes back it says DONE. Whatever else is asked gets a word or a 404. Each request is a line of JSON in RECORD,
headers and body, as it arrived: with the real key, if it is there.
"""

import http.server
import json
import re
import ssl
import sys
import threading

SCRIPT = ("printf 'made by the agent\\n' > made.txt && sed -i 's/old line/new line/' notes.txt && rm gone.txt "
          "&& mkdir -p src/new && mv src/moved.c src/new/moved.c && id -u > who.txt && printf 'edits-%d\\n' 42")
WORKED = "edits-42"  # its output, and nowhere in it
DONE = "All edits are made."
lock = threading.Lock()


def events(handler, items):
    """Server-sent events: (name or None, object). Their end is told by their length: some clients, and berm's record,
    take a connection that is merely closed for one that broke."""
    named = [(f"event: {name}\n" if name else "") + f"data: {json.dumps(value)}\n\n" for name, value in items]
    body = "".join(named).encode()
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("cache-control", "no-cache")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


# -- Anthropic ------------------------------------------------------------------------------------


def message(content, reason, model):
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": content,
            "stop_reason": reason, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 10}}


def anthropic(handler, body):
    shell = [t.get("name") for t in body.get("tools") or [] if t.get("name") in ("Bash", "bash")]
    answered = "tool_result" in json.dumps(body.get("messages", []))
    model = body.get("model", "model")
    if shell and not answered:
        block = {"type": "tool_use", "id": "toolu_1", "name": shell[0],
                 "input": {"command": SCRIPT, "description": "Make the edits"}}
    else:
        block = {"type": "text", "text": DONE}
    reason = "tool_use" if block["type"] == "tool_use" else "end_turn"
    if not body.get("stream"):
        return answer(handler, 200, message([block], reason, model))
    empty = {**block, "input": {}} if reason == "tool_use" else {**block, "text": ""}
    delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])} if reason == "tool_use" else {
        "type": "text_delta", "text": block["text"]}
    return events(handler, [
        ("message_start", {"type": "message_start", "message": message([], None, model)}),
        ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": empty}),
        ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        ("message_delta", {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None},
                           "usage": {"output_tokens": 10}}),
        ("message_stop", {"type": "message_stop"}),
    ])


# -- OpenAI ---------------------------------------------------------------------------------------


def offered(tools, space=None):
    """(tool, its namespace) of each; a namespace is a tool that holds others."""
    for tool in tools or []:
        if tool.get("type") == "namespace":
            yield from offered(tool.get("tools"), tool.get("name"))
        else:
            yield tool, space


def calls_of(body):
    """Calls of a tool that runs commands, in the words of those that are offered, the likeliest first."""
    tools = list(offered(body.get("tools")))
    for item in body.get("input", []):
        if isinstance(item, dict) and item.get("type") == "additional_tools":
            tools += offered(item.get("tools"))
    for tool, space in tools:
        name = tool.get("name") or tool.get("function", {}).get("name")
        said = {"exec_command": {"cmd": SCRIPT}, "shell_command": {"command": SCRIPT},
                "shell": {"command": ["bash", "-lc", SCRIPT]}}.get(name)
        if said:
            yield {"type": "function_call", "name": name, "arguments": json.dumps(said)}
        elif tool.get("type") == "local_shell":
            yield {"type": "local_shell_call", "status": "completed",
                   "action": {"type": "exec", "command": ["bash", "-lc", SCRIPT]}}
        elif name == "exec" and "exec_command" in tool.get("description", ""):
            code = f"const r = await tools.exec_command({{cmd: {json.dumps(SCRIPT)}}}); text(r.output);"
            call = {"type": "custom_tool_call", "status": "completed", "name": name, "input": code}
            yield call
            if space:
                yield {**call, "namespace": space}


def openai(handler, body):
    answers = [i for i in body.get("input", []) if isinstance(i, dict) and str(i.get("type")).endswith("_output")]
    calls = list(calls_of(body))
    if WORKED not in json.dumps(answers) and len(answers) < len(calls):
        n = len(answers)
        item = {"id": f"item_{n}", "call_id": f"call_{n}", **calls[n]}
    else:
        item = {"type": "message", "id": "item_last", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "annotations": [],
                             "text": DONE if WORKED in json.dumps(answers) else "No tool worked."}]}
    usage = {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 10,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 20}
    done = {"id": "resp_1", "object": "response", "status": "completed", "output": [item], "usage": usage,
            "model": body.get("model", "model")}
    if not body.get("stream"):
        return answer(handler, 200, done)
    return events(handler, [
        ("response.created", {"type": "response.created", "response": {**done, "status": "in_progress", "output": []}}),
        ("response.output_item.added", {"type": "response.output_item.added", "output_index": 0, "item": item}),
        ("response.output_item.done", {"type": "response.output_item.done", "output_index": 0, "item": item}),
        ("response.completed", {"type": "response.completed", "response": done}),
    ])


def chat(handler, body):
    """The older form. Only what is not streamed, and the tool's name is the caller's own: the first one."""
    tools = [t["function"]["name"] for t in body.get("tools") or [] if t.get("type") == "function"]
    worked = [m for m in body.get("messages") or [] if m.get("role") == "tool"]
    if tools and not worked:
        call = {"name": tools[0], "arguments": json.dumps({"command": SCRIPT})}
        said = {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
    else:
        said = {"content": DONE if WORKED in json.dumps(worked) else "No tool worked."}
    reason = "tool_calls" if "tool_calls" in said else "stop"
    return answer(handler, 200, {
        "id": "chat_1", "object": "chat.completion", "created": 1, "model": body.get("model", "model"),
        "choices": [{"index": 0, "finish_reason": reason, "message": {"role": "assistant", **said}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}})


# -- Google ---------------------------------------------------------------------------------------


def like(schema):
    """The least that such a schema takes."""
    if schema.get("type", "").lower() == "object":
        return {name: like(of) for name, of in schema.get("properties", {}).items()}
    return {"integer": 1, "number": 1, "boolean": False, "array": []}.get(schema.get("type", "").lower(), "word")


def google(handler, body, streamed):
    config = body.get("generationConfig") or {}
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    offers = {f.get("name") for t in body.get("tools") or [] for f in t.get("functionDeclarations") or []}
    worked = [p["functionResponse"] for c in body.get("contents") or [] for p in c.get("parts") or []
              if "functionResponse" in p]
    if "run_shell_command" in offers and not worked:
        part = {"functionCall": {"name": "run_shell_command", "args": {"command": SCRIPT}}}
    elif schema:
        part = {"text": json.dumps(like(schema))}
    else:
        part = {"text": DONE if WORKED in json.dumps(worked) else "No tool worked."}
    said = {"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 10, "totalTokenCount": 20}}
    return events(handler, [(None, said)]) if streamed else answer(handler, 200, said)


# -- the rest -------------------------------------------------------------------------------------


def answer(handler, status, value):
    body = json.dumps(value).encode()
    handler.send_response(status)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def read_body(self):
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def note(self, body):
        line = {"host": self.headers.get("host"), "method": self.command, "target": self.path,
                "headers": [[k.lower(), v] for k, v in self.headers.items()], "body": body.decode("utf-8", "replace")}
        with lock, open(self.server.record, "a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")

    def serve(self):
        body = self.read_body()
        self.note(body)
        path = self.path.split("?")[0]
        try:
            asked = json.loads(body) if body else {}
        except ValueError:
            asked = {}
        if self.command == "POST" and path == "/v1/messages":
            anthropic(self, asked)
        elif self.command == "POST" and path.endswith("/count_tokens"):
            answer(self, 200, {"input_tokens": 10})
        elif self.command == "POST" and re.fullmatch(r"(/v1)?/responses", path):
            openai(self, asked)
        elif self.command == "POST" and path == "/v1/chat/completions":
            chat(self, asked)
        elif self.command == "POST" and re.fullmatch(r"/v1beta/models/[^/]+:(streamG|g)enerateContent", path):
            google(self, asked, "streamG" in path)
        else:
            answer(self, 404, {"type": "error", "error": {"type": "not_found_error", "message": "not played here"}})

    do_GET = do_POST = do_PUT = do_HEAD = serve

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def finish_request(self, request, client_address):
        # in its thread: one client that is slow with its handshake stops nobody
        super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)

    def handle_error(self, request, client_address):
        print(sys.exc_info()[1], file=sys.stderr)


def main():
    address, cert, key, record = sys.argv[1:]
    server = Server((address, 443), Handler)
    server.record = record
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(cert, key)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
