//! Arguments of the commands about agent keys, and about what operators did.

use clap::{Args, Subcommand, value_parser};

use super::time;

#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub action: KeysAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum KeysAction {
    /// Make a key; it is printed once
    Create(CreateArgs),
    /// All keys, without the keys
    List,
    /// One key, without the key
    Show {
        /// Id or name
        key: String,
    },
    /// Give a key a new secret, which is printed once; all else about it stays
    Rotate {
        /// Id or name
        key: String,
        /// For how long the old secret works too, e.g. 24h [default: it ends at once]
        #[arg(long, value_name = "TIME", value_parser = time::seconds)]
        grace: Option<u64>,
    },
    /// End a key, at every gateway within 5 seconds
    Revoke {
        /// Id or name
        key: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Name, unique among live keys
    pub name: String,
    /// Agent it names
    #[arg(long, default_value = "main")]
    pub agent: String,
    /// Model or pattern it allows; repeat for more [default: all]
    #[arg(long = "model", value_name = "PATTERN")]
    pub models: Vec<String>,
    /// Credential it allows; repeat for more [default: all]
    #[arg(long = "credential", value_name = "LABEL")]
    pub credentials: Vec<String>,
    /// When it expires: seconds, or e.g. 12h or 30d [default: never]
    #[arg(long, value_name = "TIME", value_parser = time::some_seconds)]
    pub ttl: Option<u64>,
    /// Requests per minute, at each gateway [default: no limit]
    #[arg(long, value_name = "N", value_parser = value_parser!(i32).range(1..=100_000))]
    pub requests_per_minute: Option<i32>,
    /// Calls at the same time, at each gateway [default: no limit]
    #[arg(long, value_name = "N", value_parser = value_parser!(i32).range(1..=100_000))]
    pub concurrent: Option<i32>,
    /// Tokens (input and output) per UTC day, over all gateways [default: no limit]. Counted when an answer ends: calls
    /// that are under way, and those of the last seconds at other gateways, may go over it
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=9_007_199_254_740_991))]
    pub tokens_per_day: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub action: AuditAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum AuditAction {
    /// What operators did, newest first
    List {
        /// Only acts since then: how long ago (90s, 30m, 24h, 30d), a day, or a time in RFC 3339
        #[arg(long, value_name = "TIME", value_parser = time::since)]
        since: Option<f64>,
        /// Only acts whose name begins so, e.g. key. or credential.remove
        #[arg(long, value_name = "PREFIX")]
        act: Option<String>,
        /// Most acts to show
        #[arg(long, default_value_t = 100, value_parser = value_parser!(i32).range(1..=10_000))]
        limit: i32,
    },
}
