//! Has the program built again when a file is added to the demo page: the files themselves are tracked by the compiler.

fn main() {
    println!("cargo::rerun-if-changed=../client/dist");
}
