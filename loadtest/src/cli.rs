//! The command line, as typed. [`crate::options`] turns it into something that can be run.

use argh::FromArgs;

/// Puts load on an iii engine (or on NATS) and reports throughput, latency and the server's CPU per call. Each worker
/// connection offers an echo function; each caller connection keeps calls to them in flight.
#[derive(FromArgs, Debug, Clone, PartialEq)]
pub struct Args {
    /// what to put under load: iii (default) or nats
    #[argh(option, default = "String::from(\"iii\")")]
    pub target: String,

    /// where the server listens; default ws://127.0.0.1:49134, or nats://127.0.0.1:4222
    #[argh(option)]
    pub url: Option<String>,

    /// worker connections, each with one function; default 8
    #[argh(option, default = "8")]
    pub workers: usize,

    /// caller connections; caller i calls worker i % workers; default 8
    #[argh(option, default = "8")]
    pub callers: usize,

    /// closed loop: calls each caller keeps in flight; default 16
    #[argh(option, default = "16")]
    pub in_flight: usize,

    /// size of each call's data in bytes; default 100
    #[argh(option, default = "100")]
    pub payload: usize,

    /// seconds measured; default 10
    #[argh(option, default = "10.0")]
    pub duration: f64,

    /// seconds of load before measuring; default 2
    #[argh(option, default = "2.0")]
    pub warmup: f64,

    /// seconds to wait for outstanding answers at the end; default 5
    #[argh(option, default = "5.0")]
    pub drain: f64,

    /// open loop: calls per second over all callers, sent on schedule; latency counts from the scheduled time
    #[argh(option)]
    pub rate: Option<f64>,

    /// all workers register the same function, so the server balances over them
    #[argh(switch)]
    pub one_function: bool,

    /// each caller goes round all functions instead of keeping to one
    #[argh(switch)]
    pub spread: bool,

    /// call a function nobody offers, to measure the error path (implies --allow-errors)
    #[argh(switch)]
    pub missing: bool,

    /// further worker connections that stay idle; reports handshakes per second and server memory for each
    #[argh(option, default = "0")]
    pub idle_workers: usize,

    /// functions of each idle worker; default 1
    #[argh(option, default = "1")]
    pub idle_functions: usize,

    /// how many of the idle workers call their neighbour when the load starts, with --in-flight calls each
    #[argh(option, default = "0")]
    pub callers_on_idle: usize,

    /// seconds to wait after the idle workers have left before reading the server's memory again; default 0
    #[argh(option, default = "0.0")]
    pub settle: f64,

    /// process id of the server: report its CPU per call and its memory
    #[argh(option)]
    pub pid: Option<u32>,

    /// pin the generator's threads to this CPU and the following ones
    #[argh(option)]
    pub pin: Option<usize>,

    /// generator threads; default 1
    #[argh(option, default = "1")]
    pub threads: usize,

    /// mask key of WebSocket frames: zero (default, costs nothing) or random
    #[argh(option, default = "String::from(\"zero\")")]
    pub mask: String,

    /// exit with 0 even if calls failed or were never answered
    #[argh(switch)]
    pub allow_errors: bool,

    /// write the report as JSON to this file, or - for standard output instead of the table
    #[argh(option)]
    pub json: Option<String>,

    /// write the latency distribution as SVG to this file
    #[argh(option)]
    pub plot: Option<String>,

    /// put this text into the report, such as the commit measured
    #[argh(option)]
    pub label: Option<String>,

    /// run the same load on the NATS server at this address too and print the ratios
    #[argh(option)]
    pub compare_nats: Option<String>,

    /// process id of the NATS server of --compare-nats
    #[argh(option)]
    pub nats_pid: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, argh::EarlyExit> {
        Args::from_args(&["iii-loadtest"], words)
    }

    #[test]
    fn defaults_are_the_standard_load() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.workers, args.callers, args.in_flight, args.payload), (8, 8, 16, 100));
        assert_eq!((args.target.as_str(), args.threads, args.rate, args.idle_workers), ("iii", 1, None, 0));
    }

    #[test]
    fn options_are_spelled_with_hyphens() {
        let words = "--workers 64 --callers 32 --in-flight 8 --payload 1024 --rate 50000 --idle-workers 10000 \
                     --callers-on-idle 1000 --pid 7 --pin 1 --one-function --allow-errors --json - --mask random";
        let args = parse(&words.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!((args.workers, args.callers, args.in_flight, args.payload), (64, 32, 8, 1024));
        assert_eq!((args.rate, args.idle_workers, args.callers_on_idle), (Some(50_000.0), 10_000, 1_000));
        assert_eq!((args.pid, args.pin, args.json.as_deref()), (Some(7), Some(1), Some("-")));
        assert!(args.one_function && args.allow_errors && !args.spread);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse(&["--workers", "many"]).is_err());
        assert!(parse(&["--no-such-option"]).is_err());
    }
}
