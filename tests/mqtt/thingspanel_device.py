#!/usr/bin/env python3
"""A device of ThingsPanel on paho-mqtt, of release 0.5 or 1.x.

Sources: https://github.com/ThingsPanel/thingspanel-backend-community (configuration of topics, OTA),
https://docs.thingspanel.cn.
"""

import hashlib
import sys
import threading
import time

from common import Content, Device, Failed, arguments, get, say


def crc16(method, data):
    """CRC-16/MODBUS, and CRC-16/KERMIT, which is what is called CCITT there."""
    value, polynomial = (0xFFFF, 0xA001) if method == "MODBUS" else (0, 0x8408)
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ polynomial if value & 1 else value >> 1
    return f"{value:04X}"


class Bytes(Content):
    """What was downloaded, with its bytes."""

    def __init__(self):
        super().__init__()
        self.data = bytearray()

    def take(self, data):
        super().take(data)
        self.data += data


class ThingsPanel(Device):
    def __init__(self, options):
        self.version = options.version
        self.old = options.release == "0.5"
        self.inform = f"ota/device/inform/{options.token}" if self.old else f"ota/devices/{options.spelling}/{options.device}"
        self.qos = 0 if self.old else 1
        self.number = 0
        self.busy = False
        self.old_versions = options.old_version_first
        super().__init__(options, f"mqtt_{options.device}", options.token, options.password)

    def connected(self):
        self.client.subscribe(self.inform, self.qos)

    def subscribed(self, accepted):
        if not accepted:
            return self.give_up(f"the subscription to {self.inform} is refused")
        self.tell_version()

    def tell_version(self):
        if not self.old:
            return
        self.number += 1
        told = {"id": str(self.number), "params": {"version": self.version, "module": self.options.module}}
        self.publish("ota/device/inform", told, self.qos)

    def message(self, topic, message):
        if topic != self.inform:
            raise Failed(f"another topic: {topic}")
        if len(str(message["id"])) > 10 or str(message["code"]) != "200":
            raise Failed(f"no push: {message}")
        if self.old_versions > 0:
            self.old_versions -= 1
            return self.tell_version()
        if self.busy:
            return say("ignored")
        self.busy = True
        threading.Thread(target=self.upgrade, args=(message["params"],), daemon=True).start()

    def upgrade(self, params):
        try:
            self.upgrade_or_fail(params)
        except (Failed, OSError, KeyError, ValueError) as error:
            say("download_failed", why=f"{type(error).__name__}: {error}")
            self.step(-2, str(error), params.get("module"))
        finally:
            self.busy = False

    def upgrade_or_fail(self, params):
        module = params.get("module")
        if self.options.fail:
            self.step(-self.options.fail, "refused", module)
            return self.end()
        size = int(params["size"])
        content = Bytes()
        for part in range(self.options.parts):
            self.download(params["url"], content, size * (part + 1) // self.options.parts, size)
            self.step(90 * (part + 1) // self.options.parts, "downloading", module)
        say("downloaded", **content.told())
        if content.size != size:
            raise Failed(f"{content.size} bytes instead of {size}")
        method = {"md5": hashlib.md5, "sha256": hashlib.sha256}[params["signMethod"].lower()]
        if method(content.data).hexdigest() != params["sign"].lower():
            self.step(-3, "the check code is another", module)
            raise SystemExit
        time.sleep(self.options.install)
        self.version = params["version"]
        self.step(100, "upgraded", module)
        self.tell_version()
        self.end()

    def download(self, url, content, end, size):
        """As far as `end`: with `a-b` up to the last part, which is asked for as `a-`."""
        start = content.size
        headers = {}
        if self.options.parts > 1:
            headers["Range"] = f"bytes={start}-" if end == size else f"bytes={start}-{end - 1}"
        if self.options.crc:
            headers["Crc16-Method"] = self.options.crc
        status, answer = get(url, self.options.ca, headers, content)
        if self.options.parts > 1 and status != 206:
            raise Failed(f"a Range was answered by {status}")
        if self.options.crc:
            told = answer.get("X-CRC16", "").upper()
            own = crc16(self.options.crc, content.data[start:])
            if told != own:
                raise Failed(f"X-CRC16 is {told!r}, not {own}")

    def step(self, step, words, module):
        told = {"step": step if self.options.numbers else str(step), "desc": words[:127], "module": module}
        self.publish("ota/device/progress" if self.old else "ota/devices/progress", told, self.qos)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--device", required=True, help="device number")
    parser.add_argument("--token", required=True, help="access token, the user name")
    parser.add_argument("--password", help="password, where the device has one")
    parser.add_argument("--release", choices=["0.5", "1.x"], default="1.x")
    parser.add_argument("--spelling", choices=["infrom", "inform"], default="infrom", help="of the topic of release 1.x")
    parser.add_argument("--module", default="default")
    parser.add_argument("--numbers", action="store_true", help="writes steps as numbers")
    parser.add_argument("--parts", type=int, default=1, help="downloads in so many Ranges")
    parser.add_argument("--crc", choices=["CCITT", "MODBUS"], help="asks for a CRC-16 of each answer")
    parser.add_argument("--old-version-first", type=int, default=0, metavar="N", help="reports its old version N times instead of downloading")
    return ThingsPanel(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
