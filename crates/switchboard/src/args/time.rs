//! Times as people type them.

use domain::Clock;
use jiff::Timestamp;

/// Seconds: `300`, or with a unit, `90s`, `30m`, `24h`, `30d`.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let days = text.trim().strip_suffix('d').filter(|days| days.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds = match days {
        Some(days) => days.parse::<u64>().ok().and_then(|days| days.checked_mul(86_400)),
        None => text.parse::<config::Seconds>().ok().map(config::Seconds::as_secs),
    };
    // So that it is a time that can be reckoned with: a thousand years.
    let seconds = seconds.filter(|seconds| *seconds <= 1000 * 366 * 86_400);
    seconds.ok_or_else(|| "expected seconds, or a duration such as 90s, 30m, 24h or 30d".to_owned())
}

/// As [`seconds`], and more than none.
pub(crate) fn some_seconds(text: &str) -> Result<u64, String> {
    seconds(text)?.checked_sub(1).map(|less| less + 1).ok_or_else(|| "it must be more than 0".to_owned())
}

/// A point in the past, as Unix seconds: how long ago (as [`seconds`]), a day, or a time in RFC 3339.
pub(crate) fn since(text: &str) -> Result<f64, String> {
    if let Ok(ago) = seconds(text) {
        return Ok(Clock::system().now_s() as f64 - ago as f64);
    }
    let whole = if text.len() == "2026-01-31".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time: Timestamp = whole.parse().map_err(|_| {
        "expected how long ago (90s, 30m, 24h, 30d), a UTC day (2026-01-31) or a time (2026-01-31T12:00:00Z)".to_owned()
    })?;
    Ok(time.as_millisecond() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_what_people_write() {
        for (text, expected) in
            [("1", 1), ("0", 0), ("90s", 90), ("30m", 1800), ("24h", 86_400), ("30d", 2_592_000), (" 1d ", 86_400)]
        {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "d", "-1", "1.5h", "1w", "1 d", "+3d", "99999999999999999d", "400000d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert!(some_seconds("0").is_err());
        assert_eq!(some_seconds("2m"), Ok(120));
    }

    #[test]
    fn points_in_time_are_ages_days_and_times() {
        assert_eq!(since("2026-01-31"), Ok(1_769_817_600.0));
        assert_eq!(since("2026-01-31T12:00:00.5Z"), Ok(1_769_860_800.5));
        assert_eq!(since("2026-01-31T13:00:00+01:00"), Ok(1_769_860_800.0));
        let hour_ago = since("1h").expect("an age");
        assert!((Clock::system().now_s() as f64 - 3600.0 - hour_ago).abs() < 60.0);
        for text in ["yesterday", "2026-13-01", ""] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
