//! The report as text for people.

use super::{Comparison, Cpu, Percentiles, Report};
use std::fmt::Write;

/// A generator this busy was probably the bottleneck, in % of one core per thread.
const GENERATOR_BUSY_PERCENT: f64 = 95.0;

/// The report as lines of text.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut out, report);
    out
}

/// The ratios of a comparison, to be printed below its two reports.
pub fn render_advantage(comparison: &Comparison) -> String {
    let times = |ratio: Option<f64>| ratio.map_or("unknown".to_owned(), |ratio| format!("{ratio:.2} ×"));
    let advantage = &comparison.advantage;
    format!(
        "iii against NATS (above 1 is better): throughput {}, CPU per call {}, p50 {}, p99 {}\n",
        times(Some(advantage.throughput)),
        times(advantage.cpu),
        times(advantage.p50),
        times(advantage.p99)
    )
}

fn write_report(out: &mut String, report: &Report) -> std::fmt::Result {
    let (load, calls) = (&report.load, &report.calls);
    let mode = match load.rate {
        Some(rate) => format!("open loop at {}/s", grouped(rate)),
        None => format!("{} in flight, closed loop", load.in_flight),
    };
    writeln!(
        out,
        "{} at {}: {} workers × {} callers × {mode}, {} B, {} s",
        report.target, report.url, load.workers, load.callers, load.payload_bytes, load.duration_s
    )?;
    if let Some(label) = &report.label {
        line(out, "label", label)?;
    }
    if let Some(idle) = &report.idle {
        let memory = idle.resident_per_worker_bytes.map_or(String::new(), |each| {
            let left = idle
                .resident_left_bytes
                .map_or(String::new(), |left| format!("; {} after they left", size(left as f64)));
            format!(", {} of server memory each{left}", size(each))
        });
        let text = format!(
            "{} accepted in {:.2} s ({}/s), callable after {:.2} s{memory}",
            grouped(idle.workers as f64),
            idle.connect_s,
            grouped(idle.handshakes_per_s),
            idle.serving_s
        );
        line(out, "idle workers", &text)?;
    }
    line(out, "throughput", &format!("{}/s ({} calls)", grouped(calls.per_s), grouped(calls.in_window as f64)))?;
    if let Some(latency) = &report.latency_us {
        line(out, "latency", &percentiles(latency))?;
    }
    if let Some(lag) = &report.lag_us {
        line(out, "sent late by", &percentiles(lag))?;
    }
    if let Some(server) = &report.server {
        line(out, "server CPU", &cpu(&server.cpu))?;
        let memory = [server.resident_start_bytes, server.resident_peak_bytes, server.resident_end_bytes];
        let [start, peak, end] = memory.map(|bytes| size(bytes as f64));
        line(out, "server memory", &format!("start {start}, peak {peak}, end {end}"))?;
    }
    line(out, "generator CPU", &cpu(&report.generator))?;
    if report.generator.cpu_percent > GENERATOR_BUSY_PERCENT * load.threads as f64 {
        line(out, "", "the generator was the bottleneck: give it more --threads, or pin it away from the server")?;
    }
    line(out, "faults", &faults(report))
}

fn line(out: &mut String, name: &str, text: &str) -> std::fmt::Result {
    writeln!(out, "  {name:<15}{text}")
}

fn faults(report: &Report) -> String {
    let calls = &report.calls;
    if calls.clean {
        return format!("none; {} calls answered exactly once", grouped(calls.answered as f64));
    }
    let counts = [
        ("unanswered", calls.unanswered),
        ("answered twice", calls.duplicates),
        ("unknown answers", calls.unknown),
        ("wrong payload", calls.wrong_payload),
        ("connections lost", calls.connections_lost),
    ];
    let counts = counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count));
    let errors = calls.errors.iter().map(|(code, count)| (format!("error {code}"), *count));
    let texts = counts.chain(errors).map(|(name, count)| format!("{} {name}", grouped(count as f64)));
    texts.collect::<Vec<_>>().join(", ")
}

fn cpu(cpu: &Cpu) -> String {
    let per_call = cpu.cpu_us_per_call.map_or(String::new(), |us| format!("{us:.2} µs per call, "));
    format!("{per_call}{:.1} % of a core", cpu.cpu_percent)
}

fn percentiles(p: &Percentiles) -> String {
    let [p50, p90, p99, p99_9, max] = [p.p50, p.p90, p.p99, p.p99_9, p.max].map(duration);
    format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}, max {max}")
}

/// µs in the unit that reads best, to three digits.
pub fn duration(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

fn size(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 => format!("{bytes:.0} B"),
        bytes if bytes < 1024.0 * 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes => format!("{:.1} MiB", bytes / 1024.0 / 1024.0),
    }
}

/// A whole number with commas between thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0.0, 999.0, 1_000.0, 331_234.4].map(grouped), ["0", "999", "1,000", "331,234"]);
        assert_eq!(
            [7.256, 72.56, 725.6, 7_256.0, 7_256_000.0].map(duration),
            ["7.26 µs", "72.6 µs", "726 µs", "7.26 ms", "7.26 s"]
        );
        assert_eq!([100.0, 2_048.0, 3.5 * 1_048_576.0].map(size), ["100 B", "2.0 KiB", "3.5 MiB"]);
    }

    #[test]
    fn the_table_names_what_matters() {
        let text = render(&sample());
        for part in [
            "8 workers × 8 callers × 16 in flight, closed loop, 100 B, 2 s",
            "10 accepted in 0.01 s (2,000/s)",
            "2.0 KiB of server memory each; 1.0 MiB after they left",
            "500/s (1,000 calls)",
            "p50 500 µs",
            "4.00 µs per call, 0.2 % of a core",
            "start 1.0 MiB, peak 3.0 MiB, end 2.0 MiB",
            "1 unanswered",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }
}
