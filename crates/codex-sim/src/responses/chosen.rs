//! The scenarios that apply to one request.

use crate::scenario::Scenario;

/// The scenarios that apply to one request, by the place they take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen {
    /// What happens instead of a stream.
    pub(crate) before: Option<Scenario>,
    /// What the stream looks like.
    pub(crate) shape: Option<Scenario>,
    /// How the stream breaks off.
    pub(crate) breaks: Option<Scenario>,
    /// Milliseconds before the headers.
    pub(crate) delay_ms: u64,
}

impl Chosen {
    /// Gives the scenario its place, over what stood there.
    pub(crate) fn apply(&mut self, scenario: Scenario) {
        use Scenario as S;
        match scenario {
            S::Ok => *self = Self::default(),
            S::Delay { ms } => self.delay_ms = ms,
            S::CutBeforeEvent | S::Cut { .. } | S::ResetStream { .. } | S::EndEarly { .. } | S::Silence { .. } => {
                self.breaks = Some(scenario);
            }
            S::CutAtEnd | S::ResetAtEnd | S::SilenceAtEnd | S::CloseIdle => self.breaks = Some(scenario),
            S::Failed { .. }
            | S::Policy { .. }
            | S::Incomplete { .. }
            | S::Parallel { .. }
            | S::Refusal
            | S::Minimal
            | S::UnknownEvents
            | S::Garbage
            | S::Reasoning
            | S::HugeEvent { .. }
            | S::Long { .. }
            | S::Stamped { .. } => self.shape = Some(scenario),
            _ => self.before = Some(scenario),
        }
    }

    /// The string forms of all that applies, or `None` for a normal answer.
    pub(crate) fn label(&self) -> Option<String> {
        let delay = (self.delay_ms > 0).then_some(Scenario::Delay { ms: self.delay_ms });
        let parts: Vec<String> =
            [&self.before, &self.shape, &self.breaks, &delay].into_iter().flatten().map(Scenario::to_string).collect();
        (!parts.is_empty()).then(|| parts.join("+"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_combine_and_ok_clears_them() {
        let mut chosen = Chosen::default();
        chosen.apply("cut:20".parse().unwrap());
        chosen.apply("long:100".parse().unwrap());
        assert_eq!(chosen.label().as_deref(), Some("long:100:16+cut:20"));
        chosen.apply(Scenario::Ok);
        assert_eq!(chosen.label(), None);
    }
}
