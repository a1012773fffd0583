//! Cron expressions: text → sets of seconds, minutes, hours, days, months, weekdays and years (CRON-11…14).
//!
//! The grammar is our own: crates that read cron expressions combine the two day fields with OR, take `L`, `W` and
//! `#`, know one numbering of weekdays, or do not name the field that is wrong.

use crate::config::settings::WeekdayNumbering;
use std::fmt;

/// First year that can be asked for.
pub const YEAR_MIN: u16 = 1970;
/// Last year that can be asked for; nothing fires after it.
pub const YEAR_MAX: u16 = 2100;

/// When something is to happen, in local time. Bit n of a set stands for the value n.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expression {
    /// 0–59.
    pub seconds: u64,
    /// 0–59.
    pub minutes: u64,
    /// 0–23.
    pub hours: u32,
    /// 1–31; must match as well as the weekday.
    pub days: u32,
    /// 1–12.
    pub months: u16,
    /// 0–6, Sunday first.
    pub weekdays: u8,
    /// Years from [`YEAR_MIN`] on; `None` = every year.
    pub years: Option<[u64; 3]>,
    /// Whether weekdays were written as numbers, which two conventions read differently.
    pub numbered_weekdays: bool,
}

struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    names: &'static [&'static str],
    /// `?` means `*`.
    question_mark: bool,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

const fn numbers(name: &'static str, min: u16, max: u16) -> Field {
    Field { name, min, max, names: &[], question_mark: false }
}

const SECONDS: Field = numbers("Seconds", 0, 59);
const MINUTES: Field = numbers("Minutes", 0, 59);
const HOURS: Field = numbers("Hours", 0, 23);
const DAYS_OF_MONTH: Field = Field { question_mark: true, ..numbers("Days of Month", 1, 31) };
const MONTHS_OF_YEAR: Field = Field { names: &MONTHS, ..numbers("Months", 1, 12) };
const POSIX_WEEKDAYS: Field = Field { names: &WEEKDAYS, question_mark: true, ..numbers("Days of Week", 0, 7) };
const REFERENCE_WEEKDAYS: Field = Field { names: &WEEKDAYS, question_mark: true, ..numbers("Days of Week", 1, 7) };
const YEARS: Field = numbers("Years", YEAR_MIN, YEAR_MAX);

impl Expression {
    /// Reads an expression. `Err` names the field, the value and what is allowed.
    pub fn parse(text: &str, numbering: WeekdayNumbering) -> Result<Expression, String> {
        let text = text.trim();
        let shortcut = match text {
            "@yearly" => Some("0 0 0 1 1 *"),
            "@monthly" => Some("0 0 0 1 * *"),
            "@weekly" => Some("0 0 0 * * sun"),
            "@daily" => Some("0 0 0 * * *"),
            "@hourly" => Some("0 0 * * * *"),
            _ if text.starts_with('@') => {
                return Err(format!(
                    "unknown shortcut '{text}'; there are @yearly, @monthly, @weekly, @daily and @hourly"
                ));
            }
            _ => None,
        };
        let mut fields: Vec<&str> = shortcut.unwrap_or(text).split_whitespace().collect();
        match fields.len() {
            5 => fields.insert(0, "0"),
            6 | 7 => {}
            count => {
                return Err(format!(
                    "{count} fields; write minute hour day-of-month month day-of-week, \
                     or these after a second and optionally before a year"
                ));
            }
        }
        let weekdays = match numbering {
            WeekdayNumbering::Posix => &POSIX_WEEKDAYS,
            WeekdayNumbering::Reference => &REFERENCE_WEEKDAYS,
        };
        let narrow = |field: &Field, text: &str| field.parse(text).map(|set| set.low);
        let years = match fields.get(6) {
            None | Some(&"*") => None,
            Some(text) => Some(YEARS.parse(text)?.words()),
        };
        let days_of_week = weekdays.parse(fields[5])?;
        Ok(Expression {
            seconds: narrow(&SECONDS, fields[0])?,
            minutes: narrow(&MINUTES, fields[1])?,
            hours: narrow(&HOURS, fields[2])? as u32,
            days: narrow(&DAYS_OF_MONTH, fields[3])? as u32,
            months: narrow(&MONTHS_OF_YEAR, fields[4])? as u16,
            weekdays: match numbering {
                // 7 is Sunday too.
                WeekdayNumbering::Posix => (days_of_week.low as u8 & 0x7f) | (days_of_week.low >> 7) as u8,
                WeekdayNumbering::Reference => (days_of_week.low >> 1) as u8,
            },
            years,
            numbered_weekdays: fields[5].bytes().any(|byte| byte.is_ascii_digit())
                && !fields[5].starts_with(['*', '?']),
        })
    }

