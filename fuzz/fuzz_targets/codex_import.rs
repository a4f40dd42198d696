//! Codex CLI's auth.json. What must hold stands in `auth_svc::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| auth_svc::fuzzing::codex_import(data));
