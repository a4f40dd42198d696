//! OpenClaw's profiles: inline ones stay inline, and sidecars stay sidecars.

use std::collections::BTreeMap;

use proto::auth::v1::ExportCredentialsRequest;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::replace::Standing;
use super::{Outgoing, Written, refusal, render};
use crate::import::input::{self, Refused};
use crate::import::openclaw::sidecar::{Sidecars, Tokens, sidecar_id};
use crate::import::openclaw::{MAIN, StateDir, profile_name, provider, read};
use crate::import::{CODEX, OPENAI};
use crate::store::{Credential, Kind, Secrets};

/// Documents by name, as they shall be.
type Documents = BTreeMap<String, Map<String, Value>>;
/// A sidecar that changes: its name, and all of it.
type Changed = (String, Map<String, Value>);

/// A profile in a file.
struct Spot {
    agent: String,
    file: String,
    id: String,
}

/// Where profiles and tokens stand.
struct Place<'a> {
    dir: StateDir<'a>,
    sidecars: Sidecars<'a>,
}

pub(super) fn write(request: &ExportCredentialsRequest, outgoing: &[Outgoing]) -> Result<Written, Refused> {
    let dir = read(&request.files)?;
    let files = dir.sidecars.clone();
    let seed = request.secret_seed.as_ref().map(|seed| Ok((seed.name.as_str(), input::text(seed)?.trim())));
    let place = Place { dir, sidecars: Sidecars::new(&files, seed.transpose()?) };
    let mut documents = Documents::new();
    let mut written = Written::default();
    for out in outgoing {
        let (name, done) = place.hand_over(out, &documents);
        let done = done.map(|changed| documents.extend(changed));
        written.line(&out.credential.label, &name, done);
    }
    for (name, document) in &documents {
        let like = request.files.iter().find(|file| file.name == *name).map(|file| &*file.content);
        written.files.insert(name.clone(), render(document, like)?);
    }
    if let (Some(name), false) = (place.dir.databases.first(), documents.is_empty()) {
        written.notes.push(format!(
            "{name}: this OpenClaw keeps its profiles in SQLite; it takes the JSON files over with `openclaw doctor --fix`"
        ));
    }
    Ok(written)
}

