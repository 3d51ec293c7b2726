#!/usr/bin/env python3
"""A device that shares no code with the server: LwM2M on aiocoap (over DTLS on tinydtls), PCP written here.

It registers, serves objects 4 (Connectivity Monitoring) and 19 (BinaryAppDataContainer), lets itself be
upgraded, and ends with exit code 0 once it has reported the new version and heard that this arrived.
Progress goes to standard output, one JSON object a line. Every wait has an end: exit code 1 says which.

Sources: OMA LwM2M 1.0 (registration), Huawei IoTDA "PCP Introduction".
"""

import argparse
import asyncio
import hashlib
import json
import struct
import sys

import aiocoap
from aiocoap import resource

from aiocoap_formats import BYTES, LINK_FORMAT, NUMBERS, OCTETS, OF_ONE_RESOURCE

# PCP message codes
VERSION, NEW_VERSION, SEGMENT, DOWNLOADED, EXECUTE, UPGRADED = range(19, 25)


class Failed(Exception):
    """The upgrade did not come to its end."""


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


# --- PCP ---------------------------------------------------------------------------------------------


def crc_table():
    table = []
    for index in range(256):
        value = index << 8
        for _ in range(8):
            value = (value << 1) ^ 0x1021 if value & 0x8000 else value << 1
        table.append(value & 0xFFFF)
    return table


CRC_TABLE = crc_table()


def crc(data):
    """The table of polynomial 0x1021, most significant bit first, with the update of the other order."""
    value = 0
    for byte in data:
        value = (value >> 8) ^ CRC_TABLE[(value ^ byte) & 0xFF]
    return value


def frame(code, data=b""):
    head = struct.pack(">HBB", 0xFFFE, 1, code)
    check = crc(head + b"\0\0" + struct.pack(">H", len(data)) + data)
    return head + struct.pack(">HH", check, len(data)) + data


def unframe(payload):
    """Code and data of a frame, None for anything else."""
    if len(payload) < 8 or payload[:2] != b"\xff\xfe":
        return None
    code, check, length = struct.unpack(">BHH", payload[3:8])
    if payload[2] & 0x0F != 1 or len(payload) != 8 + length:
        return None
    if crc(payload[:4] + b"\0\0" + payload[6:]) != check:
        return None
    return code, payload[8:]


def version_field(text):
    return text.encode("ascii").ljust(16, b"\0")


def version_text(field):
    return field.rstrip(b"\0").decode("ascii")


# --- objects -------------------------------------------------------------------------------------------


def code(text):
    """An answer such as 4.06."""
    return aiocoap.Code(int(text[0]) << 5 | int(text[2:]))


def unacceptable(request, path, content_format, accept):
    """The refusal of a request that asks for another content format, if the device refuses any."""
    asked = request.opt.accept
    if asked is None or asked == content_format or accept in ("ignore", "follow"):
        return None
    say("unacceptable", asked=int(asked), path=path)
    return aiocoap.Message(code=code(accept))


class Connectivity(resource.Resource):
    """/4/0, or one of its resources."""

    def __init__(self, path, values, form, accept):
        super().__init__()
        self.path = path
        self.values = values
        self.content_format, self.encode = NUMBERS[form]
        self.refused = path == "/4/0" and form in OF_ONE_RESOURCE
        self.accept = accept

    async def render_get(self, request):
        if refusal := unacceptable(request, self.path, self.content_format, self.accept):
            return refusal
        asked = None if request.opt.accept is None else int(request.opt.accept)
        say("read", path=self.path, answered=not self.refused, asked=asked)
        if self.refused:
            return aiocoap.Message(code=aiocoap.METHOD_NOT_ALLOWED)
        return aiocoap.Message(
            code=aiocoap.CONTENT,
            content_format=self.content_format,
            payload=self.encode(self.values),
        )


class Uplink(resource.Resource):
    """/19/0/0: what the device has to say goes to whoever observes it."""

    def __init__(self, confirmable, form, accept):
        super().__init__()
        self.observed = asyncio.Event()
        self.frames = asyncio.Queue()
        self.tuning = aiocoap.Reliable() if confirmable else aiocoap.Unreliable()
        self.form = BYTES[form]
        self.accept = accept

    async def render_to_pipe(self, pipe):
        content_format, instances, write, _ = self.form
        asked = pipe.request.opt.accept
        if refusal := unacceptable(pipe.request, "/19/0/0", content_format, self.accept):
            pipe.add_response(refusal, is_last=True)
            return
        if self.accept == "follow" and asked == OCTETS:
            content_format, _, write, _ = BYTES["octets"]
        answer = aiocoap.Message(code=aiocoap.CONTENT, content_format=content_format)
        if pipe.request.opt.observe != 0:
            pipe.add_response(answer, is_last=True)
            return
        answer.opt.observe = 0
        pipe.add_response(answer, is_last=False)
        say("observed", asked=None if asked is None else int(asked))
        self.observed.set()
        number = 0
        while True:
            payload = await self.frames.get()
            number += 1
            pipe.add_response(
                aiocoap.Message(
                    code=aiocoap.CONTENT,
                    content_format=content_format,
                    observe=number,
                    payload=write(payload, (19, 0, 0), instances),
                    transport_tuning=self.tuning,
                ),
                is_last=False,
            )


