//! Waiting until services run as they were declared, saying meanwhile what ECS says of them.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::manifest::{Kind, cluster};
use super::plan::{Plan, Wanted};
use super::remote::describe_services;
use super::show::Printer;
use crate::client::ApiClient;
use crate::output::note;
use crate::ps::{describe_tasks, how_it_stopped, last_segment, list_tasks, newest_stopped};

/// How long until services are asked for again: soon at first, because components start in milliseconds.
const FIRST_POLL: Duration = Duration::from_millis(20);
const LONGEST_POLL: Duration = Duration::from_millis(500);

/// What ECS says when it sees no sense in trying as fast as it can.
const KEEPS_FAILING: &str = "is unable to consistently start tasks successfully";

/// A service that is waited for.
#[derive(Debug)]
pub(super) struct Watched {
    /// `CLUSTER/SERVICE`.
    item: String,
    cluster: String,
    name: String,
    /// Events that have been printed, or were there before.
    seen: HashSet<String>,
    outcome: Option<Outcome>,
    /// ECS has said that it sees no sense in trying as fast as it can.
    gives_up: bool,
}

/// How waiting for a service ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    item: String,
    running: u64,
    task_definition: String,
    pub(super) failure: Option<String>,
}

impl Outcome {
    /// For `--json`.
    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.item, "steady": self.failure.is_none(), "failure": self.failure,
            "runningCount": self.running, "taskDefinition": self.task_definition,
        })
    }
}

/// The services of a plan, with the events they have now.
pub(super) async fn watch(client: &ApiClient, plan: &Plan) -> anyhow::Result<Vec<Watched>> {
    let mut watched = Vec::new();
    for item in plan.steps.iter().map(|step| &step.item).filter(|item| item.kind == Kind::Service) {
        // Somebody else deploys those.
        let controller = item.body.get("deploymentController").map(|controller| &controller["type"]);
        if controller.is_some_and(|kind| *kind != "ECS") {
            continue;
        }
        let name = item.body["serviceName"].as_str().unwrap_or_default();
        let found = describe_services(client, cluster(&item.body), &[name]).await?;
        watched.push(Watched {
            item: item.name.clone(),
            cluster: cluster(&item.body).to_owned(),
            name: name.to_owned(),
            seen: found.iter().flat_map(events).map(|(id, _)| id).collect(),
            outcome: None,
            gives_up: false,
        });
    }
    Ok(watched)
}

/// A service's events, oldest first.
fn events(service: &Value) -> Vec<(String, String)> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let all = service["events"].as_array().into_iter().flatten().rev();
    all.map(|event| (text(event, "id"), text(event, "message"))).collect()
}

/// Waits until every service is steady, or can't be.
pub(super) async fn wait(
    client: &ApiClient,
    mut watched: Vec<Watched>,
    wanted: &Wanted,
    timeout: Duration,
    out: &Printer,
) -> anyhow::Result<Vec<Outcome>> {
    let began = Instant::now();
    let mut poll = FIRST_POLL;
    loop {
        let found = describe(client, &watched).await?;
        for one in watched.iter_mut().filter(|one| one.outcome.is_none()) {
            let service = found.get(&one.item).unwrap_or(&Value::Null);
            one.tell_events(service, out)?;
            let outcome = one.judge(service, wanted.get(&one.item));
            let Some(mut outcome) = outcome else { continue };
            match &mut outcome.failure {
                None => out.line(&format!(
                    "service {} is steady after {:.1} s: {} running, {}",
                    one.item,
                    began.elapsed().as_secs_f64(),
                    tasks(outcome.running),
                    outcome.task_definition,
                ))?,
                Some(failure) => one.explain(client, failure).await,
            }
            one.outcome = Some(outcome);
        }
        if watched.iter().all(|one| one.outcome.is_some()) {
            break;
        }
        if began.elapsed() >= timeout {
            for one in watched.iter_mut().filter(|one| one.outcome.is_none()) {
                let service = found.get(&one.item).unwrap_or(&Value::Null);
                let mut outcome = one.outcome_of(service, None);
                let mut failure = format!(
                    "not steady within {} s: {} of {} running",
                    timeout.as_secs(),
                    outcome.running,
                    tasks(service["desiredCount"].as_u64().unwrap_or_default()),
                );
                one.explain(client, &mut failure).await;
                outcome.failure = Some(failure);
                one.outcome = Some(outcome);
            }
            break;
        }
        tokio::time::sleep(poll).await;
        poll = (poll * 3 / 2).min(LONGEST_POLL);
    }
    let outcomes: Vec<Outcome> = watched.into_iter().filter_map(|one| one.outcome).collect();
    for outcome in &outcomes {
        if let Some(failure) = &outcome.failure {
            note!("coracle: service {}: {failure}", outcome.item);
        }
    }
    Ok(outcomes)
}

fn tasks(count: u64) -> String {
    if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") }
}

/// The services that are still waited for, by the names of their items.
async fn describe(client: &ApiClient, watched: &[Watched]) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut clusters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in watched.iter().filter(|one| one.outcome.is_none()) {
        clusters.entry(&one.cluster).or_default().push(&one.name);
    }
    let mut found = BTreeMap::new();
    for (cluster, names) in clusters {
        for service in describe_services(client, cluster, &names).await? {
            let name = service["serviceName"].as_str().unwrap_or_default();
            found.insert(format!("{cluster}/{name}"), service);
        }
    }
    Ok(found)
}

