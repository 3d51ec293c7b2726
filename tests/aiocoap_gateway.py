#!/usr/bin/env python3
"""A gateway that shares no code with the server: one association of aiocoap (DTLS on tinydtls), over which it registers the
devices behind it, each at a path of its own, and has them upgraded at once.

Ends with exit code 0 once all are upgraded. Takes the options of aiocoap_device.py, and `--child` once for each device;
`--foreign` is an endpoint that it may not register, which it tries first.
"""

import argparse
import asyncio
import sys

import aiocoap
from aiocoap import resource

import aiocoap_device
from aiocoap_device import Device, Failed, say, within


class Child(Device):
    """A device behind the gateway: on its socket, and below a path."""

    def __init__(self, options, name, context, site):
        own = argparse.Namespace(**{**vars(options), "endpoint": name})
        super().__init__(own)
        self.root = name
        self.context = context
        self.serve(site)

    async def upgrade(self):
        await within(self.options.wait, self.uplink.observed.wait(), f"the observation of {self.root}")
        await self.wait_for(aiocoap_device.NEW_VERSION)
        await self.download()
        await self.ask(aiocoap_device.DOWNLOADED, b"\0")
        await self.wait_for(aiocoap_device.EXECUTE)
        self.send(aiocoap_device.EXECUTE, b"\0")
        await asyncio.sleep(self.options.reboot)
        await self.register()
        self.version = aiocoap_device.version_text(self.offer[0])
        await self.ask(aiocoap_device.UPGRADED, b"\0" + aiocoap_device.version_field(self.version))
        say("upgraded", endpoint=self.root, version=self.version)


async def gateway(options):
    site = resource.Site()
    context = await aiocoap.Context.create_server_context(site, transports=["tinydtls"])
    psk = {"psk": {"hex": options.key}, "client-identity": {"ascii": options.identity}}
    context.client_credentials.load_from_dict({f"coaps://{options.server}/*": {"dtls": psk}})
    if options.foreign:
        try:
            await Child(options, options.foreign, context, site).register()
            raise Failed(f"{options.foreign} was registered")
        except Failed as problem:
            if "4.03" not in str(problem):
                raise
            say("refused", endpoint=options.foreign)
    children = [Child(options, name, context, site) for name in options.child]
    for child in children:
        await child.register()
    await asyncio.gather(*(child.upgrade() for child in children))
    await context.shutdown()


async def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--child", action="append", default=[])
    parser.add_argument("--foreign")
    own, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    options = argparse.Namespace(**vars(aiocoap_device.arguments()), **vars(own))
    await within(options.timeout, gateway(options), "the upgrades' end")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (Failed, aiocoap.error.Error, OSError) as problem:
        say("failed", problem=str(problem))
        sys.exit(1)
