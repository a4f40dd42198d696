//! router-svc
