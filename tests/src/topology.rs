//! Which processes the services run in. Every suite runs in each topology and must not see a difference.

/// How the services are spread over processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// `switchboard up`.
    OneProcess,
    /// The four service binaries, joined by unix sockets in the data directory.
    FourProcesses,
    /// The four service binaries, joined by TCP with mutual TLS, as on several hosts.
    MutualTls,
}

impl Topology {
    /// Those that every suite runs in. What stands between the four is looked at by suites of its own.
    pub const ALL: [Topology; 2] = [Topology::OneProcess, Topology::FourProcesses];

    /// The process that `part` runs in, by the name of its binary.
    pub fn process_of(self, part: Part) -> &'static str {
        match self {
            Self::OneProcess => "switchboard",
            Self::FourProcesses | Self::MutualTls => part.name(),
        }
    }
}

/// One of the four services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The front door.
    Gateway,
    /// Routes.
    Router,
    /// Credentials.
    Auth,
    /// Upstream calls.
    Transport,
}

impl Part {
    /// All of them, in the order in which they are started.
    pub const ALL: [Part; 4] = [Part::Auth, Part::Router, Part::Transport, Part::Gateway];

    /// The service's name, which is its binary's too.
    pub fn name(self) -> &'static str {
        use domain::service;
        match self {
            Self::Gateway => service::GATEWAY,
            Self::Router => service::ROUTER,
            Self::Auth => service::AUTH,
            Self::Transport => service::TRANSPORT,
        }
    }
}

/// Makes a test of each topology from one body:
///
/// ```text
/// e2e::in_each_topology! {
///     /// What the test shows.
///     async fn a_call_is_answered(topology) {
///         …
///     }
/// }
/// ```
///
/// gives the tests `a_call_is_answered::one_process` and `a_call_is_answered::four_processes`.
#[macro_export]
macro_rules! in_each_topology {
    ($($(#[$meta:meta])* async fn $name:ident($topology:ident) $body:block)+) => { $(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn run($topology: $crate::Topology) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn one_process() {
                Box::pin(run($crate::Topology::OneProcess)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn four_processes() {
                Box::pin(run($crate::Topology::FourProcesses)).await;
            }
        }
    )+ };
}

#[cfg(test)]
mod tests {
    use super::*;

    in_each_topology! {
        /// Both tests exist and get their topology.
        async fn the_macro_makes_tests(topology) {
            assert!(Topology::ALL.contains(&topology));
            assert_eq!(topology.process_of(Part::Auth) == "auth-svc", topology == Topology::FourProcesses);
        }
    }
}
