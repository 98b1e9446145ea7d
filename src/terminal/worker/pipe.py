

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


class RpycWorker:
    """A worker in the process of an RPyC server, which imports the package. A call is one round trip.

    The time limits are the gateway's: it ends this process, and with it the connection."""

    def __init__(self, settings):
        import json

        self.json = json
        self.address = settings["rpyc"]["address"]
        # The first steps may take a third of the time each, so that what is wrong is told in time.
        connection = self.connected(settings["rpyc"], settings["timeout"] / 3000)
        ours = {name: value for name, value in settings.items() if name != "rpyc"}
        try:
            connection.root.execute(settings["rpyc"]["script"])
            serve = connection.root.eval("serve")
            hello, self.ask, self.end = serve(json.dumps(ours))
        except Exception as error:
            give_up(
                f"the RPyC server at {self.address} raised {described(error)} (its own output says more)"
            )
        self.greeting = json.loads(hello)

    def connected(self, server, seconds):
        """A connection whose other side has answered."""
        import socket

        try:
            import rpyc
            from rpyc.core.stream import SocketStream
            from rpyc.utils.factory import connect_stream
        except ImportError as error:
            give_up(
                f"`terminal.connect.rpyc` needs the package rpyc ({error}): install the version that the"
                f" server has, `{sys.executable} -m pip install 'rpyc<6'` or 'rpyc>=6'"
            )
        version = self.version = ".".join(map(str, rpyc.version.version))
        try:
            stream = socket.create_connection((server["host"], server["port"]), seconds)
        except OSError as error:
            give_up(
                f"the RPyC server at {self.address} cannot be reached ({error}): start it, or correct"
                " `terminal.connect.rpyc`"
            )
        stream.settimeout(None)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Without a service of ours: nothing here is offered to the server.
        config = {"sync_request_timeout": seconds}
        try:
            connection = connect_stream(SocketStream(stream), config=config)
            _ = connection.root
        except TimeoutError:
            give_up(
                f"{self.address} accepts connections, but says nothing for {seconds:g} s: restart the RPyC"
                " server there"
            )
        except Exception as error:
            other = "rpyc>=6" if int(version.split(".")[0]) < 6 else "rpyc<6"
            give_up(
                f"the server at {self.address} does not understand rpyc {version} ({described(error)}):"
                " versions below 6 and from 6 on do not understand each other, so if it is an RPyC server,"
                f" run `{sys.executable} -m pip install '{other}'`"
            )
        connection._config["sync_request_timeout"] = None
        return connection

    def hello(self):
        version = f"{self.greeting['version']} behind {self.address} (rpyc {self.version})"
        return {**self.greeting, "version": version}

    def answer(self, number, name, args, kwargs):
        try:
            answered, rows = self.ask(self.json.dumps((number, name, args, kwargs)))
            answered = self.json.loads(answered)
        except Exception as error:
            # Nobody knows what became of the call.
            give_up(f"the RPyC server at {self.address} was lost in {name}: {described(error)}")
        if rows is not None:
            answered.append(rows if len(rows) <= COPIED else memoryview(rows))
        return answered

    def close(self):
        try:
            self.end()
        except Exception as error:
            give_up(f"the RPyC server at {self.address} was lost in shutdown: {described(error)}")


def give_up(reason):
    """Ends the process at once. In an orderly end RPyC would wait for the server once more."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(1)


def main():
    pipe = Pipe()
    messages = pipe.messages()
    settings = next(messages, None)
    if settings is None:
        return
    worker = RpycWorker(settings) if settings.get("rpyc") else Worker(settings)
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
