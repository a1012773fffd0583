//! A run, resolved from the command line: addresses looked up, combinations checked, times as durations.

use crate::cli::Args;
use crate::wire::Protocol;
use crate::wire::frame::Mask;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// Calls one caller may have in flight in open loop. Beyond it calls wait, and their latency shows it.
pub const OPEN_LOOP_IN_FLIGHT_MAX: usize = 65_536;

/// The largest data of a call, in bytes: what fits a single message of every server.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// The id called with `--missing`.
const MISSING_FUNCTION: &str = "load::missing";

/// One run against one server.
#[derive(Clone, Debug)]
pub struct Options {
    pub endpoint: Endpoint,
    pub workers: usize,
    pub callers: usize,
    pub in_flight: usize,
    pub payload_bytes: usize,
    /// Calls per second over all callers; `None` is the closed loop.
    pub rate: Option<f64>,
    pub one_function: bool,
    pub spread: bool,
    pub missing: bool,
    pub idle_workers: usize,
    pub idle_functions: usize,
    pub callers_on_idle: usize,
    pub warmup: Duration,
    pub duration: Duration,
    pub drain: Duration,
    pub settle: Duration,
    pub server_pid: Option<u32>,
    pub pin: Option<usize>,
    pub threads: usize,
    pub mask: Mask,
    pub label: Option<String>,
}

/// Where a server listens and what it speaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub protocol: Protocol,
    /// As typed, for reports.
    pub url: String,
    pub address: SocketAddr,
    /// `name:port`, for the Host header.
    pub host: String,
    pub path: String,
}

/// The command line cannot be run. The text names the option at fault.
#[derive(Debug, PartialEq)]
pub struct OptionsError(String);

impl std::fmt::Display for OptionsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn fail<T>(text: impl Into<String>) -> Result<T, OptionsError> {
    Err(OptionsError(text.into()))
}

impl Options {
    /// The run asked for.
    pub fn resolve(args: &Args) -> Result<Self, OptionsError> {
        let (protocol, default_url) = match args.target.as_str() {
            "iii" => (Protocol::Iii, "ws://127.0.0.1:49134"),
            "nats" => (Protocol::Nats, "nats://127.0.0.1:4222"),
            other => return fail(format!("--target is iii or nats, not {other}")),
        };
        let mask = match args.mask.as_str() {
            "zero" => Mask::Zero,
            "random" => Mask::Random(fastrand::Rng::new()),
            other => return fail(format!("--mask is zero or random, not {other}")),
        };
        let options = Self {
            endpoint: Endpoint::parse(protocol, args.url.as_deref().unwrap_or(default_url))?,
            workers: args.workers,
            callers: args.callers,
            in_flight: args.in_flight,
            payload_bytes: args.payload,
            rate: args.rate,
            one_function: args.one_function,
            spread: args.spread,
            missing: args.missing,
            idle_workers: args.idle_workers,
            idle_functions: args.idle_functions,
            callers_on_idle: args.callers_on_idle,
            warmup: seconds("--warmup", args.warmup)?,
            duration: seconds("--duration", args.duration)?,
            drain: seconds("--drain", args.drain)?,
            settle: seconds("--settle", args.settle)?,
            server_pid: args.pid,
            pin: args.pin,
            threads: args.threads,
            mask,
            label: args.label.clone(),
        };
        options.check()?;
        Ok(options)
    }

    /// The same load on the NATS server of `--compare-nats`, if one was named.
    pub fn comparison(&self, args: &Args) -> Result<Option<Self>, OptionsError> {
        let Some(url) = &args.compare_nats else {
            return Ok(None);
        };
        if self.endpoint.protocol == Protocol::Nats || self.missing {
            return fail("--compare-nats goes with --target iii and without --missing");
        }
        let endpoint = Endpoint::parse(Protocol::Nats, url)?;
        Ok(Some(Self { endpoint, server_pid: args.nats_pid, ..self.clone() }))
    }

    fn check(&self) -> Result<(), OptionsError> {
        if self.threads == 0 || self.in_flight == 0 || self.idle_functions == 0 {
            return fail("--threads, --in-flight and --idle-functions are at least 1");
        }
        if self.in_flight > OPEN_LOOP_IN_FLIGHT_MAX {
            return fail(format!("--in-flight is at most {OPEN_LOOP_IN_FLIGHT_MAX}"));
        }
        if self.callers > 0 && self.workers == 0 && !self.missing {
            return fail("--callers need --workers to call (or --missing)");
        }
        if self.payload_bytes > PAYLOAD_BYTES_MAX {
            return fail(format!("--payload is at most {PAYLOAD_BYTES_MAX} bytes"));
        }
        if self.callers_on_idle > self.idle_workers {
            return fail("--callers-on-idle cannot exceed --idle-workers");
        }
        if self.workers + self.callers + self.idle_workers == 0 {
            return fail("nothing to connect: --workers, --callers and --idle-workers are all 0");
        }
        if self.missing && self.endpoint.protocol == Protocol::Nats {
            return fail("--missing goes with --target iii: NATS leaves such calls unanswered");
        }
        match self.rate {
            Some(rate) if !(rate.is_finite() && rate > 0.0) => fail("--rate is a positive number of calls per second"),
            Some(_) if self.callers + self.callers_on_idle == 0 => fail("--rate needs --callers"),
            _ => Ok(()),
        }
    }

