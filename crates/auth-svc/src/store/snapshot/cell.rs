//! A value of a row, whatever engine it comes from. Texts and bytes may be secrets: they are wiped, and never printed.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A value.
#[derive(Clone, PartialEq)]
pub(crate) enum Cell {
    /// None.
    Null,
    /// A number, a time, a truth (0 or 1).
    Integer(i64),
    /// A number with a fraction.
    Real(f64),
    /// A text, in JSON a string.
    Text(Zeroizing<String>),
    /// Bytes, in JSON `{"base64": "…"}`.
    Bytes(Zeroizing<Vec<u8>>),
}

/// A row: its columns by name.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Row(pub(crate) BTreeMap<String, Cell>);

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names alone: any value may be a secret.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Cell {
    /// From the bytes of a secret.
    pub(super) fn secret(plain: Zeroizing<Vec<u8>>) -> Self {
        match std::str::from_utf8(&plain) {
            Ok(text) => Self::Text(Zeroizing::new(text.to_owned())),
            Err(_) => Self::Bytes(plain),
        }
    }

    /// Its bytes; `None` for numbers and nothing.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            Self::Null | Self::Integer(_) | Self::Real(_) => None,
        }
    }

    /// True if it says nothing: what a column holds that is not used.
    pub(super) fn says_nothing(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Integer(number) => *number == 0,
            Self::Real(number) => *number == 0.0,
            Self::Text(text) => matches!(text.as_str(), "" | "[]" | "{}" | "null"),
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }
}

impl Row {
    /// The text in a column.
    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        match self.0.get(column) {
            Some(Cell::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The whole number in a column.
    pub(crate) fn integer(&self, column: &str) -> Option<i64> {
        match self.0.get(column) {
            Some(Cell::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// Columns that say something and are not among `known`.
    pub(super) fn unknown(&self, known: &[&str]) -> Vec<&str> {
        let unknown = self.0.iter().filter(|(name, cell)| !known.contains(&name.as_str()) && !cell.says_nothing());
        unknown.map(|(name, _)| name.as_str()).collect()
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Real(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", Zeroizing::new(STANDARD.encode(bytes)).as_str())?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a row")
    }

    fn visit_unit<E>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Cell, E> {
        Ok(Cell::Integer(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Cell, E> {
        Ok(Cell::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Cell, E> {
        i64::try_from(value).map(Cell::Integer).map_err(|_| E::custom("a number is too large"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Cell, E> {
        Ok(Cell::Real(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cell, E> {
        Ok(Cell::Text(Zeroizing::new(value.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell, A::Error> {
        match map.next_entry::<String, String>()? {
            Some((key, text)) if key == "base64" => {
                let text = Zeroizing::new(text);
                let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| A::Error::custom("bytes are no base64"))?;
                Ok(Cell::Bytes(Zeroizing::new(bytes)))
            }
            _ => Err(A::Error::custom("an object is no value of a row")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_survives_json_and_shows_nothing() {
        let text = |text: &str| Cell::Text(Zeroizing::new(text.to_owned()));
        let row = Row(BTreeMap::from([
            ("a".to_owned(), Cell::Null),
            ("b".to_owned(), Cell::Integer(-3)),
            ("c".to_owned(), Cell::Real(0.5)),
            ("d".to_owned(), text("secret \"quoted\"")),
            ("e".to_owned(), Cell::Bytes(Zeroizing::new(vec![0, 255]))),
        ]));
        let json = serde_json::to_string(&row).expect("JSON");
        let again: Row = serde_json::from_str(&json).expect("a row");
        assert!(again.0 == row.0, "{json}");
        assert!(!format!("{row:?}").contains("secret"));
        assert_eq!(row.unknown(&["b"]), ["c", "d", "e"]);
        for bad in [r#"{"a":{"hex":"00"}}"#, r#"{"a":[1]}"#, r#"{"a":{"base64":"?"}}"#, r#"{"a":18446744073709551615}"#]
        {
            assert!(serde_json::from_str::<Row>(bad).is_err(), "{bad}");
        }
    }
}
