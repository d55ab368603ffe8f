//! The attributes of the guest SDK.
