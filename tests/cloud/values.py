"""Values of Terraform's type system as providers are sent them: MessagePack, with extensions for what is not known yet
(docs/plugin-protocol/object-wire-format.md of Terraform)."""

import msgpack


class _Unknown:
    def __repr__(self):
        return "(known after apply)"


UNKNOWN = _Unknown()


def decode(data):
    """Plain Python, with `UNKNOWN` in it."""
    return msgpack.unpackb(data, ext_hook=lambda code, _: UNKNOWN if code in (0, 12) else None, strict_map_key=False)


def encode(value):
    return msgpack.packb(value, default=lambda _: msgpack.ExtType(0, b"\0"))




def fill(block, value, config, choose):
    """A copy of `value`, in which `choose(path, attribute, configured)` has the say on each attribute that is not set in `config`.

    `value` and `config` are objects of `block`. Of blocks in lists and sets each item is walked by its place."""

    def walk(block, value, config, path):
        result = {}
        for key, attribute in block["attributes"].items():
            given = None if config is None else config.get(key)
            current = value.get(key)
            result[key] = current if given is not None and not attribute.get("write_only") else choose(path + (key,), attribute, current)
        for key, nested in block["block_types"].items():
            current = value.get(key)
            of = None if config is None else config.get(key)
            if nested["nesting_mode"] == "single":
                result[key] = None if current is None else walk(nested["block"], current, of, path + (key,))
            elif current is UNKNOWN or current is None:
                result[key] = current
            else:
                items = of if isinstance(of, list) and len(of) == len(current) else [None] * len(current)
                result[key] = [
                    item if item is UNKNOWN else walk(nested["block"], item, given if isinstance(given, dict) else None, path + (key,))
                    for item, given in zip(current, items)
                ]
        return result

    return walk(block, value, config, ())
