"""Terraform as people run it, with the stand-in for the AWS provider in the place of the real one."""

import json
import os
import pathlib
import re
import shutil

from rig import CLOUD, HERE, PYTHON, ROOT, run
import schema

TERRAFORM = ROOT / "terraform"
VARIABLES = {
    "minimal": {"my_network": ["192.0.2.0/24"]},
    "two-regions": {"operators": ["192.0.2.0/24"]},
}
COMMON = {
    "domain": "calls.example.com",
    "zone_id": "Z0123456789ABCDEFGHIJ",
    "images": {"edge": "registry.example/sluice/edge-signal:0.1.0", "node": "registry.example/sluice/sfu-node:0.1.0"},
}


# The provider that people get, in place of the stand-in.
REAL = os.environ.get("TEST_AWS_PROVIDER") == "registry"


def prepare():
    """The provider's schema of all that `terraform/` uses, and a mirror that Terraform installs the stand-in from."""
    (wheel,) = CLOUD.glob("cdktn_provider_aws-*.whl")
    version, read = schema.read(wheel, schema.wanted(TERRAFORM))
    (CLOUD / "schema.json").write_text(json.dumps({"version": version, "schema": read}))
    platform = f"linux_{'arm64' if os.uname().machine == 'aarch64' else 'amd64'}"
    folder = CLOUD / "mirror/registry.terraform.io/hashicorp/aws" / version / platform
    shutil.rmtree(CLOUD / "mirror", ignore_errors=True)
    folder.mkdir(parents=True)
    program = folder / f"terraform-provider-aws_v{version}"
    program.write_text(f'#!/bin/sh\nexec {PYTHON} {HERE / "provider.py"} "$@"\n')
    program.chmod(0o755)
    if REAL:
        (CLOUD / "terraform.rc").write_text("")
        return version
    (CLOUD / "terraform.rc").write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{CLOUD / "mirror"}"\n  }}\n}}\n')
    return version


class Configuration:
    """A copy of an example, so that nothing is written beside it, with the rest of the repository where the example looks for it."""

    def __init__(self, directory, example, prefix=(), environment=None):
        self.example, self.prefix = example, list(prefix)
        self.root = pathlib.Path(directory) / example
        (self.root / "deploy").parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(TERRAFORM, self.root / "terraform", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        (self.root / "deploy").symlink_to(ROOT / "deploy")
        self.directory = self.root / "terraform/examples" / example
        self.environment = {
            **os.environ,
            "AWS_SCHEMA": str(CLOUD / "schema.json"),
            "TFPLUGIN_BINDINGS": str(CLOUD / "bindings/pyvider/protocols/tfprotov6/protobuf"),
            "TF_CLI_CONFIG_FILE": str(CLOUD / "terraform.rc"),
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
            **(environment or {}),
        }

    def terraform(self, command, *arguments, check=True, **variables):
        given = [f"-var={name}={json.dumps(value) if not isinstance(value, str) else value}" for name, value in variables.items()]
        full = [*self.prefix, PYTHON, HERE / "terraform.py", f"-chdir={self.directory}", command, *given, *arguments]
        return run(*full, check=check, env=self.environment)

    def variables(self, **more):
        return {**COMMON, **VARIABLES[self.example], **more}

    def init(self):
        if REAL:
            # AWS' stand-in has one name for all buckets.
            aliases = set(re.findall(r'^  alias += "(\w+)"', (self.directory / "main.tf").read_text(), re.M))
            blocks = ['provider "aws" {\n  s3_use_path_style = true\n}\n', *(f'provider "aws" {{\n  alias = "{alias}"\n  s3_use_path_style = true\n}}\n' for alias in aliases)]
            (self.directory / "path_override.tf").write_text("".join(blocks))
        self.terraform("init", "-no-color", "-input=false")
        return self

    def apply(self, **more):
        self.terraform("apply", "-no-color", "-input=false", "-auto-approve", **self.variables(**more))
        return self.state()

    def state(self):
        """All resources' attributes by their addresses."""
        shown = json.loads(self.terraform("show", "-json").stdout)
        found = {}

        def walk(module):
            found.update({resource["address"]: resource["values"] for resource in module.get("resources", [])})
            for child in module.get("child_modules", []):
                walk(child)

        walk(shown["values"]["root_module"])
        return found

    def plan(self, **more):
        """The plan's JSON."""
        self.terraform("plan", "-no-color", "-input=false", "-out=plan", **self.variables(**more))
        return json.loads(self.terraform("show", "-json", "plan").stdout)
