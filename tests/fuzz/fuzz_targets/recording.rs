#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tests::hostile_input::recording(data));
