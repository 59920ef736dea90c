//! See `fuzz/src/framing.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keyloom_fuzz::framing::target(data));
