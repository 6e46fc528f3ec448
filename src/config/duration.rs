//! Lengths of time as users write them: `30`, `30s`, `1m30s`, `500ms`, `0`.

use std::fmt::Write as _;
use std::time::Duration;

/// Units from long to short, in milliseconds.
const UNITS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a length of time. A bare number counts seconds, as in gunicorn. Units go from long to short, each at most once.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Ok(seconds) = whole_number(rest) {
        return Some(Duration::from_secs(seconds)).filter(|_| seconds <= u64::MAX / 1000);
    }
    let mut total: u64 = 0;
    let mut units = UNITS;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|character: char| !character.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let place = units.iter().position(|(name, _)| unit.eq_ignore_ascii_case(name))?;
        total = total.checked_add(whole_number(number).ok()?.checked_mul(units[place].1)?)?;
        units = &units[place + 1..];
        rest = after;
    }
    (units.len() < UNITS.len()).then(|| Duration::from_millis(total))
}

/// Writes a length of time in the form that [`parse`] reads.
pub fn show(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, milliseconds) in UNITS {
        let number = rest / milliseconds;
        rest %= milliseconds;
        if number > 0 {
            // Writing into a text cannot fail.
            let _ = write!(text, "{number}{name}");
        }
    }
    if text.is_empty() { "0".to_owned() } else { text }
}

/// Digits only: `u64::from_str` takes a plus sign as well.
fn whole_number(text: &str) -> Result<u64, ()> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    text.parse().map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_users_write() {
        let cases = [
            ("0", Some(0)),
            ("30", Some(30_000)),
            ("30s", Some(30_000)),
            (" 30S ", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1h", Some(3_600_000)),
            ("1d2h3m4s5ms", Some(93_784_005)),
            ("0s", Some(0)),
            ("", None),
            ("s", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1.5s", None),
            ("30 s", None),
            ("30s1m", None),
            ("1m1m", None),
            ("1m30", None),
            ("30x", None),
            ("١s", None),
            ("99999999999999999999", None),
            ("18446744073709551615", None),
            ("18446744073709551615d", None),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse(text), milliseconds.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn shows_what_it_can_read() {
        for (milliseconds, text) in
            [(0, "0"), (500, "500ms"), (60_000, "1m"), (90_500, "1m30s500ms"), (86_400_000, "1d")]
        {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(show(duration), text);
            assert_eq!(parse(text), Some(duration));
        }
    }
}
