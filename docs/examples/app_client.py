#!/usr/bin/env python3
"""An end user's application in small: what can be upgraded at home, starting it, and following it (docs/app.md).

    app_client.py https://updates.example.com:8091 TOKEN HOME [--cancel DEVICE] [--within SECONDS]

Starts what there is for up to three devices, goes on over a weak signal, cancels DEVICE while it sleeps, and follows the rest to the end.
Writes one JSON object, and returns 0 if every device ended in some way.
"""
import argparse
import json
import sys
import time

import requests

# What an application says of each code, in its own words. 5003, 5006, 5007, 5009, 5010 and 5014 are an application's own.
SAYS = {
    5000: "Everything is up to date.", 5001: "There is no such upgrade any more.", 5002: "Choose each device once.",
    5004: "The signal could not be measured. Try again later.", 5005: "The signal is weak. Continue nevertheless?",
    5012: "The device is offline.", 5013: "The device cannot be upgraded now.", 5015: "Try again later.",
    5016: "The upgrade took too long.", 5017: "The upgrade could not be started.", 5018: "The device reports a failure.",
    5099: "Something went wrong.",
}
SUCCEEDED, FAILED, WAITING, TIMED_OUT, PREPARING = 3, 4, 5, 7, 100


class App:
    def __init__(self, url, token, home):
        self.home = f"{url.rstrip('/')}/app/v1/homes/{home}"
        self.session = requests.Session()
        self.session.headers.update({"Authorization": f"Bearer {token}", "Accept-Language": "en"})

    def call(self, method, path, body=None):
        """The answer, and the problem in place of it where there is one. Waits where it was asked too often."""
        while True:
            answer = self.session.request(method, self.home + path, json=body, timeout=30)
            if answer.status_code != 429:
                break
            time.sleep(int(answer.headers.get("Retry-After", "1")))
        if answer.ok:
            return answer.json(), None
        problem = answer.json()
        say(problem.get("detail", ""), SAYS[problem["code"]])
        return None, problem

    def events(self, last, until):
        """What changes from now on, or since `last`, with the id of each; comes back when the connection breaks."""
        while time.monotonic() < until:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
            try:
                with self.session.get(self.home + "/events", headers=headers, stream=True, timeout=(10, 60)) as stream:
                    stream.raise_for_status()
                    kind, data = None, ""
                    for line in stream.iter_lines(chunk_size=1, decode_unicode=True):
                        name, _, value = line.partition(":")
                        value = value.removeprefix(" ")
                        if name == "id":
                            last = value
                        elif name == "event":
                            kind = value
                        elif name == "data":
                            data += value
                        elif line == "" and data:
                            yield kind, json.loads(data)
                            kind, data = None, ""
                        if time.monotonic() >= until:
                            return
            except requests.RequestException as error:
                say("the stream broke", error)
                time.sleep(1)


def say(*what):
    print(*what, file=sys.stderr)


def entries(device):
    """Those of the first channel, which lead on from one another."""
    of_channel = [entry for entry in device["entries"] if entry["channel"] == device["entries"][0]["channel"]]
    return [{key: entry[key] for key in ("offer", "target_version", "current_version") if entry[key] is not None}
            for entry in of_channel]


def start(app, devices):
    """Starts all at once; each is answered for itself. Returns the devices that have begun."""
    wanted = [{"device": device["device"], "entries": entries(device)} for device in devices]
    answer, problem = app.call("POST", "/start", {"devices": wanted})
    begun = []
    for came in answer["items"] if answer else []:
        name, problem = came["device"], came.get("problem")
        if problem and problem["code"] == 5005:  # the user says yes
            say(name, SAYS[5005])
            _, problem = app.call("POST", f"/devices/{name}/continue")
        elif problem and "now" in problem:  # somebody has changed the offer: with what there is now
            _, problem = app.call("POST", f"/devices/{name}/start", {"entries": entries(problem["now"])})
        if problem:
            say(name, SAYS[problem["code"]])
        else:
            begun.append(name)
    return begun


def main():
    parser = argparse.ArgumentParser()
    for name in ("url", "token", "home"):
        parser.add_argument(name)
    parser.add_argument("--cancel")
    parser.add_argument("--within", type=float, default=300)
    given = parser.parse_args()
    app = App(given.url, given.token, given.home)
    listed, problem = app.call("GET", "/upgrades")
    if problem:
        return 1
    devices = [device for device in listed["items"] if device["entries"]][:3]
    pending = set(start(app, devices))
    ended = {}
    for kind, status in app.events(None, time.monotonic() + given.within):
        if kind == "removed" and status["device"] in pending:
            ended[status["device"]] = "removed"
            pending.discard(status["device"])
        # after `reset` each device that is there is told of: an app with a list empties it
        if kind != "status" or status["device"] not in pending:
            if not pending:
                break
            continue
        name = status["device"]
        say(name, status["status_name"], status["progress"])
        if name == given.cancel and status["status"] in (WAITING, PREPARING):
            _, problem = app.call("POST", f"/devices/{name}/cancel")
            if problem is None:
                ended[name] = "cancelled"
                pending.discard(name)
        elif status["status"] in (SUCCEEDED, FAILED, TIMED_OUT):
            ended[name] = status["status_name"] if status["error"] is None else SAYS[status["error"]]
            pending.discard(name)
        elif status["awaiting"]:  # a plan of the operator's: the user says yes, to this one
            app.call("POST", f"/devices/{name}/plan/confirm", {"upgrade": status["awaiting"]["upgrade"]})
        if not pending:
            break
    print(json.dumps({"ended": ended, "pending": sorted(pending)}))
    return 0 if not pending else 1


if __name__ == "__main__":
    sys.exit(main())
