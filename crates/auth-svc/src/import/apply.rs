//! Carries a plan out, or says what it would do, and tells the operator what came of it.

use std::collections::BTreeMap;

use domain::{Failure, timestamp};
use proto::auth::v1::{ImportCredentialsResponse, ImportedCredential};

use super::Settings;
use super::outcome::{Copy, SPENT, Taken};
use super::plan::{Context, Item, Order, Outcome, Plan, is_undecryptable};
use crate::store::{Credential, Store, Upserted};

/// All of it is stored together, or not at all.
pub(super) async fn apply(
    store: &Store,
    context: &Context<'_>,
    plan: Plan,
    dry_run: bool,
) -> Result<ImportCredentialsResponse, Failure> {
    let mut intake = store.intake().await?;
    let before = intake.credentials().await?;
    let mut report = Report::default();
    for item in &plan.items {
        let line = match &item.outcome {
            Outcome::Skip(why) => skipped(item, why),
            Outcome::Take(credential, remarks) => {
                let (label, upserted) = intake.take(credential).await?;
                if upserted == Upserted::Spent {
                    report.lines.push(skipped(item, SPENT));
                    continue;
                }
                let old = before.iter().find(|old| old.label == label);
                let now = intake.credentials().await?.into_iter().find(|now| now.label == label);
                report.take(context, item, &Taken { new: credential, label, upserted, old, now }, remarks)
            }
        };
        report.lines.push(line);
    }
    for order in &plan.orders {
        let labels = merged(&before, order, &report.labels);
        // An import that brings nothing new leaves the operator's order alone.
        let Some(labels) = labels else { continue };
        report.notes.extend(order.note.clone());
        // Only what somebody has said to the other program has a note.
        intake.order(order.provider, &labels, order.note.is_some()).await?;
    }
    // As the scheduler will see it.
    report.first_refreshes(context, &intake.credentials().await?);
    intake.finish(dry_run).await?;
    for line in report.lines.iter().filter(|_| !dry_run) {
        tracing::info!(
            profile = line.profile,
            credential = line.label,
            provider = line.provider,
            action = line.action,
            detail = line.detail,
            "imported a profile"
        );
    }
    Ok(report.finish(context, plan))
}

fn skipped(item: &Item, why: &str) -> ImportedCredential {
    ImportedCredential {
        profile: item.profile.clone(),
        label: String::new(),
        action: "skipped".to_owned(),
        detail: why.to_owned(),
        provider: item.provider.clone(),
        first_refresh: None,
    }
}

/// The provider's credentials in their new order: what was here keeps its place, what came in follows in the other
/// program's order. `None` if nothing came in.
fn merged(before: &[Credential], order: &Order, labels: &BTreeMap<String, String>) -> Option<Vec<String>> {
    let old = before.iter().filter(|old| old.provider == order.provider).map(|old| old.label.clone());
    let old: Vec<String> = old.collect();
    let wanted = order.labels.iter().filter_map(|label| labels.get(label));
    let new: Vec<String> = wanted.filter(|label| !old.contains(label)).cloned().collect();
    (!new.is_empty()).then(|| [old, new].concat())
}

/// What came of it, as it comes.
#[derive(Default)]
struct Report {
    lines: Vec<ImportedCredential>,
    notes: Vec<String>,
    /// Labels as they are, by labels as they were wanted.
    labels: BTreeMap<String, String>,
    /// Credentials of which another program holds the current refresh token, and what is said of our first refresh.
    shared: Vec<(String, Option<String>)>,
    /// Labels of the credentials of which it holds one that is stale.
    stale: Vec<String>,
    usable: bool,
    /// True if something is borrowed.
    borrowed: bool,
}

impl Report {
    fn take(
        &mut self,
        context: &Context<'_>,
        item: &Item,
        taken: &Taken<'_>,
        remarks: &[String],
    ) -> ImportedCredential {
        self.labels.insert(taken.new.label.clone(), taken.label.clone());
        self.usable |= taken.is_usable(context.settings);
        self.borrowed |= taken.is_borrowed();
        match taken.copy(context) {
            Some(Copy::Current) => self.shared.push((taken.label.clone(), None)),
            Some(Copy::Stale) => self.stale.push(taken.label.clone()),
            None => {}
        }
        ImportedCredential {
            profile: item.profile.clone(),
            label: taken.label.clone(),
            action: taken.action().to_owned(),
            detail: taken.details(context, remarks).join("; "),
            provider: item.provider.clone(),
            first_refresh: None,
        }
    }

