#!/usr/bin/env python3
"""A device with the standard's own objects for upgrades, which shares no code with the server: LwM2M on aiocoap
(over DTLS on tinydtls), and packages fetched from a second socket by messages that are put together here.

It serves objects 3, 4 and one of 5 (Firmware Update), 9 (Software Management) and 33629 (Advanced Firmware
Update), does what it is told, and goes on until it is ended. Progress goes to standard output, one JSON object a
line. With `--state` what it has outlives SIGKILL.

`--character` makes it behave as one of the clients in use: how it fetches, what it keeps over a restart, what it
tells afterwards.

Sources: OMA LwM2M Core 1.1 §E.6 (object 5), OMA LWM2M-SwMgmt 1.0 (object 9), the registered definition of object
33629, RFC 7252, RFC 7641, RFC 7959.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import struct
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import aiocoap
import aiocoap.resource

from aiocoap_device import Failed, say, within
from aiocoap_formats import LINK_FORMAT, NUMBERS, OCTETS, OF_INSTANCE, OF_RESOURCE, TEXT, TLV, WITH_INSTANCES
from aiocoap_formats import tlv_entries, tlv_entry, tlv_integer

IDLE, DOWNLOADING, DOWNLOADED, UPDATING = range(4)
DELIVERED, INSTALLED = 3, 4  # of object 9
FIRMWARE, SOFTWARE, COMPONENTS = 5, 9, 33629
LOST, INTEGRITY, WRONG_URI = "lost", "integrity", "uri"
RESULTS = {
    FIRMWARE: {LOST: 4, INTEGRITY: 5, WRONG_URI: 7, "success": 1},
    COMPONENTS: {LOST: 4, INTEGRITY: 5, WRONG_URI: 7, "success": 1},
    SOFTWARE: {LOST: 52, INTEGRITY: 53, WRONG_URI: 56, "success": 2},
}
# what a resource is, by its number
OF_FIRMWARE = {0: "package", 1: "uri", 2: "install", 3: "state", 5: "result", 7: "package_version"}
OF_FIRMWARE |= {8: "protocols", 9: "delivery", 10: "cancel"}
ROLES = {
    FIRMWARE: OF_FIRMWARE,
    COMPONENTS: OF_FIRMWARE | {14: "name", 15: "version"},
    SOFTWARE: {
        0: "name", 1: "version", 2: "package", 3: "uri", 4: "install", 6: "uninstall", 7: "state", 9: "result",
        10: "activate", 11: "deactivate", 12: "active",
    },
}


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
            return await Socket().open(self.uri.hostname, self.uri.port)
        return await SecuredSocket(self.options.identity, self.options.key).open(self.uri.hostname, self.uri.port)

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
                if self.options.slow:
                    await asyncio.sleep(self.options.slow)
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


def fetch_over_http(instance, cut):
    """With a break after `cut` bytes, after which the rest is asked for (RFC 9110 §14.2)."""
    # not through a proxy of whoever runs this
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(instance.uri, timeout=20) as answer:
        image, etag = answer.read(cut), answer.headers["ETag"]
    ranged = urllib.request.Request(instance.uri, headers={"Range": f"bytes={len(image)}-", "If-Range": etag})
    with opener.open(ranged, timeout=20) as answer:
        if answer.status != 206:
            raise Stopped(LOST, f"the range was answered {answer.status}")
        return image + answer.read()


# --- instances of the object ---------------------------------------------------------------------------


class Instance:
    """One of object 5, 9 or 33629."""

    KEPT = ("state", "result", "uri", "etag", "exponent", "name", "version", "active")

    def __init__(self, device, number, name, version):
        self.device, self.number = device, number
        self.object = device.options.object
        self.state, self.result, self.uri = IDLE, 0, ""
        self.name, self.version = name, version
        self.active = False
        self.image, self.etag, self.exponent = b"", None, None
        self.work = None

    def path(self, role):
        (number,) = [number for number, of in ROLES[self.object].items() if of == role]
        return f"/{self.object}/{self.number}/{number}"

    def file(self):
        state = self.device.options.state
        return state and Path(f"{state}.{self.number}")

    def take(self, payload, etag, exponent):
        """What has come next of the image."""
        before = len(self.image)
        self.image += payload
        self.etag, self.exponent = etag, exponent
        if self.file():
            with self.file().open("ab") as file:
                file.write(payload)
            self.device.save()
        if len(self.image) >> 13 != before >> 13:
            say("progress", bytes=len(self.image))

    def drop(self):
        """Forgets what it has."""
        self.image, self.etag, self.exponent = b"", None, None
        if self.file():
            self.file().unlink(missing_ok=True)

    def is_(self, state, result=None):
        """Its state, and its result if that changes too."""
        changed = ["state"] if state != self.state else []
        if result is not None and result != self.result:
            changed.append("result")
            self.result = result
        self.state = state
        self.device.save()
        for role in changed:
            say(role, instance=self.number, value=getattr(self, role))
            self.device.notify(self.path(role))

    def begin(self, work):
        self.stop()
        self.work = asyncio.create_task(self.device.heeded(work))

    def stop(self):
        if self.work is not None and self.work is not asyncio.current_task():
            self.work.cancel()
            self.work = None

    def reset(self):
        self.stop()
        self.drop()
        self.uri = ""
        say("reset", instance=self.number, state=self.state)
        self.is_(IDLE, 0)

    # what it is told

    def offered(self, uri):
        """A package URI is written."""
        if uri == "":
            self.reset()
            return aiocoap.CHANGED
        if self.state != IDLE:
            return aiocoap.BAD_REQUEST
        if len(uri) > self.device.character.longest_uri:
            self.is_(IDLE, RESULTS[self.object][WRONG_URI])
            return aiocoap.CHANGED
        self.uri = uri
        self.drop()
        say("offered", uri=uri, instance=self.number)
        self.is_(DOWNLOADING, 0)
        self.begin(self.download())
        return aiocoap.CHANGED

    async def download(self):
        device = self.device
        try:
            if device.options.character == "idle":
                return
            if device.options.character == "liar":
                await asyncio.sleep(0.2)
                self.is_(DOWNLOADED)
                return
            scheme = self.uri.partition(":")[0]
            if scheme == "http":
                self.take(await asyncio.to_thread(fetch_over_http, self, 10_000), None, None)
            elif scheme not in ("coap", "coaps"):
                raise Stopped(WRONG_URI, f"the scheme is {scheme}")
            elif device.options.character == "leshan":
                await fetch_over_aiocoap(device, self)
            else:
                fetch = Fetch(device, self)
                await fetch.run()
                say("fetched", requests=fetch.asked, repeats=fetch.repeats)
        except (Stopped, OSError, aiocoap.error.Error) as problem:
            why = getattr(problem, "why", LOST)
            say("stopped", problem=str(problem), why=why)
            self.drop()
            self.is_(IDLE, RESULTS[self.object][why])
            return
        self.complete()

    def complete(self):
        """It has the whole image."""
        sha256 = hashlib.sha256(self.image).hexdigest()
        say("downloaded", bytes=len(self.image), sha256=sha256, instance=self.number)
        options = self.device.options
        if options.fail or (options.expect and sha256 != options.expect):
            self.drop()
            self.is_(IDLE, options.fail or RESULTS[self.object][INTEGRITY])
            return
        if self.object == SOFTWARE:
            self.is_(DOWNLOADED, 1)
            self.is_(DELIVERED, 3)
        else:
            self.is_(DOWNLOADED)

    def install(self, arguments):
        wanted = DELIVERED if self.object == SOFTWARE else DOWNLOADED
        if self.state != wanted:
            return aiocoap.METHOD_NOT_ALLOWED
        say("told_to_install", instance=self.number, arguments=arguments)
        self.begin(self.installs())
        return aiocoap.CHANGED

    async def installs(self):
        device, options = self.device, self.device.options
        if self.object == SOFTWARE:
            await asyncio.sleep(options.reboot)
            self.name, self.version = options.software, options.to
            self.drop()
            self.is_(INSTALLED, 2)
            return
        self.is_(UPDATING)
        await asyncio.sleep(options.reboot)
        # the image runs when it comes up again
        self.drop()
        self.uri, self.state, self.result = "", IDLE, 0
        if self.object == COMPONENTS:
            self.version = options.to
        else:
            device.version = options.to
        if device.character.tells_success == "at once":
            self.result = 1
        device.save()
        await device.reconnect()
        say("upgraded", version=options.to, instance=self.number)
        if device.character.tells_success == "later":
            await asyncio.sleep(1)
            self.is_(IDLE, 1)

    def activate(self, arguments):
        if self.state != INSTALLED:
            return aiocoap.METHOD_NOT_ALLOWED
        self.active = True
        self.device.save()
        say("activated", instance=self.number, version=self.version)
        return aiocoap.CHANGED

    def uninstall(self, arguments):
        say("told_to_uninstall", instance=self.number, arguments=arguments)
        if not arguments.startswith("1"):
            # without an argument it is gone
            self.name, self.version = "", ""
        self.active = False
        self.reset()
        return aiocoap.CHANGED

    def cancel(self, arguments):
        if self.state not in (DOWNLOADING, DOWNLOADED):
            return aiocoap.METHOD_NOT_ALLOWED
        self.reset()
        self.is_(IDLE, 10)
        return aiocoap.CHANGED


# --- the device ------------------------------------------------------------------------------------------


class Device(aiocoap.resource.Resource):
    """Serves each of its paths."""

    def __init__(self, options):
        super().__init__()
        self.options = options
        self.character = CHARACTERS[options.character]
        self.version = options.version
        self.context = self.association = None
        self.observers = {}
        self.pushes = {}  # what was written of a package, by path
        if options.object == FIRMWARE:
            named = [("", "")]
        elif options.object == SOFTWARE:
            named = [("modem", "V7.0"), ("", "")]
        else:
            named = [("modem", "V7.0"), ("host", options.version)]
        self.instances = [Instance(self, number, *of) for number, of in enumerate(named)]
        if options.object == SOFTWARE:
            self.instances[0].state, self.instances[0].active = INSTALLED, True
        self.restore()

    # what outlives a restart

    def save(self):
        if not self.options.state:
            return
        kept = [{field: getattr(it, field) for field in Instance.KEPT} for it in self.instances]
        new = Path(f"{self.options.state}.new")
        new.write_text(json.dumps({"version": self.version, "instances": kept}))
        os.replace(new, self.options.state)

    def restore(self):
        if not self.options.state or not Path(self.options.state).exists():
            return
        kept = json.loads(Path(self.options.state).read_text())
        self.version = kept["version"]
        for instance, fields in zip(self.instances, kept["instances"]):
            for field in Instance.KEPT:
                setattr(instance, field, fields[field])
            if instance.file().exists():
                instance.image = instance.file().read_bytes()
            if self.options.object == SOFTWARE and instance.state in (DELIVERED, INSTALLED):
                continue
            if instance.state not in self.character.keeps:
                instance.drop()
                instance.state, instance.result, instance.uri = IDLE, 0, ""
        say("restored", states=[it.state for it in self.instances], bytes=len(self.instances[-1].image))

    # requests

    async def render_to_pipe(self, pipe):
        request = pipe.request
        path = "/" + "/".join(request.opt.uri_path)
        if request.code != aiocoap.GET:
            if request.opt.block1 is not None:
                await asyncio.sleep(self.options.slow)
            answer = self.told(path, request)
            say("told", method=str(request.code), path=path, code=answer.code.dotted,
                format=None if request.opt.content_format is None else int(request.opt.content_format),
                query=list(request.opt.uri_query))
            pipe.add_response(answer, is_last=True)
            return
        answer = self.read(path)
        observes = request.opt.observe == 0 and not self.options.no_observe and answer.code == aiocoap.CONTENT
        say("read", path=path, code=answer.code.dotted, observes=request.opt.observe == 0)
        if not observes:
            pipe.add_response(answer, is_last=True)
            return
        changes = self.observers[path] = asyncio.Queue()
        answer.opt.observe = number = 0
        pipe.add_response(answer, is_last=False)
        while True:
            await changes.get()
            number += 1
            answer = self.read(path)
            answer.opt.observe = number
            answer.transport_tuning = aiocoap.Unreliable() if self.options.notify == "non" else aiocoap.Reliable()
            pipe.add_response(answer, is_last=False)

    def notify(self, path):
        if path in self.observers:
            self.observers[path].put_nowait(None)

    def instance_at(self, path):
        """Instance and role of a path."""
        parts = [int(part) for part in path.strip("/").split("/") if part.isdigit()]
        if len(parts) != 3 or parts[0] != self.options.object or parts[1] >= len(self.instances):
            return None, None
        return self.instances[parts[1]], ROLES[parts[0]].get(parts[2])

    def read(self, path):
        parts = path.strip("/").split("/")
        if parts[:2] == ["4", "0"]:
            return self.coverage(parts[2:])
        if path == "/3/0/3":
            return self.value(3, self.version)
        instance, role = self.instance_at(path)
        if role is None:
            return aiocoap.Message(code=aiocoap.NOT_FOUND)
        number = int(parts[2])
        if role in ("install", "activate", "deactivate", "uninstall", "cancel", "package"):
            return aiocoap.Message(code=aiocoap.METHOD_NOT_ALLOWED)
        if role == "protocols":
            told = [0, 1, 2] if self.options.http else [0, 1]
            entries = b"".join(tlv_entry(OF_INSTANCE, at, tlv_integer(of)) for at, of in enumerate(told))
            return content(TLV, tlv_entry(WITH_INSTANCES, number, entries))
        if role == "delivery":
            return self.value(number, {"push": 1, "leshan": 2}.get(self.options.character, 0))
        if role == "package_version":
            return self.value(number, "")
        return self.value(number, getattr(instance, role))

    def value(self, number, of):
        """A single resource, as text or in TLV."""
        if self.options.format == "text":
            return content(TEXT, str(int(of) if isinstance(of, bool) else of).encode())
        raw = of.encode() if isinstance(of, str) else tlv_integer(int(of))
        return content(TLV, tlv_entry(OF_RESOURCE, number, raw))

    def coverage(self, rest):
        values = {8: self.options.cell, 2: self.options.rsrp, 11: self.options.sinr}
        if rest:
            values = {number: value for number, value in values.items() if [str(number)] == rest}
        if not values:
            return aiocoap.Message(code=aiocoap.NOT_FOUND)
        content_format, encode = NUMBERS["tlv"]
        return content(content_format, encode(dict(sorted(values.items()))))

    def told(self, path, request):
        """A write or an execution."""
        instance, role = self.instance_at(path)
        if role is None:
            return aiocoap.Message(code=aiocoap.NOT_FOUND)
        if request.code == aiocoap.PUT and request.opt.uri_query and not request.payload:
            refused = self.options.no_observe
            return aiocoap.Message(code=aiocoap.METHOD_NOT_ALLOWED if refused else aiocoap.CHANGED)
        if request.code == aiocoap.PUT and role == "uri":
            return self.uri_written(instance, request)
        if request.code == aiocoap.PUT and role == "package":
            return self.package_written(instance, path, request)
        if request.code == aiocoap.POST and role in ("install", "activate", "uninstall", "cancel"):
            return aiocoap.Message(code=getattr(instance, role)(request.payload.decode()))
        return aiocoap.Message(code=aiocoap.METHOD_NOT_ALLOWED)

    def uri_written(self, instance, request):
        if request.opt.content_format == TLV:
            ((_, _, uri),) = tlv_entries(request.payload)
        elif self.options.no_text:
            return aiocoap.Message(code=aiocoap.UNSUPPORTED_CONTENT_FORMAT)
        else:
            uri = request.payload
        return aiocoap.Message(code=instance.offered(uri.decode()))

    def package_written(self, instance, path, request):
        """Block after block (RFC 7959 §2.5)."""
        if request.opt.content_format != OCTETS:
            return aiocoap.Message(code=aiocoap.UNSUPPORTED_CONTENT_FORMAT)
        block = request.opt.block1
        if block is None and request.payload in (b"", b"\0"):
            instance.reset()
            return aiocoap.Message(code=aiocoap.CHANGED)
        if self.options.character not in ("push", "leshan"):
            return aiocoap.Message(code=aiocoap.METHOD_NOT_ALLOWED)
        number, more, exponent = (0, False, 6) if block is None else block
        size = 16 << exponent
        if number == 0:
            if instance.state != IDLE:
                return aiocoap.Message(code=aiocoap.BAD_REQUEST)
            self.pushes[path] = True
            instance.drop()
            instance.is_(DOWNLOADING, 0)
        if path not in self.pushes or number * size != len(instance.image):
            self.pushes.pop(path, None)
            answer = aiocoap.Message(code=aiocoap.REQUEST_ENTITY_INCOMPLETE)
            if number:
                instance.drop()
                instance.is_(IDLE, 0)
            return answer
        instance.take(request.payload, None, exponent)
        # smaller ones from now on, if it likes
        told = min(exponent, self.options.blocks.bit_length() - 5)
        answer = aiocoap.Message(code=aiocoap.CONTINUE if more else aiocoap.CHANGED)
        if block is not None:
            answer.opt.block1 = (number, more, told)
        if not more:
            del self.pushes[path]
            asyncio.get_running_loop().call_soon(instance.complete)
        return answer

    # its registration

    def links(self):
        own = [f"</{self.options.object}/{it.number}>" for it in self.instances]
        return ",".join(['</>;rt="oma.lwm2m"', "</1/0>", "</3/0>", "</4/0>", *own]).encode()

    async def connect(self):
        """Serves the objects on a new socket and registers from it."""
        self.observers = {}
        self.pushes = {}
        if self.options.key is None:
            self.context = await aiocoap.Context.create_server_context(
                self, bind=("127.0.0.1", 0), transports=["udp6"]
            )
        else:
            self.context = await aiocoap.Context.create_server_context(self, transports=["tinydtls"])
            psk = {"psk": {"hex": self.options.key}, "client-identity": {"ascii": self.options.identity}}
            self.context.client_credentials.load_from_dict({f"coaps://{self.options.server}/*": {"dtls": psk}})
        answer = await within(self.options.wait, self.register(), "the answer to the registration")
        if answer.code != aiocoap.CREATED:
            raise Failed(f"the registration was answered {answer.code} {answer.payload!r}")
        self.association = answer.remote  # aiocoap forgets a connection to which nothing refers
        self.location = "/".join(answer.opt.location_path)
        say("registered", location=self.location)

    async def register(self):
        """Until somebody answers."""
        scheme = "coap" if self.options.key is None else "coaps"
        query = f"ep={self.options.endpoint}&lt={self.options.lifetime}&b=U&lwm2m={self.options.lwm2m}"
        while True:
            request = aiocoap.Message(
                code=aiocoap.POST,
                uri=f"{scheme}://{self.options.server}/rd?{query}",
                content_format=LINK_FORMAT,
                payload=self.links(),
            )
            try:
                return await self.context.request(request).response
            except (aiocoap.error.Error, OSError):
                await asyncio.sleep(0.5)  # nobody is there

    async def reconnect(self):
        """What a restart does."""
        await self.context.shutdown()
        say("restarts")
        await asyncio.sleep(self.options.reboot)
        await self.connect()

    async def update(self):
        """Tells that it is there, now and then."""
        while True:
            await asyncio.sleep(self.options.update_every)
            context = self.context
            request = aiocoap.Message(code=aiocoap.POST)
            scheme = "coap" if self.options.key is None else "coaps"
            request.set_request_uri(f"{scheme}://{self.options.server}/{self.location}")
            try:
                answer = await context.request(request).response
                say("updated", code=answer.code.dotted)
            except (aiocoap.error.Error, OSError):
                pass  # it has restarted meanwhile, or nobody is there

    async def heeded(self, work):
        """What goes wrong ends the device."""
        try:
            await work
        except (Failed, aiocoap.error.Error, OSError) as problem:
            self.failed.set_exception(Failed(str(problem)))

    async def run(self):
        self.failed = asyncio.get_running_loop().create_future()
        await self.connect()
        for instance in self.instances:
            if instance.state == DOWNLOADING and instance.uri:
                say("resumes", bytes=len(instance.image))
                instance.begin(instance.download())
        if self.options.update_every:
            updates = asyncio.create_task(self.update())
            updates.add_done_callback(asyncio.Task.result)
        await self.failed


def content(content_format, payload):
    return aiocoap.Message(code=aiocoap.CONTENT, content_format=content_format, payload=payload)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--character", choices=CHARACTERS, default="anjay")
    parser.add_argument("--object", type=int, choices=ROLES, default=FIRMWARE)
    parser.add_argument("--version", default="V1.0", help="the version it runs at first")
    parser.add_argument("--to", default="V2.0", help="the version that is in the image")
    parser.add_argument("--software", default="app", help="with --object 9: what the image is called")
    parser.add_argument("--expect", metavar="SHA256", help="of the image; any other fails its integrity check")
    parser.add_argument("--fail", type=int, metavar="RESULT", help="the result that it tells after the download")
    parser.add_argument("--state", metavar="FILE", help="where it keeps what it has")
    parser.add_argument("--identity", help="with --key: who it is for DTLS")
    parser.add_argument("--key", metavar="HEX", help="its pre-shared key: CoAP over DTLS")
    parser.add_argument("--http", action="store_true", help="says that it fetches over HTTP too")
    parser.add_argument("--cell", type=int, default=1)
    parser.add_argument("--rsrp", type=int, default=-90)
    parser.add_argument("--sinr", type=int, default=10)
    parser.add_argument("--format", choices=["text", "tlv"], default="tlv", help="of single resources")
    parser.add_argument("--no-text", action="store_true", help="takes a URI in TLV alone")
    parser.add_argument("--no-observe", action="store_true", help="cannot be observed, and takes no attributes")
    parser.add_argument("--notify", choices=["con", "non"], default="con")
    parser.add_argument("--blocks", type=int, default=1024, help="bytes of a block that is written to it, at most")
    parser.add_argument("--lwm2m", default="1.0")
    parser.add_argument("--lifetime", type=int, default=300)
    parser.add_argument("--update-every", type=float, metavar="S", help="updates its registration")
    parser.add_argument("--slow", type=float, default=0, metavar="S", help="between two blocks")
    parser.add_argument("--lose", type=int, metavar="N", help="loses the answer to each Nth request")
    parser.add_argument("--ack", type=float, default=0.5, help="seconds until a request is repeated")
    parser.add_argument("--reboot", type=float, default=0.2, help="seconds that a restart takes")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for the platform")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for everything")
    return parser.parse_args()


async def main():
    options = arguments()
    await within(options.timeout, Device(options).run(), "its end")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (Failed, aiocoap.error.Error, OSError) as problem:
        say("failed", problem=str(problem))
        sys.exit(1)
