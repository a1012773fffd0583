//! Load generator for iii and, for comparison, NATS.
//!
//! A generator shares the machine with the server it measures, so it is built to be cheap: one thread, non-blocking
//! sockets on epoll, one write per connection and turn, messages found by scanning bytes. The same loop drives both
//! servers, so their figures can be compared.
//!
//! ```text
//! cli ► options ► run (coordinator) ► generator (a thread each) ► tally ► report ► table, JSON, SVG
//!                                          └ wire: frames and messages, pure
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "no shard runs in this process")]
#![forbid(unsafe_code)]

mod calls;
mod cli;
mod generator;
mod options;
mod process;
mod progress;
mod report;
mod run;
mod tally;
mod wire;

use cli::Args;
use options::Options;
use report::{Comparison, Report, plot, table};
use serde::Serialize;
use std::io::Write;
use std::process::ExitCode;

/// Some calls failed, were not answered exactly once, or not with their own data.
const EXIT_FAULTS: u8 = 1;
/// The run could not take place.
const EXIT_FAILURE: u8 = 2;

fn main() -> ExitCode {
    let args: Args = argh::from_env();
    match load(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAULTS),
        Err(text) => {
            eprintln!("iii-loadtest: {text}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Runs what was asked for and writes the report. False if there were faults that are not allowed.
fn load(args: &Args) -> Result<bool, String> {
    let options = Options::resolve(args).map_err(|error| error.to_string())?;
    let comparison = options.comparison(args).map_err(|error| error.to_string())?;
    let report = measure(&options)?;
    let mut clean = report.calls.clean;
    match comparison {
        None => {
            write_plot(args, &[&report])?;
            write_report(args, &report, || table::render(&report))?;
        }
        Some(nats) => {
            let comparison = Comparison::new(report, measure(&nats)?);
            clean &= comparison.nats.calls.clean;
            write_plot(args, &[&comparison.iii, &comparison.nats])?;
            write_report(args, &comparison, || {
                let [iii, nats] = [&comparison.iii, &comparison.nats].map(table::render);
                format!("{iii}\n{nats}\n{}", table::render_advantage(&comparison))
            })?;
        }
    }
    Ok(clean || args.allow_errors || args.missing)
}

fn measure(options: &Options) -> Result<Report, String> {
    Ok(Report::new(options, &run::run(options)?))
}

fn write_plot(args: &Args, reports: &[&Report]) -> Result<(), String> {
    match &args.plot {
        Some(path) => write_file(path, &plot::render(reports)),
        None => Ok(()),
    }
}

/// Prints the table, and writes JSON where it was asked for.
fn write_report(args: &Args, report: &impl Serialize, table: impl Fn() -> String) -> Result<(), String> {
    let json = || serde_json::to_string_pretty(report).map(|json| json + "\n").map_err(|error| error.to_string());
    match args.json.as_deref() {
        Some("-") => {
            return print(&json()?);
        }
        Some(path) => write_file(path, &json()?)?,
        None => {}
    }
    print(&table())
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot print the report: {error}"))
}

fn write_file(path: &str, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {path}: {error}"))
}
