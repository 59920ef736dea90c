//! See `fuzz/src/routes.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keyloom_fuzz::routes::target(data));
