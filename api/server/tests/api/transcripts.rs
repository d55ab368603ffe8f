//! What boto3 and the AWS SDK for Rust sent and were answered, recorded once (see `examples/record.rs`) and asked again
//! here: an answer that changes is a change of the API, wanted or not.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use coracle_protocol::ecs::inputs;
use serde_json::Value;

use crate::world::{Names, World};

const BOTO3: &str = include_str!("transcripts/ecs.jsonl");
const RUST_SDK: &str = include_str!("transcripts/ecs-rust-sdk.jsonl");

fn exchanges(transcript: &str) -> impl Iterator<Item = Value> {
    transcript.lines().map(|line| serde_json::from_str(line).unwrap())
}

#[tokio::test]
async fn boto3_is_answered_as_it_was() {
    replay(BOTO3).await;
}

#[tokio::test]
async fn the_sdk_for_rust_is_answered_as_it_was() {
    replay(RUST_SDK).await;
}

async fn replay(transcript: &str) {
    let world = World::new();
    let mut names = Names::new();
    let mut differences = String::new();
    for (line, exchange) in exchanges(transcript).enumerate() {
        let operation = exchange["operation"].as_str().unwrap();
        let answer = world.answer(operation, &names.reveal(&exchange["request"])).await;
        let (status, response) = (Value::from(answer.status), names.hide(&answer.json()));
        if status != exchange["status"] || response != exchange["response"] {
            let was = &exchange["response"];
            let _ = writeln!(differences, "line {}, {operation}:\n  was {was}\n  is  {response}", line + 1);
        }
    }
    assert!(
        differences.is_empty(),
        "answers have changed; if that is meant, record them again (examples/record.rs):\n{differences}"
    );
}

#[test]
fn every_operation_is_recorded_succeeding_and_failing() {
    [BOTO3, RUST_SDK].into_iter().for_each(is_complete);
}

fn is_complete(transcript: &str) {
    let of = |succeeds: bool| -> BTreeSet<String> {
        let wanted = exchanges(transcript).filter(|exchange| (exchange["status"] == 200) == succeeds);
        wanted.map(|exchange| exchange["operation"].as_str().unwrap().to_owned()).collect()
    };
    let (succeeding, failing) = (of(true), of(false));
    for operation in inputs::operations() {
        assert!(failing.contains(operation), "{operation} never fails");
        // There is nothing here that these could do.
        let never = operation.contains("Gateway") && !operation.starts_with("List")
            || matches!(operation, "UpdateContainerAgent" | "ContinueServiceDeployment");
        assert_ne!(succeeding.contains(operation), never, "{operation}");
    }
}

#[test]
fn every_operation_is_in_the_table_of_operations() {
    let table = include_str!("../../docs/ecs-operations.md");
    let words: BTreeSet<&str> =
        table.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    for operation in inputs::operations() {
        assert!(words.contains(operation), "{operation} is not in docs/ecs-operations.md");
    }
}
