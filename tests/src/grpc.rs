//! gRPC at the agents' port, as an agent written in any language reaches it.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::gateway::v1::{CompleteRequest, RespondRequest};
use service_kit::MAX_MESSAGE_BYTES;
use tonic::body::Body;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::Service;

use crate::canary::{Canary, Text};

/// A client of the gateway that presents a key.
pub type Gateway = GatewayServiceClient<InterceptedService<Shown, BearerKey>>;

/// A channel whose answers the canary is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    channel: Channel,
    canary: Option<Weak<Canary>>,
}

impl Service<http::Request<Body>> for Shown {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let canary = self.canary.as_ref().and_then(Weak::upgrade);
        let answer = self.channel.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let Some(canary) = canary else { return Ok(answer) };
            let watched = canary.watch("a gRPC answer", &Text::default());
            watched.append(format!("{:?}", answer.headers()).as_bytes());
            Ok(answer.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    match (frame.data_ref(), frame.trailers_ref()) {
                        (Some(data), _) => watched.append(data),
                        (None, Some(trailers)) => watched.append(format!("{trailers:?}").as_bytes()),
                        (None, None) => {}
                    }
                    frame
                }))
            }))
        })
    }
}

/// Puts `authorization: Bearer <key>` on every call.
#[derive(Clone)]
pub struct BearerKey(Option<MetadataValue<Ascii>>);

impl std::fmt::Debug for BearerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BearerKey")
    }
}

impl Interceptor for BearerKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A client at `address`; it connects at its first call.
pub(crate) fn connect(address: &str, key: Option<&str>, canary: Option<&Arc<Canary>>) -> Gateway {
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    let value = key.map(|key| {
        let mut value: MetadataValue<Ascii> = format!("Bearer {key}").parse().expect("a key is ASCII");
        value.set_sensitive(true);
        value
    });
    let channel = Shown { channel, canary: canary.map(Arc::downgrade) };
    GatewayServiceClient::with_interceptor(channel, BearerKey(value))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A question to a model: what a person would type.
pub fn question(model: &str, message: &str) -> CompleteRequest {
    CompleteRequest { model: model.to_owned(), message: message.to_owned(), ..CompleteRequest::default() }
}

/// The same as a stream.
pub fn stream_question(model: &str, message: &str) -> RespondRequest {
    RespondRequest { model: model.to_owned(), message: message.to_owned(), ..RespondRequest::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_key_is_presented_and_not_printed() {
        let mut key = BearerKey(Some("Bearer sbk_secret".parse().expect("ASCII")));
        let request = key.call(Request::new(())).expect("passed on");
        assert_eq!(request.metadata().get("authorization").expect("there"), "Bearer sbk_secret");
        assert!(!format!("{key:?}").contains("secret"));
        let mut client = connect("127.0.0.1:1", Some("sbk_x"), None);
        let status = client.complete(question("m", "hello")).await.expect_err("nobody listens");
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }
}
