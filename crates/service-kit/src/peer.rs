//! Who is calling: known from the connection, never from what the caller says.

use std::net::SocketAddr;

use crate::access;
use crate::tls::Identity;

/// Where a system keeps the names of its users.
const USERS: &str = "/etc/passwd";

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Another service in this process.
    InProcess,
    /// A process of user `uid` on this machine, as the kernel says.
    Unix {
        /// Its user id.
        uid: u32,
    },
    /// Somebody on the network.
    Tcp {
        /// Its address.
        addr: SocketAddr,
    },
    /// Somebody on the network whom our own authority has given a certificate.
    Certified {
        /// Whom it names.
        identity: Identity,
        /// Its address.
        addr: SocketAddr,
    },
}

impl Peer {
    /// True for this process, for processes of the same user or root on this machine, and for who has an operator's
    /// certificate: they may operate Switchboard.
    pub fn is_operator(&self) -> bool {
        match self {
            Peer::Certified { identity, .. } => matches!(identity, Identity::Operator(_)),
            Peer::InProcess | Peer::Unix { .. } | Peer::Tcp { .. } => self.is_local(),
        }
    }

    /// True if it may call the gRPC method at `path`: this process, processes of the same user or root on this machine, and
    /// who has a certificate that names somebody who may.
    pub fn may_call(&self, path: &str) -> bool {
        match self {
            Peer::Certified { identity, .. } => access::allows(path, identity),
            Peer::InProcess | Peer::Unix { .. } | Peer::Tcp { .. } => self.is_local(),
        }
    }

    fn is_local(&self) -> bool {
        match self {
            Peer::InProcess => true,
            Peer::Unix { uid } => *uid == 0 || *uid == rustix::process::geteuid().as_raw(),
            Peer::Tcp { .. } | Peer::Certified { .. } => false,
        }
    }

    /// Who it is, for messages and the audit log: `uid 1000 (alice)`; `uid 1000 (alice), in process` for this process,
    /// as when a command has the store to itself; an address; `operator alice at 10.0.0.3:40000 (certificate)`.
    pub fn describe(&self) -> String {
        match self {
            Peer::InProcess => format!("{}, in process", user(rustix::process::geteuid().as_raw())),
            Peer::Unix { uid } => user(*uid),
            Peer::Tcp { addr } => format!("{addr}"),
            Peer::Certified { identity, addr } => format!("{identity} at {addr} (certificate)"),
        }
    }
}

/// A user by id, and by name where the machine's own list has one. Directories on the network are not asked: an
/// operator's act must not wait for them.
fn user(uid: u32) -> String {
    let users = std::fs::read(USERS).unwrap_or_default();
    match name_of(uid, &String::from_utf8_lossy(&users)) {
        Some(name) => format!("uid {uid} ({name})"),
        None => format!("uid {uid}"),
    }
}

/// The name of a user in a file of passwd(5)'s form: `name:password:uid:…`, a user a line.
fn name_of(uid: u32, users: &str) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        let printable = !name.is_empty() && name.len() <= 64 && !name.chars().any(char::is_control);
        (id == uid && printable).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_where_the_list_has_them() {
        let users = "# local users\nroot:x:0:0:root:/root:/bin/sh\nbroken\n:x:7:7::/:\nalice:x:1000:1000:A:/home/alice:/bin/sh\n\
                     al:x:10:10::/:\nevil\u{1b}[2J:x:66:66::/:\n";
        assert_eq!(name_of(0, users), Some("root"));
        assert_eq!(name_of(1000, users), Some("alice"));
        assert_eq!(name_of(10, users), Some("al"));
        for nameless in [1, 7, 66, 100] {
            assert_eq!(name_of(nameless, users), None);
        }
    }

    #[test]
    fn a_peer_is_described_by_its_user() {
        assert_eq!(Peer::Unix { uid: 4_294_967_290 }.describe(), "uid 4294967290");
        let own = Peer::Unix { uid: rustix::process::geteuid().as_raw() }.describe();
        assert_eq!(Peer::InProcess.describe(), format!("{own}, in process"));
    }
}
