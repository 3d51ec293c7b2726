#!/usr/bin/env python3
"""A device with QuecThing (Quectel's Acceleronix) on paho-mqtt.

Sources: the public description of the Acceleronix Developer Center (commands, fields, states), and
https://github.com/jordankurtz/ha-pecron-local (the layout of frames and fields).
"""

import socket
import sys
import threading
import time

from common import Content, Device, Failed, arguments, get, say

ASKS, PLAN, PACKAGE, STATUS = 0x0115, 0x0111, 0x0113, 0x0114
URL, SIZE, COMPONENT, TARGET, KIND, STATE, MESSAGE, SHA256, MODULE, MCU = 1, 2, 4, 6, 7, 13, 14, 16, 25, 26


def crc8(data):
    """Polynomial 0x07, beginning with 0."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 7) & 0xFF if value & 0x80 else value << 1
    return value


CHECKS = {"sum": lambda data: sum(data) % 256, "crc8": crc8}


def encoded(fields):
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            digits = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
            parts.append((number << 3 | 2).to_bytes(2, "big") + bytes([len(digits) - 1]) + digits)
        else:
            text = value.encode()
            parts.append((number << 3 | 3).to_bytes(2, "big") + len(text).to_bytes(2, "big") + text)
    return b"".join(parts)


def decoded(data):
    fields = {}
    while data:
        tag, data = int.from_bytes(data[:2], "big"), data[2:]
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            length = (data[0] & 7) + 1
            if data[0] & 0xF8 or len(data) <= length:
                raise Failed(f"field {number} is no whole number")
            fields[number], data = int.from_bytes(data[1 : length + 1], "big"), data[length + 1 :]
        elif kind == 3:
            length = int.from_bytes(data[:2], "big")
            fields[number], data = data[2 : length + 2].decode(), data[length + 2 :]
        else:
            raise Failed(f"field {number} has type {kind}")
    return fields


class QuecThing(Device):
    def __init__(self, options):
        self.version = options.version
        self.check = CHECKS[options.check]
        self.number = 0
        self.busy = False
        self.back = threading.Event()
        user = {"same": options.device, "other": "a-product"}[options.user]
        if options.token:
            super().__init__(options, f"anything-{options.device}", options.token, None)
        else:
            super().__init__(options, options.device, user, options.secret)

    def connected(self):
        self.client.subscribe(f"q/1/d/{self.options.device}/+", 1)

    def subscribed(self, accepted):
        if not accepted:
            return self.give_up("the subscription is refused")
        self.back.set()
        # one that has started anew asks too
        if not self.busy or self.options.restarts:
            self.ask()

    def ask(self):
        self.send("asks", ASKS, [(MODULE, self.version), (MCU, "mcu-7"), (8, 80)])

    def send(self, what, command, fields):
        self.number = self.number % 0xFFFE + 1
        checked = self.number.to_bytes(2, "big") + command.to_bytes(2, "big") + encoded(fields)
        plain = (len(checked) + 1).to_bytes(2, "big") + bytes([self.check(checked)]) + checked
        frame = bytearray(b"\xAA\xAA")
        for place, byte in enumerate(plain):
            frame.append(byte)
            if byte == 0xAA and plain[place + 1 : place + 2] in (b"\xAA", b"\x55"):
                frame.append(0x55)
        sent = self.client.publish(f"q/2/d/{self.options.device}/ota", bytes(frame), qos=self.options.qos)
        self.sent.append(sent)
        say("published", what=what)

    def state(self, number, *more):
        self.send(f"state {number}", STATUS, [(STATE, number), *more])

    def _on_message(self, client, userdata, packet):
        try:
            command, fields = self.opened(packet.payload)
            say("message", topic=packet.topic, qos=packet.qos, command=command, fields=fields)
            if packet.topic != f"q/1/d/{self.options.device}/ota":
                raise Failed(f"another topic: {packet.topic}")
            self.told(command, fields)
        except Exception as error:  # what a device stumbles over is told, whatever it is
            self.give_up(f"{type(error).__name__}: {error}")

    def opened(self, payload):
        if payload[:2] != b"\xAA\xAA":
            raise Failed(f"no frame: {payload.hex()}")
        plain = bytearray()
        place = 2
        while place < len(payload):
            plain.append(payload[place])
            place += 2 if payload[place : place + 2] == b"\xAA\x55" else 1
        length, checked = int.from_bytes(plain[:2], "big"), bytes(plain[3:])
        if length != len(checked) + 1 or self.check(checked) != plain[2]:
            raise Failed(f"length or check byte: {payload.hex()}")
        if int.from_bytes(checked[:2], "big") in (0, 0xFFFF):
            raise Failed(f"packet ID: {payload.hex()}")
        return int.from_bytes(checked[2:4], "big"), decoded(checked[4:])

    def told(self, command, fields):
        if command == PLAN and fields.get(STATE) == 0:
            if not self.busy and self.options.waits_for_none:
                self.end()
        elif command == PLAN:
            self.planned(fields)
        elif command == PACKAGE:
            if self.busy:
                return say("ignored")
            self.busy = True
            threading.Thread(target=self.upgrade, args=(fields,), daemon=True).start()
        else:
            raise Failed(f"command {command:#06x}")

    def planned(self, fields):
        if fields[TARGET] != "V2.0" or fields[KIND] != 0:
            raise Failed(f"another plan: {fields}")
        self.state(1)
        if self.options.refuse:
            self.state(3, (MESSAGE, self.options.refuse))
            return self.end()
        if not self.busy:
            self.state(2)

    def upgrade(self, fields):
        try:
            self.upgrade_or_fail(fields)
        except (Failed, OSError, KeyError, ValueError) as error:
            self.give_up(f"{type(error).__name__}: {error}")

    def upgrade_or_fail(self, fields):
        for _ in range(self.options.errors):
            self.state(6)
        if self.options.errors >= 6:
            return self.end()
        if self.options.claims:
            self.state(11, (MODULE, fields[TARGET]))
            return self.end()
        self.state(4)
        content = Content()
        size = fields[SIZE]
        if self.options.restarts:
            self.restart_in_mid_download(fields[URL], content, size)
        start = content.size
        headers = {"Range": f"bytes={start}-"} if start else {}
        get(fields[URL], self.options.ca, headers, content)
        self.state(5)
        say("downloaded", **content.told())
        if content.size != size or content.told()["sha256"] != fields[SHA256]:
            return self.state(12, (MESSAGE, "another package"))
        self.state(8)
        self.state(9)
        time.sleep(self.options.install)
        self.version = fields[TARGET]
        self.state(11, (MODULE, self.version))
        self.end()

    def restart_in_mid_download(self, url, content, size):
        """The first half, and then its connection is lost: it comes back with what it has."""
        get(url, self.options.ca, {"Range": f"bytes=0-{size // 2 - 1}"}, content)
        self.back.clear()
        self.client.socket().shutdown(socket.SHUT_RDWR)
        if not self.back.wait(self.options.limit):
            raise Failed("it does not come back")


def main():
    parser = arguments(__doc__)
    parser.add_argument("--device", required=True, help="client ID")
    parser.add_argument("--secret", help="its password")
    parser.add_argument("--token", help="the user name instead")
    parser.add_argument("--user", choices=["same", "other"], default="same", help="the user name beside a secret")
    parser.add_argument("--check", choices=sorted(CHECKS), default="sum", help="how frames are checked")
    parser.add_argument("--qos", type=int, choices=[0, 1, 2], default=2)
    parser.add_argument("--refuse", metavar="WORDS", help="refuses the plan with these words")
    parser.add_argument("--errors", type=int, default=0, metavar="N", help="reports so many errors of the download first")
    parser.add_argument("--claims", action="store_true", help="reports success at once")
    parser.add_argument("--restarts", action="store_true", help="loses its connection in mid-download")
    parser.add_argument("--waits-for-none", action="store_true", help="ends once it is told that there is no plan")
    return QuecThing(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
