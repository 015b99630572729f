"""What an image is made of, in CycloneDX 1.6: packages of Debian, and the crates that programs of this workspace are built of.

Standard output gets the document. It has no time and no random number in it: the same image has the same one."""

import argparse
import json
import re
import subprocess
import sys
import uuid


def debian(path):
    """One component for each line of `name, version, architecture, source`, between tabs."""
    for line in open(path):
        name, version, architecture, source = line.rstrip("\n").split("\t")
        yield {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:deb/debian/{name}@{version.replace('+', '%2B')}?arch={architecture}&upstream={source}",
        }


def crates(workspace, program):
    """What is linked into `program`, as Cargo resolves it for this machine."""
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--offline", "-p", program, "-e", "normal", "--prefix", "none", "--no-dedupe", "-f", "{p}|{l}"],
        cwd=workspace, check=True, text=True, stdout=subprocess.PIPE,
    ).stdout
    for line in sorted(set(tree.splitlines())):
        package, _, licence = line.partition("|")
        name, version = re.match(r"(\S+) v(\S+)", package).groups()
        component = {"type": "library", "name": name, "version": version, "purl": f"pkg:cargo/{name}@{version}"}
        if licence:
            component["licenses"] = [{"expression": licence.replace("/", " OR ")}]
        yield component


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--name", required=True)
    arguments.add_argument("--version", required=True)
    arguments.add_argument("--packages", required=True)
    arguments.add_argument("--workspace", required=True)
    arguments.add_argument("programs", nargs="+")
    given = arguments.parse_args()
    components = {each["purl"]: each for each in debian(given.packages)}
    for program in given.programs:
        components |= {each["purl"]: each for each in crates(given.workspace, program)}
    for purl, component in components.items():
        component["bom-ref"] = purl
    listed = [components[purl] for purl in sorted(components)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, given.name + json.dumps(listed))}",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": given.name, "version": given.version}},
        "components": listed,
    }
    json.dump(document, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
