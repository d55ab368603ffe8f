//! Whole tasks on the real sandbox: an agent is driven through its assigned set, as in the binary, and watched
//! through what it reports, the requests it answers and the lines it logs.

mod exec;
mod failures;
mod life;
mod links;
mod logs;
mod node;
mod requests;