class Downlink(resource.Resource):
    """/19/1/0: what the platform writes."""

    def __init__(self, received, written, form, refuses_octets):
        super().__init__()
        self.received = received
        self.written = written
        self.form = BYTES[form]
        self.refuses_octets = refuses_octets

    async def render_put(self, request):
        content_format, instances, _, read = self.form
        came = request.opt.content_format
        self.written.append(None if came is None else int(came))
        if came == OCTETS:
            if self.refuses_octets:
                return aiocoap.Message(code=code(self.refuses_octets))
            content = request.payload
        elif came == content_format:
            try:
                content = read(request.payload, (19, 1, 0), instances)
            except (ValueError, KeyError) as problem:
                say("unreadable", content_format=content_format, problem=str(problem))
                return aiocoap.Message(code=aiocoap.BAD_REQUEST)
        else:
            say("refused", content_format=self.written[-1])
            return aiocoap.Message(code=aiocoap.UNSUPPORTED_CONTENT_FORMAT)
        parts = unframe(content)
        if parts is None:
            say("not_understood", payload=request.payload.hex())
        else:
            self.received.put_nowait(parts)
        return aiocoap.Message(code=aiocoap.CHANGED)


# --- the device ------------------------------------------------------------------------------------------


class Device:
    def __init__(self, options):
        self.options = options
        self.version = options.version
        self.received = asyncio.Queue()
        self.context = None
        self.uplink = None
        self.written = []  # the content format of each write
        self.segments = {}
        self.offer = None
        self.association = None
        self.root = None  # where its objects are, if not at the root

    def values(self):
        given = {8: self.options.cell, 2: self.options.rsrp, 11: self.options.sinr}
        return {number: value for number, value in sorted(given.items()) if value is not None}

    def serve(self, site):
        """Puts the objects below its path."""
        values, options = self.values(), self.options
        root = [self.root] if self.root else []
        if values:
            whole = Connectivity("/4/0", values, options.format, options.accept)
            site.add_resource([*root, "4", "0"], whole)
        for number, value in values.items():
            one = Connectivity(f"/4/0/{number}", {number: value}, options.format, options.accept)
            site.add_resource([*root, "4", "0", str(number)], one)
        self.uplink = Uplink(options.notify == "con", options.data, options.accept)
        site.add_resource([*root, "19", "0", "0"], self.uplink)
        downlink = Downlink(self.received, self.written, options.data, options.refuse_octets)
        site.add_resource([*root, "19", "1", "0"], downlink)

    def links(self):
        below = f"/{self.root}" if self.root else ""
        objects = ",".join(f"<{below}/{path}>" for path in ("3/0", "4/0", "19/0", "19/1"))
        return f'<{below or "/"}>;rt="oma.lwm2m",{objects}'.encode()

    async def connect(self):
        """Serves the objects on a new socket and registers from it."""
        site = resource.Site()
        self.serve(site)
        if self.options.key is None:
            self.context = await aiocoap.Context.create_server_context(
                site, bind=("127.0.0.1", 0), transports=["udp6"]
            )
        else:
            # the client's side of DTLS, on which the server's requests come back
            self.context = await aiocoap.Context.create_server_context(site, transports=["tinydtls"])
            psk = {"psk": {"hex": self.options.key}, "client-identity": {"ascii": self.options.identity}}
            self.context.client_credentials.load_from_dict({f"coaps://{self.options.server}/*": {"dtls": psk}})
        await self.register()
        await within(self.options.wait, self.uplink.observed.wait(), "the observation of /19/0/0")

    async def register(self):
        query = f"ep={self.options.endpoint}&lt={self.options.lifetime}&b={self.options.binding}"
        if self.options.lwm2m:
            query += f"&lwm2m={self.options.lwm2m}"
        request = aiocoap.Message(
            code=aiocoap.POST,
            uri=f"{'coap' if self.options.key is None else 'coaps'}://{self.options.server}/rd?{query}",
            content_format=LINK_FORMAT,
            payload=self.links(),
        )
        answer = await within(
            self.options.wait, self.context.request(request).response, "the answer to the registration"
        )
        if answer.code != aiocoap.CREATED:
            raise Failed(f"the registration was answered {answer.code} {answer.payload!r}")
        location = "/".join(answer.opt.location_path)
        self.association = answer.remote  # aiocoap forgets a connection to which nothing refers
        say("registered", location=location)

    async def reconnect(self):
        """What a restart does: another socket, another registration; the segments are in the flash."""
        await self.context.shutdown()
        say("dropped", segments=len(self.segments))
        await asyncio.sleep(self.options.reboot)
        await self.connect()

    def send(self, code, data=b""):
        self.uplink.frames.put_nowait(frame(code, data))

    async def ask(self, code, data):
        """Sends a request until its answer comes; what else arrives is dealt with meanwhile."""
        for _ in range(self.options.attempts):
            self.send(code, data)
            deadline = asyncio.get_running_loop().time() + self.options.repeat_after
            while (left := deadline - asyncio.get_running_loop().time()) > 0:
                try:
                    got, answer = await asyncio.wait_for(self.received.get(), left)
                except asyncio.TimeoutError:
                    break
                if got == code:
                    return answer
                self.command(got, answer)
        raise Failed(f"no answer to message {code}")

    def command(self, code, data):
        """Deals with what the platform asks. True when it begins something."""
        if code == VERSION:
            say("asked_version", version=self.version)
            self.send(VERSION, b"\0" + version_field(self.version))
        elif code == NEW_VERSION:
            fields = struct.unpack(">16sHHH", data)
            if fields != self.offer:
                self.offer, self.segments = fields, {}
            version, size, count, check = fields
            say("notified", version=version_text(version), size=size, count=count, check_code=check)
            if not self.options.silent_20:
                self.send(NEW_VERSION, b"\0")
            return True
        elif code == EXECUTE:
            say("commanded")
            return True
        else:
            say("ignored", code=code)
        return False

    async def wait_for(self, wanted):
        while True:
            code, data = await within(self.options.wait, self.received.get(), f"message {wanted}")
            if self.command(code, data) and code == wanted:
                return

    async def download(self):
        version, size, count, check = self.offer
        while len(self.segments) < count:
            number = len(self.segments)
            answer = await self.ask(SEGMENT, version + struct.pack(">H", number))
            result, data = answer[0], answer[3:]
            if result != 0:
                raise Failed(f"segment {number} was refused: {result:#04x}")
            if struct.unpack(">H", answer[1:3]) != (number,):
                continue
            if len(data) != size and number != count - 1:
                raise Failed(f"segment {number} has {len(data)} bytes instead of {size}")
            self.segments[number] = data
            if len(self.segments) == self.options.drop_after:
                await self.reconnect()
        package = b"".join(self.segments[number] for number in range(count))
        if check != 0 and crc(package) != check:
            raise Failed(f"the package's check code is {crc(package):#06x}, not {check:#06x}")
        say("downloaded", bytes=len(package), sha256=hashlib.sha256(package).hexdigest())

    async def run(self):
        await self.connect()
        await self.wait_for(NEW_VERSION)
        await self.download()
        await self.ask(DOWNLOADED, b"\0")
        await self.wait_for(EXECUTE)
        self.send(EXECUTE, b"\0")
        await asyncio.sleep(self.options.reboot)
        if self.options.restart:
            await self.reconnect()
        self.version = version_text(self.offer[0])
        await self.ask(UPGRADED, b"\0" + version_field(self.version))
        say("upgraded", version=self.version, written=self.written)
        await self.context.shutdown()


