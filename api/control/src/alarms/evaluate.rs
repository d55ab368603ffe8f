//! From an alarm's last periods to its state; pure.
//!
//! Of the last N periods (`EvaluationPeriods`), M (`DatapointsToAlarm`) must breach the threshold. Periods without a
//! value count as `TreatMissingData` says. CloudWatch looks for older values where the last are missing; this does
//! not, so an alarm whose metric has gone silent is judged by its silence a few periods sooner.

use coracle_types::alarm::{AlarmState, Comparison, MissingData};
use coracle_types::{Timestamp, WatchedMetric};
use serde_json::json;

/// The state, the reason for people, and the reason as JSON; None when the state is to stay as it is. `points` are
/// the last periods, the oldest first.
pub(super) fn evaluate(
    alarm: &WatchedMetric,
    points: &[Option<f64>],
    now: Timestamp,
) -> Option<(AlarmState, String, String)> {
    let wanted = usize::try_from(alarm.evaluation_periods).unwrap_or(usize::MAX);
    let last = &points[points.len().saturating_sub(wanted)..];
    let known: Vec<f64> = last.iter().flatten().copied().collect();
    let breaching = known.iter().filter(|value| alarm.comparison.breaches(**value, alarm.threshold)).count();
    // Periods before the alarm was there are not missing: nobody knows about them.
    let missing = last.len() - known.len();
    let needed = usize::try_from(alarm.datapoints_to_alarm).unwrap_or(usize::MAX);
    let (count, blind) = match alarm.missing_data {
        MissingData::Breaching => (breaching + missing, last.is_empty()),
        MissingData::NotBreaching => (breaching, last.is_empty()),
        MissingData::Missing | MissingData::Ignore => (breaching, known.is_empty()),
    };
    let state = match (blind, alarm.missing_data) {
        (true, MissingData::Ignore) => return None,
        (true, _) => AlarmState::InsufficientData,
        (false, _) if count >= needed => AlarmState::Alarm,
        (false, _) => AlarmState::Ok,
    };
    let data = json!({
        "version": "1.0",
        "queryDate": now.as_millis(),
        "period": alarm.period_s,
        "recentDatapoints": known,
        "threshold": alarm.threshold,
    });
    Some((state, reason(alarm, state, &known, count, missing), data.to_string()))
}

/// In CloudWatch's words, as far as they are known.
fn reason(alarm: &WatchedMetric, state: AlarmState, known: &[f64], count: usize, missing: usize) -> String {
    let periods = alarm.evaluation_periods;
    if known.is_empty() {
        let treated = match (state, alarm.missing_data) {
            (AlarmState::InsufficientData, _) => {
                return format!("Insufficient Data: no datapoints were received for {periods} periods.");
            }
            (_, MissingData::Breaching) => "treated as [Breaching]",
            _ => "treated as [NonBreaching]",
        };
        return format!(
            "Threshold Crossed: no datapoints were received for {missing} periods and {missing} missing datapoints were \
             {treated}."
        );
    }
    let relation = match alarm.comparison {
        Comparison::GreaterThanOrEqual => "greater than or equal to",
        Comparison::GreaterThan => "greater than",
        Comparison::LessThan => "less than",
        Comparison::LessThanOrEqual => "less than or equal to",
    };
    let verb = if state == AlarmState::Alarm { "were" } else { "were not" };
    let shown: Vec<String> = known.iter().map(|value| format!("{value:?}")).collect();
    let crossed = if state == AlarmState::Alarm { count } else { known.len() };
    format!(
        "Threshold Crossed: {crossed} out of the last {periods} datapoints [{}] {verb} {relation} the threshold ({:?}) \
         (minimum {} datapoints for {} transition).",
        shown.join(", "),
        alarm.threshold,
        if state == AlarmState::Alarm { alarm.datapoints_to_alarm } else { 1 },
        if state == AlarmState::Alarm { "OK -> ALARM" } else { "ALARM -> OK" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(needed: u32, of: u32, missing_data: MissingData) -> WatchedMetric {
        WatchedMetric {
            namespace: String::new(),
            metric: String::new(),
            dimensions: Default::default(),
            statistic: coracle_types::alarm::Statistic::Sum,
            period_s: 60,
            evaluation_periods: of,
            datapoints_to_alarm: needed,
            threshold: 1.0,
            comparison: Comparison::GreaterThan,
            missing_data,
        }
    }

    fn state(needed: u32, of: u32, missing: MissingData, points: &[Option<f64>]) -> Option<AlarmState> {
        evaluate(&alarm(needed, of, missing), points, Timestamp(0)).map(|(state, _, _)| state)
    }

    #[test]
    fn m_out_of_n() {
        use AlarmState::{Alarm, InsufficientData, Ok};
        const HIGH: Option<f64> = Some(2.0);
        const LOW: Option<f64> = Some(1.0);
        for (needed, of, points, expected) in [
            (1, 1, &[HIGH][..], Alarm),
            (1, 1, &[HIGH, LOW], Ok),
            (2, 3, &[HIGH, LOW, HIGH], Alarm),
            (2, 3, &[HIGH, HIGH, LOW, LOW], Ok),
            (2, 3, &[HIGH], Ok),
            (2, 3, &[], InsufficientData),
            (1, 2, &[None, None], InsufficientData),
            (1, 2, &[HIGH, None], Alarm),
        ] {
            assert_eq!(
                state(needed, of, MissingData::Missing, points),
                Some(expected),
                "{needed}/{of} {points:?}"
            );
        }
    }

    #[test]
    fn what_is_missing_counts_as_told() {
        let none = [None, None];
        assert_eq!(state(2, 2, MissingData::Breaching, &none), Some(AlarmState::Alarm));
        assert_eq!(state(2, 2, MissingData::Breaching, &none[..1]), Some(AlarmState::Ok), "only one so far");
        assert_eq!(state(1, 2, MissingData::NotBreaching, &none), Some(AlarmState::Ok));
        assert_eq!(state(1, 2, MissingData::Ignore, &none), None);
        assert_eq!(state(1, 2, MissingData::Ignore, &[Some(2.0), None]), Some(AlarmState::Alarm));
    }
}
