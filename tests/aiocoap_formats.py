"""LwM2M's content formats for tests/aiocoap_device.py: numbers of object 4 out, bytes of object 19 out and in.

Sources: OMA LwM2M 1.0 §6.4 (TLV, JSON), 1.1 Core §7.4 and RFC 8428 (SenML), 1.2 Core §7.4 (LwM2M CBOR).
"""

import base64
import json
import struct

TEXT, LINK_FORMAT, OCTETS, CBOR, SENML_JSON, SENML_CBOR = 0, 40, 42, 60, 110, 112
TLV, JSON, LWM2M_CBOR = 11542, 11543, 11544


# --- TLV ---------------------------------------------------------------------------------------------

OF_INSTANCE, OF_RESOURCE, WITH_INSTANCES = 0x40, 0xC0, 0x80


def tlv_entry(kind, number, content):
    # 8-bit number; a length below 8 stands in the first byte
    if len(content) < 8:
        return bytes([kind | len(content), number]) + content
    if len(content) < 256:
        return bytes([kind | 0x08, number, len(content)]) + content
    return bytes([kind | 0x10, number]) + struct.pack(">H", len(content)) + content


def tlv_entries(payload):
    """Kind, number and content of each entry."""
    while payload:
        kind, payload = payload[0], payload[1:]
        width = 2 if kind & 0x20 else 1
        number, payload = int.from_bytes(payload[:width], "big"), payload[width:]
        length, width = kind & 7, kind >> 3 & 3
        if width:
            length, payload = int.from_bytes(payload[:width], "big"), payload[width:]
        if length > len(payload):
            raise ValueError("an entry is cut off")
        yield kind & 0xC0, number, payload[:length]
        payload = payload[length:]


def tlv_integer(value):
    for length, code in ((1, "b"), (2, "h"), (4, "i"), (8, "q")):
        if -(1 << 8 * length - 1) <= value < 1 << 8 * length - 1:
            return struct.pack(">" + code, value)
    raise ValueError(value)


# --- CBOR --------------------------------------------------------------------------------------------


def cbor_head(major, value):
    if value < 24:
        return bytes([major << 5 | value])
    for extra, code in ((24, "B"), (25, "H"), (26, "I"), (27, "Q")):
        if value < 1 << 8 * struct.calcsize(code):
            return bytes([major << 5 | extra]) + struct.pack(">" + code, value)
    raise ValueError(value)


def cbor(value):
    if isinstance(value, int):
        return cbor_head(0, value) if value >= 0 else cbor_head(1, -1 - value)
    if isinstance(value, bytes):
        return cbor_head(2, len(value)) + value
    if isinstance(value, str):
        return cbor_head(3, len(value.encode())) + value.encode()
    if isinstance(value, (list, tuple)):
        return cbor_head(4, len(value)) + b"".join(map(cbor, value))
    pairs = b"".join(cbor(key) + cbor(item) for key, item in value.items())
    return cbor_head(5, len(value)) + pairs


def uncbor(payload):
    """The one value of a payload."""
    value, rest = uncbor_item(payload)
    if rest:
        raise ValueError("more than one value")
    return value


def uncbor_item(payload):
    major, value, payload = payload[0] >> 5, payload[0] & 0x1F, payload[1:]
    if value > 23:
        width = {24: 1, 25: 2, 26: 4, 27: 8}[value]
        value, payload = int.from_bytes(payload[:width], "big"), payload[width:]
    if major < 2:
        return (value, -1 - value)[major], payload
    if major < 4:
        if value > len(payload):
            raise ValueError("cut off")
        content = payload[:value]
        return (content if major == 2 else content.decode()), payload[value:]
    items = []
    for _ in range(value if major == 4 else 2 * value):
        item, payload = uncbor_item(payload)
        items.append(tuple(item) if isinstance(item, list) else item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2]))), payload


# --- numbers of object 4 -----------------------------------------------------------------------------


def one(write):
    """A form that holds one value alone; the object as a whole has no such form."""
    return lambda resources: write(next(iter(resources.values())))


def json_1_0(resources):
    # what was measured an hour ago comes first
    entries = [{"n": str(number), "v": 0, "t": -3600} for number in resources]
    entries += [{"n": str(number), "v": value} for number, value in resources.items()]
    return json.dumps({"bn": "/4/0/", "bt": 1_700_000_000, "e": entries}).encode()


def senml_json(resources):
    records = [{"n": str(number), "v": value} for number, value in resources.items()]
    records[0] = {"bn": "/4/0/", **records[0]}
    return json.dumps(records).encode()


def senml_cbor(resources):
    records = [{0: str(number), 2: value} for number, value in resources.items()]
    records[0] = {-2: "/4/0/", **records[0]}
    return cbor(records)


