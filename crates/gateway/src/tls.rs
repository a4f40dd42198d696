//! TLS on the agents' port.

use axum::Router;
use service_kit::admin::Admin;
use service_kit::tls::FrontTls;
use service_kit::{Bound, ServeOptions, serve};
use tokio_util::sync::CancellationToken;

use crate::service::BuildError;

/// What `[gateway] tls_cert` and `tls_key` ask for; `None` if neither is set.
///
/// # Errors
///
/// A file that cannot be read, is no PEM, or does not go with the other one; a key that others can read. Names setting and
/// file.
pub fn front_tls(gateway: &config::Gateway) -> Result<Option<FrontTls>, BuildError> {
    match (&gateway.tls_cert, &gateway.tls_key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(FrontTls::load(cert, key)?)),
        (Some(_), None) => Err(BuildError::TlsHalf { present: "tls_cert", missing: "tls_key" }),
        (None, Some(_)) => Err(BuildError::TlsHalf { present: "tls_key", missing: "tls_cert" }),
    }
}

/// Serves what agents reach until shutdown, and takes up renewed certificates meanwhile.
pub async fn serve_front(
    front: Router,
    listener: Bound,
    options: ServeOptions,
    tls: Option<FrontTls>,
    shutdown: CancellationToken,
) {
    let follow = async {
        if let Some(tls) = tls {
            tls.follow(shutdown.clone()).await;
        }
    };
    let ((), ()) = tokio::join!(serve(front, listener, options, shutdown.clone()), follow);
}

/// With what there is to tell of the certificate, where there is one.
pub fn watched(admin: Admin, tls: Option<&FrontTls>) -> Admin {
    match tls {
        Some(tls) => tls.watched(admin),
        None => admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_it_is_a_fault() {
        let mut gateway = config::Config::default().gateway;
        assert!(front_tls(&gateway).unwrap().is_none());
        gateway.tls_cert = Some("/nowhere/cert.pem".into());
        assert!(front_tls(&gateway).unwrap_err().to_string().contains("tls_key"));
        gateway.tls_key = Some("/nowhere/key.pem".into());
        assert!(front_tls(&gateway).unwrap_err().to_string().contains("/nowhere/cert.pem"));
    }
}
