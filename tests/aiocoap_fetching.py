"""How packages are fetched, for tests/aiocoap_firmware.py: CoAP messages that are put together here, from a socket or a
DTLS association of their own, in the ways of the clients in use; and HTTP.

Sources: RFC 7252, RFC 7959; RFC 9110 §14.
"""

import asyncio
import random
import struct
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import aiocoap
import aiocoap.error

from aiocoap_device import say, within

# the states of objects 5 and 33629, and the results of a download that comes to nothing
IDLE, DOWNLOADING, DOWNLOADED, UPDATING = range(4)
LOST, INTEGRITY, WRONG_URI = "lost", "integrity", "uri"


class Stopped(Exception):
    """The download has come to nothing, with that result."""

    def __init__(self, why, problem):
        super().__init__(problem)
        self.why = why


# --- CoAP by hand --------------------------------------------------------------------------------------


def option_head(value):
    """Nibble and further bytes (RFC 7252 §3.1)."""
    if value < 13:
        return value, b""
    return (13, bytes([value - 13])) if value < 269 else (14, struct.pack(">H", value - 269))


def uint(value):
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def get_request(message_id, token, path, block=None, size2=False):
    """A Confirmable GET. `block` is number and exponent."""
    options = [(11, segment.encode()) for segment in path]
    if block is not None:
        options.append((23, uint(block[0] << 4 | block[1])))
    if size2:
        options.append((28, b""))
    out = bytes([0x40 | len(token), 1]) + struct.pack(">H", message_id) + token
    before = 0
    for number, value in options:
        delta, more = option_head(number - before)
        length, further = option_head(len(value))
        out += bytes([delta << 4 | length]) + more + further + value
        before = number
    return out


class Answer:
    """A message as it came."""

    def __init__(self, data):
        self.kind, length = data[0] >> 4 & 3, data[0] & 15
        self.code, self.id = data[1], struct.unpack(">H", data[2:4])[0]
        self.token, rest = data[4 : 4 + length], data[4 + length :]
        self.options, self.payload, number = {}, b"", 0
        while rest:
            if rest[0] == 0xFF:
                self.payload = rest[1:]
                break
            nibbles, rest = rest[0], rest[1:]
            values = []
            for nibble in (nibbles >> 4, nibbles & 15):
                if nibble == 13:
                    nibble, rest = rest[0] + 13, rest[1:]
                elif nibble == 14:
                    nibble, rest = struct.unpack(">H", rest[:2])[0] + 269, rest[2:]
                values.append(nibble)
            number += values[0]
            self.options[number], rest = rest[: values[1]], rest[values[1] :]

    def block2(self):
        """Number, whether more follow, exponent; `None` for an answer in one."""
        if 23 not in self.options:
            return None
        value = int.from_bytes(self.options[23], "big")
        return value >> 4, bool(value & 8), value & 7


class Socket(asyncio.DatagramProtocol):
    """A socket of its own, connected."""

    def __init__(self):
        self.came = asyncio.Queue()
        self.transport = None

    async def open(self, host, port):
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, remote_addr=(host, port))
        return self

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, _):
        self.came.put_nowait(data)

    def error_received(self, _):
        pass  # nobody is there for a while

    def send(self, data):
        self.transport.sendto(data)

    def close(self):
        self.transport.close()


