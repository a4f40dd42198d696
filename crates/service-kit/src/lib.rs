//! What every service stands on: one way to listen, one client type over every way to reach a peer, one set of layers
//! (trace, identity, deadline, panic), one mapping between failures and gRPC statuses, and the seal.

mod access;
pub mod admin;
mod body;
mod channel;
mod connection;
mod convert;
mod data_dir;
pub mod files;
mod finding;
mod first_word;
pub mod harden;
mod health;
pub mod json;
mod key_file;
mod layers;
mod link;
mod listener;
mod mount;
mod peer;
mod private;
mod process;
mod room;
mod seal;
mod server;
mod shutdown;
mod stall;
mod start_error;
pub mod startup;
mod status;
pub mod tls;
mod url;
mod watch;

pub use channel::{HopInfo, MAX_CALL_BYTES, MAX_MESSAGE_BYTES, PeerChannel, hop_info};
pub use convert::{
    candidate_from_proto, candidate_to_proto, failure_from_proto, failure_to_proto, trace_from_proto, trace_to_proto,
    usage_from_proto, usage_to_proto,
};
pub use data_dir::{DataDir, DataDirError, DataDirLock, Holder};
pub use finding::{Finding, Severity};
pub use health::{check_health, why_not_serving};
pub use key_file::{KeyFileError, SecretKey, parse_key};
pub use layers::{ServiceLayers, grpc_timeout, hostname, is_grpc};
pub use listener::{BindError, Bound, ListenAddress};
pub use mount::{MountError, Mounted};
pub use peer::Peer;
pub use room::{ByteRoom, CallRoom, Full, HeldBytes};
pub use seal::{SealKey, SealRefusal, SealRequest, UpstreamSecret, sealed_at_ms};
pub use server::{Ending, ServeOptions, serve};
pub use shutdown::shutdown_signal;
pub use status::{failure_from_status, status_from_failure, status_from_failure_with_trace, trace_from_status};
pub use url::{UpstreamUrl, UrlError};
