//! Days, and times in words as every message and every table says them.

use std::cmp::Ordering;

use jiff::Timestamp;

/// Seconds of a UTC day.
pub const DAY_S: i64 = 86_400;

/// The UTC day of a Unix time, counted from 1970-01-01.
pub fn day_of(unix_s: i64) -> i64 {
    unix_s.div_euclid(DAY_S)
}

/// A Unix time for people: to the second, UTC.
pub fn timestamp(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(|_| format!("Unix second {unix_s}"), |time| time.to_string())
}

/// The same, of Unix milliseconds.
pub fn timestamp_ms(unix_ms: i64) -> String {
    timestamp(unix_ms.div_euclid(1000))
}

/// A Unix time for people, with how far it is from `now_s`.
pub fn when(unix_s: i64, now_s: i64) -> String {
    let (stamp, away) = (timestamp(unix_s), span(unix_s.abs_diff(now_s)));
    match unix_s.cmp(&now_s) {
        Ordering::Equal => format!("{stamp} (now)"),
        Ordering::Greater => format!("{stamp} (in {away})"),
        Ordering::Less => format!("{stamp} ({away} ago)"),
    }
}

/// A length of time in the largest unit of which there are two.
pub fn span(seconds: u64) -> String {
    match seconds {
        s if s >= 172_800 => format!("{} d", s / 86_400),
        s if s >= 7200 => format!("{} h", s / 3600),
        s if s >= 120 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_say_when_and_how_far_away() {
        const NOW: i64 = 1_900_000_000;
        assert_eq!(when(NOW, NOW), "2030-03-17T17:46:40Z (now)");
        assert_eq!(when(NOW + 90, NOW), "2030-03-17T17:48:10Z (in 90 s)");
        assert_eq!(when(NOW - 90_000, NOW), "2030-03-16T16:46:40Z (25 h ago)");
        assert_eq!(timestamp(i64::MAX), format!("Unix second {}", i64::MAX));
        assert!(when(i64::MIN, i64::MAX).ends_with("d ago)"), "nothing overflows");
        assert_eq!(
            [0, 119, 120, 7199, 7200, 172_799, 172_800].map(span),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]
        );
    }
}
