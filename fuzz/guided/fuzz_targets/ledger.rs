//! See `fuzz/src/ledger.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keyloom_fuzz::ledger::target(data));
