//! Carries a plan out, or says what it would do, and tells the operator what came of it.

use std::collections::BTreeMap;

use domain::Failure;
use proto::auth::v1::{ImportCredentialsResponse, ImportedCredential};

use super::input::time;
use super::plan::{Context, Item, Order, Outcome, Plan, is_undecryptable, refresh_token};
use crate::store::{Credential, NewCredential, Secrets, Store, Upserted};

pub(super) async fn apply(
    store: &Store,
    context: &Context<'_>,
    plan: Plan,
    dry_run: bool,
) -> Result<ImportCredentialsResponse, Failure> {
    let before = store.list_credentials(None).await?;
    let mut report = Report::default();
    for item in &plan.items {
        let line = match &item.outcome {
            Outcome::Skip(why) => skipped(item, why),
            Outcome::Take(credential, remarks) => {
                let (label, upserted) = store.upsert_credential(credential, dry_run).await?;
                let kept = match upserted {
                    // What stays is what will be refreshed.
                    Upserted::KeptNewer => before.iter().find(|old| old.label == label),
                    Upserted::Created | Upserted::Updated | Upserted::Unchanged => None,
                };
                report.take(context, item, credential, &label, upserted, kept, remarks)
            }
        };
        report.lines.push(line);
    }
    for order in &plan.orders {
        let labels = merged(&before, order, &report.labels);
        // An import that brings nothing new leaves the operator's order alone.
        let Some(labels) = labels else { continue };
        report.notes.extend(order.note.clone());
        if !dry_run {
            store.set_order(order.provider, &labels).await?;
        }
    }
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
    /// Labels of the credentials that another program could still refresh, and when we first will.
    shared: Vec<(String, Option<i64>)>,
    usable: bool,
}

impl Report {
    #[expect(clippy::too_many_arguments, reason = "all of them are one credential's and used once")]
    fn take(
        &mut self,
        context: &Context<'_>,
        item: &Item,
        credential: &NewCredential,
        label: &str,
        upserted: Upserted,
        kept: Option<&Credential>,
        remarks: &[String],
    ) -> ImportedCredential {
        self.labels.insert(credential.label.clone(), label.to_owned());
        self.usable |= context.is_usable(credential);
        let first_refresh = match kept {
            Some(old) => refresh_of(context, old),
            None => context.first_refresh(credential),
        };
        if !context.borrow && !context.is_foreign(credential) && refresh_token(credential).is_some() {
            self.shared.push((label.to_owned(), first_refresh));
        }
        let mut details = Vec::new();
        let action = match (&credential.secrets, upserted) {
            (Secrets::Undecryptable { detail }, upserted) => {
                details.push(detail.clone());
                if upserted == Upserted::KeptNewer {
                    details.push("the credential that is here already stays as it is".to_owned());
                }
                "undecryptable"
            }
            (_, Upserted::Created) => "created",
            (_, Upserted::Updated) => "updated",
            (_, Upserted::Unchanged) => "unchanged",
            (_, Upserted::KeptNewer) => {
                details.push("the tokens that are here already are newer and stay".to_owned());
                "unchanged"
            }
        };
        if label != credential.label {
            details.push(match upserted {
                Upserted::Created => format!("the label {} belongs to another credential", credential.label),
                _ => format!("the same login is here as {label}"),
            });
        }
        details.extend(remarks.iter().cloned());
        ImportedCredential {
            profile: item.profile.clone(),
            label: label.to_owned(),
            action: action.to_owned(),
            detail: details.join("; "),
            provider: item.provider.clone(),
            first_refresh: first_refresh.map(|at| at as f64),
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
        if context.borrow {
            notes.push(
                "borrowed: Switchboard never refreshes these credentials; when a token has expired, let its owner \
                 refresh it and import again"
                    .to_owned(),
            );
            return notes;
        }
        if let (Some(holder), false) = (other_holder, self.shared.is_empty()) {
            let labels: Vec<&str> = self.shared.iter().map(|(label, _)| label.as_str()).collect();
            notes.push(format!(
                "the refresh token of {} is single use, and with the import it is Switchboard's: whoever else refreshes \
                 ends the login for both (refresh_token_reused). {holder}",
                labels.join(", ")
            ));
        }
        for (label, first) in &self.shared {
            notes.push(match first {
                Some(at) if *at <= context.settings.now_s => {
                    format!("{label}: Switchboard refreshes it at its first use, which may be now")
                }
                Some(at) => {
                    format!("{label}: Switchboard refreshes it first at {} or later, when it is used", time(*at))
                }
                None => {
                    format!("{label}: its expiry is not known; Switchboard refreshes it when the upstream rejects it")
                }
            });
        }
        notes
    }
}

fn refresh_of(context: &Context<'_>, old: &Credential) -> Option<i64> {
    let refreshes = !old.borrowed && old.secrets.refresh().is_some();
    let at = old.access_expires_at.filter(|_| refreshes)?.saturating_sub(context.settings.refresh_margin_s);
    Some(at.max(context.settings.now_s))
}
