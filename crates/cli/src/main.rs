//! The binary `carrack`: the only place where concrete parts are wired together.
//!
//! Before anything else it looks whether it was started as a pod's shim, which must
//! stay single-threaded and small; only then do threads, allocator pools and the
//! command line come into being.

mod args;
mod command;
mod components;
mod config;
mod dialer;
mod dirs;
mod example;
mod hello;
mod keep;
mod kubeconfig;
mod node;
mod plane;
mod process;
mod progress;
mod simulate;
mod source;
mod sys;

use std::process::ExitCode;

use args::{Carrack, Command};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == carrack_runtime::SHIM_COMMAND) {
        return ExitCode::from(carrack_runtime::shim_main(arguments) as u8);
    }
    // Huge pages nearly double what an idle server takes, and where the host has to find
    // them first they make a start four times as long. Containers get their default back.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let carrack = Carrack::parse();
    let done = match carrack.command {
        Command::Hello(hello) => hello::serve(hello.listen),
        Command::Version => {
            println!("carrack {} (Kubernetes API v1.36)", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Up(up) => command::up::run(up),
        Command::Down(down) => command::down::run(&down),
        Command::Server(server) => command::server::run(server),
        Command::Agent(agent) => command::agent::run(&agent),
        Command::Image(image) => command::image::run(image),
        Command::Backup(backup) => command::backup::run(&backup),
        Command::Restore(restore) => command::restore::run(&restore),
        Command::Check(check) => command::check::run(&check),
        Command::Encryption(encryption) => command::encryption::run(&encryption),
        Command::Kubeconfig(at) => command::kubeconfig::run(&at),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("carrack: {error:#}");
            ExitCode::FAILURE
        }
    }
}
