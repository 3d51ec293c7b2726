"""What the devices on paho-mqtt have in common: their reports to whoever runs them, connecting, downloads.

Every device writes one JSON object a line to standard output, and ends with exit code 0 once it has been upgraded and
the server has acknowledged what it said. Every wait has an end: exit code 1 says which.
"""

import argparse
import hashlib
import http.client
import json
import socket
import ssl
import sys
import threading
import time
import urllib.parse

import paho.mqtt.client as mqtt

# A server that is silent for so long has gone, in seconds.
SILENCE = 30


class Failed(Exception):
    """Something did not come to its end."""


SAYING = threading.Lock()


def say(event, **fields):
    # callbacks and timers have threads of their own: one at a time, lest two share a line
    with SAYING:
        print(json.dumps({"event": event, **fields}), flush=True)


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="where MQTT is spoken")
    parser.add_argument("--ca", metavar="FILE", help="TLS: who signs the server's certificate")
    parser.add_argument("--mqtt5", action="store_true", help="MQTT 5 instead of 3.1.1")
    parser.add_argument("--keep-alive", type=int, default=120, metavar="SECONDS")
    parser.add_argument("--version", default="V1.0", help="what it runs at first")
    parser.add_argument("--install", type=float, default=0.1, metavar="SECONDS", help="how long the installation takes")
    parser.add_argument("--fail", type=int, metavar="CODE", help="reports this failure instead of downloading")
    parser.add_argument("--limit", type=float, default=60, metavar="SECONDS", help="when it gives up")
    return parser


def tls_context(ca):
    return ssl.create_default_context(cafile=ca) if ca else None


class Device:
    """A connection that is made again whenever it is lost, with callbacks for the devices of each kind."""

    def __init__(self, options, client_id, user_name, password):
        self.options = options
        self.done = threading.Event()
        self.why = None
        self.sent = []
        protocol = mqtt.MQTTv5 if options.mqtt5 else mqtt.MQTTv311
        clean = {} if options.mqtt5 else {"clean_session": True}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, **clean
        )
        self.client.username_pw_set(user_name, password)
        self.client.reconnect_delay_set(min_delay=1, max_delay=3)
        if options.ca:
            self.client.tls_set_context(tls_context(options.ca))
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_subscribe

    # what a kind of device does

    def connected(self):
        raise NotImplementedError

    def subscribed(self, accepted):
        pass

    def message(self, topic, message):
        raise NotImplementedError

    # what it is made of

    def _on_connect(self, client, userdata, flags, reason, properties):
        say("connected" if not reason.is_failure else "refused", reason=str(reason))
        if not reason.is_failure:
            self.connected()

    def _on_disconnect(self, client, userdata, flags, reason, properties):
        say("disconnected", reason=str(reason))

    def _on_subscribe(self, client, userdata, mid, reasons, properties):
        accepted = not any(reason.is_failure for reason in reasons)
        say("subscribed", accepted=accepted)
        self.subscribed(accepted)

    def _on_message(self, client, userdata, packet):
        try:
            message = json.loads(packet.payload)
        except ValueError as error:
            return self.give_up(f"a message is no JSON: {error}: {packet.payload!r}")
        say("message", topic=packet.topic, qos=packet.qos, message=message)
        try:
            self.message(packet.topic, message)
        except Exception as error:  # what a device stumbles over is told, whatever it is
            self.give_up(f"{type(error).__name__}: {error}")

    def publish(self, topic, message, qos):
        sent = self.client.publish(topic, json.dumps(message), qos=qos)
        # without a connection a message with an acknowledgement waits for the next one, and paho tells nothing of it
        if qos == 0 or sent.rc == mqtt.MQTT_ERR_SUCCESS:
            self.sent.append(sent)
        say("published", topic=topic, message=message)

    def end(self):
        """All is said; it is over once that has arrived."""
        self.done.set()

    def give_up(self, why):
        self.why = why
        self.done.set()

    def run(self):
        host, port = self.options.server.rsplit(":", 1)
        self.client.connect_async(host, int(port), keepalive=self.options.keep_alive)
        self.client.loop_start()
        ended = self.done.wait(self.options.limit)
        if ended and not self.why:
            self.why = self._arrive()
        # what was sent with quality of service 0 leaves with DISCONNECT behind it
        self.client.disconnect()
        self.client.loop_stop()
        if not ended:
            self.why = f"nothing more happened within {self.options.limit} s"
        if self.why:
            print(self.why, file=sys.stderr)
            return 1
        return 0


    def _arrive(self):
        """Waits for the acknowledgements; says what is missing."""
        for sent in self.sent:
            try:
                sent.wait_for_publish(SILENCE)
            except (RuntimeError, ValueError) as error:
                return f"a message was not sent: {error}"
            if not sent.is_published():
                return f"a message was not acknowledged within {SILENCE} s"
        return None


