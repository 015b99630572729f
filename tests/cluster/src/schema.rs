//! Judging JSON by the schemas that docs/ promises, with a validator nobody here wrote: Python's `jsonschema`, in the environment of
//! the stand-in for S3.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::recordings::run;

/// Says of the first value that is not as the schema has it why.
const JUDGE: &str = "
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
judge = Draft202012Validator(schema)
for line in open(sys.argv[2]):
    for error in judge.iter_errors(json.loads(line)):
        sys.exit(f'{error.json_path}: {error.message}\\n{line}')
";

/// All of these are as `docs/NAME` has it.
pub fn conforms<'a>(name: &str, values: impl IntoIterator<Item = &'a Value>) -> anyhow::Result<()> {
    let mut lines = tempfile::NamedTempFile::new()?;
    for value in values {
        writeln!(lines, "{value}")?;
    }
    lines.flush()?;
    let schema = root().join("docs").join(name);
    let mut judge = Command::new(root().join("target/s3/bin/python"));
    run(judge.arg("-c").arg(JUDGE).arg(schema).arg(lines.path())).map(drop).with_context(|| name.to_owned())
}

/// The workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
