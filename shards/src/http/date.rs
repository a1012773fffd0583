//! The value of a `date` header: `Sun, 06 Nov 1994 08:49:37 GMT`.

use std::fmt;

/// A formatted HTTP date. The caller formats it once per second, not once per response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// Formats seconds since 1970-01-01T00:00:00Z. Years beyond 9999 stay at the last second of 9999.
    pub fn from_unix_seconds(seconds: u64) -> HttpDate {
        const LAST: u64 = 253_402_300_799;
        let seconds = seconds.min(LAST);
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
        let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1];

        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        text[..3].copy_from_slice(weekday.as_bytes());
        two_digits(&mut text[5..7], day);
        text[8..11].copy_from_slice(month.as_bytes());
        two_digits(&mut text[12..14], year / 100);
        two_digits(&mut text[14..16], year % 100);
        two_digits(&mut text[17..19], second_of_day / 3600);
        two_digits(&mut text[20..22], second_of_day / 60 % 60);
        two_digits(&mut text[23..25], second_of_day % 60);
        HttpDate(text)
    }

    /// The 29 bytes of the header value.
    pub fn as_bytes(&self) -> &[u8; 29] {
        &self.0
    }
}

impl fmt::Debug for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpDate({})", String::from_utf8_lossy(&self.0))
    }
}

fn two_digits(place: &mut [u8], value: u64) {
    place[0] = b'0' + (value / 10) as u8;
    place[1] = b'0' + (value % 10) as u8;
}

/// Year, month 1..=12 and day 1..=31. Counts from March of year 0, so that the leap day comes last.
fn civil_from_days(days_since_1970: u64) -> (u64, usize, u64) {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(HttpDate::from_unix_seconds(seconds).as_bytes()), Ok(expected));
        }
    }
}
