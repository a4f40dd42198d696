//! Medians and percentiles.

use std::time::Duration;

/// The value below which `percent` of the sorted values lie (nearest rank), in microseconds; zero of none.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default().as_secs_f64() * 1e6
}

/// The middle of several values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figure {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.get(middle)? {
            value if values.len() % 2 == 1 => *value,
            value => f64::midpoint(*values.get(middle.checked_sub(1)?)?, *value),
        };
        Some(Self { median, least: *values.first()?, most: *values.last()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_lie_in_the_middle_and_percentiles_are_nearest_ranks() {
        let figure = |values: &[f64]| Figure::of(values.iter().copied());
        assert_eq!(figure(&[3.0, 1.0, 2.0]), Some(Figure { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(figure(&[4.0, 1.0]).map(|figure| figure.median), Some(2.5));
        assert_eq!(figure(&[]), None);
        let values: Vec<_> = (1..=10).map(Duration::from_micros).collect();
        let rounded = |percent| percentile(&values, percent).round();
        assert_eq!((rounded(50), rounded(99), percentile(&[], 50)), (5.0, 10.0, 0.0));
    }
}
