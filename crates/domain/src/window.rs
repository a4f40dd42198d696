//! Names of quotas and of their windows.

/// The limit that every model counts against, and that the provider's "allowed" is about (facts of Codex CLI).
pub const MAIN_LIMIT: &str = "codex";

/// A quota window by its length, as people call it: `5 h`, `7 d`, `90 min`. Its length is what tells it from others.
pub fn window_name(seconds: i32) -> String {
    const UNITS: [(i32, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "min")];
    let whole = UNITS.iter().find(|(unit, _)| seconds >= *unit && seconds % unit == 0);
    whole.map_or_else(|| format!("{seconds} s"), |(unit, name)| format!("{} {name}", seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_the_names_that_people_use() {
        let names = [18_000, 604_800, 2_592_000, 86_400, 5400, 90].map(window_name);
        assert_eq!(names, ["5 h", "7 d", "30 d", "1 d", "90 min", "90 s"]);
    }
}
