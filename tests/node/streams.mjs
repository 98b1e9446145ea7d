// Reads a stream with EventSource and ws while its connections are cut again and again,
// and ends with 1 unless every tick came once.
//
//     node streams.mjs HOST PORT PATH
import assert from "node:assert";
import { createRequire } from "node:module";
import net from "node:net";

const modules = createRequire(process.cwd() + "/");
const { EventSource } = modules("eventsource");
const WebSocket = modules("ws");
const [host, port, path] = process.argv.slice(2);
const CUTS = 3;

/** Tells whether each tick of a symbol follows the one before; counts them. */
class Ticks {
  last = new Map();
  count = 0;
  add({ symbol, volume_real: number }) {
    const before = this.last.get(symbol);
    assert(before === undefined || number === before + 1, `${symbol}: ${number} after ${before}`);
    this.last.set(symbol, number);
    this.count += 1;
  }
}

/** A network that is cut whenever this many bytes have passed. */
const network = net.createServer((client) => {
  const server = net.connect(port, host);
  let passed = 0;
  const cut = () => { client.destroy(); server.destroy(); };
  client.on("error", cut).on("close", cut).pipe(server);
  server.on("error", cut).on("close", cut).on("data", (data) => {
    client.write(data);
    passed += data.length;
    if (passed > 20_000) cut();
  });
});
await new Promise((done) => network.listen(0, "127.0.0.1", done));
const cutting = `127.0.0.1:${network.address().port}${path}`;

const events = new Ticks();
let opened = 0;
await new Promise((done) => {
  const source = new EventSource(`http://${cutting}`);
  source.onopen = () => { opened += 1; };
  source.addEventListener("gap", ({ data }) => assert.fail(data));
  source.addEventListener("ticks", ({ data }) => {
    events.add(JSON.parse(data));
    if (opened > CUTS) {
      source.close();
      done();
    }
  });
});

const messages = new Ticks();
let id = "";
for (let cuts = 0; cuts <= CUTS; cuts += 1) {
  const socket = new WebSocket(`ws://${cutting}&last_event_id=${id}`);
  socket.on("error", () => {});
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    assert.equal(message.event, "ticks", text);
    id = message.id;
    messages.add(message.data);
  });
  await new Promise((done) => socket.on("close", done));
}
network.close();
console.log(`EventSource ${events.count} ticks, WebSocket ${messages.count} ticks, ${CUTS} cuts each`);
process.exit(0);
