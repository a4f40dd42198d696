//! API keys of platform accounts, handed over by an operator.

use domain::{Failure, Reason, service};
use proto::auth::v1::{AddApiKeyRequest, AddApiKeyResponse};
use secrecy::SecretString;

use super::{Logins, label_of};
use crate::store::{Kind, NewCredential, Secrets, Source, StoreError, Upserted};

/// Longest key, in bytes. Real ones have less than 200.
const LONGEST: usize = 4096;

impl Logins {
    /// Stores an API key. The credential of this label and provider gets it, with a new version; a key that is here
    /// already stays where it is.
    pub(crate) async fn add_api_key(&self, mut request: AddApiKeyRequest) -> Result<AddApiKeyResponse, Failure> {
        let invalid = |message: String, param: &str| {
            Failure::new(Reason::RequestInvalid, service::AUTH, message)
                .param(param)
                .next_step("correct the command and run it again; nothing was stored")
        };
        let provider = request.provider.trim().to_owned();
        if !self.api_providers.contains(&provider) {
            let known = self.api_providers.join(", ");
            let message = format!("provider {provider:?} is not billed to an API key; these are: {known}");
            return Err(invalid(message, "provider"));
        }
        let asked = label_of(request.label.take())?;
        // The request wipes it when it goes.
        let key = SecretString::from(key(&request.api_key).map_err(|why| invalid(why.to_owned(), "api_key"))?);
        let mut intake = self.store.intake().await?;
        let known = intake.credentials().await?;
        if let Some(asked) = &asked
            && let Some(other) = known.iter().find(|c| c.label == *asked)
            && (other.provider != provider || other.kind != Kind::ApiKey)
        {
            let message = format!("the label {asked} belongs to a credential of provider {}", other.provider);
            return Err(StoreError::Taken(message).into());
        }
        let new = NewCredential {
            label: asked.unwrap_or_else(|| provider.clone()),
            provider,
            kind: Kind::ApiKey,
            issuer: None,
            client_id: None,
            account_id: None,
            email: None,
            plan: None,
            user_id: None,
            fedramp: false,
            source: Source::Login,
            secrets: Secrets::Present { access: None, refresh: None, id_token: None, api_key: Some(key) },
            extra: serde_json::Value::Null,
            access_expires_at: None,
            last_refresh: None,
            borrowed: false,
            profile: None,
        };
        let (label, upserted) = intake.take(&new).await?;
        intake.finish(false).await?;
        let action = match upserted {
            Upserted::Created => "created",
            Upserted::Updated => "updated",
            Upserted::Unchanged | Upserted::KeptNewer | Upserted::KeptSpent | Upserted::KeptOwned | Upserted::Spent => {
                "unchanged"
            }
        };
        tracing::info!(credential = %label, action, "took an API key");
        Ok(AddApiKeyResponse { credential: label, action: action.to_owned() })
    }
}

/// The key, trimmed. The errors never quote it.
fn key(text: &str) -> Result<&str, &'static str> {
    let key = text.trim();
    if key.is_empty() {
        return Err("the API key is empty");
    }
    if key.len() > LONGEST {
        return Err("the API key is too long to be one");
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the API key holds white space or characters that are not ASCII, which no key does");
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_no_key_is_refused() {
        assert_eq!(key(" sk-1\r\n"), Ok("sk-1"));
        for text in ["", " \n", "sk 1", "sk-1\nsk-2", "sk-ü", "sk\u{0}1", &"s".repeat(5000)] {
            assert!(key(text).is_err(), "{text}");
        }
    }
}
