//! Grammar and texts of cron expressions.

use super::*;

fn posix(text: &str) -> Result<Expression, String> {
    Expression::parse(text, WeekdayNumbering::Posix)
}

fn weekdays(text: &str, numbering: WeekdayNumbering) -> Result<String, String> {
    Expression::parse(&format!("0 0 0 * * {text}"), numbering).map(|expression| expression.weekday_names())
}

// CRON-11, CRON-12, CRON-16, CRON-DB-9; row C1
#[test]
fn what_is_accepted() {
    for text in [
        "* * * * *",
        "*/5 9-17 * * mon-fri",
        "* * * * * *",
        "0 0 0 1 1 * 2020",
        "0 0 0 1 1 * *",
        "0 0 0 1 1 * 2020-2030/2,2100",
        "  0   0 0\t1 JAN  ?  ",
        "10/15 * * * * *",
        "10-20/2 * * * * *",
        "*/59 * * * * *",
        "0 0 0 ? * sun,Monday,TUES,wed",
        "0 0 0 1 january-dec/3 ?",
        "@hourly",
        "@daily",
        " @weekly ",
        "@monthly",
        "@yearly",
        "0 0 0 30 2 *",
    ] {
        assert!(posix(text).is_ok(), "{text}: {:?}", posix(text));
    }
}

// CRON-11, CRON-12; row C1
#[test]
fn what_is_refused() {
    for text in [
        "",
        " ",
        "* * * *",
        "* * * * * * * *",
        "@midnight",
        "@annually",
        "@reboot",
        "@every 5s",
        "60 * * * * *",
        "0 60 * * * *",
        "0 0 24 * * *",
        "0 0 0 0 * *",
        "0 0 0 32 * *",
        "0 0 0 1 13 *",
        "0 0 0 1 0 *",
        "0 0 0 * * 8",
        "0 0 0 1 1 * 1969",
        "0 0 0 1 1 * 2101",
        "0 0 0 L * *",
        "0 0 0 1W * *",
        "0 0 0 * * 1#2",
        "*/0 * * * * *",
        "*/70 * * * * *",
        "5-1 * * * * *",
        "TZ=UTC * * * * *",
        "0 0 0 * * fri-mon",
        "0 0 0 * * mon/2",
        "? * * * * *",
        "0 0 0 * ? *",
        "x * * * * *",
        ", * * * * *",
        "1,, * * * * *",
        "1- * * * * *",
        "-1 * * * * *",
        "+1 * * * * *",
        "1/ * * * * *",
        "*/+2 * * * * *",
        "1/2/3 * * * * *",
        "99999999 * * * * *",
        "é * * * * *",
        "0 0 0 * * é",
    ] {
        assert!(posix(text).is_err(), "{text} was accepted: {:?}", posix(text));
    }
}

// CRON-14, decision 10
#[test]
fn weekdays_are_numbered_as_everywhere_unless_asked() {
    let rows = [
        ("0", Ok("Sun"), Err(())),
        ("7", Ok("Sun"), Ok("Sat")),
        ("1", Ok("Mon"), Ok("Sun")),
        ("1-5", Ok("Mon, Tue, Wed, Thu, Fri"), Ok("Sun, Mon, Tue, Wed, Thu")),
        ("5-7", Ok("Sun, Fri, Sat"), Ok("Thu, Fri, Sat")),
        ("mon-fri", Ok("Mon, Tue, Wed, Thu, Fri"), Ok("Mon, Tue, Wed, Thu, Fri")),
        ("SUN", Ok("Sun"), Ok("Sun")),
        ("*/2", Ok("Sun, Tue, Thu, Sat"), Ok("Sun, Tue, Thu, Sat")),
        ("?", Ok("Sun, Mon, Tue, Wed, Thu, Fri, Sat"), Ok("Sun, Mon, Tue, Wed, Thu, Fri, Sat")),
    ];
    for (text, posix, reference) in rows {
        let owned = |expected: Result<&str, ()>| expected.map(str::to_owned);
        assert_eq!(weekdays(text, WeekdayNumbering::Posix).map_err(drop), owned(posix), "{text}");
        assert_eq!(weekdays(text, WeekdayNumbering::Reference).map_err(drop), owned(reference), "{text}");
    }
    assert!(posix("* * * * 1-5").is_ok_and(|expression| expression.numbered_weekdays));
    for text in ["* * * * mon", "* * * * *", "* * * * */2", "@daily"] {
        assert!(posix(text).is_ok_and(|expression| !expression.numbered_weekdays), "{text}");
    }
}

// CRON-DB-9: an error names the field, the value and the allowed range.
#[test]
fn errors_say_where_and_what() {
    let rows = [
        ("0 0 0 * * 8", "Days of Week must be between 0 and 7 ('8' specified)"),
        ("5-1 * * * * *", "invalid range for Seconds: '5-1' ends before it begins"),
        ("*/0 * * * * *", "the step of Seconds must be between 1 and 59 ('0' specified)"),
        ("x * * * * *", "Seconds takes numbers between 0 and 59 ('x' specified)"),
    ];
    for (text, expected) in rows {
        assert_eq!(posix(text), Err(expected.to_owned()));
    }
    let reference = Expression::parse("0 0 0 * * 0", WeekdayNumbering::Reference);
    assert_eq!(reference, Err("Days of Week must be between 1 and 7 ('0' specified)".to_owned()));
}

// CRON-DB-1: equal schedules are one job, however they are written.
#[test]
fn equal_schedules_have_one_text() {
    let text = |expression: &str| posix(expression).map(|expression| expression.to_string());
    assert_eq!(text("*/15 * * * *"), text("0  0,15,30-59/15 * * * ?"));
    assert_eq!(text("@weekly"), text("0 0 * * 7"));
    assert_ne!(text("@weekly"), text("@daily"));
    assert_ne!(text("0 0 0 1 1 * 2030"), text("0 0 0 1 1 *"));
}