impl Watched {
    /// Prints what is new.
    fn tell_events(&mut self, service: &Value, out: &Printer) -> std::io::Result<()> {
        for (id, message) in events(service) {
            if self.seen.insert(id) {
                self.gives_up |= message.contains(KEEPS_FAILING);
                out.line(&format!("  {message}"))?;
            }
        }
        Ok(())
    }

    fn outcome_of(&self, service: &Value, failure: Option<String>) -> Outcome {
        Outcome {
            item: self.item.clone(),
            running: service["runningCount"].as_u64().unwrap_or_default(),
            task_definition: last_segment(service["taskDefinition"].as_str().unwrap_or_default()).to_owned(),
            failure,
        }
    }

    /// Whether waiting is over, and how it ended.
    fn judge(&self, service: &Value, wanted: Option<&String>) -> Option<Outcome> {
        let failed = |why: String| Some(self.outcome_of(service, Some(why)));
        let primary = &service["deployments"][0];
        if service["status"] != "ACTIVE" {
            return failed("it is gone: somebody has deleted it".to_owned());
        }
        if let Some(wanted) = wanted.filter(|wanted| service["taskDefinition"] != wanted.as_str()) {
            let now = last_segment(service["taskDefinition"].as_str().unwrap_or_default()).to_owned();
            let wanted = last_segment(wanted);
            return failed(format!("{wanted} was not kept: the service runs {now} again"));
        }
        if primary["rolloutState"] == "FAILED" {
            let reason = primary["rolloutStateReason"].as_str().unwrap_or("the deployment failed");
            return failed(reason.to_owned());
        }
        if self.gives_up {
            return failed("its tasks keep failing to start".to_owned());
        }
        let alone = service["deployments"].as_array().is_some_and(|all| all.len() == 1);
        let complete = service["runningCount"] == service["desiredCount"]
            && service["pendingCount"] == 0
            && primary["rolloutState"] == "COMPLETED";
        (alone && complete).then(|| self.outcome_of(service, None))
    }

    /// Adds why tasks stopped, if some did.
    async fn explain(&self, client: &ApiClient, failure: &mut String) {
        // Where that can't be found out there is still the failure.
        if let Ok(Some(reason)) = self.newest_stop(client).await {
            failure.push_str(&format!("; a task stopped: {reason}"));
        }
    }

    /// Why the service's task that stopped last did so, unless the service wanted it to.
    async fn newest_stop(&self, client: &ApiClient) -> anyhow::Result<Option<String>> {
        let cluster = Value::from(self.cluster.as_str());
        let filter = json!({ "serviceName": self.name, "desiredStatus": "STOPPED" });
        let arns = list_tasks(client, &cluster, filter).await?;
        let mut stopped = describe_tasks(client, &cluster, &arns).await?;
        stopped.retain(|task| task["stopCode"] != "ServiceSchedulerInitiated");
        Ok(newest_stopped(stopped).map(|task| how_it_stopped(&task)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        Watched {
            item: "default/web".into(),
            cluster: "default".into(),
            name: "web".into(),
            seen: HashSet::new(),
            outcome: None,
            gives_up: false,
        }
    }

    fn service(change: &Value) -> Value {
        let mut service = json!({
            "status": "ACTIVE", "taskDefinition": "arn:x/web:2", "runningCount": 2, "desiredCount": 2,
            "pendingCount": 0, "deployments": [{"rolloutState": "COMPLETED"}],
        });
        service.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        service
    }

    #[test]
    fn a_service_is_steady_or_failed_or_on_its_way() {
        let wanted = "arn:x/web:2".to_owned();
        let judge = |change: Value| watched().judge(&service(&change), Some(&wanted)).map(|end| end.failure);
        assert_eq!(judge(json!({})), Some(None));
        assert_eq!(judge(json!({"runningCount": 1})), None);
        assert_eq!(judge(json!({"deployments": [{"rolloutState": "IN_PROGRESS"}]})), None);
        assert_eq!(judge(json!({"deployments": [{"rolloutState": "COMPLETED"}, {}]})), None);
        let failed = judge(json!({"taskDefinition": "arn:x/web:1"})).unwrap().unwrap();
        assert_eq!(failed, "web:2 was not kept: the service runs web:1 again");
        let deployment =
            json!({"rolloutState": "FAILED", "rolloutStateReason": "ECS deployment circuit breaker: x"});
        assert!(judge(json!({"deployments": [deployment]})).unwrap().unwrap().contains("circuit breaker"));
        assert!(judge(json!({"status": "INACTIVE"})).unwrap().unwrap().contains("deleted"));
        let hopeless = Watched { gives_up: true, ..watched() };
        assert!(hopeless.judge(&service(&json!({"runningCount": 0})), None).unwrap().failure.is_some());
    }

    #[test]
    fn events_are_told_oldest_first() {
        let event = |id: &str, message: &str| json!({"id": id, "message": message});
        let service = json!({"events": [event("2", "later"), event("1", "first")]});
        assert_eq!(events(&service), [("1".into(), "first".into()), ("2".into(), "later".into())]);
    }
}
