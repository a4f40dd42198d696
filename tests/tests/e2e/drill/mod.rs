//! The crash drill: auth-svc is killed at every step of a refresh and at random times, against a provider that ends a
//! login whose refresh token is used twice.

mod hosts;
mod points;
mod random;
