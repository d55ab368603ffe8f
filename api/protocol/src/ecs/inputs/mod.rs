//! The shapes of the requests of ECS's actions, as ECS's model has them, one file per family.
//!
//! One difference: `none` is a log driver here.

mod clusters;
mod container_instances;
mod daemons;
mod gateways;
mod services;
mod shared;
mod task_definitions;
mod tasks;

use crate::shape::Shape;

type NamedShape = (&'static str, Shape);

/// Every action there is, family by family.
const FAMILIES: [&[NamedShape]; 7] = [
    tasks::ACTIONS,
    services::ACTIONS,
    clusters::ACTIONS,
    task_definitions::ACTIONS,
    container_instances::ACTIONS,
    daemons::ACTIONS,
    gateways::ACTIONS,
];

/// The shape of the request of an action; None for one that ECS does not have.
#[must_use]
pub fn of(operation: &str) -> Option<&'static Shape> {
    FAMILIES.iter().copied().flatten().find(|(name, _)| *name == operation).map(|(_, shape)| shape)
}

/// The names of all actions, in no particular order.
pub fn operations() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().copied().flatten().map(|(name, _)| *name)
}

macro_rules! named {
    ($($name:ident = $shape:tt;)*) => { $(pub(super) const $name: Shape = shape!($shape);)* };
}
use named;

macro_rules! actions {
    ($($name:ident $shape:tt)*) => {
        pub(super) const ACTIONS: &[super::NamedShape] = &[$((stringify!($name), shape!($shape)),)*];
    };
}
use actions;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_action_of_ecs_has_one_shape() {
        let names: BTreeSet<&str> = operations().collect();
        assert_eq!(names.len(), 88);
        assert_eq!(operations().count(), names.len());
    }
}
