//! Arguments → command. Everything else is in the library.

use std::process::ExitCode;

// The system allocator keeps fragments of multi-megabyte buffers; this one gives them back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mimeo::cli::main()
}
