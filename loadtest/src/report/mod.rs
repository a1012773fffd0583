//! The report of a run: figures with their units in their names, ready for JSON, the table and the plot.

pub mod plot;
pub mod table;

use crate::options::Options;
use crate::run::Outcome;
use crate::wire::Protocol;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything about one run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub label: Option<String>,
    pub target: &'static str,
    pub url: String,
    pub machine: Machine,
    pub load: Load,
    pub calls: Calls,
    /// From due to answered, in µs; absent without calls.
    pub latency_us: Option<Percentiles>,
    /// How late the generator itself sent, in µs. Open loop only.
    pub lag_us: Option<Percentiles>,
    pub server: Option<Server>,
    pub generator: Cpu,
    pub idle: Option<Idle>,
    /// The latency distribution, for plots.
    pub distribution: Vec<Point>,
}

/// Where the run took place.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
}

/// The load that was put on.
#[derive(Debug, Serialize)]
pub struct Load {
    pub workers: usize,
    pub callers: usize,
    pub in_flight: usize,
    pub payload_bytes: usize,
    /// Calls per second asked for; null in closed loop.
    pub rate: Option<f64>,
    pub one_function: bool,
    pub spread: bool,
    pub missing: bool,
    pub idle_workers: usize,
    pub idle_functions: usize,
    pub callers_on_idle: usize,
    pub threads: usize,
    pub warmup_s: f64,
    pub duration_s: f64,
}

/// What became of the calls. Whole run, except `in_window` and `per_s`.
#[derive(Debug, Serialize)]
pub struct Calls {
    pub per_s: f64,
    pub in_window: u64,
    pub sent: u64,
    pub answered: u64,
    pub unanswered: u64,
    pub duplicates: u64,
    pub unknown: u64,
    pub wrong_payload: u64,
    pub connections_lost: u64,
    pub served_by_workers: u64,
    pub errors: BTreeMap<String, u64>,
    /// Every call answered exactly once, without error and with its own data.
    pub clean: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// CPU used in the window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cpu {
    /// Null without calls.
    pub cpu_us_per_call: Option<f64>,
    /// 100 is one core.
    pub cpu_percent: f64,
}

#[derive(Debug, Serialize)]
pub struct Server {
    pub pid: u32,
    #[serde(flatten)]
    pub cpu: Cpu,
    pub resident_start_bytes: u64,
    pub resident_peak_bytes: u64,
    pub resident_end_bytes: u64,
}

/// The ramp of idle workers.
#[derive(Debug, Serialize)]
pub struct Idle {
    pub workers: usize,
    pub connect_s: f64,
    pub handshakes_per_s: f64,
    /// From the first connect until all their functions could be called.
    pub serving_s: f64,
    pub resident_per_worker_bytes: Option<f64>,
    pub resident_left_bytes: Option<u64>,
}

/// One point of a distribution: this part of the calls took at most so long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub quantile: f64,
    pub latency_us: f64,
}

impl Report {
    pub fn new(options: &Options, outcome: &Outcome) -> Self {
        let tally = &outcome.tally;
        let window_s = outcome.window.as_secs_f64();
        let per_s = |count: f64| if window_s > 0.0 { count / window_s } else { 0.0 };
        let cpu = |cpu_us: u64| Cpu {
            cpu_us_per_call: (tally.answered_in_window > 0).then(|| cpu_us as f64 / tally.answered_in_window as f64),
            cpu_percent: per_s(cpu_us as f64) / 10_000.0,
        };
        Self {
            label: options.label.clone(),
            target: match options.endpoint.protocol {
                Protocol::Iii => "iii",
                Protocol::Nats => "nats",
            },
            url: options.endpoint.url.clone(),
            machine: Machine::here(),
            load: Load::of(options),
            calls: Calls {
                per_s: per_s(tally.answered_in_window as f64),
                in_window: tally.answered_in_window,
                sent: tally.sent,
                answered: tally.answered,
                unanswered: tally.unanswered,
                duplicates: tally.duplicates,
                unknown: tally.unknown,
                wrong_payload: tally.wrong_payload,
                connections_lost: tally.connections_lost,
                served_by_workers: tally.served,
                errors: tally.errors.clone(),
                clean: tally.is_clean(),
            },
            latency_us: Percentiles::of(&tally.latency),
            lag_us: Percentiles::of(&tally.lag),
            server: outcome.server.map(|usage| Server {
                pid: usage.pid,
                cpu: cpu(usage.cpu_us),
                resident_start_bytes: usage.resident_start_bytes,
                resident_peak_bytes: usage.resident_peak_bytes,
                resident_end_bytes: usage.resident_end_bytes,
            }),
            generator: cpu(outcome.generator_cpu_us),
            idle: outcome.ramp.map(|ramp| Idle {
                workers: options.idle_workers,
                connect_s: ramp.connected.as_secs_f64(),
                handshakes_per_s: options.idle_workers as f64 / ramp.connected.as_secs_f64(),
                serving_s: ramp.serving.as_secs_f64(),
                resident_per_worker_bytes: ramp
                    .resident_growth_bytes
                    .map(|growth| growth as f64 / options.idle_workers as f64),
                resident_left_bytes: ramp.resident_left_bytes,
            }),
            distribution: distribution(&tally.latency),
        }
    }
}

