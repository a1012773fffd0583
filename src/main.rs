//! The `iii` binary: arguments → configuration → engine → exit code.

use std::process::ExitCode;

use iii::cli::{self, Options, Request};
use iii::{config, engine};

// Shards allocate and free small buffers all the time, and memory must go back when workers leave.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(std::env::args_os()) {
        Request::Serve(options) => serve(&options),
        Request::Done(code) => code,
    }
}

fn serve(options: &Options) -> ExitCode {
    let loaded = match config::load(&options.choice, &options.overrides, &config::Surroundings::process()) {
        Ok(loaded) => loaded,
        Err(error) => return cli::fail(&error),
    };
    let settings = match loaded.settings(options.busy_poll) {
        Ok(settings) => settings,
        Err(error) => return cli::fail(&error),
    };
    match engine::serve(settings, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(&error),
    }
}
