//! The API endpoint: authenticate, decode, call, encode.
//!
//! One port speaks several AWS services. [`app`] is the axum application; it finds out which service
//! and action a request means the way the SDKs send it (`dispatch`), checks its signature if keys
//! are required (`auth`), and calls one method of [`Api`] per action: those of ECS in `ecs`, one
//! file per group, Elastic Load Balancing in `elb`, CloudWatch Logs in `logs`. Wire shapes and error names are `coracle-protocol`'s.
//!
//! The room decides nothing that the scheduler can decide: an action reads a snapshot, checks what it
//! was asked for, and commits records. What runs where, and when, follows from those. The exception is
//! RunTask, which places its tasks itself because it has to answer whether they fit.

mod acm;
mod admin;
mod api;
mod audit;
mod auth;
mod cloudwatch;
mod dispatch;
mod ecs;
mod elb;
mod encoding;
mod exec;
mod http;
mod iam;
mod key_file;
mod logs;
mod seal;
mod secrets;
mod serve;
mod sts;
mod x509;

pub use crate::acm::context as certificate_context;
pub use crate::api::{Api, ApiConfig, Clock};
pub use crate::audit::AuditLog;
pub use crate::auth::egress::RoleReader;
pub use crate::elb::ListenerPorts;
pub use crate::exec::{ExecCommand, ExecError, ExecHost, ExecStream};
pub use crate::http::app;
pub use crate::iam::NewAdmin;
pub use crate::key_file::open_key;
pub use crate::seal::{Sealer, Unsealable};
pub use crate::secrets::{SecretError, SecretReader};
pub use crate::serve::serve;