impl Machine {
    fn here() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model =
            cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
        Self {
            cpu: model.unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl Load {
    fn of(options: &Options) -> Self {
        Self {
            workers: options.workers,
            callers: options.callers,
            in_flight: options.in_flight,
            payload_bytes: options.payload_bytes,
            rate: options.rate,
            one_function: options.one_function,
            spread: options.spread,
            missing: options.missing,
            idle_workers: options.idle_workers,
            idle_functions: options.idle_functions,
            callers_on_idle: options.callers_on_idle,
            threads: options.threads,
            warmup_s: options.warmup.as_secs_f64(),
            duration_s: options.duration.as_secs_f64(),
        }
    }
}

impl Percentiles {
    /// In µs; `None` for an empty histogram.
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

/// Points that halve the rest of the calls in five steps each, up to the slowest call.
fn distribution(histogram: &Histogram<u64>) -> Vec<Point> {
    const STEPS_PER_HALVING: u32 = 5;
    let points = histogram.iter_quantiles(STEPS_PER_HALVING);
    points
        .map(|at| Point { quantile: at.quantile_iterated_to(), latency_us: at.value_iterated_to() as f64 / 1e3 })
        .collect()
}

/// The same load on iii and on NATS.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub iii: Report,
    pub nats: Report,
    pub advantage: Advantage,
}

/// How many times better iii did than NATS; below 1 it did worse.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Advantage {
    pub throughput: f64,
    /// Null unless both process ids were given.
    pub cpu: Option<f64>,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

impl Comparison {
    pub fn new(iii: Report, nats: Report) -> Self {
        let per_call = |report: &Report| report.server.as_ref().and_then(|server| server.cpu.cpu_us_per_call);
        let latencies = iii.latency_us.zip(nats.latency_us);
        let advantage = Advantage {
            throughput: iii.calls.per_s / nats.calls.per_s,
            cpu: per_call(&nats).zip(per_call(&iii)).map(|(nats, iii)| nats / iii),
            p50: latencies.map(|(iii, nats)| nats.p50 / iii.p50),
            p99: latencies.map(|(iii, nats)| nats.p99 / iii.p99),
        };
        Self { iii, nats, advantage }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cli::Args;
    use crate::run::{Ramp, Usage};
    use crate::tally::Tally;
    use argh::FromArgs;
    use std::time::Duration;

    /// A thousand calls of 1 to 1,000 µs in two seconds.
    pub fn sample() -> Report {
        let options = Options::resolve(&Args::from_args(&["x"], &["--duration", "2", "--idle-workers", "10"]).unwrap());
        let mut tally =
            Tally { answered_in_window: 1_000, answered: 1_000, sent: 1_001, unanswered: 1, ..Tally::default() };
        (1..=1_000u64).for_each(|us| tally.latency.record(us * 1_000).unwrap());
        let server = Usage {
            pid: 7,
            cpu_us: 4_000,
            resident_start_bytes: 1 << 20,
            resident_peak_bytes: 3 << 20,
            resident_end_bytes: 2 << 20,
        };
        let ramp = Ramp {
            connected: Duration::from_millis(5),
            serving: Duration::from_millis(6),
            resident_growth_bytes: Some(20_480),
            resident_left_bytes: Some(1 << 20),
        };
        let outcome = Outcome {
            tally,
            window: Duration::from_secs(2),
            server: Some(server),
            generator_cpu_us: 1_000,
            ramp: Some(ramp),
        };
        Report::new(&options.unwrap(), &outcome)
    }

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= expected * 0.002, "{actual} is not {expected}");
    }

    #[test]
    fn figures_are_per_second_and_per_call() {
        let report = sample();
        let latency = report.latency_us.unwrap();
        close(report.calls.per_s, 500.0);
        close(latency.p50, 500.0);
        close(latency.p99, 990.0);
        close(latency.p99_9, 999.0);
        close(latency.max, 1_000.0);
        let server = report.server.as_ref().unwrap();
        close(server.cpu.cpu_us_per_call.unwrap(), 4.0);
        close(server.cpu.cpu_percent, 0.2);
        let idle = report.idle.as_ref().unwrap();
        close(idle.handshakes_per_s, 2_000.0);
        close(idle.resident_per_worker_bytes.unwrap(), 2_048.0);
        assert!(!report.calls.clean);
        assert!(report.lag_us.is_none());
    }

    #[test]
    fn the_distribution_rises_to_the_slowest_call() {
        let points = sample().distribution;
        assert!(points.is_sorted_by(|a, b| a.quantile <= b.quantile && a.latency_us <= b.latency_us));
        let last = points.last().unwrap();
        close(last.latency_us, 1_000.0);
        close(last.quantile, 1.0);
    }

    #[test]
    fn json_has_the_figures_under_their_names() {
        let json: serde_json::Value = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["target"], "iii");
        assert_eq!(json["calls"]["unanswered"], 1);
        assert_eq!(json["server"]["cpu_us_per_call"], 4.0);
        assert_eq!(json["load"]["rate"], serde_json::Value::Null);
    }

    #[test]
    fn a_comparison_says_how_many_times_better() {
        let mut nats = sample();
        nats.calls.per_s /= 2.0;
        nats.server.as_mut().unwrap().cpu.cpu_us_per_call = Some(6.0);
        let advantage = Comparison::new(sample(), nats).advantage;
        close(advantage.throughput, 2.0);
        close(advantage.cpu.unwrap(), 1.5);
        close(advantage.p99.unwrap(), 1.0);
    }
}
