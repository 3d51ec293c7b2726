"""An instance of object 5, 9 or 33629, for tests/aiocoap_firmware.py: its resources, and what becomes of it.

Sources: OMA LwM2M Core 1.1 §E.6 (object 5), OMA LWM2M-SwMgmt 1.0 (object 9), the registered definition of object 33629.
"""

import asyncio
import hashlib
from pathlib import Path

import aiocoap
import aiocoap.error

from aiocoap_device import say
from aiocoap_fetching import DOWNLOADED, DOWNLOADING, IDLE, INTEGRITY, LOST, UPDATING, WRONG_URI
from aiocoap_fetching import Fetch, Stopped, fetch_over_aiocoap, fetch_over_http

DELIVERED, INSTALLED = 3, 4  # of object 9
FIRMWARE, SOFTWARE, COMPONENTS = 5, 9, 33629
RESULTS = {
    FIRMWARE: {LOST: 4, INTEGRITY: 5, WRONG_URI: 7, "success": 1},
    COMPONENTS: {LOST: 4, INTEGRITY: 5, WRONG_URI: 7, "success": 1},
    SOFTWARE: {LOST: 52, INTEGRITY: 53, WRONG_URI: 56, "success": 2},
}
# bytes of an image after which --hold holds
HELD_AT = 10_000
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

    def holds(self):
        """Whether it has some of the image, and is to wait before it takes more."""
        hold = self.device.options.hold
        return bool(hold) and len(self.image) > HELD_AT and not Path(hold).exists()

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
                await asyncio.to_thread(fetch_over_http, self)
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
        self.drop()
        self.uri, self.state, self.result = "", IDLE, 0
        if options.fail_install:
            self.state = UPDATING
            self.is_(IDLE, options.fail_install)
            return
        # the image runs when it comes up again, unless the loader takes the old one
        if options.revert:
            device.save()
            await device.reconnect()
            return
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
