//! transport-svc
