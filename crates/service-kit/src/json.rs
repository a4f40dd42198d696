//! The one way in which JSON is written for people and scripts: whole numbers without a fraction, times in whole seconds.
//! Times and counts travel as doubles, and `0.0` tokens are 0.

use serde_json::Value;

/// Largest count of whole numbers that a double holds exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// On one line.
pub fn line(value: &Value) -> String {
    tidy(value).to_string()
}

/// Indented.
pub fn pretty(value: &Value) -> String {
    let value = tidy(value);
    serde_json::to_string_pretty(&value).unwrap_or_else(|_| value.to_string())
}

fn tidy(value: &Value) -> Value {
    let mut value = value.clone();
    whole(&mut value, |number| number);
    value
}

/// Rounds as `to_seconds` says, and writes what is whole by then without a fraction.
fn whole(value: &mut Value, to_seconds: fn(f64) -> f64) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().map(to_seconds);
            if let Some(exact) = rounded.filter(|n| n.fract() == 0.0 && n.abs() < EXACT) {
                *value = Value::from(exact as i64);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| whole(one, to_seconds)),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, field)| whole(field, seconds(name))),
        _ => {}
    }
}

/// What the name of a field says of its number: a point in time is read down, as clocks are; a wait is rounded up, so that
/// it is over when it is over.
fn seconds(name: &str) -> fn(f64) -> f64 {
    const TIMES: [&str; 4] = ["At", "Until", "Since", "Refresh"];
    match name {
        "retryAfterSeconds" => f64::ceil,
        "at" => f64::floor,
        _ if TIMES.iter().any(|end| name.ends_with(end)) => f64::floor,
        _ => |number| number,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_are_written_as_such() {
        let value =
            json!({ "tokens": 0.0, "all": [1_795_424_356.0, 0.5], "text": "1.0", "none": null, "elapsedMs": 1.5 });
        assert_eq!(line(&value), r#"{"tokens":0,"all":[1795424356,0.5],"text":"1.0","none":null,"elapsedMs":1.5}"#);
        assert_eq!(serde_json::from_str::<Value>(&pretty(&value)).expect("JSON")["tokens"].to_string(), "0");
    }

    #[test]
    fn times_are_whole_seconds_and_waits_are_long_enough() {
        let value = json!({ "at": 1_795_437_108.973, "expiresAt": 5.9, "nextRefresh": 7.1, "refreshFailingSince": 2.9,
            "error": { "retryAfterSeconds": 4.01 } });
        assert_eq!(
            line(&value),
            r#"{"at":1795437108,"expiresAt":5,"nextRefresh":7,"refreshFailingSince":2,"error":{"retryAfterSeconds":5}}"#
        );
    }
}
