//! A duration as people write it in a file.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration in whole seconds, written `300`, `"300s"`, `"5m"` or `"2h"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(u64);

/// The text is none of the forms that [`Seconds`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseSecondsError;

impl Seconds {
    /// That many seconds.
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The number of seconds.
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// The same as a standard duration.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        seconds.duration()
    }
}

impl FromStr for Seconds {
    type Err = ParseSecondsError;

    fn from_str(text: &str) -> Result<Self, ParseSecondsError> {
        let text = text.trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match &text[digits.len()..] {
            "" | "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            _ => return Err(ParseSecondsError),
        };
        // `u64::from_str` would let a sign through.
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseSecondsError);
        }
        let number: u64 = digits.parse().map_err(|_| ParseSecondsError)?;
        number.checked_mul(factor).map(Self).ok_or(ParseSecondsError)
    }
}

impl fmt::Display for Seconds {
    /// The largest unit that loses nothing: `2h`, `5m`, `90s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds > 0 && seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            seconds if seconds > 0 && seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl fmt::Display for ParseSecondsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected whole seconds, or a duration such as \"30s\", \"5m\" or \"2h\"")
    }
}

impl std::error::Error for ParseSecondsError {}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("whole seconds, or a duration such as \"30s\", \"5m\" or \"2h\"")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Seconds, E> {
                Ok(Seconds(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Seconds, E> {
                u64::try_from(number).map(Seconds).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Seconds, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_people_write() {
        for (text, seconds) in [("300", 300), ("300s", 300), ("5m", 300), ("2h", 7200), (" 0 ", 0), ("90s", 90)] {
            assert_eq!(text.parse(), Ok(Seconds(seconds)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in
            ["", "s", "m5", "5 m", "-5s", "+5", "1.5h", "5d", "5ms", "99999999999999999999", "18446744073709551615h"]
        {
            assert_eq!(text.parse::<Seconds>(), Err(ParseSecondsError), "{text}");
        }
    }

    #[test]
    fn prints_the_largest_unit_that_loses_nothing() {
        let printed = [0, 59, 60, 90, 3600, 5400].map(|seconds| Seconds(seconds).to_string());
        assert_eq!(printed, ["0s", "59s", "1m", "90s", "1h", "90m"]);
    }
}
