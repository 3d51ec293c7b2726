#!/usr/bin/env python3
"""A gateway of Huawei IoTDA on paho-mqtt, with devices behind it that have no connection of their own.

It asks which devices it has, says which are there, and answers, downloads and reports for each of them on its own topic.
Sources: the kits for Python, Java and C at https://github.com/huaweicloud, IoTDA's device interface ("Gateway and child
device management", "Software and firmware upgrade").
"""

import socket
import sys
import threading
import time

from common import Content, Failed, arguments, get, say
from iotda_device import Iotda

# What a device behind it does with an offer.
GOOD = "good"  # downloads, installs, reports
CLAIMS = "claims"  # success at once, without a download; goes on telling the old version
CLAIMS_TRULY = "claims-truly"  # the same, and tells the new version: it has it from elsewhere
RESTARTS = "restarts"  # the gateway breaks off the first download and its connection, comes back, and downloads again
UNASKED = "unasked"  # it is an error that it is offered anything
IGNORES = "ignores"  # nothing, until it is not its device any more
LOST = "lost"  # the gateway says that it is not there, and later that it is


class Gateway(Iotda):
    def __init__(self, options):
        super().__init__(options)
        self.lock = threading.Lock()
        self.habits = dict(pair.split("=", 1) for pair in options.child)
        self.versions = {name: options.version for name in self.habits}
        self.ended = set()
        self.claimed = set()
        self.restarted = set()
        self.busy_with = set()
        self.asked_to_add = False

    def connected(self):
        super().connected()
        self.event("$sub_device_manager", "sub_device_sync_request", {"version": 0})

    def told_for(self, child, kind, paras):
        event = {"service_id": "$ota", "event_type": kind, "event_time": "", "event_id": "", "paras": paras}
        message = {"object_device_id": child, "services": [event]}
        self.publish(f"$oc/devices/{self.name}/sys/events/up", message, 1)

    def status(self, child, there):
        told = [{"device_id": child, "status": "ONLINE" if there else "OFFLINE"}]
        self.event("$sub_device_manager", "sub_device_update_status", {"device_statuses": told})

    def message(self, topic, message):
        if topic != f"$oc/devices/{self.name}/sys/events/down":
            raise Failed(f"another topic: {topic}")
        about = message["object_device_id"]
        for service in message["services"]:
            kind, paras = service["event_type"], service.get("paras") or {}
            if service["service_id"] == "$sub_device_manager":
                self.managed(kind, paras)
            elif service["service_id"] == "$ota" and about != self.name:
                self.for_child(about, kind, paras)
            # it is asked for its own version, and says nothing, as the kits' gateways do

    def managed(self, kind, paras):
        if kind == "add_sub_device_notify":
            for device in paras["devices"]:
                child = device["device_id"]
                if device["parent_device_id"] != self.name:
                    raise Failed(f"another's device: {device}")
                if self.habits.get(child) == LOST and child not in self.restarted:
                    self.restarted.add(child)
                    self.status(child, False)
                    threading.Timer(1, self.status, (child, True)).start()
                elif child in self.habits:
                    self.status(child, True)
            if self.options.add and not self.asked_to_add:
                self.asked_to_add = True
                wanted = [{"node_id": name, "name": name, "product_id": ""} for name in self.options.add]
                self.event("$sub_device_manager", "add_sub_device_request", {"devices": wanted})
        elif kind == "add_sub_device_response":
            for device in paras["successful_devices"]:
                say("added", child=device["device_id"])
                self.status(device["device_id"], True)
            for device in paras["failed_devices"]:
                say("not_added", child=device["device_id"], code=device["error_code"])
        elif kind == "delete_sub_device_notify":
            for device in paras["devices"]:
                say("deleted", child=device["device_id"])
                self.ends(device["device_id"])

    def for_child(self, child, kind, paras):
        if child not in self.habits:
            raise Failed(f"a device that it does not have: {child}")
        if kind == "version_query":
            # a gateway tells the firmware alone
            self.told_for(child, "version_report", {"fw_version": self.versions[child]})
            if self.habits[child] == UNASKED or child in self.claimed and child in self.restarted:
                self.ends(child)
        elif self.habits[child] == UNASKED:
            raise Failed(f"{child} is offered what nobody has confirmed: {kind}")
        elif child not in self.busy_with:
            self.busy_with.add(child)
            threading.Thread(target=self.upgrade_child, args=(child, kind, paras), daemon=True).start()

    def upgrade_child(self, child, kind, paras):
        try:
            self.upgrade_it(child, kind, paras, self.habits[child])
        except (Failed, OSError, KeyError, ValueError) as error:
            say("download_failed", child=child, why=f"{type(error).__name__}: {error}")
        finally:
            self.busy_with.discard(child)

    def upgrade_it(self, child, kind, paras, habit):
        target = paras["version"]
        if habit.startswith("refuses@"):
            self.child_progress(child, int(habit.split("@")[1]), 0, self.versions[child])
            return self.ends(child)
        if habit in (CLAIMS, CLAIMS_TRULY):
            self.claimed.add(child)
            if habit == CLAIMS_TRULY:
                self.versions[child] = target
            self.child_progress(child, 0, 100, target)
            return self.reconnects(child)
        if habit == IGNORES:
            return None
        headers = {} if kind.endswith("_v2") else {"Authorization": "Bearer " + paras["access_token"]}
        content = Content()
        if habit == RESTARTS and child not in self.restarted:
            get(paras["url"], self.options.ca, headers, content, stop_after=int(paras["file_size"]) // 2)
            self.reconnects(child)
            content = Content()
        get(paras["url"], self.options.ca, headers, content)
        say("downloaded", child=child, **content.told())
        if content.told()["sha256"] != paras["sign"]:
            raise Failed(f"SHA-256 of {child}: {content.told()}")
        self.child_progress(child, 0, 50, self.versions[child])
        time.sleep(self.options.install)
        self.versions[child] = target
        self.child_progress(child, 0, 100, target)
        return self.ends(child)

    def reconnects(self, child):
        """Its connection breaks, as one does whose gateway restarts; paho makes it again."""
        time.sleep(2.5)  # a second connection within two seconds does not take the place of the first
        self.restarted.add(child)
        open_socket = self.client.socket()
        if open_socket is None:
            return  # another child has broken it already
        try:
            open_socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the same

    def child_progress(self, child, code, percent, version):
        told = {"result_code": code, "progress": percent, "version": version, "description": "as it is"}
        self.told_for(child, "upgrade_progress_report", told)

    def ends(self, child):
        with self.lock:
            self.ended.add(child)
            say("ended", child=child)
            if self.ended >= set(self.habits):
                self.end()


def main():
    parser = arguments(__doc__)
    parser.add_argument("--device", required=True, help="device ID of the gateway")
    parser.add_argument("--secret", required=True, help="device secret of the gateway")
    parser.add_argument("--kit", default="gateway")
    parser.add_argument("--child", action="append", default=[], metavar="NAME=HABIT", help="a device behind it")
    parser.add_argument("--add", action="append", default=[], metavar="NAME", help="asks for this one too")
    return Gateway(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
