// Reads `LENGTH\n` and so many bytes, again and again; answers each with what Node's parser makes of them.
'use strict';
const { HTTPParser } = process.binding('http_parser');

const HEADERS = HTTPParser.kOnHeaders | 0;
const HEADERS_COMPLETE = HTTPParser.kOnHeadersComplete | 0;
const BODY = HTTPParser.kOnBody | 0;
const COMPLETE = HTTPParser.kOnMessageComplete | 0;
const METHODS = process.binding('http_parser').methods;
const ALL = process.binding('http_parser').allMethods || METHODS;

function read(data) {
  const parser = new HTTPParser();
  const messages = [];
  let now = null;
  let early = [];
  let earlyUrl = '';
  parser.initialize(HTTPParser.REQUEST, {}, 1 << 20);
  parser[HEADERS] = (list, url) => { early = early.concat(list); earlyUrl += url || ''; };
  parser[HEADERS_COMPLETE] = (major, minor, list, method, url) => {
    const flat = early.concat(list || []);
    const headers = [];
    for (let i = 0; i + 1 < flat.length; i += 2) headers.push([flat[i], flat[i + 1]]);
    now = { method: ALL[method], target: url || earlyUrl, headers, body: '' };
    early = [];
    earlyUrl = '';
  };
  parser[BODY] = (chunk, start, length) => {
    const piece = start === undefined ? chunk : chunk.slice(start, start + length);
    now.body += Buffer.from(piece).toString('hex');
  };
  parser[COMPLETE] = () => { early = []; messages.push(now); };
  const r = parser.execute(data);
  return { messages, bad: r instanceof Error };
}

let pending = Buffer.alloc(0);
process.stdin.on('data', (chunk) => {
  pending = Buffer.concat([pending, chunk]);
  for (;;) {
    const at = pending.indexOf(10);
    if (at < 0) return;
    const length = Number(pending.slice(0, at).toString());
    if (pending.length < at + 1 + length) return;
    const data = Buffer.from(pending.slice(at + 1, at + 1 + length));
    pending = pending.slice(at + 1 + length);
    process.stdout.write(JSON.stringify(read(data)) + '\n');
  }
});
