#!/usr/bin/env python3
"""A device with the standard's own objects for upgrades, which shares no code with the server: LwM2M on aiocoap
(over DTLS on tinydtls), and packages fetched from a second socket by messages of its own (aiocoap_fetching.py).

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
import json
import os
import sys
from pathlib import Path

import aiocoap
import aiocoap.resource

from aiocoap_device import Failed, say, within
from aiocoap_fetching import CHARACTERS, DOWNLOADING, IDLE
from aiocoap_formats import CBOR, LINK_FORMAT, NUMBERS, OCTETS, OF_INSTANCE, OF_RESOURCE, SENML_CBOR, SENML_JSON
from aiocoap_formats import TEXT, TLV, WITH_INSTANCES, cbor, tlv_entries, tlv_entry, tlv_integer
from aiocoap_instances import DELIVERED, FIRMWARE, INSTALLED, ROLES, SOFTWARE, Instance


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
            if instance.state == IDLE and self.character.tells_success == "at once":
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
            while request.opt.block1 is not None and any(instance.holds() for instance in self.instances):
                await asyncio.sleep(0.05)
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
            answer.transport_tuning = aiocoap.Reliable() if self.options.notify == "con" else aiocoap.Unreliable()
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
            return self.value(path, self.version)
        instance, role = self.instance_at(path)
        if role is None:
            return aiocoap.Message(code=aiocoap.NOT_FOUND)
        if role in ("install", "activate", "deactivate", "uninstall", "cancel", "package"):
            return aiocoap.Message(code=aiocoap.METHOD_NOT_ALLOWED)
        if role == "protocols":
            return self.several(path, [0, 1, 2] if self.options.http else [0, 1])
        if role == "delivery":
            return self.value(path, {"push": 1, "leshan": 2}.get(self.options.character, 0))
        if role == "package_version":
            return self.value(path, "")
        return self.value(path, getattr(instance, role))

    def value(self, path, of):
        """A single resource."""
        of = of if isinstance(of, str) else int(of)
        if self.options.format == "text":
            return content(TEXT, str(of).encode())
        if self.options.format == "cbor":
            return content(CBOR, cbor(of))
        if self.options.format != "tlv":
            return self.records([(path, "", of)])
        raw = of.encode() if isinstance(of, str) else tlv_integer(of)
        return content(TLV, tlv_entry(OF_RESOURCE, int(path.rpartition("/")[2]), raw))

    def several(self, path, told):
        """A resource with instances, which has no form as text."""
        if self.options.format.startswith("senml"):
            return self.records([(f"{path}/", str(at), of) for at, of in enumerate(told)])
        entries = b"".join(tlv_entry(OF_INSTANCE, at, tlv_integer(of)) for at, of in enumerate(told))
        return content(TLV, tlv_entry(WITH_INSTANCES, int(path.rpartition("/")[2]), entries))

    def records(self, values):
        """In SenML; the base name holds for the records that follow (RFC 8428 §4.1)."""
        as_cbor = self.options.format == "senml-cbor"
        labels = {"bn": -2, "n": 0, "v": 2, "vs": 3} if as_cbor else {}
        records, before = [], None
        for base, name, of in values:
            record = {} if base == before else {"bn": base}
            record |= {"n": name} if name else {}
            record["vs" if isinstance(of, str) else "v"] = of
            records.append({labels.get(label, label): value for label, value in record.items()})
            before = base
        if as_cbor:
            return content(SENML_CBOR, cbor(records))
        return content(SENML_JSON, json.dumps(records).encode())

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
        query = f"ep={self.options.endpoint}&lt={self.options.lifetime}&b={self.options.binding}"
        query += f"&lwm2m={self.options.lwm2m}"
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
                answer = await asyncio.wait_for(context.request(request).response, 3)
                say("updated", code=answer.code.dotted)
            except asyncio.TimeoutError:
                # nobody is there who knows its association
                if self.options.key is not None and self.context is context:
                    await context.shutdown()
                    await self.connect()
            except (aiocoap.error.Error, OSError):
                pass  # it has restarted meanwhile

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
    parser.add_argument("--fail-install", type=int, metavar="RESULT", help="the result of its installation")
    parser.add_argument("--revert", action="store_true", help="comes up with its old version")
    parser.add_argument("--state", metavar="FILE", help="where it keeps what it has")
    parser.add_argument("--identity", help="with --key: who it is for DTLS")
    parser.add_argument("--key", metavar="HEX", help="its pre-shared key: CoAP over DTLS")
    parser.add_argument("--http", action="store_true", help="says that it fetches over HTTP too")
    parser.add_argument("--cell", type=int, default=1)
    parser.add_argument("--rsrp", type=int, default=-90)
    parser.add_argument("--sinr", type=int, default=10)
    formats = ["text", "tlv", "cbor", "senml-json", "senml-cbor"]
    parser.add_argument("--format", choices=formats, default="tlv", help="of single resources")
    parser.add_argument("--no-text", action="store_true", help="takes a URI in TLV alone")
    parser.add_argument("--no-observe", action="store_true", help="cannot be observed, and takes no attributes")
    parser.add_argument("--notify", choices=["con", "non"], default="con")
    parser.add_argument("--blocks", type=int, default=1024, help="bytes of a block that is written to it, at most")
    parser.add_argument("--lwm2m", default="1.0")
    parser.add_argument("--binding", default="U")
    parser.add_argument("--lifetime", type=int, default=300)
    parser.add_argument("--update-every", type=float, metavar="S", help="updates its registration")
    parser.add_argument("--through", metavar="HOST:PORT", help="what forwards its requests for packages, not encrypted")
    parser.add_argument("--hold", metavar="FILE", help="stops in mid-transfer until that is there")
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
