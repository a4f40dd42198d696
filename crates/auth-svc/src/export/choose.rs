//! Which credentials an export means.

use domain::Failure;

use super::unclear;
use crate::import::CODEX;
use crate::store::{Credential, Kind, Source, StoreError};

/// Those named by label or id; without names all that came from that program, or for Codex CLI, whose file holds one
/// login, the only one there is.
pub(super) fn choose(all: &[Credential], format: &str, named: &[String]) -> Result<Vec<Credential>, Failure> {
    let mut chosen: Vec<Credential> = Vec::new();
    for name in named {
        let found = all.iter().find(|c| c.label == *name || c.id == *name);
        let found = found.ok_or_else(|| StoreError::NotFound(format!("there is no credential {name:?}")))?;
        if chosen.iter().all(|other| other.id != found.id) {
            chosen.push(found.clone());
        }
    }
    match format {
        "codex" => one(all, chosen),
        _ if chosen.is_empty() => {
            let own: Vec<Credential> = all.iter().filter(|c| c.source == Source::OpenClaw).cloned().collect();
            if own.is_empty() { Err(unclear("no credential here came from OpenClaw".to_owned())) } else { Ok(own) }
        }
        _ => Ok(chosen),
    }
}

fn one(all: &[Credential], chosen: Vec<Credential>) -> Result<Vec<Credential>, Failure> {
    match chosen.as_slice() {
        [] => {}
        [_] => return Ok(chosen),
        _ => return Err(unclear("auth.json holds one credential; more were named".to_owned())),
    }
    let logins = || all.iter().filter(|c| c.kind == Kind::OAuth && c.provider == CODEX);
    let of = |source| logins().filter(move |c| c.source == source);
    // What came from Codex CLI goes back there; what went to OpenClaw is not meant for it.
    let candidates: Vec<&Credential> =
        if of(Source::Codex).next().is_some() { of(Source::Codex).collect() } else { logins().collect() };
    match candidates.as_slice() {
        [only] => Ok(vec![(*only).clone()]),
        [] => Err(unclear("there is no login here that Codex CLI could use".to_owned())),
        several => {
            let labels: Vec<&str> = several.iter().map(|c| c.label.as_str()).collect();
            Err(unclear(format!("auth.json holds one login, and there are several: {}", labels.join(", "))))
        }
    }
}
