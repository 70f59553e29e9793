//! Who is asking.

pub mod key_auth;
