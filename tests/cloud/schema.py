"""What the current AWS provider knows: the arguments, blocks and attributes of its resources, data sources and ephemeral resources.

The provider itself is a program that only its own registry gives away, which a machine for tests may not reach. Its schema is published a second
time, in bindings that are generated from it for each of its versions (`cdktn-provider-aws` of PyPI). It is read out of these here: names, types,
which are required, which are computed, what is a block and how many of it there may be. What is not in them: which arguments exclude one another,
which values are allowed, and what a change of them replaces.
"""

import io
import json
import pathlib
import re
import tarfile
import zipfile

_ATTRIBUTE = re.compile(r"// (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n(.*?)(?=\n    // \w+ - computed: |\n    // =====|\n\}\Z)", re.S)
_HCL = re.compile(r"\n +(\w+): \{\n\s+value: (.*?),\n\s+isBlock: (true|false),\n\s+type: \"(\w+)\",\n\s+storageClassType: \"(\w+)\"", re.S)
_SIMPLE = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
_GETTERS = {
    "getStringAttribute": "string",
    "getNumberAttribute": "number",
    "getBooleanAttribute": "bool",
    "getListAttribute": ["list", "string"],
    "getNumberListAttribute": ["list", "number"],
    "getStringMapAttribute": ["map", "string"],
    "getNumberMapAttribute": ["map", "number"],
    "getBooleanMapAttribute": ["map", "bool"],
    "getAnyMapAttribute": ["map", "dynamic"],
}


class Source:
    """The generated module of one resource."""

    def __init__(self, text):
        self.classes = {
            match[1]: match[0] for match in re.finditer(r"^class (\w+) extends .*?^\}$", text, re.S | re.M)
        }
        self.functions = {
            match[1]: match[0] for match in re.finditer(r"^function (\w+)ToHclTerraform\(struct\) \{.*?^\}$", text, re.S | re.M)
        }

    def block(self, name, arguments):
        """A block in Terraform's own JSON (`terraform providers schema -json`), of a class and of the text that has its arguments."""
        given = {match[1]: match.groups()[1:] for match in _HCL.finditer(arguments)}
        attributes, blocks = {}, {}
        for match in _ATTRIBUTE.finditer(self.classes[name]):
            key, computed, optional, required, body = match.groups()
            flags = {flag: True for flag, text in (("computed", computed), ("optional", optional), ("required", required)) if text == "true"}
            value, is_block, kind, storage = given.get(key, (None, "false", None, None))
            if is_block == "false":
                attributes[key] = {"type": self.simple(kind, storage) if value else self.computed(body), **flags}
                continue
            of = storage.removesuffix("List") if kind != "struct" or storage.endswith("List") else storage
            nested = self.nested(of)
            if "computed" in flags:
                attributes[key] = {"type": [kind if kind in ("list", "set") else "list", object_type(nested)], **flags}
                continue
            mode = {"struct": "single", "list": "list", "set": "set", "map": "map"}[kind]
            blocks[key] = {"nesting_mode": mode, "block": nested}
            if mode in ("list", "set"):
                if "listMapper" not in value:
                    blocks[key]["max_items"] = 1
                if "required" in flags:
                    blocks[key]["min_items"] = 1
        for key, attribute in attributes.items():
            if key.endswith("_wo"):
                attribute["write_only"] = True
        return {"attributes": attributes, "block_types": blocks}

    def nested(self, name):
        arguments = self.functions.get(name[0].lower() + name[1:], "")
        if name + "OutputReference" not in self.classes:
            # A provider's own blocks are never read, so that of them only arguments are there.
            simple = {match[1]: self.simple(match[4], match[5]) for match in _HCL.finditer(arguments) if match[3] == "false"}
            return {"attributes": {key: {"type": of, "optional": True} for key, of in simple.items()}, "block_types": {}}
        return self.block(name + "OutputReference", arguments)

    def simple(self, kind, storage):
        if kind == "simple":
            return _SIMPLE[storage]
        element = re.sub(r"(List|Map|Set)$", "", storage)
        return [kind, _SIMPLE.get(element, "dynamic")]

    def computed(self, body):
        getter = re.search(r"this\.(get\w+Attribute)\(", body)
        if getter:
            of = _GETTERS[getter[1]]
            return ["set", of[1]] if "Fn.tolist" in body else of
        simple_map = re.search(r"new cdktn\.(\w+)Map\(", body)
        if simple_map:
            return ["map", _SIMPLE.get(simple_map[1].lower(), "dynamic")]
        complex_type = re.search(r"new (\w+?)(List|Map|OutputReference)\(this, \"\w+\"(?:, (true|false))?\)", body)
        if complex_type:
            of = object_type(self.nested(complex_type[1]))
            if complex_type[2] == "Map":
                return ["map", of]
            return of if complex_type[2] == "OutputReference" else ["set" if complex_type[3] == "true" else "list", of]
        return "dynamic"


def object_type(block):
    """The type that an attribute has which holds such blocks."""
    members = {key: attribute["type"] for key, attribute in block["attributes"].items()}
    for key, nested in block["block_types"].items():
        of = object_type(nested["block"])
        members[key] = of if nested["nesting_mode"] == "single" else [nested["nesting_mode"], of]
    return ["object", members]


def wanted(directory):
    """What the configurations below `directory` use: `(kind, type)` of each, kind as in HCL."""
    found = set()
    for path in pathlib.Path(directory).rglob("*.tf"):
        found |= set(re.findall(r'^\s*(resource|data|ephemeral) "(aws_\w+)"', path.read_text(), re.M))
    return found


def read(wheel, types):
    """The provider's version, and its schema for these types, as `terraform providers schema -json` would print it of the provider."""
    with zipfile.ZipFile(wheel) as bindings:
        (inner,) = [name for name in bindings.namelist() if name.endswith(".jsii.tgz")]
        archive = io.BytesIO(bindings.read(inner))
    folders = {("provider", "aws"): "provider"}
    for kind, name in types:
        folder = name.removeprefix("aws_").replace("_", "-")
        folders[kind, name] = {"resource": folder, "data": f"data-aws-{folder}", "ephemeral": f"ephemeral-aws-{folder}"}[kind]
    by_path = {f"package/lib/{folder}/index.js": key for key, folder in folders.items()}
    schema = {"provider": None, "resource": {}, "data": {}, "ephemeral": {}}
    version = None
    with tarfile.open(fileobj=archive) as package:
        for member in package:
            key = by_path.get(member.name)
            if key is None:
                continue
            text = package.extractfile(member).read().decode()
            text = text[: text.rindex("//# sourceMappingURL")]
            # The class of the whole comes last.
            source = Source(text)
            (name,) = [each for each, body in source.classes.items() if re.match(r"class \w+ extends cdktn\.Terraform(Resource|DataSource|EphemeralResource|Provider) ", body)]
            block = source.block(name, source.classes[name])
            version = version or re.search(r"providerVersion: '([\d.]+)'", text)[1]
            if key[0] == "provider":
                schema["provider"] = block
            else:
                schema[key[0]][key[1]] = block
    missing = {key for key in folders if key[0] != "provider" and key[1] not in schema[key[0]]}
    if missing:
        raise SystemExit(f"the AWS provider {version} has no such thing: {sorted(missing)}")
    return version, schema


if __name__ == "__main__":
    import sys

    given_version, given_schema = read(sys.argv[1], wanted(sys.argv[2]))
    json.dump({"version": given_version, "schema": given_schema}, sys.stdout)
