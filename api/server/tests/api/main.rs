//! The API as a client sees it: requests into the application and answers out of it, on a store in
//! memory, with no scheduler and no node but what a test puts there.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod alarms;
mod clusters;
mod elb;
mod front;
mod harness;
mod logs;
mod own_endpoints;
mod placing;
mod secrets;
mod services;
mod shapes;
mod tags;
mod task_definitions;
mod tasks;
mod transcripts;
mod world;
