//! Fuzzes the batch decoder: `make fuzz`.
#![no_main]

#[path = "../decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    decode::everything(data);
});
