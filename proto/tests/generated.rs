//! Proves that `src/generated` is what `proto/` generates today, so that the normal build needs neither protoc nor a
//! build script. `UPDATE=1 cargo test -p proto --test generated` writes the files anew.

use std::{env, fs, path::PathBuf};

const SERVICES: [&str; 1] = ["sluice/v1/sfu.proto"];
const GENERATED: [&str; 1] = ["sluice.v1.rs"];

#[test]
fn committed_code_is_what_the_definitions_generate() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/generated");
    let fresh = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("generated");
    fs::create_dir_all(&fresh).expect("the test's own directory can be made");
    let definitions = root.join("proto");
    tonic_prost_build::configure()
        .out_dir(&fresh)
        .emit_rerun_if_changed(false)
        .compile_protos(&SERVICES.map(|service| definitions.join(service)), &[definitions])
        .expect("protoc is there, and generates code");
    for name in GENERATED {
        let expected = fs::read_to_string(fresh.join(name)).expect("the generated file can be read");
        let path = committed.join(name);
        if env::var_os("UPDATE").is_some() {
            fs::write(&path, &expected).expect("src/generated can be written");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{} is stale: run UPDATE=1 cargo test -p proto --test generated", path.display());
    }
}
