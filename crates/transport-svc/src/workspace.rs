//! Where an account's requests must go, asked for: `GET {backend}/wham/accounts/check`.
//!
//! What it says is passed on as it is: auth-svc decides what is followed (facts: Codex CLI, backend-client/src/client.rs).

use std::sync::Arc;

use domain::Failure;
use proto::transport::v1::{DiscoverWorkspaceRequest, DiscoverWorkspaceResponse, Workspace};
use serde_json::Value;

use crate::account::{self, Question, Told, Unread};
use crate::service::Inner;

/// What the provider says where nothing is demanded.
const NO_CONSTRAINT: &str = "NO_CONSTRAINT";
/// Longest origin or routing override that is passed on, in bytes.
const LONGEST: usize = 256;

/// Asks where the account's requests must go. A failure means that nothing was sent.
pub(crate) async fn discover(
    inner: &Arc<Inner>,
    request: DiscoverWorkspaceRequest,
) -> Result<DiscoverWorkspaceResponse, Failure> {
    let target = &inner.target(&request.target)?;
    let endpoint = target.workspace.as_ref();
    let question = Question { call_id: &request.call_id, target, endpoint, credential: request.credential };
    let (outcome, workspace) = account::ask(inner, question, read).await?;
    Ok(DiscoverWorkspaceResponse { outcome: Some(outcome), workspace })
}

fn read(told: Told<'_>) -> Result<Workspace, Unread> {
    let answer: Value = serde_json::from_slice(told.body).map_err(|_| Unread::Foreign)?;
    let accounts = entries(&answer["accounts"]).ok_or(Unread::Foreign)?;
    let wanted = told.account_id.or(answer["default_account_id"].as_str()).unwrap_or_default();
    let Some(account) = accounts.into_iter().find(|(id, _)| *id == wanted).map(|(_, account)| account) else {
        return Err(Unread::Useless("the answer does not name the credential's account".to_owned()));
    };
    let text = |name: &str| {
        let text =
            account.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && *text != NO_CONSTRAINT)?;
        Some(text.chars().take(LONGEST).collect::<String>())
    };
    Ok(Workspace { origin: text("workspace_backend_origin"), routing_override: text("account_routing_override") })
}

/// The accounts by their ids: a list, or in an older shape a map with the account one level below.
fn entries(accounts: &Value) -> Option<Vec<(&str, &Value)>> {
    match accounts {
        Value::Array(list) => Some(list.iter().filter_map(|one| Some((one.get("id")?.as_str()?, one))).collect()),
        Value::Object(map) => {
            let all = map.iter().map(|(key, one)| {
                let account = one.get("account").unwrap_or(one);
                (account.get("account_id").and_then(Value::as_str).unwrap_or(key), account)
            });
            Some(all.collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn told(answer: &Value, account: &str) -> Result<(Option<String>, Option<String>), String> {
        let body = Bytes::from(answer.to_string());
        match read(Told { body: &body, account_id: Some(account), now_s: 0 }) {
            Ok(workspace) => Ok((workspace.origin, workspace.routing_override)),
            Err(Unread::Useless(why)) => Err(why),
            Err(Unread::Foreign) => Err("foreign".to_owned()),
        }
    }

    #[test]
    fn the_entry_of_the_account_is_read_in_both_shapes() {
        let entry = |id: &str, origin: &str, routing: &str| json!({ "id": id, "workspace_backend_origin": origin, "account_routing_override": routing });
        let list = json!({ "accounts": [entry("a", NO_CONSTRAINT, "us_cr"), entry("b", "https://eu.example", "us")] });
        assert_eq!(told(&list, "a"), Ok((None, Some("us_cr".into()))));
        assert_eq!(told(&list, "b"), Ok((Some("https://eu.example".into()), Some("us".into()))));
        assert_eq!(told(&list, "c"), Err("the answer does not name the credential's account".into()));
        let map =
            json!({ "accounts": { "x": { "account": { "account_id": "a", "account_routing_override": "us" } } } });
        assert_eq!(told(&map, "a"), Ok((None, Some("us".into()))));
        assert_eq!(told(&json!({ "accounts": [{ "id": "a" }] }), "a"), Ok((None, None)), "older: nothing is demanded");
        assert_eq!(told(&json!({ "detail": "no" }), "a"), Err("foreign".into()));
        let long = json!({ "accounts": [entry("a", &"x".repeat(9000), NO_CONSTRAINT)] });
        assert_eq!(told(&long, "a").map(|(origin, _)| origin.map(|o| o.len())), Ok(Some(LONGEST)));
    }
}
