//! The guest SDK for Rust.
