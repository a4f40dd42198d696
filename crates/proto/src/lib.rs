//! The protobuf types and gRPC clients and servers of Switchboard, generated from `proto/` and checked in, so that
//! building needs no protobuf compiler. `tests/fresh.rs` fails when they are stale, and makes them anew with
//! `UPDATE_GENERATED=1 cargo test -p proto`.

#![allow(clippy::all, missing_docs, reason = "generated code follows its generator's style")]

/// Types that every service shares: failures, traces, usage.
pub mod common {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.common.v1.rs");
    }
}

/// The gateway's face to agents.
pub mod gateway {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.gateway.v1.rs");
    }
}

/// Routes.
pub mod router {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.router.v1.rs");
    }
}

/// Credentials, logins, keys, bindings.
pub mod auth {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.auth.v1.rs");
    }
}

/// Upstream calls.
pub mod transport {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.transport.v1.rs");
    }
}

pub mod codec;
mod redact;

/// Descriptors of every file in `proto/`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/switchboard.binpb");
