//! Load balancers between the store and the router: records become the router's model ([`model`]), ports are
//! the router's to open ([`ports`]), and what it sees of targets becomes records again ([`health`]).
//! [`activation`] starts what requests wait for.

pub(crate) mod activation;
pub(crate) mod health;
pub(crate) mod model;
pub(crate) mod ports;