class Content:
    """What was downloaded."""

    def __init__(self):
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5()

    def take(self, data):
        self.size += len(data)
        self.sha256.update(data)
        self.md5.update(data)

    def told(self):
        return {"bytes": self.size, "sha256": self.sha256.hexdigest(), "md5": self.md5.hexdigest()}


def get(url, ca, headers, content, stop_after=None):
    """One GET with Python's own HTTP client. Returns the status and the headers."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=SILENCE, context=tls_context(ca)
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SILENCE)
    try:
        target = parts.path + ("?" + parts.query if parts.query else "")
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        if answer.status not in (200, 206):
            raise Failed(f"GET {url}: {answer.status} {answer.read(500)!r}")
        while data := answer.read(4096 if stop_after is None else min(4096, stop_after - content.size)):
            content.take(data)
        return answer.status, answer.headers
    finally:
        connection.close()


def get_as_the_c_kit_does(url, ca, token, content):
    """The request and the reading of IoTDA's C kit: bare line feeds, no blank, the head in one piece."""
    parts = urllib.parse.urlsplit(url)
    if parts.port is None:
        raise Failed(f"the C kit needs a port: {url}")
    target = parts.path + ("?" + parts.query if parts.query else "")
    request = (
        f"GET {target} HTTP/1.1\nHost: {parts.hostname}\nContent-Type: application/json\n"
        f"Authorization:Bearer {token}\r\n\r\n"
    )
    with socket.create_connection((parts.hostname, parts.port), timeout=SILENCE) as plain:
        context = tls_context(ca) if parts.scheme == "https" else None
        stream = context.wrap_socket(plain, server_hostname=parts.hostname) if context else plain
        stream.sendall(request.encode())
        piece = stream.recv(4095)
        end = piece.find(b"\r\n\r\n")
        if end < 0:
            raise Failed(f"the head does not end in the first piece: {piece[:200]!r}")
        head = piece[:end].decode()
        if head[:12] != "HTTP/1.1 200":
            raise Failed(f"no 200: {head}")
        length = field(head, "Content-Length: ")
        name = field(head, "filename=")
        if len(length) > 9 or not 0 < len(name) < 20:
            raise Failed(f"the C kit has no room for this: {head}")
        size = int(length)
        content.take(piece[end + 4 :])
        while content.size < size:
            data = stream.recv(4095)
            if not data:
                raise Failed(f"cut at {content.size} of {size}")
            content.take(data)
        return name


def request_and_read_nothing(url, ca, token):
    """Asks for the package, with the least receive buffer there is. The connection lasts as long as what is returned."""
    parts = urllib.parse.urlsplit(url)
    plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    plain.settimeout(SILENCE)
    plain.connect((parts.hostname, parts.port))
    context = tls_context(ca) if parts.scheme == "https" else None
    stream = context.wrap_socket(plain, server_hostname=parts.hostname) if context else plain
    stream.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    return stream


def field(head, name):
    """What stands between `name`, in exactly these letters, and the end of the line."""
    at = head.find(name)
    if at < 0:
        raise Failed(f"no {name!r} in {head!r}")
    rest = head[at + len(name) :]
    return rest.split("\r")[0].split("\n")[0].split(";")[0]


def now_utc(form):
    return time.strftime(form, time.gmtime())
