//! See `fuzz/src/note.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keyloom_fuzz::note::target(data));
