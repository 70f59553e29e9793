//! Tollgate: data plane, control plane, command line and console in one binary.

mod command;
mod conf;
mod logs;
mod node_status;
mod quickstart;
mod serve;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    command::run()
}
