//! When schedules are due.

use super::*;
use crate::config::settings::WeekdayNumbering;

fn schedule(expression: &str, zone: &str) -> Schedule {
    let expression = Expression::parse(expression, WeekdayNumbering::Posix).expect("valid");
    Schedule::new(expression, TimeZone::get(zone).expect("a known zone"))
}

fn seconds(text: &str) -> i64 {
    text.parse::<Timestamp>().expect("a timestamp").as_second()
}

/// The first ticks after a moment, in UTC.
fn ticks(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = schedule(expression, zone);
    let all = std::iter::successors(schedule.next(seconds(after)), |tick| schedule.next(*tick));
    all.take(count).map(|tick| rfc3339(tick).trim_end_matches("+00:00").to_owned()).collect()
}

#[test]
fn ticks_of_the_usual_expressions() {
    let after = "2026-02-27T23:59:58Z";
    assert_eq!(ticks("* * * * * *", "UTC", after, 2), ["2026-02-27T23:59:59", "2026-02-28T00:00:00"]);
    assert_eq!(ticks("*/20 * * * *", "UTC", after, 2), ["2026-02-28T00:00:00", "2026-02-28T00:20:00"]);
    assert_eq!(ticks("30 5 0 1 * *", "UTC", after, 2), ["2026-03-01T00:05:30", "2026-04-01T00:05:30"]);
    assert_eq!(ticks("@weekly", "UTC", after, 1), ["2026-03-01T00:00:00"]);
    assert_eq!(ticks("@yearly", "UTC", after, 1), ["2027-01-01T00:00:00"]);
    assert_eq!(ticks("10/25 59 23 * * *", "UTC", after, 2), ["2026-02-28T23:59:10", "2026-02-28T23:59:35"]);
    assert_eq!(ticks("0 0 29 2 *", "UTC", after, 2), ["2028-02-29T00:00:00", "2032-02-29T00:00:00"]);
    assert_eq!(ticks("0 0 12 1 1 * 2030,2027", "UTC", after, 3), ["2027-01-01T12:00:00", "2030-01-01T12:00:00"]);
}

// CRON-13: both day fields must match.
#[test]
fn days_are_combined_with_and() {
    let thirteenths = ticks("0 0 13 * fri", "UTC", "2026-01-01T00:00:00Z", 3);
    assert_eq!(thirteenths, ["2026-02-13T00:00:00", "2026-03-13T00:00:00", "2026-11-13T00:00:00"]);
}

// CRON-16, and the end of time.
#[test]
fn what_can_never_happen_has_no_tick() {
    for expression in ["0 0 0 1 1 * 2020", "0 0 0 30 2 *", "0 0 0 31 4,6,9,11 *"] {
        assert_eq!(ticks(expression, "UTC", "2026-01-01T00:00:00Z", 1), [""; 0], "{expression}");
    }
    assert_eq!(ticks("@yearly", "UTC", "2100-01-01T00:00:00Z", 1), [""; 0]);
}

// CRON-15, CRON-DB-9: New York leaves out 2:00–3:00 on 8 March 2026 and repeats 1:00–2:00 on 1 November 2026.
#[test]
fn clock_changes() {
    let gap = ticks("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2);
    assert_eq!(gap, ["2026-03-09T06:30:00", "2026-03-10T06:30:00"]);
    let overlap = ticks("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2);
    assert_eq!(overlap, ["2026-11-01T05:30:00", "2026-11-02T06:30:00"]);
    // Each local time that occurs runs once: the repeated hour is silent.
    let minutes = ticks("*/30 * * * *", "America/New_York", "2026-11-01T05:00:00Z", 3);
    assert_eq!(minutes, ["2026-11-01T05:30:00", "2026-11-01T07:00:00", "2026-11-01T07:30:00"]);
    // Asked from within the second pass.
    assert_eq!(ticks("* * * * * *", "America/New_York", "2026-11-01T06:10:00Z", 1), ["2026-11-01T07:00:00"]);
    assert_eq!(ticks("0 9 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", 1), ["2026-01-01T03:30:00"]);
}

// CRON-DB-6
#[test]
fn the_last_tick_of_a_gap() {
    let last = |expression: &str, after: &str, until: &str| {
        schedule(expression, "UTC").last(seconds(after), seconds(until)).map(rfc3339)
    };
    let day = ("2026-01-01T00:00:00Z", "2026-01-02T10:20:30Z");
    assert_eq!(last("* * * * * *", day.0, day.1).as_deref(), Some("2026-01-02T10:20:30+00:00"));
    assert_eq!(last("0 3 * * *", day.0, day.1).as_deref(), Some("2026-01-02T03:00:00+00:00"));
    assert_eq!(last("* * 3 * * *", day.0, day.1).as_deref(), Some("2026-01-02T03:59:59+00:00"));
    assert_eq!(last("@monthly", day.0, day.1), None);
    assert_eq!(last("@daily", "2026-01-02T00:00:00Z", day.1), None);
}

// CRON-20
#[test]
fn moments_are_written_with_an_offset() {
    assert_eq!(rfc3339(seconds("2026-03-01T12:00:05Z")), "2026-03-01T12:00:05+00:00");
    assert_eq!(rfc3339_nanos(1_772_366_405_001), "2026-03-01T12:00:05.001000000+00:00");
}
