//! The `stillframe` program: [`stillframe_scanner::cli`] and an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    stillframe_scanner::cli::main()
}
