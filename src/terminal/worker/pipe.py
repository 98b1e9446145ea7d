

# === pipe.py: what is done beside the gateway ===

import codecs
import gc
import os

import msgpack

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What msgpack raises for a value that it does not pack.
UNPACKABLE = (TypeError, ValueError, OverflowError)
# Bytes that one read takes. All calls that the gateway writes together are usually fewer.
READ = 1 << 13


def mark(error):
    """Encodes the surrogates in a text: the halves of a pair as their character, any other as
    U+FFFD. The gateway's own mark, because "?" could be the broker's, and because the bytes of
    "surrogatepass" are no UTF-8."""
    surrogates = error.object[error.start:error.end].encode("utf-16-le", "surrogatepass")
    return surrogates.decode("utf-16-le", "replace").encode(), error.end


codecs.register_error("mt5_gateway_mark", mark)


class Pipe:
    """Frames over standard input and output."""

    def __init__(self):
        # The pipe is ours alone: what the package prints must not end up in a frame.
        self.source = sys.stdin.buffer
        sink = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        try:
            # So that a hundred thousand bars do not take turns with their reader every 64 kB.
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, 1 << 20)
        except (AttributeError, OSError):
            pass  # not Linux, or as many as this user may have
        self.write = sink.write
        self.pack = msgpack.Packer().pack
        # Slower for every text, so it takes only what the other refuses.
        self.pack_odd = msgpack.Packer(default=packable, unicode_errors="mt5_gateway_mark").pack

    def messages(self):
        """The messages until the input closes. One read takes all that have arrived."""
        unpacker = msgpack.Unpacker(use_list=False, read_size=2 * READ)
        unpack = unpacker.unpack

        def take_bytes(count):
            try:
                return unpacker.read_bytes(count)
            except msgpack.OutOfData:  # msgpack without its C extension
                return b""

        def read_on():
            data = self.source.read1(READ)
            unpacker.feed(data)
            return data

        while True:
            # MessagePack shows where a message ends, so the length is passed over.
            missing = 4 - len(take_bytes(4))
            while missing:
                if not read_on():
                    return
                missing -= len(take_bytes(missing))
            while True:
                try:
                    message = unpack()
                    break
                except msgpack.OutOfData:
                    if not read_on():
                        return
            yield message

    def send(self, message):
        try:
            packed = self.pack(message)
        except UNPACKABLE:
            packed = self.packed_somehow(message)
        self.write_all(len(packed).to_bytes(4, "big") + packed)

    def packed_somehow(self, message):
        try:
            return self.pack_odd(message)
        except UNPACKABLE as error:
            text = f"the answer cannot be packed: {type(error).__name__}"
            return self.pack((message[0], RAISED, text))

    def send_rows(self, number, rows):
        """As `send` would, but without a copy of them."""
        head = b"\x93" + self.pack(number) + self.pack(ANSWER) + b"\xc6" + len(rows).to_bytes(4, "big")
        self.write_all((len(head) + len(rows)).to_bytes(4, "big") + head)
        self.write_all(rows)

    def write_all(self, data):
        sent = self.write(data)
        while sent < len(data):
            sent += self.write(memoryview(data)[sent:])


def main():
    pipe = Pipe()
    messages = pipe.messages()
    settings = next(messages, None)
    if settings is None:
        return
    worker = Worker(settings)
    # The garbage collector stays on, because a package may make cycles. Modules stay for good, so it
    # need not visit them.
    gc.collect()
    gc.freeze()
    pipe.send(worker.hello())
    answer, send = worker.answer, pipe.send
    for number, name, args, kwargs in messages:
        answered = answer(number, name, args, kwargs)
        if type(answered[-1]) is memoryview:
            pipe.send_rows(number, answered[-1])
        else:
            send(answered)
    worker.close()


main()
