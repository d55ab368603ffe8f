//! The wire shapes of the AWS services Coracle speaks, in JSON 1.1 such as Amazon ECS, in Query, answered in XML, such as
//! STS, and in CBOR, converted by hand to and from `coracle-types`. A Query form and CBOR become JSON as soon as they
//! come in, and an answer becomes XML or CBOR as late as it goes out ([`query`], [`cbor`]): in between there is one way
//! to do things.
//!
//! Requests are first brought into their [`shape::Shape`] and then taken apart with
//! [`members::Members`]; both know where they are and say so when something is wrong. What no conversion
//! takes out is the record's `rest` and is given back as it was sent. Answers are put together with [`object::Object`]. Strings such as `"RUNNING"` exist here
//! ([`names`]) and nowhere else, and [`error`] is the one table of error names and HTTP statuses.
//!
//! The room knows no HTTP, no store and no clock: it turns JSON values into requests and records into
//! JSON values. Whether a request makes sense in the state of things is the server's question.

pub mod acm;
pub mod cbor;
pub mod cloudwatch;
pub mod ecs;
pub mod elb;
pub mod error;
pub mod iam;
pub mod logs;
pub mod members;
pub mod names;
pub mod object;
pub mod page;
pub mod query;
pub mod query_client;
pub mod secretsmanager;
pub mod shape;
pub mod ssm;
pub mod sts;

pub use error::{ApiError, Wire};
pub use members::Members;
pub use object::Object;
pub use page::{Page, PageRequest};