def tlv(resources):
    return b"".join(tlv_entry(OF_RESOURCE, number, tlv_integer(value)) for number, value in resources.items())


NUMBERS = {
    "tlv": (TLV, tlv),
    "json": (JSON, json_1_0),
    "senml-json": (SENML_JSON, senml_json),
    "senml-cbor": (SENML_CBOR, senml_cbor),
    "lwm2m-cbor": (LWM2M_CBOR, lambda resources: cbor({(4, 0): resources})),
    "cbor": (CBOR, one(cbor)),
    "text": (TEXT, one(lambda value: str(value).encode())),
    # the same without saying that it is text
    "bare": (None, one(lambda value: str(value).encode())),
    # one that is not LwM2M's
    "foreign": (50, lambda resources: json.dumps(resources).encode()),
}

OF_ONE_RESOURCE = ("cbor", "text", "bare")


# --- bytes of object 19 ------------------------------------------------------------------------------


def standard(content):
    return base64.b64encode(content).decode()


def url_safe(content):
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def un_url_safe(text):
    if set(text) & set("+/="):
        raise ValueError("not the alphabet of URLs, or padded")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)


def only(found, expected):
    if found != expected:
        raise ValueError(f"{found!r} instead of {expected!r}")


def read_tlv(payload, path, instances):
    ((kind, number, content),) = tlv_entries(payload)
    only((kind, number), (WITH_INSTANCES if instances else OF_RESOURCE, path[2]))
    if instances:
        ((kind, number, content),) = tlv_entries(content)
        only((kind, number), (OF_INSTANCE, 0))
    return content


def write_tlv(content, path, instances):
    if not instances:
        return tlv_entry(OF_RESOURCE, path[2], content)
    return tlv_entry(WITH_INSTANCES, path[2], tlv_entry(OF_INSTANCE, 0, content))


def name(path, instances):
    return "/" + "/".join(map(str, path)) + ("/0" if instances else "")


def read_senml_json(payload, path, instances):
    (record,) = json.loads(payload)
    only(record.get("bn", "") + record.get("n", ""), name(path, instances))
    return un_url_safe(record["vd"])


def write_senml_json(content, path, instances):
    return json.dumps([{"n": name(path, instances), "vd": url_safe(content)}]).encode()


def read_senml_cbor(payload, path, instances):
    (record,) = uncbor(payload)
    record = dict(record)
    only(record.get(-2, "") + record.get(0, ""), name(path, instances))
    return record[8]


def write_senml_cbor(content, path, instances):
    base, _, last = name(path, instances).rpartition("/")
    return cbor([{-2: base + "/", 0: last, 8: content}])


def read_json(payload, path, instances):
    document = json.loads(payload)
    (entry,) = document["e"]
    only(document.get("bn", "") + entry.get("n", ""), name(path, instances))
    return base64.b64decode(entry["sv"], validate=True)


def write_json(content, path, instances):
    entry = {"n": "0" if instances else "", "sv": standard(content)}
    return json.dumps({"bn": name(path, False) + ("/" if instances else ""), "e": [entry]}).encode()


def read_lwm2m_cbor(payload, path, instances):
    value = uncbor(payload)
    levels = []
    while isinstance(value, dict):
        ((key, value),) = value.items()
        levels += key if isinstance(key, tuple) else [key]
    only(levels, [*path, 0] if instances else [*path])
    return value


def write_lwm2m_cbor(content, path, instances):
    return cbor({(*path, 0) if instances else tuple(path): content})


def read_text(payload, path, instances):
    return base64.b64decode(payload, validate=True)


def write_text(content, path, instances):
    return standard(content).encode()


def read_cbor(payload, path, instances):
    return uncbor(payload)


def write_cbor(content, path, instances):
    return cbor(content)


def bare(content, path, instances):
    return content


# number, whether the resource has instances, how its bytes are written, how they are read
BYTES = {
    "octets": (OCTETS, False, bare, bare),
    "none": (None, False, bare, bare),
    "text": (TEXT, False, write_text, read_text),
    "cbor": (CBOR, False, write_cbor, read_cbor),
    "tlv": (TLV, False, write_tlv, read_tlv),
    "tlv-instances": (TLV, True, write_tlv, read_tlv),
    "json": (JSON, False, write_json, read_json),
    "senml-json": (SENML_JSON, False, write_senml_json, read_senml_json),
    "senml-json-instances": (SENML_JSON, True, write_senml_json, read_senml_json),
    "senml-cbor": (SENML_CBOR, False, write_senml_cbor, read_senml_cbor),
    "lwm2m-cbor": (LWM2M_CBOR, False, write_lwm2m_cbor, read_lwm2m_cbor),
    "lwm2m-cbor-instances": (LWM2M_CBOR, True, write_lwm2m_cbor, read_lwm2m_cbor),
}
