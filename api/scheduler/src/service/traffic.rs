//! Shifting traffic: the weights of the two target groups in the listener rules a service names.

use coracle_types::elb::{Action, ElbArn, ElbResource, RuleId, TargetGroupId, WeightedGroup};
use coracle_types::{Service, ServiceLoadBalancer};

use super::draft::Draft;
use crate::plan::Pass;

/// Gives the PRIMARY deployment's target groups this much of production and of test traffic, in percent, and
/// those of the deployment before it the rest. None leaves it as it is. Says whether it could: somebody else may
/// be shifting the same rule in this plan.
pub(super) fn shift(
    pass: &mut Pass<'_>,
    draft: &mut Draft<'_>,
    production: Option<f64>,
    test: Option<f64>,
) -> bool {
    let mut done = true;
    for (rule, groups, percent) in shifts(draft.service(), production, test) {
        let Some(before) = pass.state.rule_action(&rule) else { continue };
        let after = weighted(before, &groups, percent);
        if *before == after {
            continue;
        }
        if let Some(record) = pass.state.with_rule_action(&rule, after) {
            done &= pass.put_once(record);
        }
    }
    if done {
        draft.edit_record(pass.now, |record| {
            record.production_weight = production.unwrap_or(record.production_weight);
            record.test_weight = test.unwrap_or(record.test_weight);
        });
    }
    done
}

/// The two target groups of a pair.
struct Pair {
    new: TargetGroupId,
    old: TargetGroupId,
}

fn shifts(service: &Service, production: Option<f64>, test: Option<f64>) -> Vec<(RuleId, Pair, f64)> {
    let Some(primary) = service.primary() else { return Vec::new() };
    let mut shifts = Vec::new();
    for balancer in ServiceLoadBalancer::all(&service.rest) {
        let balancer = if primary.alternate { balancer.alternate() } else { balancer };
        let Some(advanced) = &balancer.advanced else { continue };
        let (Some(new), Some(old)) = (group(&balancer.target_group), group(&advanced.alternate_target_group))
        else {
            continue;
        };
        let production_rule = rule(&advanced.production_rule).zip(production);
        let test_rule = advanced.test_rule.as_deref().and_then(rule).zip(test);
        for (rule, percent) in production_rule.into_iter().chain(test_rule) {
            shifts.push((rule, Pair { new: new.clone(), old: old.clone() }, percent));
        }
    }
    shifts
}

fn group(arn: &str) -> Option<TargetGroupId> {
    match arn.parse::<ElbArn>().ok()?.resource {
        ElbResource::TargetGroup(group) => Some(group),
        _ => None,
    }
}

fn rule(arn: &str) -> Option<RuleId> {
    match arn.parse::<ElbArn>().ok()?.resource {
        ElbResource::Rule(rule) => Some(rule),
        _ => None,
    }
}

/// The action with the pair's weights; other groups it forwards to stay, and so does what is no forwarding.
fn weighted(action: &Action, pair: &Pair, percent: f64) -> Action {
    let Action::Forward(forward) = action else { return action.clone() };
    let mut forward = forward.clone();
    let (new, old) = weights(percent);
    for (group, weight) in [(&pair.new, new), (&pair.old, old)] {
        match forward.groups.iter_mut().find(|one| one.group == *group) {
            Some(one) => one.weight = weight,
            None => forward.groups.push(WeightedGroup { group: group.clone(), weight }),
        }
    }
    Action::Forward(forward)
}

/// Weights, of at most 999, for a share in percent and the rest. Whole percents stay what they are.
fn weights(percent: f64) -> (u32, u32) {
    let percent = percent.clamp(0.0, 100.0);
    let total: u32 = if percent.fract() == 0.0 { 100 } else { 999 };
    // From 0 to 999.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 999")]
    let new = (percent * f64::from(total) / 100.0).round() as u32;
    (new, total - new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_the_shares_as_exactly_as_they_can_be() {
        for (percent, expected) in [
            (0.0, (0, 100)),
            (100.0, (100, 0)),
            (25.0, (25, 75)),
            (0.1, (1, 998)),
            (33.3, (333, 666)),
            (-1.0, (0, 100)),
        ] {
            assert_eq!(weights(percent), expected, "{percent}");
        }
    }
}
