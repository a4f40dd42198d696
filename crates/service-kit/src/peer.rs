//! Who is calling: known from the connection, never from what the caller says.

use std::net::SocketAddr;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Peer {
    /// True for this process, and for processes of the same user or root on this machine: they may operate
    /// Switchboard and speak for its services.
    pub fn is_trusted(self) -> bool {
        match self {
            Peer::InProcess => true,
            Peer::Unix { uid } => uid == 0 || uid == rustix::process::geteuid().as_raw(),
            Peer::Tcp { .. } => false,
        }
    }

    /// Who it is, for messages.
    pub fn describe(self) -> String {
        match self {
            Peer::InProcess => "this process".to_owned(),
            Peer::Unix { uid } => format!("user id {uid}"),
            Peer::Tcp { addr } => format!("{addr}"),
        }
    }
}
