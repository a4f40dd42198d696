//! OpenClaw's state directory. What must hold stands in `auth_svc::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| auth_svc::fuzzing::openclaw_import(data));
