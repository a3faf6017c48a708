//! The one binary: `tidegate`. Everything it does is in the library beside it.

use std::process::ExitCode;

// RocksDB and the request path allocate from many threads at once; the system's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate_server::panic_hook::install();
    tidegate_server::cli::run(std::env::args_os())
}
