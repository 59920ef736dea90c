//! See `fuzz/src/client.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keyloom_fuzz::client::target(data));
