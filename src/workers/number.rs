//! JSON numbers: integers of up to 64 bits exactly, everything else as doubles (STATE-15).

/// A number as clients understand it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Written without fraction and exponent, and within `i64::MIN..=u64::MAX`.
    Integer(i128),
    /// Any other; finite.
    Float(f64),
}

impl Number {
    /// Reads the text of a JSON value. `None` = not a number, or beyond a double.
    pub fn parse(text: &[u8]) -> Option<Number> {
        let text = std::str::from_utf8(text).ok()?.trim();
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        let whole = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
        // Minus zero is no integer: it would come back as zero.
        if whole
            && text != "-0"
            && let Some(integer) = text.parse::<i128>().ok().filter(|integer| is_integer(*integer))
        {
            return Some(Number::Integer(integer));
        }
        text.parse::<f64>().ok().filter(|float| float.is_finite()).map(Number::Float)
    }

    /// The same number as an integer, if it has no fraction and an integer can hold it: `3.0` is `3`.
    pub fn integral(self) -> Number {
        match self {
            // Beyond 2^64 a double names no integer that could be meant exactly.
            Number::Float(float) if float.fract() == 0.0 && is_integer(float as i128) => Number::Integer(float as i128),
            other => other,
        }
    }

    /// Adds to what is stored (STATE-35): an integer stays one, signed if that fits, else unsigned unless it was
    /// negative; a double stays a double. `None` = the result can't be written that way.
    pub fn plus(self, by: Number) -> Option<Number> {
        match (self, by) {
            (Number::Integer(stored), Number::Integer(by)) => {
                let sum = stored + by;
                let fits = i64::try_from(sum).is_ok() || stored >= 0 && u64::try_from(sum).is_ok();
                fits.then_some(Number::Integer(sum))
            }
            (stored, by) => {
                let sum = stored.as_float() + by.as_float();
                sum.is_finite().then_some(Number::Float(sum))
            }
        }
    }

    /// The number with the other sign.
    pub fn negated(self) -> Number {
        match self {
            Number::Integer(integer) => Number::Integer(-integer),
            Number::Float(float) => Number::Float(-float),
        }
    }

    /// As JSON text.
    pub fn text(self) -> String {
        match self {
            Number::Integer(integer) => integer.to_string(),
            Number::Float(float) => serde_json::Number::from_f64(float).map_or("null".to_owned(), |n| n.to_string()),
        }
    }

    fn as_float(self) -> f64 {
        match self {
            Number::Integer(integer) => integer as f64,
            Number::Float(float) => float,
        }
    }
}

fn is_integer(value: i128) -> bool {
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::Number::{self, Float, Integer};

    #[test]
    fn texts_are_integers_only_if_they_look_so() {
        for (text, expected) in [
            ("0", Some(Integer(0))),
            ("-7", Some(Integer(-7))),
            ("18446744073709551615", Some(Integer(u64::MAX.into()))),
            ("18446744073709551616", Some(Float(18446744073709551616.0))),
            ("-9223372036854775808", Some(Integer(i64::MIN.into()))),
            ("-9223372036854775809", Some(Float(-9223372036854775809.0))),
            ("1.0", Some(Float(1.0))),
            ("1e3", Some(Float(1000.0))),
            ("-0", Some(Float(-0.0))),
            ("1e999", None),
            ("\"1\"", None),
            ("null", None),
            ("[1]", None),
        ] {
            assert_eq!(Number::parse(text.as_bytes()), expected, "{text}");
        }
    }

    // STATE-35, STATE-DB-7
    #[test]
    fn sums_keep_what_is_stored() {
        for (stored, by, expected) in [
            ("1", "2", Some("3")),
            ("9223372036854775807", "1", Some("9223372036854775808")),
            ("18446744073709551615", "1", None),
            ("18446744073709551615", "-1", Some("18446744073709551614")),
            ("-9223372036854775808", "-1", None),
            ("1.0", "1", Some("2.0")),
            ("1", "0.5", Some("1.5")),
            ("1", "3.0", Some("4")),
            ("1", "1e2", Some("101")),
            ("0.1", "0.2", Some("0.30000000000000004")),
            ("1.7e308", "1.7e308", None),
            ("-1", "1e30", Some("1e+30")),
        ] {
            let number = |text: &str| Number::parse(text.as_bytes()).expect("a number");
            let sum = number(stored).plus(number(by).integral()).map(Number::text);
            assert_eq!(sum.as_deref(), expected, "{stored} + {by}");
        }
    }
}
