#!/usr/bin/env python3
"""A device of Huawei IoTDA on paho-mqtt, with the habits of one of the public kits.

Sources: the kits for Python, Java and C at https://github.com/huaweicloud, IoTDA's device interface.
"""

import hashlib
import hmac
import sys
import threading
import time

from common import Content, Device, Failed, arguments, get, get_as_the_c_kit_does, now_utc, request_and_read_nothing, say


class Iotda(Device):
    def __init__(self, options):
        self.name = options.device
        self.version = options.version
        self.busy = False
        self.told_success = False
        hour = now_utc("%Y%m%d%H")
        password = hmac.new(hour.encode(), options.secret.encode(), hashlib.sha256).hexdigest()
        super().__init__(options, f"{self.name}_0_1_{hour}", self.name, password)

    # the kits subscribe to nothing
    def connected(self):
        if self.options.kit == "python":
            content = {"timestamp": str(int(time.time() * 1000)), "type": "DEVICE_STATUS", "content": "connect complete"}
            self.event("$log", "log_report", content)

    def event(self, service, kind, paras):
        message = {
            "object_device_id": self.name,
            "services": [
                {
                    "service_id": service,
                    "event_type": kind,
                    "event_time": now_utc("%Y%m%dT%H%M%SZ"),
                    "event_id": "",
                    "paras": paras,
                }
            ],
        }
        self.publish(f"$oc/devices/{self.name}/sys/events/up", message, 1)

    def message(self, topic, message):
        if topic != f"$oc/devices/{self.name}/sys/events/down":
            raise Failed(f"another topic: {topic}")
        for service in message["services"]:
            if service["service_id"] != "$ota":
                continue
            kind, paras = service["event_type"], service.get("paras") or {}
            if kind == "version_query":
                told = {"fw_version": self.version, "sw_version": self.version}
                self.event("$ota", "version_report", told)
                if self.told_success and self.options.until_asked:
                    self.end()
            elif kind in ("firmware_upgrade", "software_upgrade", "firmware_upgrade_v2", "software_upgrade_v2"):
                self.offered(kind, paras)
            else:
                raise Failed(f"an event that no kit knows: {kind}")

    def offered(self, kind, paras):
        if self.busy:
            return say("ignored", kind=kind)
        self.busy = True
        # Python's kit downloads on the thread that serves the connection
        if self.options.kit == "python":
            self.upgrade(kind, paras)
        else:
            threading.Thread(target=self.upgrade, args=(kind, paras), daemon=True).start()

    def upgrade(self, kind, paras):
        try:
            self.upgrade_or_fail(kind, paras)
        except (Failed, OSError, KeyError, ValueError) as error:
            say("download_failed", why=f"{type(error).__name__}: {error}")
            if self.options.kit == "java":
                self.progress(6, 0, self.version)
            elif self.options.kit == "c":
                self.progress(1, 0, paras.get("version", ""))
        finally:
            self.busy = False

    def upgrade_or_fail(self, kind, paras):
        second = kind.endswith("_v2")
        target = paras["version"]
        if self.options.fail:
            self.progress(self.options.fail, 0, target if self.options.kit == "c" else self.version)
            return self.end()
        if self.options.read_nothing:
            self.held = request_and_read_nothing(paras["url"], self.options.ca, paras.get("access_token", ""))
            self.progress(0, 100, target)
            return self.end()
        content = Content()
        if self.options.kit == "c":
            # its parser takes numbers and texts, no objects
            if not isinstance(paras.get("task_ext_info", ""), str):
                raise Failed("the C kit takes no object as task_ext_info")
            name = get_as_the_c_kit_does(paras["url"], self.options.ca, paras.get("access_token", ""), content)
            say("downloaded", file=name, **content.told())
        else:
            headers = {} if second else {"Authorization": "Bearer " + paras["access_token"]}
            status, headers = get(paras["url"], self.options.ca, headers, content)
            say("downloaded", status=status, headers=dict(headers.items()), **content.told())
        if content.size != int(paras["file_size"]):
            raise Failed(f"{content.size} bytes instead of {paras['file_size']}")
        self.check(second, paras.get("sign", ""), content)
        if self.options.kit == "java":
            self.progress(0, 100, self.version)
        time.sleep(self.options.install)
        if not self.options.keep_version:
            self.version = target
        self.progress(0, 100, target)
        self.told_success = True
        if not self.options.until_asked:
            self.end()

    def check(self, second, sign, content):
        told = content.sha256.hexdigest()
        if self.options.kit == "java":
            if sign.lower() != told:
                self.progress(7, 0, self.version)
                raise SystemExit
        elif sign != told and not (second and self.options.kit == "python"):
            raise Failed(f"SHA-256 is {told}, not {sign}")

    def progress(self, code, percent, version):
        paras = {"result_code": code, "progress": percent, "version": version, "description": ""}
        self.event("$ota", "upgrade_progress_report", paras)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--device", required=True, help="device ID")
    parser.add_argument("--secret", required=True, help="device secret")
    parser.add_argument("--kit", choices=["python", "java", "c"], default="python")
    parser.add_argument("--keep-version", action="store_true", help="goes on telling its old version, as Python's example does")
    parser.add_argument("--read-nothing", action="store_true", help="asks for the package, reads nothing of it, and reports success")
    parser.add_argument("--until-asked", action="store_true", help="ends only once it was asked for its version after its success")
    return Iotda(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
