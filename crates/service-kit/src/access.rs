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
/// What operators alone call: gRPC services, and single methods of those on the call path. What stands in no list is
/// nobody's, until somebody has thought about it.
const OPERATORS: [&str; 7] = [
    "/switchboard.auth.v1.AuditService/",
    "/switchboard.auth.v1.CredentialService/",
    "/switchboard.auth.v1.KeyService/",
    "/switchboard.auth.v1.LoginService/",
    "/switchboard.auth.v1.MaintenanceService/",
    "/switchboard.gateway.v1.GatewayService/",
    "/switchboard.router.v1.RouterService/Reload",
];
/// What says nothing of anybody: whoever has a certificate may ask.
const ANYBODY: [&str; 2] = ["/grpc.health.v1.", "/grpc.reflection."];
/// How those are called who alone may call what operators do.
pub(crate) const OPERATORS_ALONE: &str = "operators";

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callers {
    Anybody,
    Gateway,
    Both,
    Operators,
    Nobody,
}

impl Callers {
    /// Of the method at `path`, such as `/switchboard.auth.v1.KeyService/ListKeys`.
    fn of(path: &str) -> Self {
        let among = |list: &[&str]| {
            list.iter().any(|known| if known.ends_with('/') { path.starts_with(known) } else { path == *known })
        };
        if ANYBODY.iter().any(|prefix| path.starts_with(prefix)) {
            Self::Anybody
        } else if among(&FOR_BOTH) {
            Self::Both
        } else if among(&OPERATORS) {
            Self::Operators
        } else if among(&CALL_PATH) {
            Self::Gateway
        } else {
            Self::Nobody
        }
    }
}

/// Whether `caller` may call the method at `path`, such as `/switchboard.auth.v1.KeyService/ListKeys`.
pub(crate) fn allows(path: &str, caller: &Identity) -> bool {
    match Callers::of(path) {
        Callers::Anybody => true,
        Callers::Gateway => *caller == Identity::Service(GATEWAY),
        Callers::Both => matches!(caller, Identity::Service(GATEWAY) | Identity::Operator(_)),
        Callers::Operators => matches!(caller, Identity::Operator(_)),
        Callers::Nobody => false,
    }
}

/// Who may call the method at `path`, for messages.
pub(crate) fn callers(path: &str) -> &'static str {
    match Callers::of(path) {
        Callers::Anybody => "everybody with a certificate",
        Callers::Gateway => "the gateway",
        Callers::Both => "the gateway and operators",
        Callers::Operators => OPERATORS_ALONE,
        Callers::Nobody => "nobody on the network",
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

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
        for nobodys in ["/switchboard.auth.v1.OtherService/List", "/switchboard.router.v1.RouterService", "/x", ""] {
            assert!(!allows(nobodys, &gateway) && !allows(nobodys, &operator()), "{nobodys}");
        }
        assert_eq!(callers("/switchboard.auth.v1.BindingService/Bind"), "the gateway");
        assert_eq!(callers("/switchboard.auth.v1.KeyService/ListKeys"), "operators");
    }

    /// A method that is added must be thought about: it is in a list, or nobody may call it over the network.
    #[test]
    fn every_method_has_callers() {
        let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors").file;
        let mut missing = Vec::new();
        for (file, service) in files.iter().flat_map(|file| file.service.iter().map(move |service| (file, service))) {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                if Callers::of(&path) == Callers::Nobody {
                    missing.push(path);
                }
            }
        }
        assert!(missing.is_empty(), "in no list: {missing:?}");
        // And what stands in a list is there.
        let known = |name: &&str| {
            let name = name.trim_matches('/');
            files.iter().flat_map(|file| file.service.iter().map(move |service| (file, service))).any(
                |(file, service)| {
                    let own = format!("{}.{}", file.package(), service.name());
                    own == name || service.method.iter().any(|method| format!("{own}/{}", method.name()) == name)
                },
            )
        };
        let all: Vec<&str> = CALL_PATH.into_iter().chain(FOR_BOTH).chain(OPERATORS).collect();
        let unknown: Vec<&&str> = all.iter().filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "there is no {unknown:?}");
    }
}