async def within(seconds, awaitable, what):
    try:
        return await asyncio.wait_for(awaitable, seconds)
    except asyncio.TimeoutError:
        raise Failed(f"{what} did not come within {seconds} s") from None


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--version", default="V1.0", help="the version it runs at first")
    parser.add_argument("--identity", help="with --key: who it is for DTLS")
    parser.add_argument("--key", metavar="HEX", help="its pre-shared key: CoAP over DTLS")
    parser.add_argument("--cell", type=int, help="/4/0/8; not given: not there")
    parser.add_argument("--rsrp", type=int, help="/4/0/2, dBm")
    parser.add_argument("--sinr", type=int, help="/4/0/11, dB")
    parser.add_argument("--format", choices=NUMBERS, default="tlv", help="of object 4")
    parser.add_argument("--data", choices=BYTES, default="octets", help="format of object 19")
    parser.add_argument(
        "--accept", default="ignore", metavar="ignore|follow|4.06|…", help="when asked for another content format"
    )
    parser.add_argument("--refuse-octets", metavar="4.15|…", help="answer to writes in application/octet-stream")
    parser.add_argument("--lwm2m", default="1.0", help="the version that it registers with")
    parser.add_argument("--notify", choices=["con", "non"], default="con")
    parser.add_argument("--lifetime", type=int, default=300)
    parser.add_argument("--binding", default="U")
    parser.add_argument("--drop-after", type=int, metavar="K", help="restart after K segments")
    parser.add_argument("--restart", action="store_true", help="register anew after the upgrade")
    parser.add_argument("--silent-20", action="store_true", help="never answer message 20")
    parser.add_argument("--reboot", type=float, default=0.2, help="seconds that a restart takes")
    parser.add_argument("--repeat-after", type=float, default=5, help="seconds until a request is repeated")
    parser.add_argument("--attempts", type=int, default=5, help="times that a request is sent")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for the platform")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for everything")
    return parser.parse_args()


async def main():
    options = arguments()
    await within(options.timeout, Device(options).run(), "the upgrade's end")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (Failed, aiocoap.error.Error, OSError) as problem:
        say("failed", problem=str(problem))
        sys.exit(1)
