//! Who may call what over the network: by the name in their certificate, for each gRPC service.
//!
//! On this machine the kernel says who calls, and whoever is of our own user may call everything.

use domain::service::GATEWAY;

use crate::tls::Identity;

/// gRPC services, or single methods of them, that the gateway calls on an agent's behalf. Operators have no business there:
/// what they hand out opens an upstream.
const CALL_PATH: [&str; 3] = [
    "/switchboard.auth.v1.BindingService/",
    "/switchboard.router.v1.RouterService/",
    "/switchboard.transport.v1.TransportService/",
];
/// Methods among them that operators use, too; they give nothing away.
const FOR_BOTH: [&str; 3] = [
    "/switchboard.router.v1.RouterService/Resolve",
    "/switchboard.router.v1.RouterService/Explain",
    "/switchboard.router.v1.RouterService/ListModels",
];
/// Methods among them that only operators use.
const OPERATORS: [&str; 1] = ["/switchboard.router.v1.RouterService/Reload"];
/// What says nothing of anybody: whoever has a certificate may ask.
const ANYBODY: [&str; 2] = ["/grpc.health.v1.", "/grpc.reflection."];

/// Whether `caller` may call the method at `path`, such as `/switchboard.auth.v1.KeyService/ListKeys`.
pub(crate) fn allows(path: &str, caller: &Identity) -> bool {
    if ANYBODY.iter().any(|prefix| path.starts_with(prefix)) {
        return true;
    }
    match caller {
        Identity::Service(GATEWAY) => is_call_path(path),
        Identity::Service(_) => false,
        Identity::Operator(_) => !is_call_path(path) || FOR_BOTH.contains(&path),
    }
}

/// Who may call the method at `path`, for messages.
pub(crate) fn callers(path: &str) -> &'static str {
    match is_call_path(path) {
        true if FOR_BOTH.contains(&path) => "the gateway and operators",
        true => "the gateway",
        false => "operators",
    }
}

fn is_call_path(path: &str) -> bool {
    CALL_PATH.iter().any(|prefix| path.starts_with(prefix)) && !OPERATORS.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator() -> Identity {
        Identity::Operator("alice".into())
    }

    #[test]
    fn each_method_has_its_callers() {
        let gateway = Identity::Service(GATEWAY);
        for (path, for_gateway, for_operators) in [
            ("/switchboard.auth.v1.BindingService/Bind", true, false),
            ("/switchboard.transport.v1.TransportService/Respond", true, false),
            ("/switchboard.router.v1.RouterService/Resolve", true, true),
            ("/switchboard.router.v1.RouterService/Reload", false, true),
            ("/switchboard.auth.v1.KeyService/CreateKey", false, true),
            ("/switchboard.auth.v1.CredentialService/ListCredentials", false, true),
            ("/grpc.health.v1.Health/Check", true, true),
        ] {
            assert_eq!((allows(path, &gateway), allows(path, &operator())), (for_gateway, for_operators), "{path}");
        }
        for other in [domain::service::AUTH, domain::service::ROUTER, domain::service::TRANSPORT] {
            assert!(!allows("/switchboard.auth.v1.BindingService/Bind", &Identity::Service(other)), "{other}");
            assert!(allows("/grpc.health.v1.Health/Watch", &Identity::Service(other)), "{other}");
        }
        assert_eq!(callers("/switchboard.auth.v1.BindingService/Bind"), "the gateway");
        assert_eq!(callers("/switchboard.auth.v1.KeyService/ListKeys"), "operators");
    }
}
