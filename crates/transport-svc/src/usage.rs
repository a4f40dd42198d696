//! How much of an account's quota is used, asked for: `GET {backend}/wham/usage`.

use std::sync::Arc;

use domain::Failure;
use proto::transport::v1::{FetchUsageRequest, FetchUsageResponse};

use crate::account::{self, Question, Unread};
use crate::service::Inner;

mod answer;

use answer::Usage;

/// Asks for the usage. A failure means that nothing was sent.
pub(crate) async fn fetch(inner: &Arc<Inner>, request: FetchUsageRequest) -> Result<FetchUsageResponse, Failure> {
    let target = &inner.target(&request.target)?;
    let endpoint = target.usage.as_ref();
    let question = Question { call_id: &request.call_id, target, endpoint, credential: request.credential };
    let read = |told: account::Told<'_>| Usage::read(told.body, told.now_s).ok_or(Unread::Foreign);
    let (outcome, usage) = account::ask(inner, question, read).await?;
    let answer = FetchUsageResponse { outcome: Some(outcome), ..FetchUsageResponse::default() };
    Ok(match usage {
        Some(Usage { windows, plan, allowed }) => FetchUsageResponse { windows, plan, allowed, ..answer },
        None => answer,
    })
}
