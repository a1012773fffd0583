//! When an expression fires: local times of a time zone → seconds since 1970 (CRON-13, CRON-15).

use super::expression::Expression;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

/// An expression in a time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    expression: Expression,
    zone: TimeZone,
}

impl Schedule {
    /// Expression and time zone.
    pub fn new(expression: Expression, zone: TimeZone) -> Schedule {
        Schedule { expression, zone }
    }

    /// What it was made of.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// The first tick after a moment, both in seconds since 1970. A local time that a clock change leaves out is
    /// skipped, one that comes twice counts the first time. `None` = never again.
    pub fn next(&self, after_s: i64) -> Option<i64> {
        let mut local = self.zone.to_datetime(Timestamp::from_second(after_s).ok()?);
        loop {
            local = self.next_local(local)?;
            let offset = match self.zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset,
                AmbiguousOffset::Gap { .. } => continue,
                AmbiguousOffset::Fold { before, .. } => before,
            };
            let tick_s = offset.to_timestamp(local).ok()?.as_second();
            // In the second pass through a repeated hour, local times lie in the past.
            if tick_s > after_s {
                return Some(tick_s);
            }
        }
    }

    /// The last tick after `after_s` and not after `until_s`.
    pub fn last(&self, after_s: i64, until_s: i64) -> Option<i64> {
        let mut window_s = 1;
        loop {
            let from_s = until_s.saturating_sub(window_s).max(after_s);
            if let Some(first) = self.next(from_s).filter(|tick_s| *tick_s <= until_s) {
                let ticks = std::iter::successors(Some(first), |tick_s| self.next(*tick_s));
                return ticks.take_while(|tick_s| *tick_s <= until_s).last();
            }
            if from_s == after_s {
                return None;
            }
            window_s *= 2;
        }
    }

    fn next_local(&self, after: DateTime) -> Option<DateTime> {
        let from = after.checked_add(jiff::Span::new().seconds(1)).ok()?;
        let (mut date, mut time) = (from.date(), Some(from.time()));
        loop {
            if date.year() > super::expression::YEAR_MAX as i16 {
                return None;
            }
            let skipped_to = if !self.expression.has_year(date.year()) {
                Date::new(date.year() + 1, 1, 1).ok()?
            } else if self.expression.months & (1 << date.month()) == 0 {
                date.last_of_month().tomorrow().ok()?
            } else {
                let found = if self.has_day(date) { self.first_time(time.unwrap_or(Time::midnight())) } else { None };
                if let Some(found) = found {
                    return Some(date.to_datetime(found));
                }
                date.tomorrow().ok()?
            };
            (date, time) = (skipped_to, None);
        }
    }

    fn has_day(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        self.expression.days & (1 << date.day()) != 0 && self.expression.weekdays & (1 << weekday) != 0
    }

    /// The first matching time of a day, not before `from`.
    fn first_time(&self, from: Time) -> Option<Time> {
        let Expression { seconds, minutes, hours, .. } = &self.expression;
        let (hour, minute, second) = (from.hour() as u32, from.minute() as u32, from.second() as u32);
        let time = |hour: u32, minute: u32, second: u32| Time::new(hour as i8, minute as i8, second as i8, 0).ok();
        let first = |set: u64| set.trailing_zeros();
        let hours = u64::from(*hours);
        if has(hours, hour) {
            if has(*minutes, minute)
                && let Some(second) = at_least(*seconds, second)
            {
                return time(hour, minute, second);
            }
            if let Some(minute) = at_least(*minutes, minute + 1) {
                return time(hour, minute, first(*seconds));
            }
        }
        time(at_least(hours, hour + 1)?, first(*minutes), first(*seconds))
    }
}

fn has(set: u64, value: u32) -> bool {
    set & (1 << value) != 0
}

/// The smallest member that is not less than `value`.
fn at_least(set: u64, value: u32) -> Option<u32> {
    let rest = set.checked_shr(value).unwrap_or(0);
    (rest != 0).then(|| value + rest.trailing_zeros())
}

/// A moment as payloads and log lines show it: `2026-03-01T12:00:05+00:00`.
pub fn rfc3339(seconds: i64) -> String {
    let utc = TimeZone::UTC.to_datetime(Timestamp::from_second(seconds).unwrap_or_default());
    format!("{}T{}+00:00", utc.date(), utc.time())
}

/// The same with nine digits of fraction.
pub fn rfc3339_nanos(unix_ms: i64) -> String {
    let whole = rfc3339(unix_ms.div_euclid(1000));
    let (time, _) = whole.split_once('+').unwrap_or((&whole, ""));
    format!("{time}.{:03}000000+00:00", unix_ms.rem_euclid(1000))
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