    /// All connections of the run, over all threads.
    pub fn connections(&self) -> usize {
        self.workers + self.callers + self.idle_workers
    }

    /// Connections that make calls.
    pub fn callers_total(&self) -> usize {
        self.callers + self.callers_on_idle
    }

    // Functions are numbered: one for each worker, then those of the idle workers, then the missing one.

    /// The number of `idle_worker`'s first function.
    pub fn idle_function(&self, idle_worker: usize) -> u32 {
        (self.workers + idle_worker * self.idle_functions) as u32
    }

    /// The number of the function that is never registered.
    pub fn missing_function(&self) -> u32 {
        self.idle_function(self.idle_workers)
    }

    /// The id of function number `function`.
    pub fn function_id(&self, function: u32) -> String {
        let number = function as usize;
        if function == self.missing_function() {
            MISSING_FUNCTION.to_owned()
        } else if number >= self.workers {
            let idle = number - self.workers;
            format!("load::idle_{}_{}", idle / self.idle_functions, idle % self.idle_functions)
        } else if self.one_function {
            "load::echo".to_owned()
        } else {
            format!("load::echo_{number}")
        }
    }
}

impl Endpoint {
    /// Accepts `scheme://host[:port][/path]`.
    pub fn parse(protocol: Protocol, url: &str) -> Result<Self, OptionsError> {
        let (scheme, default_port) = match protocol {
            Protocol::Iii => ("ws://", 49134),
            Protocol::Nats => ("nats://", 4222),
        };
        let Some(rest) = url.strip_prefix(scheme) else {
            return fail(format!("{url} does not start with {scheme}"));
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { authority.to_owned() } else { format!("{authority}:{default_port}") };
        let address = match host.to_socket_addrs() {
            Ok(mut addresses) => addresses.next(),
            Err(error) => return fail(format!("{url}: {error}")),
        };
        let Some(address) = address else {
            return fail(format!("{url}: the name has no address"));
        };
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        Ok(Self { protocol, url: url.to_owned(), address, host, path })
    }
}

fn seconds(option: &str, value: f64) -> Result<Duration, OptionsError> {
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if value <= 1e6 => Ok(duration),
        _ => fail(format!("{option} is a number of seconds from 0 to a million")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argh::FromArgs;

    fn resolve(words: &str) -> Result<Options, OptionsError> {
        let words: Vec<_> = words.split_whitespace().collect();
        Options::resolve(&Args::from_args(&["iii-loadtest"], &words).unwrap())
    }

    #[test]
    fn each_target_has_its_default_address() {
        assert_eq!(resolve("").unwrap().endpoint.address, "127.0.0.1:49134".parse().unwrap());
        assert_eq!(resolve("--target nats").unwrap().endpoint.address, "127.0.0.1:4222".parse().unwrap());
        let endpoint = resolve("--url ws://127.0.0.1/x?y=z").unwrap().endpoint;
        assert_eq!((endpoint.host.as_str(), endpoint.path.as_str()), ("127.0.0.1:49134", "/x?y=z"));
    }

    #[test]
    fn functions_are_numbered_without_gaps() {
        let options = resolve("--workers 2 --idle-workers 2 --idle-functions 3").unwrap();
        let ids: Vec<_> = (0..9).map(|function| options.function_id(function)).collect();
        assert_eq!(ids[..3], ["load::echo_0", "load::echo_1", "load::idle_0_0"]);
        assert_eq!(ids[5..], ["load::idle_1_0", "load::idle_1_1", "load::idle_1_2", "load::missing"]);
        assert_eq!(resolve("--one-function").unwrap().function_id(3), "load::echo");
    }

    #[test]
    fn combinations_that_cannot_run_are_refused() {
        for words in [
            "--target kafka",
            "--mask sometimes",
            "--url http://127.0.0.1",
            "--workers 0",
            "--workers 0 --callers 0",
            "--callers-on-idle 1",
            "--rate 0",
            "--duration -1",
            "--threads 0",
            "--target nats --missing",
            "--payload 999999999",
        ] {
            assert!(resolve(words).is_err(), "{words}");
        }
        assert!(resolve("--workers 0 --callers 0 --idle-workers 10").is_ok());
        assert!(resolve("--workers 0 --missing").is_ok());
    }
}
