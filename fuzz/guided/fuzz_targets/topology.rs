//! See `fuzz/src/topology.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keyloom_fuzz::topology::target(data));