    /// The weekdays it fires on, for people: `Mon, Tue`.
    pub fn weekday_names(&self) -> String {
        let names = (0..7).filter(|day| self.weekdays & (1 << day) != 0).map(|day| {
            let name = WEEKDAYS[day];
            format!("{}{}", name[..1].to_uppercase(), &name[1..3])
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// Whether a year is one of those asked for.
    pub fn has_year(&self, year: i16) -> bool {
        let Ok(offset) = usize::try_from(i32::from(year) - i32::from(YEAR_MIN)) else { return false };
        match &self.years {
            None => year <= YEAR_MAX as i16,
            Some(words) => words.get(offset / 64).is_some_and(|word| word & (1 << (offset % 64)) != 0),
        }
    }
}

/// The same text for expressions that mean the same.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expression { seconds, minutes, hours, days, months, weekdays, years, .. } = self;
        write!(f, "{seconds:x} {minutes:x} {hours:x} {days:x} {months:x} {weekdays:x}")?;
        match years {
            None => Ok(()),
            Some([first, second, third]) => write!(f, " {first:x}.{second:x}.{third:x}"),
        }
    }
}

/// A set of values; those of years count from [`YEAR_MIN`].
#[derive(Default)]
struct Set {
    low: u64,
    high: [u64; 2],
}

impl Set {
    fn insert(&mut self, bit: u16) {
        match bit / 64 {
            0 => self.low |= 1 << bit,
            word => self.high[usize::from(word) - 1] |= 1 << (bit % 64),
        }
    }

    fn words(&self) -> [u64; 3] {
        [self.low, self.high[0], self.high[1]]
    }
}

impl Field {
    fn parse(&self, text: &str) -> Result<Set, String> {
        let mut set = Set::default();
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                None => (item, None),
                Some((range, step)) => (range, Some(self.step(step)?)),
            };
            let (first, last) = self.range(range, step.is_some())?;
            let base = if self.min == YEAR_MIN { YEAR_MIN } else { 0 };
            for value in (first..=last).step_by(usize::from(step.unwrap_or(1))) {
                set.insert(value - base);
            }
        }
        Ok(set)
    }

    /// First and last value of what stands before a step.
    fn range(&self, text: &str, stepped: bool) -> Result<(u16, u16), String> {
        if text == "*" || (text == "?" && self.question_mark) {
            // Sunday is not to be counted twice.
            let last = if self.min == 0 && self.max == 7 { 6 } else { self.max };
            return Ok((self.min, last));
        }
        if let Some((first, last)) = text.split_once('-') {
            let (first_value, last_value) = (self.value(first)?, self.value(last)?);
            if first_value > last_value {
                return Err(format!("invalid range for {}: '{text}' ends before it begins", self.name));
            }
            return Ok((first_value, last_value));
        }
        let value = self.value(text)?;
        match stepped {
            false => Ok((value, value)),
            true if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok((value, self.max)),
            true => Err(format!("a step after a name is not supported in {}: '{text}'", self.name)),
        }
    }

    fn step(&self, text: &str) -> Result<u16, String> {
        match text.parse::<u16>() {
            Ok(step) if text.bytes().all(|byte| byte.is_ascii_digit()) && (1..=self.max).contains(&step) => Ok(step),
            _ => Err(format!("the step of {} must be between 1 and {} ('{text}' specified)", self.name, self.max)),
        }
    }

    fn value(&self, text: &str) -> Result<u16, String> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse::<u16>() {
                Ok(value) if (self.min..=self.max).contains(&value) => Ok(value),
                _ => Err(format!("{} must be between {} and {} ('{text}' specified)", self.name, self.min, self.max)),
            };
        }
        let lower = text.to_ascii_lowercase();
        match self.names.iter().position(|name| lower == **name || lower == name[..3]) {
            Some(index) => Ok(index as u16 + self.min),
            None if lower == "tues" && self.names.len() == 7 => Ok(2 + self.min),
            None if lower == "thurs" && self.names.len() == 7 => Ok(4 + self.min),
            None if self.names.is_empty() => {
                Err(format!("{} takes numbers between {} and {} ('{text}' specified)", self.name, self.min, self.max))
            }
            None => Err(format!(
                "{} takes English names and numbers between {} and {} ('{text}' specified)",
                self.name, self.min, self.max
            )),
        }
    }
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
