//! The latency distribution as SVG.
//!
//! Both axes are logarithmic: to the right each step divides the rest of the calls by ten (90 %, 99 %, 99.9 % …),
//! upwards each step is ten times slower, so that the common case and the tail are both readable.

use super::table::duration;
use super::{Point, Report};
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 830.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 430.0;
const COLOURS: [&str; 4] = ["#0b6e99", "#d9730d", "#448361", "#9065b0"];

/// One line of the plot.
#[derive(Debug)]
pub struct Series<'a> {
    pub name: &'a str,
    pub points: &'a [Point],
}

/// The plot of one or more reports.
pub fn render(reports: &[&Report]) -> String {
    let series: Vec<_> =
        reports.iter().map(|report| Series { name: report.target, points: &report.distribution }).collect();
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_plot(&mut out, &series);
    out
}

/// Where quantiles and latencies are drawn.
struct Axes {
    /// Powers of ten of the rest of the calls: 3 is 99.9 %.
    nines: f64,
    /// log10 of µs.
    latency_min: f64,
    latency_max: f64,
}

impl Axes {
    fn of(series: &[Series<'_>]) -> Self {
        let points = || series.iter().flat_map(|series| series.points);
        let latencies = || points().map(|point| point.latency_us.max(1.0).log10());
        let nines = points().filter_map(nines).fold(1.0, f64::max).ceil();
        let latency_min = latencies().fold(f64::INFINITY, f64::min).floor();
        let latency_max = latencies().fold(f64::NEG_INFINITY, f64::max).ceil();
        if !latency_min.is_finite() {
            return Self { nines, latency_min: 0.0, latency_max: 1.0 };
        }
        Self { nines, latency_min, latency_max: latency_max.max(latency_min + 1.0) }
    }

    fn x(&self, nines: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (nines / self.nines).min(1.0)
    }

    fn y(&self, latency_us: f64) -> f64 {
        let part = (latency_us.max(1.0).log10() - self.latency_min) / (self.latency_max - self.latency_min);
        BOTTOM - (BOTTOM - TOP) * part
    }
}

/// How many nines a quantile has; `None` for the slowest call, which has infinitely many.
fn nines(point: &Point) -> Option<f64> {
    let rest = 1.0 - point.quantile;
    (rest > 1e-12).then(|| -rest.log10())
}

fn write_plot(out: &mut String, series: &[Series<'_>]) -> std::fmt::Result {
    let axes = Axes::of(series);
    writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="#37352f">"##
    )?;
    writeln!(out, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##)?;
    text(out, LEFT, 24.0, "start", "Latency by percentile of calls")?;
    write_grid(out, &axes)?;
    for (index, series) in series.iter().enumerate() {
        write_series(out, &axes, series, index)?;
    }
    writeln!(out, "</svg>")
}

fn write_grid(out: &mut String, axes: &Axes) -> std::fmt::Result {
    for count in 0..=axes.nines as usize {
        let x = axes.x(count as f64);
        rule(out, (x, TOP), (x, BOTTOM))?;
        text(out, x, BOTTOM + 20.0, "middle", &percentile(count))?;
    }
    for power in axes.latency_min as i32..=axes.latency_max as i32 {
        for step in [1.0, 2.0, 5.0] {
            let latency_us = step * 10f64.powi(power);
            let y = axes.y(latency_us);
            if y >= TOP - 0.5 {
                rule(out, (LEFT, y), (RIGHT, y))?;
                text(out, LEFT - 8.0, y + 4.0, "end", &duration(latency_us))?;
            }
        }
    }
    Ok(())
}

fn write_series(out: &mut String, axes: &Axes, series: &Series<'_>, index: usize) -> std::fmt::Result {
    let colour = COLOURS[index % COLOURS.len()];
    let mut path = String::new();
    for point in series.points {
        // The slowest call ends the line at the right edge.
        let x = nines(point).map_or(RIGHT, |nines| axes.x(nines));
        write!(path, "{}{x:.1},{:.1}", if path.is_empty() { "" } else { " " }, axes.y(point.latency_us))?;
    }
    writeln!(out, r##"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>"##)?;
    let y = TOP + 18.0 + 18.0 * index as f64;
    writeln!(out, r##"<rect x="{}" y="{}" width="14" height="4" fill="{colour}"/>"##, LEFT + 12.0, y - 6.0)?;
    text(out, LEFT + 34.0, y, "start", series.name)
}

fn rule(out: &mut String, from: (f64, f64), to: (f64, f64)) -> std::fmt::Result {
    let ((x1, y1), (x2, y2)) = (from, to);
    writeln!(out, r##"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="#e3e2de"/>"##)
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) -> std::fmt::Result {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(out, r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"##)
}

/// The label of a number of nines: 0 %, 90 %, 99 %, 99.9 % …
fn percentile(nines: usize) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_plot_has_a_line_for_each_report_within_the_frame() {
        let (a, b) = (sample(), sample());
        let svg = render(&[&a, &b]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains(">99.9 %<") && svg.contains(">100 µs<"), "{svg}");
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let mut last_x = 0.0;
        for pair in points.split(' ') {
            let (x, y) = pair.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=RIGHT).contains(&x) && x >= last_x && (TOP..=BOTTOM).contains(&y), "{x},{y}");
            last_x = x;
        }
        assert_eq!(last_x, RIGHT);
    }

    #[test]
    fn a_run_without_calls_still_gives_a_picture() {
        let mut report = sample();
        report.distribution.clear();
        let svg = render(&[&report]);
        assert!(svg.contains("<polyline points=\"\"") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn percentiles_are_labelled_by_their_nines() {
        assert_eq!([0, 1, 2, 3, 5].map(percentile), ["0 %", "90 %", "99 %", "99.9 %", "99.999 %"]);
    }
}
