//! The main job, end to end: real binaries, one process and four, over a simulated upstream and identity provider.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says why")]

mod agree;
mod audit;
mod backups;
mod bad_config;
mod bad_imports;
mod bad_stores;
mod bodies;
mod canary;
mod chat;
mod compact;
mod crashes;
mod doctor;
mod drill;
mod edge;
mod egress_legs;
mod egresses;
mod exports;
mod faces;
mod fallbacks;
mod fields;
mod fixture;
mod full_disks;
mod hostile;
mod interrupts;
mod key_limits;
mod keys;
mod logins;
mod mutual_tls;
mod nodelay;
mod outages;
mod pressure;
mod quota;
mod reasons;
mod refresh;
mod rule_seven;
mod seals;
mod secrets;
mod selection;
mod selection_and_quota;
mod shapes;
mod shared_database;
mod stalled;
mod strangers;
mod streams;
mod support;
mod traces;
mod vanished;
mod wire;
mod workspaces;