class SecuredSocket(Socket):
    """The same with a DTLS association of its own."""

    ADDRESS = ("::1", 1234)  # whom tinydtls takes the other side for

    def __init__(self, identity, key):
        super().__init__()
        self.identity, self.key = identity.encode(), bytes.fromhex(key)
        self.connected = asyncio.Event()
        self.dtls = self.session = None

    async def open(self, host, port):
        from DTLSSocket import dtls

        await super().open(host, port)
        self.dtls = dtls.DTLS(
            read=self.decrypted,
            write=self.encrypted,
            event=self.happened,
            pskId=self.identity,
            pskStore={self.identity: self.key},
        )
        self.session = self.dtls.connect(*self.ADDRESS)
        for _ in range(20):
            try:
                await asyncio.wait_for(self.connected.wait(), 0.5)
                return self
            except asyncio.TimeoutError:
                self.dtls.checkRetransmit()
        raise Stopped(LOST, "no association")

    def decrypted(self, _, data):
        self.came.put_nowait(bytes(data))
        return len(data)

    def encrypted(self, _, data):
        self.transport.sendto(bytes(data))
        return len(data)

    def happened(self, _, code):
        if code == 0x01DE:  # connected
            self.connected.set()

    def datagram_received(self, data, _):
        self.dtls.handleMessage(self.session, data)

    def send(self, data):
        self.dtls.write(self.session, data)

    def close(self):
        self.dtls.resetPeer(self.session)
        super().close()


# --- fetching ------------------------------------------------------------------------------------------


class Character:
    """How a client fetches, and what it keeps."""

    def __init__(self, *, size, first_bare=False, one_token=False, token_length=8, fresh_on_repeat=False,
                 only_piggybacked=False, connections=1, keeps=(), longest_uri=255, tells_success="at once"):
        self.size = size
        self.first_bare = first_bare  # begins without Block2
        self.one_token = one_token
        self.token_length = token_length
        self.fresh_on_repeat = fresh_on_repeat  # repeats with the same message ID and another token
        self.only_piggybacked = only_piggybacked
        self.connections = connections
        self.keeps = keeps  # the states that outlive a restart
        self.longest_uri = longest_uri
        self.tells_success = tells_success


CHARACTERS = {
    "anjay": Character(size=1024, first_bare=True, keeps=(DOWNLOADING, DOWNLOADED), connections=8),
    "zephyr": Character(
        size=256, one_token=True, longest_uri=128, connections=8, tells_success="never"
    ),
    "nrf": Character(
        size=1024, token_length=4, fresh_on_repeat=True, only_piggybacked=True, keeps=(DOWNLOADED,),
        connections=8, tells_success="later",
    ),
    # by its own CoAP stack, from the socket that it is registered from
    "leshan": Character(size=512, keeps=(DOWNLOADED,)),
    # it is written to, and fetches nothing
    "push": Character(size=0, keeps=(DOWNLOADED,)),
    # it prints where the package is, and leaves it there
    "idle": Character(size=0, keeps=(DOWNLOADING,)),
    # it says that it has the package, and has fetched nothing
    "liar": Character(size=0),
}