    /// Says of each credential when we first refresh it, `after` all of them are taken.
    fn first_refreshes(&mut self, context: &Context<'_>, after: &[Credential]) {
        for stored in after {
            let due_s = context.settings.rules.next_ms(stored).map(|at_ms| at_ms.div_euclid(1000));
            let first = due_s.map(|at| at.max(context.settings.now_s) as f64);
            for line in self.lines.iter_mut().filter(|line| line.label == stored.label) {
                line.first_refresh = first;
            }
            for (_, said) in self.shared.iter_mut().filter(|(label, _)| *label == stored.label) {
                *said = Some(first_refresh(context, stored, due_s));
            }
        }
    }

    fn finish(mut self, context: &Context<'_>, plan: Plan) -> ImportCredentialsResponse {
        let mut notes = Vec::new();
        notes.extend(self.ownership(context, plan.other_holder.as_deref()));
        notes.append(&mut self.notes);
        notes.extend(plan.notes);
        let unopened = plan.items.iter().filter_map(Item::taken).filter(|c| is_undecryptable(c)).count();
        if unopened > 0 {
            notes.push(format!(
                "credentials that could not be opened: {unopened}; kept by name, so that status can say why, and used by no \
                 call. Another import with the right seed completes them"
            ));
        }
        let config_toml = plan.routes.map(|routes| routes.render(&|label| self.labels.get(label).cloned()));
        ImportCredentialsResponse {
            credentials: self.lines,
            config_toml: config_toml.unwrap_or_default(),
            notes,
            usable: self.usable,
        }
    }

    /// Who must stop refreshing, and when we start.
    fn ownership(&self, context: &Context<'_>, other_holder: Option<&str>) -> Vec<String> {
        let mut notes = Vec::new();
        if self.borrowed && context.borrow {
            notes.push(
                "borrowed: Switchboard never refreshes these credentials; when a token has expired, let its owner \
                 refresh it and import again"
                    .to_owned(),
            );
        }
        if let (Some(holder), false) = (other_holder, self.shared.is_empty()) {
            let labels: Vec<&str> = self.shared.iter().map(|(label, _)| label.as_str()).collect();
            notes.push(format!(
                "the refresh token of {} is single use, and with the import it is Switchboard's: whoever else refreshes \
                 ends the login for both (refresh_token_reused). {holder}",
                labels.join(", ")
            ));
        }
        if let (Some(holder), false) = (other_holder, self.stale.is_empty()) {
            notes.push(format!(
                "what the other program holds of {} is older than what is here: its refresh token is spent, or of a login \
                 that was replaced. Whoever tries a spent one is refused (refresh_token_reused), which can end the login \
                 for Switchboard too. {holder}",
                self.stale.join(", ")
            ));
        }
        for (label, first) in &self.shared {
            notes.extend(first.as_ref().map(|first| format!("{label}: {first}")));
        }
        notes
    }
}

/// What an operator is told of our first refresh of a credential, which is due at `due_s` (Unix seconds).
fn first_refresh(context: &Context<'_>, credential: &Credential, due_s: Option<i64>) -> String {
    let spent = "from then on every other copy is spent";
    let Settings { now_s, rules } = context.settings;
    match (due_s, &credential.latch) {
        (Some(at), _) if !rules.proactive => {
            let when = if at <= *now_s {
                "the next call".to_owned()
            } else {
                format!("the first call after {}", timestamp(at))
            };
            format!("{when} refreshes it; {spent}")
        }
        (Some(at), _) if at <= *now_s => {
            format!("Switchboard refreshes it at once, or when it next runs; {spent}")
        }
        (Some(at), _) => format!("Switchboard first refreshes it at {} or soon after; {spent}", timestamp(at)),
        (None, Some(latch)) => format!("Switchboard does not refresh it: {}", latch.detail),
        (None, None) => {
            format!("Switchboard does not refresh it before the upstream rejects its token; {spent}")
        }
    }
}