impl Place<'_> {
    /// The name of the profile, and the documents that change, whole.
    fn hand_over(&self, out: &Outgoing, so_far: &Documents) -> (String, Result<Documents, String>) {
        let own = &out.credential;
        let served = matches!((own.kind, own.provider.as_str()), (Kind::OAuth, CODEX) | (Kind::ApiKey, OPENAI));
        let why =
            if served { refusal(own) } else { Some("OpenClaw is given no credential of this provider".to_owned()) };
        if let Some(why) = why {
            return (own.profile.clone().unwrap_or_default(), Err(why));
        }
        let mut spots = self.spots(out);
        if spots.is_empty() {
            spots.push(new_spot(own));
        }
        let name = spots.first().map(|spot| profile_name(&spot.agent, &spot.id)).unwrap_or_default();
        let mut changed = Documents::new();
        for spot in &spots {
            // All copies of the login, or none: a copy that is left behind holds a spent token.
            if let Err(why) = self.put(out, spot, so_far, &mut changed) {
                return (name, Err(why));
            }
        }
        (name, Ok(changed))
    }

    /// The profiles that belong to a credential: the one it came from, and its copies.
    fn spots(&self, out: &Outgoing) -> Vec<Spot> {
        let mut spots = Vec::new();
        for (agent, files) in &self.dir.agents {
            let Some((file, document)) = &files.profiles else { continue };
            let profiles = document.get("profiles").and_then(Value::as_object);
            for (id, profile) in profiles.into_iter().flatten() {
                if profile.as_object().is_some_and(|profile| self.belongs(out, agent, id, profile)) {
                    spots.push(Spot { agent: agent.clone(), file: file.clone(), id: id.clone() });
                }
            }
        }
        // The agent `main` has the plain names.
        spots.sort_by_key(|spot| spot.agent != MAIN);
        spots
    }

    fn belongs(&self, out: &Outgoing, agent: &str, id: &str, profile: &Map<String, Value>) -> bool {
        let own = &out.credential;
        let text = |field| input::string(profile, field).ok().flatten();
        let is_login = text("type").as_deref() == Some("oauth");
        let written = text("provider").unwrap_or_else(|| id.split(':').next().unwrap_or_default().to_owned());
        if is_login != (own.kind == Kind::OAuth) || provider(&written).is_none() {
            return false;
        }
        let name = profile_name(agent, id);
        if own.profile.as_deref() == Some(name.as_str()) {
            return true;
        }
        if !is_login {
            return false;
        }
        let copied = own.profile.as_deref().is_some_and(|name| name.rsplit('/').next() == Some(id));
        let same_account = own.account_id.is_some() && text("accountId") == own.account_id;
        let known = |tokens: Tokens| tokens.refresh.is_some_and(|refresh| out.knows(&refresh));
        (copied && same_account) || self.standing(id, profile).ok().flatten().is_some_and(known)
    }

    /// The tokens that a profile has; none if it has none, or if its sidecar is gone.
    fn standing(&self, id: &str, profile: &Map<String, Value>) -> Result<Option<Tokens>, String> {
        let inline = Tokens::read(profile)?;
        match profile.get("oauthRef").filter(|reference| !reference.is_null()) {
            _ if !inline.is_empty() => Ok(Some(inline)),
            None => Ok(None),
            Some(reference) => {
                let sidecar = reference.as_object().map(sidecar_id).transpose()?.unwrap_or_default();
                if !self.dir.sidecars.contains_key(sidecar.as_str()) {
                    return Ok(None);
                }
                self.sidecars.open(id, profile, reference).map(Some)
            }
        }
    }

    fn put(&self, out: &Outgoing, spot: &Spot, so_far: &Documents, changed: &mut Documents) -> Result<(), String> {
        let own = &out.credential;
        let mut document = match changed.get(&spot.file).or(so_far.get(&spot.file)) {
            Some(document) => document.clone(),
            None => match self.dir.agents.get(&spot.agent).and_then(|files| files.profiles.as_ref()) {
                Some((_, document)) => document.clone(),
                None => Map::from_iter([
                    ("version".to_owned(), Value::from(1)),
                    ("profiles".to_owned(), Value::Object(Map::new())),
                ]),
            },
        };
        let Some(Value::Object(profiles)) = document.get_mut("profiles") else {
            return Err(format!("{}: its `profiles` is not an object", spot.file));
        };
        let mut profile = match profiles.get(&spot.id) {
            Some(Value::Object(profile)) => profile.clone(),
            Some(_) => return Err(format!("{}: the profile {} is not an object", spot.file, spot.id)),
            None => anew(out),
        };
        let Secrets::Present { access, refresh, id_token, api_key } = own.secrets.clone() else { return Ok(()) };
        if let Some(key) = api_key {
            replace_key(own, &profile, &key, spot)?;
            profile.insert("key".to_owned(), Value::from(key.expose_secret()));
        } else {
            let tokens = Tokens { access, refresh, id_token };
            let sidecar = self.login(out, spot, &mut profile, &tokens)?;
            changed.extend(sidecar);
        }
        profiles.insert(spot.id.clone(), Value::Object(profile));
        changed.insert(spot.file.clone(), document);
        Ok(())
    }

    /// Puts a login's tokens into its profile, or into the sidecar that the profile names, which is returned.
    fn login(
        &self,
        out: &Outgoing,
        spot: &Spot,
        profile: &mut Map<String, Value>,
        tokens: &Tokens,
    ) -> Result<Option<Changed>, String> {
        let own = &out.credential;
        let standing = self.standing(&spot.id, profile)?;
        let account_id = input::string(profile, "accountId")?;
        let (access, refresh) = standing.map(|tokens| (tokens.access, tokens.refresh)).unwrap_or_default();
        out.may_replace(&Standing { access, refresh, account_id })?;
        if let Some(at) = own.access_expires_at {
            profile.insert("expires".to_owned(), Value::from(at.saturating_mul(1000)));
        }
        for (field, value) in [("email", &own.email), ("accountId", &own.account_id), ("chatgptPlanType", &own.plan)] {
            if let (Some(value), false) = (value, profile.contains_key(field)) {
                profile.insert(field.to_owned(), Value::from(value.as_str()));
            }
        }
        let inline = !Tokens::read(profile)?.is_empty();
        let reference = profile.get("oauthRef").and_then(Value::as_object).filter(|_| !inline);
        let Some(reference) = reference else {
            tokens.write(profile);
            return Ok(None);
        };
        let id = sidecar_id(reference)?;
        let written = match input::string(profile, "provider")? {
            Some(provider) => Some(provider),
            None => input::string(reference, "provider")?,
        };
        let document = self.sidecars.rewrite(&id, &spot.id, written.as_deref().unwrap_or(CODEX), tokens)?;
        let name = self.dir.sidecars.get(id.as_str()).map(|file| file.name.clone());
        Ok(Some((name.unwrap_or_else(|| format!("credentials/auth-profiles/{id}.json")), document)))
    }
}

/// Where a credential goes that no profile belongs to.
fn new_spot(own: &Credential) -> Spot {
    let made = || match own.kind {
        Kind::OAuth => format!("{CODEX}:{}", own.email.as_deref().unwrap_or("default")),
        Kind::ApiKey => format!("{OPENAI}:default"),
    };
    // A profile id names its provider; what Codex CLI's import left has no colon.
    let name = own.profile.clone().filter(|name| name.contains(':')).unwrap_or_else(made);
    let (agent, id) = match name.split_once('/').filter(|(agent, _)| !agent.contains(':')) {
        Some((agent, id)) => (agent.to_owned(), id.to_owned()),
        None => (MAIN.to_owned(), name),
    };
    Spot { file: format!("agents/{agent}/agent/auth-profiles.json"), agent, id }
}

/// A profile that the file does not have: what an import has kept of it, or a new one.
fn anew(out: &Outgoing) -> Map<String, Value> {
    let kept = out.extra.as_object().filter(|extra| extra.get("type").is_some_and(Value::is_string));
    kept.cloned().unwrap_or_else(|| {
        let (kind, provider) = match out.credential.kind {
            Kind::OAuth => ("oauth", CODEX),
            Kind::ApiKey => ("api_key", OPENAI),
        };
        Map::from_iter([("type".to_owned(), Value::from(kind)), ("provider".to_owned(), Value::from(provider))])
    })
}

/// May this API key be written over the one that stands there?
fn replace_key(own: &Credential, profile: &Map<String, Value>, key: &SecretString, spot: &Spot) -> Result<(), String> {
    let standing = input::secret(profile, "key")?;
    let is_other = standing.is_some_and(|standing| standing.expose_secret() != key.expose_secret());
    if is_other && own.profile.as_deref() != Some(profile_name(&spot.agent, &spot.id).as_str()) {
        return Err("another API key stands there, which would be lost: move it away first".to_owned());
    }
    Ok(())
}