class Fetch:
    """A package on its way, block after block."""

    def __init__(self, device, instance):
        self.device, self.instance = device, instance
        self.options, self.character = device.options, device.character
        self.uri = urlsplit(instance.uri)
        self.token = random.randbytes(self.character.token_length)
        self.id = random.randrange(0x10000)
        self.asked = self.repeats = 0

    async def connect(self):
        if self.uri.scheme == "coap":
            host, _, port = (self.options.through or self.uri.netloc).rpartition(":")
            return await Socket().open(host, int(port))
        socket = SecuredSocket(self.options.identity, self.options.key)
        return await socket.open(self.uri.hostname, self.uri.port)

    async def run(self):
        """All of it, from where the instance is."""
        instance, path = self.instance, self.uri.path.strip("/").split("/")
        socket = await self.connect()
        connections = 1
        try:
            while True:
                exponent = instance.exponent
                if exponent is None:
                    exponent = self.character.size.bit_length() - 5
                bare = self.character.first_bare and not instance.image
                number = len(instance.image) >> exponent + 4
                block = None if bare else (number, exponent)
                answer = await self.ask(socket, path, block)
                if answer is None:
                    if connections >= self.character.connections:
                        raise Stopped(LOST, f"no answer for block {number}")
                    connections += 1
                    say("connects_anew")
                    socket.close()
                    socket = await self.connect()
                    continue
                if self.take(answer, number):
                    return
                while instance.holds():
                    await asyncio.sleep(0.05)
        finally:
            socket.close()

    async def ask(self, socket, path, block):
        """The answer to one request; `None` when it was repeated in vain."""
        self.id = self.id + 1 & 0xFFFF
        self.asked += 1
        if not self.character.one_token:
            self.token = random.randbytes(self.character.token_length)
        # what is lost on the way back, now and then
        lost = bool(self.options.lose and self.asked % self.options.lose == 0)
        for _ in range(4):
            socket.send(get_request(self.id, self.token, path, block, self.character.one_token))
            answer = await self.answered(socket)
            if answer is not None and not lost:
                return answer
            lost = False
            self.repeats += 1
            if self.character.fresh_on_repeat:
                self.token = random.randbytes(self.character.token_length)
        return None

    async def answered(self, socket):
        loop = asyncio.get_running_loop()
        end = loop.time() + self.options.ack
        while (left := end - loop.time()) > 0:
            try:
                answer = Answer(await asyncio.wait_for(socket.came.get(), left))
            except asyncio.TimeoutError:
                return None
            piggybacked = answer.kind == 2 and answer.id == self.id and answer.code != 0
            if answer.token == self.token and (piggybacked or not self.character.only_piggybacked):
                return answer
        return None

    def take(self, answer, number):
        """Whether it was the last block."""
        instance = self.instance
        if answer.code != 0x45:
            why = WRONG_URI if answer.code == 0x84 else LOST
            raise Stopped(why, f"block {number} was answered {answer.code >> 5}.{answer.code & 31:02}")
        etag, block = answer.options.get(4, b"").hex(), answer.block2()
        if instance.etag not in (None, etag):
            raise Stopped(LOST, f"the ETag has changed from {instance.etag} to {etag}")
        if block is None:
            instance.take(answer.payload, etag, None)
            return True
        at, more, exponent = block
        size = 16 << exponent
        if at * size != len(instance.image):
            raise Stopped(LOST, f"block {at} of {size} bytes instead of {number}, at {len(instance.image)}")
        if more and len(answer.payload) != size:
            raise Stopped(LOST, f"block {at} has {len(answer.payload)} bytes instead of {size}")
        told = answer.options.get(28)
        if told is None or int.from_bytes(told, "big") < len(instance.image) + len(answer.payload):
            raise Stopped(LOST, f"Size2 is {told}")
        instance.take(answer.payload, etag, exponent)
        return not more


async def fetch_over_aiocoap(device, instance):
    """From the socket that it is registered from, by aiocoap's own block-wise transfer."""
    request = aiocoap.Message(code=aiocoap.GET, uri=instance.uri)
    request.remote = device.association
    answer = await within(device.options.wait, device.context.request(request).response, "the package")
    if answer.code != aiocoap.CONTENT:
        raise Stopped(LOST, f"the request was answered {answer.code}")
    instance.take(answer.payload, None, None)


def fetch_over_http(instance):
    """Bit by bit. After a break the rest is asked for (RFC 9110 §14.2); there is one soon after the beginning."""
    # not through a proxy of whoever runs this
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for attempt in range(20):
        headers = {}
        if instance.image:
            headers = {"Range": f"bytes={len(instance.image)}-", "If-Range": instance.etag}
        try:
            with opener.open(urllib.request.Request(instance.uri, headers=headers), timeout=5) as answer:
                if answer.status != (206 if instance.image else 200):
                    raise Stopped(LOST, f"it was answered {answer.status}")
                whole = len(instance.image) + int(answer.headers["Content-Length"])
                while piece := answer.read(2_048):
                    instance.take(piece, answer.headers["ETag"], None)
                    if not attempt and len(instance.image) > 10_000:
                        break
                    while instance.holds():
                        time.sleep(0.05)
            if len(instance.image) == whole:
                return
        except urllib.error.HTTPError as problem:
            raise Stopped(LOST, f"it was answered {problem.code}") from None
        except OSError:
            time.sleep(0.5)  # nobody is there
    raise Stopped(LOST, "it came to no end")
