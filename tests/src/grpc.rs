//! gRPC at the agents' port, as an agent written in any language reaches it.

use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::gateway::v1::{CompleteRequest, RespondRequest};
use service_kit::MAX_MESSAGE_BYTES;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// A client of the gateway that presents a key.
pub type Gateway = GatewayServiceClient<InterceptedService<Channel, BearerKey>>;

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
pub(crate) fn connect(address: &str, key: Option<&str>) -> Gateway {
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    let value = key.map(|key| {
        let mut value: MetadataValue<Ascii> = format!("Bearer {key}").parse().expect("a key is ASCII");
        value.set_sensitive(true);
        value
    });
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
        let mut client = connect("127.0.0.1:1", Some("sbk_x"));
        let status = client.complete(question("m", "hello")).await.expect_err("nobody listens");
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }
}
